"""A connection to PostgreSQL as the journal uses one: it reconnects, and makes few round trips.

In a transaction a statement is sent when its outcome is asked for, together with those that wait for that: a
write of the journal keeps all others out while it lasts, and most of that is the way to the server and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import pq

from invox_watcher.journal.backend import Cursor
from invox_watcher.journal.dialect import translated

T = TypeVar("T")
_Connection = psycopg.Connection[Any]
_OPEN = frozenset({pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR, pq.TransactionStatus.ACTIVE})
_MOST_PENDING = 100  # of many that are inserted


class LostCommitError(psycopg.OperationalError):
    """The connection ended before the answer to COMMIT came."""


class _Pending:
    """A statement that is sent once its outcome, or that of a later one, is asked for."""

    def __init__(self, session: Session, query: LiteralString, values: tuple[Any, ...]) -> None:
        self.query, self.values = query, values
        self.cursor: psycopg.Cursor[Any] | None = None
        self._session = session

    @property
    def rowcount(self) -> int:
        return self._sent.rowcount

    def fetchone(self) -> Any:
        return self._sent.fetchone()

    def fetchall(self) -> list[Any]:
        return self._sent.fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._sent)

    @property
    def _sent(self) -> psycopg.Cursor[Any]:
        if self.cursor is None:
            self._session.flush()
        if self.cursor is None:
            raise psycopg.OperationalError("the transaction has ended")
        return self.cursor


class _Many:
    """Several statements that return nothing."""

    def __init__(self, each: Sequence[Cursor]) -> None:
        self._each = each

    @property
    def rowcount(self) -> int:
        return sum(one.rowcount for one in self._each)

    def fetchone(self) -> Any:
        return None

    def fetchall(self) -> list[Any]:
        return []

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class Session:
    """A connection of the journal; connects again if it was lost, but not in the middle of a transaction."""

    def __init__(
        self,
        connect: Callable[[], _Connection],
        *,
        on_connect: Callable[[_Connection], None] = lambda _connection: None,
    ) -> None:
        """Connects. `on_connect` is called with each connection that is made."""
        self._connect, self._on_connect = connect, on_connect
        self._live: _Connection | None = None
        self._in_transaction = False  # whether one was begun, on a connection that may be lost by now
        self._pending: list[_Pending] = []
        self._connected()

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction was begun, and its connection is not lost."""
        live = self._live
        return live is not None and live.info.transaction_status in _OPEN

    @property
    def raw(self) -> _Connection:
        """The connection of the transaction that was begun; all before was sent."""
        self.flush()
        return self._connected()

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor:
        """Run one statement. Raises psycopg.Error, perhaps only when its outcome is asked for."""
        if statement.startswith("ROLLBACK"):
            return self._roll_back(statement)
        pending = _Pending(self, translated(statement), tuple(map(_sendable, values)))
        self._pending.append(pending)
        if statement == "COMMIT":
            self._commit(pending)
        elif not self._in_transaction or statement.startswith("RELEASE"):
            self.flush()
        return pending

    def executemany(self, statement: str, values: Iterable[Sequence[Any]], /) -> Cursor:
        """Run one statement for each of the values. Raises as `execute` does."""
        each: list[Cursor] = []
        for one in values:
            each.append(self.execute(statement, one))
            if len(self._pending) >= _MOST_PENDING:
                self.flush()
        return _Many(each)

    def flush(self) -> None:
        """Send what waits for that. Raises psycopg.Error."""
        pending, self._pending = self._pending, []
        if pending:
            self._attempt(lambda connection: _send(connection, pending))

    def run(self, statements: str) -> Any:
        """Run statements that begin a transaction; the first row of the last one, None if it has none."""

        def run(connection: _Connection) -> Any:
            cursor = connection.execute(statements.encode())
            while cursor.nextset():
                pass
            return cursor.fetchone() if cursor.description else None

        found = self._attempt(run)
        self._in_transaction = True
        return found

    def ended(self) -> None:
        """The transaction is over, by whichever end."""
        self._in_transaction = False
        self._pending.clear()

    def close(self) -> None:
        """Close the connection."""
        if self._live is not None:
            self._live.close()
        self._live = None

    def _attempt(self, run: Callable[[_Connection], T]) -> T:
        connection = self._connected()
        try:
            return run(connection)
        except psycopg.OperationalError:
            # What was not begun has done nothing; of what was, the connection's end has undone all.
            if self._in_transaction or not connection.broken:
                raise
        return run(self._connected())

    def _connected(self) -> _Connection:
        if self._live is not None and not self._live.closed:
            return self._live
        if self._in_transaction:
            raise psycopg.OperationalError("the connection was lost")
        self._live = None
        made = self._connect()
        try:
            self._on_connect(made)
        except BaseException:
            made.close()
            raise
        self._live = made
        return made

    def _commit(self, pending: _Pending) -> None:
        try:
            self.flush()
        except psycopg.OperationalError as error:
            if self._live is None or self._live.closed:
                raise LostCommitError(*error.args) from None
            raise
        if pending.cursor is None or pending.cursor.statusmessage != "COMMIT":  # an error was not undone
            raise psycopg.InternalError("the transaction was rolled back")

    def _roll_back(self, statement: str) -> Cursor:
        """Forget what was not sent; if that begins with the savepoint, only that is left to be sent."""
        unsent, self._pending = self._pending, []
        if statement != "ROLLBACK" and unsent and unsent[0].query.startswith("SAVEPOINT"):
            self._pending = unsent[:1]
            return unsent[0]
        return self._connected().execute(statement.encode(), prepare=False)


def _send(connection: _Connection, pending: Sequence[_Pending]) -> None:
    if len(pending) == 1:
        _send_one(connection, pending[0])
        return
    with connection.pipeline():
        for one in pending:
            _send_one(connection, one)


def _send_one(connection: _Connection, one: _Pending) -> None:
    # Preparing it takes a message of its own, after which the connection may be lost.
    prepare = False if one.query == "COMMIT" else None
    values = one.values if one.values or "%" in one.query else None
    one.cursor = connection.execute(one.query, values, prepare=prepare)


def _sendable(value: Any) -> Any:
    """A text without what PostgreSQL has in none, NUL and halves of pairs: nothing is equal to such a one."""
    if not isinstance(value, str) or (value.isascii() and "\0" not in value):
        return value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
