"""Copies a whole journal between the state directory's file and a PostgreSQL database, in either direction.

One transaction, checked before its commit by reading back: after a kill, or an error, the target is as
empty as before, and the source the journal. No daemon can use either of them meanwhile. After it, the
source gets a sign that it was moved (`moving`); should a kill prevent that, the same copy once more finds
both the same, and only leaves the sign.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from invox_watcher.errors import JournalError, WrongJournalError
from invox_watcher.journal.backend import Backend, Connection, Read, Server, read_on
from invox_watcher.journal.file import FileBackend
from invox_watcher.journal.migrations import migrate, require_current
from invox_watcher.journal.moving import clear, note_moved, require_not_moved
from invox_watcher.journal.opening import server_backend
from invox_watcher.journal.sqlite import FILENAME
from invox_watcher.journal.tables import columns_in, insertion

# Each table with the columns that tell its rows apart and give their order. Not the releases: this one makes
# the target. Nor what only a fleet has: it says which hosts run.
_TABLES: dict[str, Sequence[str]] = {
    "jobs": ("rowid",),
    "history": ("id",),
    "outputs": ("id",),
    "deliveries": ("rowid",),
    "targets": ("name",),
    "replies": ("job_id",),
    "notices": ("request_id",),
    "signatures": ("sha256",),
    "totals": ("state",),
    "spending": ("day", "profile"),
}
_BOOLEANS = frozenset({"covers_body"})  # numbers in SQLite
_ROWS_AT_ONCE = 1000

Progress = Callable[[str, int], None]
Place = Path | Server
_Row = tuple[Any, ...]


@dataclass(frozen=True)
class Copied:
    """What is in one table of both journals."""

    table: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class _End:
    """The journal that is read, or the one that is written."""

    backend: Backend
    connection: Connection

    @property
    def read(self) -> Read:
        """What answers a query."""
        return read_on(self.connection)

    def rows(self, table: str) -> Iterator[_Row]:
        """The rows of a table in their order, with booleans as such."""
        columns = _columns(table)
        booleans = {number for number, name in enumerate(columns) if name in _BOOLEANS}
        query = f"SELECT {', '.join(columns)} FROM {table} ORDER BY {', '.join(_TABLES[table])}"
        for row in self.backend.stream(self.connection, query):
            yield tuple(bool(value) if at in booleans else value for at, value in enumerate(row))


class _Digest:
    """How many rows there were, and a hash of all of them."""

    def __init__(self) -> None:
        self._rows, self._hash = 0, hashlib.sha256()

    def add(self, row: _Row) -> None:
        self._rows += 1
        self._hash.update(repr(row).encode() + b"\n")

    def of(self, table: str) -> Copied:
        return Copied(table, self._rows, self._hash.hexdigest())


def copy_journal(
    source: Place, target: Place, progress: Progress = lambda _table, _rows: None
) -> list[Copied]:
    """Copy the journal in `source`, a state directory or a database, to `target`, which has no recordings.

    `progress` is called with each table, and how many of its rows are written, now and then.

    Raises:
        JournalError: a daemon uses one of them, the source is missing or of another release, or they differ
            afterwards. The target is as it was before.
        WrongJournalError: the target has other recordings, or the source was moved before.
        ConfigurationError: one is a database, and the extra for it is not installed.
        NotPermittedError: the source may not be read.
    """
    reading, writing = _backend_of(source, create=False), _backend_of(target, create=True)
    with ExitStack() as opened:
        try:
            reading.require_present()
            for backend in (reading, writing):
                opened.enter_context(backend.alone())
            with closing(reading.open_reader()) as reader, closing(writing.open_writer()) as writer:
                copied = _copy(_End(reading, reader), _End(writing, writer), progress)
            _leave_sign(reading, _name(target))
        except reading.errors as error:
            raise reading.unusable(error) from None
        except writing.errors as error:
            raise writing.unusable(error) from None
    return copied


def _copy(source: _End, target: _End, progress: Progress) -> list[Copied]:
    reader, writer = source.connection, target.connection
    require_current(source.read, source.backend)
    require_not_moved(source.read, source.backend)
    source.backend.begin_reading(reader)
    target.backend.begin(writer, lazily=False)
    try:
        migrate(writer, target.backend)
        if _is_empty(target):
            copied = [_copy_table(table, source, target, progress) for table in _TABLES]
            target.backend.rows_added(writer)
            for one in copied:
                _require_same(one, target)
        else:
            copied = [_copied_before(table, source, target) for table in _TABLES]
        clear(writer, target.backend)
        writer.execute("COMMIT")
    except BaseException:
        with suppress(target.backend.errors):
            if writer.in_transaction:
                writer.execute("ROLLBACK")
        raise
    return copied


def _copy_table(table: str, source: _End, target: _End, progress: Progress) -> Copied:
    statement, digest, count = insertion(table, _columns(table)), _Digest(), 0
    rows = source.rows(table)
    while few := list(islice(rows, _ROWS_AT_ONCE)):
        for row in few:
            digest.add(row)
        target.connection.executemany(statement, few)
        count += len(few)
        progress(table, count)
    return digest.of(table)


def _leave_sign(source: Backend, place: str) -> None:
    try:
        with closing(source.open_writer()) as writer:
            source.begin(writer, lazily=False)
            note_moved(writer, place)
            writer.execute("COMMIT")
    except source.errors as error:
        raise JournalError(
            f"{source.name} was copied to {place}, but that can't be noted in it. {source.unusable(error)}",
            code="journal_sign",
            hint="Repeat the same command once that is fixed, or move it away: it must not be used any more.",
        ) from None


def _is_empty(target: _End) -> bool:
    return not any(target.read(f"SELECT 1 FROM {table} LIMIT 1", ()) for table in _TABLES)


def _copied_before(table: str, source: _End, target: _End) -> Copied:
    """What is in a table that has the same content in both."""
    found = _content(table, source)
    if found != _content(table, target):
        raise WrongJournalError(
            f"{target.backend.name} is in use already: nothing was copied.",
            code="journal_not_empty",
            hint="Copy to a state directory, or a database, without a journal. If it was copied from there, "
            "and is not used any more, move it away.",
        )
    return found


def _content(table: str, end: _End) -> Copied:
    digest = _Digest()
    for row in end.rows(table):
        digest.add(row)
    return digest.of(table)


def _require_same(expected: Copied, target: _End) -> None:
    if _content(expected.table, target) != expected:
        raise JournalError(
            f"{target.backend.name} has other values in the table {expected.table} after the copy. "
            "Nothing was copied.",
            hint="Does another program write to it? Otherwise please report this.",
        )


def _name(place: Place) -> str:
    return place.name if isinstance(place, Server) else str(place)


def _columns(table: str) -> list[str]:
    columns = columns_in(table)
    return ["rowid", *columns] if "rowid" in _TABLES[table] else columns


def _backend_of(place: Place, *, create: bool) -> Backend:
    if isinstance(place, Path):
        file = place / FILENAME
        if create and place.is_dir() and not file.exists():
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return FileBackend(file, create=create)
    return server_backend(place, create=False)
