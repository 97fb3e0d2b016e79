"""What the journal needs of a database: SQLite's file has it, and PostgreSQL's server.

Statements are written once, for both: `?` stands for a value, `rowid` is the order in which rows were added,
and the few words that differ are exchanged where a statement reaches PostgreSQL (`dialect`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from invox_watcher.errors import JournalError

Read = Callable[[str, Sequence[Any]], Sequence[Any]]  # answers a query


class UncertainError(JournalError):
    """A write failed, perhaps only in its very last step: then it is in the journal nevertheless."""


@dataclass(frozen=True)
class Server:
    """Where a PostgreSQL database is; see `state` in the configuration.

    `password_file` is read for each connection, and may change.
    """

    url: str = field(repr=False)  # may hold a password
    password_file: Path | None = None

    @property
    def name(self) -> str:
        """The addresses and the database, without user and password."""
        parts = urlsplit(self.url)
        return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


class Cursor(Protocol):
    """What a statement has found, or how many rows it has changed."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """What statements are given to; transactions are left to the caller."""

    @property
    def in_transaction(self) -> bool: ...
    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor: ...
    def executemany(self, statement: str, values: Iterable[Sequence[Any]], /) -> Cursor: ...
    def close(self) -> None: ...


def read_on(connection: Connection) -> Read:
    """What answers a query on that connection, in its transaction if there is one."""
    return lambda query, values: connection.execute(query, values).fetchall()


class Backend(Protocol):
    """One database: how connections to it are opened, and what its errors mean.

    `writer` is what `open_writer` has returned, `error` one of `errors`.
    """

    @property
    def name(self) -> str:
        """Where it is, for messages."""

    @property
    def errors(self) -> type[Exception]:
        """What its connections raise."""

    @property
    def conflicts(self) -> type[Exception]:
        """Of these: another row has the same unique value."""

    @property
    def is_remote(self) -> bool:
        """Whether each statement waits for a network."""

    @property
    def tables(self) -> Sequence[str]:
        """Statements that create what only this kind of database has."""

    def open_writer(self) -> Connection: ...
    def open_reader(self) -> Connection: ...

    def write_ahead(self, writer: Any) -> bool:
        """Called once after the first write; whether commits can be lazy, and still survive a kill."""

    def begin(self, writer: Any, *, lazily: bool) -> None:
        """Begin a transaction that no other can write beside; `lazily`: a power cut may undo it."""

    def ended(self, writer: Any, *, lazily: bool) -> None:
        """Called after a transaction that `begin` began."""

    def may_repeat(self, error: BaseException) -> bool:
        """Whether a transaction that ended with this is to be tried again at once."""

    def unusable(self, error: Any) -> JournalError:
        """The error as ours, without the values that were to be written."""

    def probe(self) -> None:
        """Raise JournalError, or one of `errors`, if another connection could not be opened now."""

    def changes(self, read: Read) -> tuple[int, int]:
        """Two numbers, of which one differs soon after another process has written to the journal. Cheap."""

    def erase_deleted(self, writer: Any) -> bool:
        """Let what was deleted leave the files; False if who reads them prevents that now."""

    # ---- for a copy of all -------------------------------------------------------------------------------

    def alone(self) -> AbstractContextManager[None]:
        """Meanwhile no daemon can use it. Raises JournalError if one does."""

    def begin_reading(self, reader: Any) -> None:
        """Begin a transaction that sees one moment."""

    def stream(self, connection: Any, query: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, in a transaction, not all of them in memory."""

    def rows_added(self, writer: Any) -> None:
        """Called after rows were added with their numbers: the next one gets a higher one."""

    # ---- at the start ------------------------------------------------------------------------------------

    def missing(self) -> JournalError:
        """The error that there is no journal, or nothing in it yet."""

    def require_present(self) -> None:
        """Raise JournalError if there is no journal, NotPermittedError if it may not be read."""

    def has_table(self, read: Read, name: str) -> bool:
        """Whether there is a table of that name."""

    def version_of(self, read: Read) -> int:
        """The version of the journal, 0 if it is empty."""

    def record_version(self, writer: Any, version: int) -> None:
        """What `version_of` will find."""

    def require_readers(self, read: Read, version: int) -> None:
        """Raise JournalError if a release of an earlier version than this works with the journal now."""

    def keep_copy(self, version: int) -> Path | None:
        """Copy the journal of that version before it is converted; None if the operator has to.

        Raises:
            JournalError: there is no space.
        """

    def copy_of(self, version: int) -> Path | None:
        """Such a copy, if there is one."""

    def check_at_start(self, writer: Any) -> None:
        """Raise JournalError if damage is found that can be found quickly."""

    def verify(self, read: Read) -> None:
        """Raise JournalError if it is damaged anywhere."""

    def verify_in_steps(self, read: Read, stop: threading.Event) -> None:
        """The same for a journal that was too large for `check_at_start`, slowly."""
