"""The journal as a SQLite file in the state directory: the backend of a single host."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from invox_watcher.errors import JournalError
from invox_watcher.files import LOCK_FILE
from invox_watcher.host import Locks
from invox_watcher.journal import integrity, sqlite
from invox_watcher.journal.backend import Read


class FileBackend:
    """See `Backend`."""

    errors: type[Exception] = sqlite3.Error
    conflicts: type[Exception] = sqlite3.IntegrityError
    is_remote = False
    tables = ()

    def __init__(self, path: Path, *, create: bool, busy_seconds: float | None = None) -> None:
        """With `create`, a writer makes the file if it is missing.

        `busy_seconds`: how long a reader waits while another program has the file locked; None for long.
        """
        self._path = path
        self._create = create
        self._busy_seconds = busy_seconds
        self.name = str(path)

    def open_writer(self) -> sqlite3.Connection:
        return sqlite.connect(self._path, create=self._create)

    def open_reader(self) -> sqlite3.Connection:
        return sqlite.connect_reader(self._path, busy_seconds=self._busy_seconds)

    def write_ahead(self, writer: sqlite3.Connection) -> bool:
        sqlite.empty_wal(writer)  # a daemon that was killed has left there what it had deleted
        return sqlite.write_ahead(writer)

    def begin(self, writer: sqlite3.Connection, *, lazily: bool) -> None:
        if lazily:
            sqlite.set_synchronous(writer, "NORMAL")
        writer.execute("BEGIN IMMEDIATE")

    def ended(self, writer: sqlite3.Connection, *, lazily: bool) -> None:
        if lazily:
            sqlite.set_synchronous(writer, "EXTRA")

    def may_repeat(self, error: BaseException) -> bool:  # noqa: ARG002 - it has waited for the lock itself
        return False

    def unusable(self, error: sqlite3.Error) -> JournalError:
        return sqlite.unusable(self._path, error)

    def probe(self) -> None:
        sqlite.require_writable(self._path)
        with closing(sqlite.connect_reader(self._path)) as another:
            another.execute("PRAGMA schema_version").fetchall()

    def changes(self, read: Read) -> tuple[int, int]:
        ((data,),) = read("PRAGMA data_version", ())
        ((schema,),) = read("PRAGMA user_version", ())
        return data, schema

    def erase_deleted(self, writer: sqlite3.Connection) -> bool:
        return sqlite.empty_wal(writer)

    # ---- for a copy of all -------------------------------------------------------------------------------

    @contextmanager
    def alone(self) -> Iterator[None]:
        locks = Locks()
        try:
            locks.hold(self._path.with_name(LOCK_FILE))
        except OSError as error:
            raise JournalError(f"{self._path.parent} can't be used: {error.strerror}") from None
        try:
            yield
        finally:
            locks.close()

    def begin_reading(self, reader: sqlite3.Connection) -> None:
        reader.execute("BEGIN")

    def stream(self, connection: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
        yield from connection.execute(query)

    def rows_added(self, writer: sqlite3.Connection) -> None:
        """It takes the highest number that there is."""

    # ---- at the start ------------------------------------------------------------------------------------

    def missing(self) -> JournalError:
        return sqlite.missing(self._path)

    def require_present(self) -> None:
        sqlite.require_file(self._path)

    def has_table(self, read: Read, name: str) -> bool:
        return bool(read("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)))

    def version_of(self, read: Read) -> int:
        version: int = read("PRAGMA user_version", ())[0][0]
        return version

    def record_version(self, writer: sqlite3.Connection, version: int) -> None:
        writer.execute(f"PRAGMA user_version = {version}")

    def require_readers(self, read: Read, version: int) -> None:
        """The lock of the state directory keeps every other daemon out."""

    def keep_copy(self, version: int) -> Path:
        copy = self._copy(version)
        try:
            sqlite.copy_durably(self._path, copy)
        except OSError as error:
            raise JournalError(
                f"The journal {self._path} can't be copied before it is converted: {error.strerror}",
                hint=f"Is there space for {copy}, and may the daemon's user write it?",
            ) from None
        return copy

    def copy_of(self, version: int) -> Path | None:
        copy = self._copy(version)
        return copy if copy.exists() else None

    def check_at_start(self, writer: sqlite3.Connection) -> None:
        integrity.check_small(writer, self._path)

    def verify(self, read: Read) -> None:
        integrity.require_ok(read(integrity.CHECK, ()), self._path)

    def verify_in_steps(self, read: Read, stop: threading.Event) -> None:
        if not integrity.is_small(self._path):
            integrity.check_in_steps(read, stop)

    def _copy(self, version: int) -> Path:
        return self._path.with_name(f"{self._path.name}.v{version}")
