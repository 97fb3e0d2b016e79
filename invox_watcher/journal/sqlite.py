"""The SQLite file: how it is opened and copied, and what to do about SQLite's errors.

The daemon writes ahead (WAL): one sync for each commit instead of four, and no reader waits. SQLite
before 3.51.3 has a race there between a commit and a checkpoint of two connections (sqlite.org/wal.html, "The
WAL-Reset Bug"). It needs two that write: here one connection of one process, which holds the lock of the
state directory, makes all commits and all checkpoints, one after the other; every other one only reads.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from invox_watcher.errors import JournalError, NotPermittedError
from invox_watcher.files import fsync_folder
from invox_watcher.journal.backend import UncertainError

FILENAME = "journal.sqlite"
SQLITE_VERSION = sqlite3.sqlite_version
_BUSY_SECONDS = 30
_WAL_BYTES = 8 << 20  # what is kept of the WAL's file once its content is in the journal
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


def unusable(path: Path, error: sqlite3.Error) -> JournalError:
    """What SQLite says, as our error, without the values that were to be written."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code; the rest is detail
    kind = UncertainError if code == sqlite3.SQLITE_IOERR else JournalError
    return kind(
        f"The journal {path} can't be used: {error}",
        hint=HINTS.get(code, "No recording is taken until this is fixed."),
    )


def missing(path: Path) -> JournalError:
    """The error that there is no journal, or nothing in it yet."""
    return JournalError(
        f"There is no journal at {path}.",
        code="journal_missing",
        hint="Has the daemon run with this configuration? state.directory is where the journal is kept.",
    )


def require_file(path: Path) -> None:
    """Raise if the journal does not exist (JournalError) or may not be read (NotPermittedError)."""
    try:
        exists = path.exists()
    except PermissionError:
        exists = True
    if not exists:
        raise missing(path)
    if not os.access(path, os.R_OK, effective_ids=True):
        raise NotPermittedError(f"The journal {path} can't be read: {os.strerror(errno.EACCES)}")


def require_writable(path: Path) -> None:
    """Raise JournalError if the journal may not be written."""
    if path.exists() and not os.access(path, os.W_OK, effective_ids=True):
        raise JournalError(f"The journal {path} can't be used: it is read-only.", hint=_READ_ONLY)


def connect(path: Path, *, create: bool, busy_seconds: float | None = None) -> sqlite3.Connection:
    """A connection whose transactions are left to the caller; with `create`, the file is made if missing.

    `busy_seconds`: how long each statement waits while another program has the file locked; None for long.
    """
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
    timeout = _BUSY_SECONDS if busy_seconds is None else busy_seconds
    connection = sqlite3.connect(
        uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
    )
    # Without a WAL, EXTRA also syncs the folder after the rollback journal is deleted, so that a commit that
    # we have seen survives a power cut. With one it is the same as FULL: each commit is synced.
    connection.execute("PRAGMA synchronous = EXTRA")
    # Words that retention deletes leave the file; the default only if SQLite was built so, as Debian's is.
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def connect_reader(path: Path, *, busy_seconds: float | None = None) -> sqlite3.Connection:
    """A connection that never writes, and therefore makes no checkpoint; `busy_seconds` as for `connect`."""
    connection = connect(path, create=False, busy_seconds=busy_seconds)
    connection.execute("PRAGMA query_only = ON")
    return connection


def write_ahead(connection: sqlite3.Connection) -> bool:
    """Let the journal write ahead from now on. False if its file system can't, or others read it now."""
    mode = None
    with suppress(sqlite3.OperationalError):  # then it is as durable, and slower
        ((mode,),) = connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}").fetchall()
    return mode == "wal"


def set_synchronous(connection: sqlite3.Connection, level: str) -> None:
    """NORMAL: a power cut may undo the commits that follow; EXTRA: each is on disk."""
    # A script, since it takes effect when it is compiled, and single statements are compiled only once.
    connection.executescript(f"PRAGMA synchronous = {level}")


def empty_wal(connection: sqlite3.Connection) -> bool:
    """Move what was written ahead into the journal, so that what was deleted is in neither file.

    False if a program, or a thread, that reads the journal keeps it from that.
    """
    try:
        ((busy, _frames, _moved),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_LOCKED:
            raise
        return False
    return not busy


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
        with closing(connect_reader(path)) as source, closing(sqlite3.connect(unfinished)) as target:
            target.execute("PRAGMA journal_mode = OFF")  # one that a kill leaves behind would be rolled back
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # the copy is one file, whatever the journal is
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(unfinished, copy)
    fsync_folder(copy.parent)
