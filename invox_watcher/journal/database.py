"""The journal's connections: one that writes for all threads, one that reads for all.

Threads that want to write at the same time are committed together: the first of them writes for all who wait,
each in a savepoint of its own, and one sync makes all of it durable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any, TypeVar

from invox_watcher.baton import waiting
from invox_watcher.errors import JournalError
from invox_watcher.journal.backend import Backend, Connection

T = TypeVar("T")
Write = Callable[[Connection], Any]

_CLOSE_SECONDS = 2.0
_ATTEMPTS = 5  # of a group that other programs' locks have undone


class NameReservedError(Exception):
    """Another job under way has reserved the name; the caller tries the next one."""


class _Entry:
    """What one thread wants written."""

    def __init__(self, write: Write, *, durable: bool) -> None:
        self.write = write
        self.durable = durable
        self.result: Any = None
        self.error: BaseException | None = None
        self.leads = False  # whether its thread writes for the others now
        self.ready = threading.Lock()  # held until its thread may continue
        self.ready.acquire()


class Database:
    """Safe for several threads. The backend's errors become ours."""

    def __init__(self, backend: Backend, *, create: bool, before_commit: Callable[[], None]) -> None:
        """`before_commit` is called once for all that is committed together; if it raises, none of it is.

        With `create`, the database is made if it is missing; without, nothing can be written.
        """
        self._backend = backend
        self._before_commit = before_commit
        # Around a transaction, not within it: while it waits for the baton, it would keep all hosts out.
        self._statements = waiting if backend.is_remote else nullcontext()
        self._mutex = threading.Lock()  # guards the next two
        self._waiting: list[_Entry] = []
        self._busy = False
        self._turn = threading.Lock()  # for the one that uses the writing connection; guards the next one
        self._calls: list[Callable[[], None]] = []
        self._reading = threading.Lock()
        self._writes_ahead = False
        try:
            self._writer = backend.open_writer() if create else None
            self._reader: Connection | None = None if create else backend.open_reader()
        except backend.errors as error:
            raise backend.unusable(error) from None

    def prepare(self, write: Callable[[Connection], T], *, alone: Write) -> T:
        """The first write, by `write`; `alone` is called before it, outside of a transaction.

        All that is written from now on is open after it.
        """
        assert self._writer is not None  # noqa: S101 - only for one that was opened to be written
        try:
            alone(self._writer)
            result = self.write(write)
            self._writes_ahead = self._backend.write_ahead(self._writer)
            # Opens the WAL: SQLite opens for reading only, and for good, what it can't open for writing now,
            # as while the disk is full.
            self.write(lambda _connection: None)
            self._reader = self._backend.open_reader()
        except self._backend.errors as error:
            raise self._backend.unusable(error) from None
        return result

    # ---- reading -----------------------------------------------------------------------------------------

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of one query."""
        try:
            with self._statements, self._reading:
                assert self._reader is not None  # noqa: S101 - see `prepare`
                return self._reader.execute(query, values).fetchall()
        except self._backend.errors as error:
            raise self._backend.unusable(error) from None

    def probe(self) -> None:
        """Raise JournalError if the database could not be opened, or written, now."""
        # What is open already may be written all the same.
        try:
            self._backend.probe()
        except self._backend.errors as error:
            raise self._backend.unusable(error) from None
        self.write(lambda _connection: None)

    # ---- writing -----------------------------------------------------------------------------------------

    def write(self, write: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Call `write` in a transaction, and return what it returned once that is on disk.

        It is called in the thread of any of those who write at this moment. If it raises, nothing of it is
        written, and what it raised is raised here. Unless `durable`, a power cut may undo it, but a kill does
        not, and nothing that was written later is kept without it.

        Raises:
            NameReservedError: another row has the same unique value.
            JournalError: it can't be written.
        """
        entry = _Entry(write, durable=durable)
        with self._mutex:
            self._waiting.append(entry)
            entry.leads, self._busy = not self._busy, True
        if not entry.leads:
            with waiting:
                entry.ready.acquire()
        if entry.leads:
            self._lead(entry)
        error = entry.error
        if isinstance(error, self._backend.conflicts):
            raise NameReservedError from None
        if isinstance(error, self._backend.errors):
            raise self._backend.unusable(error) from None
        if error is not None:
            raise error
        result: T = entry.result
        return result

    def at_commit(self, call: Callable[[], None]) -> None:
        """From within a write: have this called just before the commit, unless the write is undone by then.

        If it raises, nothing of what is committed together is written.
        """
        self._calls.append(call)

    def _lead(self, own: _Entry) -> None:
        """Write for all who wait, `own` among them; then let the first of those who came since do it."""
        with self._mutex:
            group, self._waiting = self._waiting, []
        try:
            with self._statements, self._turn:
                for _attempt in range(_ATTEMPTS):
                    self._commit(group)
                    if not any(map(self._may_repeat, group)):
                        break
        finally:
            with self._mutex:
                following = self._waiting[0] if self._waiting else None
                self._busy = following is not None
            if following is not None:
                following.leads = True
                following.ready.release()
            for entry in group:
                if entry is not own:
                    entry.ready.release()

    def _commit(self, group: Sequence[_Entry]) -> None:
        connection = self._writer
        if connection is None:
            _fail(group, JournalError(f"The journal {self._backend.name} is open for reading only."))
            return
        lazily = self._writes_ahead and not any(entry.durable for entry in group)
        self._calls.clear()  # those of a transaction that was undone
        try:
            self._backend.begin(connection, lazily=lazily)
            for entry in group:
                self._apply(entry, connection, alone=len(group) == 1)
            if all(entry.error for entry in group) or any(map(self._may_repeat, group)):
                connection.execute("ROLLBACK")
            else:
                for call in self._calls:
                    call()
                with waiting:
                    self._before_commit()
                    connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - each of them must know
            with suppress(self._backend.errors):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            _fail(group, error)
        finally:
            with suppress(self._backend.errors):
                self._backend.ended(connection, lazily=lazily)

    def _apply(self, entry: _Entry, connection: Connection, *, alone: bool) -> None:
        """Call what `entry` wants written. What that raises undoes it alone, unless all has been undone."""
        entry.error = None
        calls = len(self._calls)
        if not alone:
            connection.execute("SAVEPOINT entry")
        try:
            entry.result = entry.write(connection)
        except BaseException as error:
            if not connection.in_transaction:
                raise
            entry.error = error
            del self._calls[calls:]
            if alone:
                return
            connection.execute("ROLLBACK TO entry")
        if not alone:
            connection.execute("RELEASE entry")

    def _may_repeat(self, entry: _Entry) -> bool:
        return entry.error is not None and self._backend.may_repeat(entry.error)

    def erase_deleted(self) -> bool:
        """Let what was deleted leave the files; False if a program that reads them prevents that now."""
        try:
            with self._turn:
                return self._writer is None or self._backend.erase_deleted(self._writer)
        except self._backend.errors as error:
            raise self._backend.unusable(error) from None

    def close(self) -> None:
        """Close both connections; the writing one last, so that it empties the WAL."""
        for lock, connection in ((self._reading, self._reader), (self._turn, self._writer)):
            if connection is not None and lock.acquire(timeout=_CLOSE_SECONDS):
                try:
                    with suppress(self._backend.errors):
                        connection.close()
                finally:
                    lock.release()


def _fail(group: Sequence[_Entry], error: BaseException) -> None:
    for entry in group:
        entry.error = entry.error or error
