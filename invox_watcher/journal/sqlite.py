"""The SQLite file: how it is opened and copied, and what to do about SQLite's errors."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from invox_watcher.errors import JournalError, NotPermittedError
from invox_watcher.files import fsync_folder

FILENAME = "journal.sqlite"
SQLITE_VERSION = sqlite3.sqlite_version
_BUSY_SECONDS = 30
_READ_ONLY = "Give the file and its folder to the daemon's user, or mount the file system read-write."
DAMAGED = "It is damaged: restore a backup, or move it away; then recordings under way are paid for again."
# What to do about what SQLite says, by its primary result code (sqlite.org/rescode.html).
HINTS = {
    sqlite3.SQLITE_BUSY: "Another program, perhaps a backup, has locked it; processing resumes after that.",
    sqlite3.SQLITE_CANTOPEN: "Is the disk full, or is its folder not writable for the daemon's user?",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_FULL: "Free up space; processing resumes automatically.",
    sqlite3.SQLITE_IOERR: "The disk is failing or full; see the kernel log.",
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
}


def require_file(path: Path) -> None:
    """Raise if the journal does not exist (JournalError) or may not be read (NotPermittedError)."""
    try:
        exists = path.exists()
    except PermissionError:
        exists = True
    if not exists:
        raise JournalError(
            f"There is no journal at {path}.",
            code="journal_missing",
            hint="Has the daemon run with this configuration? state.directory is where the journal is kept.",
        )
    if not os.access(path, os.R_OK, effective_ids=True):
        raise NotPermittedError(f"The journal {path} can't be read: {os.strerror(errno.EACCES)}")


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """A connection whose transactions are left to the caller; with `create`, the file is made if missing."""
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
    connection = sqlite3.connect(
        uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    # A rollback journal, not WAL: SQLite before 3.51.3 (Debian 12 links 3.40.1) can corrupt a WAL that two
    # connections share, and a few writes per recording don't need its speed. EXTRA also syncs the folder
    # after the journal file is deleted, so that a commit that we have seen survives a power cut.
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = EXTRA")
    # Words that retention deletes leave the file; the default only if SQLite was built so, as Debian's is.
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def copy_durably(path: Path, copy: Path) -> None:
    """Make `copy` hold what is committed in `path` now; on disk, whole, when this returns.

    The caller's own transaction may hold the file's lock. SQLite reads it, not we: closing a descriptor of
    ours would release that lock (sqlite.org/howtocorrupt.html, 2.2).

    Raises:
        OSError, sqlite3.Error: it can't be written; what was there under the name is as before.
    """
    unfinished = copy.with_name(f".{copy.name}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(unfinished, flags, 0o600)
    try:
        with closing(connect(path, create=False)) as source, closing(sqlite3.connect(unfinished)) as target:
            target.execute("PRAGMA journal_mode = OFF")  # one that a kill leaves behind would be rolled back
            source.backup(target)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(unfinished, copy)
    fsync_folder(copy.parent)
