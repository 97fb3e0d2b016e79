"""The durable journal: one row per recording, its history, and the replies that were paid for.

Every state write names the state it expects (`UPDATE … WHERE id = ? AND state = ?`); where no row changes,
someone else has moved the job on and `StaleStateError` ends the attempt. Each write is one transaction, on
disk when the call returns.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from invox_watcher.errors import JournalError, NotPermittedError

FILENAME = "journal.sqlite"
SQLITE_VERSION = sqlite3.sqlite_version
_BUSY_SECONDS = 30
_READ_ONLY = "Give the file and its folder to the daemon's user, or mount the file system read-write."
DAMAGED = "It is damaged: restore a backup, or move it away; then recordings under way are paid for again."
# What to do about what SQLite says, by its primary result code (sqlite.org/rescode.html).
HINTS = {
    sqlite3.SQLITE_BUSY: "Another program holds it, a backup perhaps; work goes on when it lets go.",
    sqlite3.SQLITE_CANTOPEN: "Is the disk full, or may the daemon's user not write in its folder?",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_FULL: "Make room on that file system; work goes on by itself.",
    sqlite3.SQLITE_IOERR: "The disk is failing or full; see the kernel's log.",
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
}


def require_file(path: Path) -> None:
    """Raise what is to be said of a journal that is not there, or is not ours to read."""
    try:
        there = path.exists()
    except PermissionError:
        there = True
    if not there:
        raise JournalError(
            f"There is no journal at {path}.",
            code="journal_missing",
            hint="Has the daemon run with this configuration? state.directory says where it lies.",
        )
    if not os.access(path, os.R_OK, effective_ids=True):
        raise NotPermittedError(f"The journal {path} can't be read: {os.strerror(errno.EACCES)}")


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
    connection = sqlite3.connect(
        uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    # A rollback journal, not WAL: SQLite before 3.51.3 (Debian 12 links 3.40.1) can corrupt a WAL that two
    # connections share, and a few writes per recording don't need its speed. EXTRA also syncs the folder
    # after the journal file is deleted, so that a commit that we have seen survives a power cut.
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = EXTRA")
    # Words that retention deletes leave the file; by default only where SQLite was built so, as Debian's is.
    connection.execute("PRAGMA secure_delete = ON")
    return connection
