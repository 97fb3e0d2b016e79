"""The journal in a PostgreSQL database that several hosts share: the backend of a fleet.

As with SQLite, one transaction writes at a time, of all hosts: it holds an advisory lock, so that what it
reads stays true until its commit. It lasts a few milliseconds; that of a host which was stopped, or cut off,
in the middle is ended by the server after `_IDLE_SECONDS`, or else by a host that has waited for the lock.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg
from psycopg import conninfo

from invox_watcher.errors import JournalError, NotPermittedError
from invox_watcher.journal import shared
from invox_watcher.journal.backend import Cursor, Read, Server, UncertainError
from invox_watcher.journal.session import LostCommitError, Session

_IDLE_SECONDS = 10
_CONNECT_SECONDS = 5
# How long a connection is not tried again after it was refused: at first, and at most.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0
# A cut network is noticed after 5 + 3 x 2 seconds, or if something was sent after 10.
_CONNECTION = {
    "connect_timeout": str(_CONNECT_SECONDS),
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "invox-watcher",
    # Of several addresses, the one that can be written: after a failover, another one.
    "target_session_attrs": "read-write",
}
_SESSION = (
    "SET synchronous_commit = on; SET statement_timeout = '30s'; SET lock_timeout = '20s'; "
    f"SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'; SET client_min_messages = error; "
    "SET default_transaction_isolation = 'read committed'; "
    # The server's side of `_CONNECTION`: a host that is gone keeps no locks there.
    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; "
    "SET tcp_user_timeout = '10s'"
)
# Advisory locks; the numbers mean nothing, and are this program's alone.
WRITING, IN_USE = 7_463_001, 7_463_002
_BEGIN = "BEGIN"
_BEGIN_LAZILY = "BEGIN; SET LOCAL synchronous_commit = off"
_LOCK = f"SELECT pg_advisory_xact_lock({WRITING})"
# The server does not count as idle who has sent a part of what belongs together, and was stopped then.
_END_STUCK = f"""
    SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND (classid, objid) = (0, {WRITING}) AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND wait_event = 'ClientRead' AND xact_start < clock_timestamp() - interval '{_IDLE_SECONDS} s'"""
# The latest step of any recording, and how often recordings and deliveries were written, which the server
# counts some seconds later. Heartbeats are none of this.
_CHANGES = """
    SELECT (SELECT coalesce(max(id), 0) FROM history), sum(pg_stat_get_tuples_inserted(changed)
        + pg_stat_get_tuples_updated(changed) + pg_stat_get_tuples_deleted(changed))::bigint
    FROM unnest(ARRAY['jobs', 'deliveries']::regclass[]) AS changed"""
_STREAMED_ROWS = 2000
_NEXT_NUMBER = (
    "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), coalesce(max({column}), 0) + 1, FALSE) "
    "FROM {table}"
)
_IS_THERE = "SELECT to_regclass('releases') IS NOT NULL"
_OLDER_HOSTS = (
    "SELECT name FROM hosts WHERE state = 'alive' AND journal_version < ? "
    "AND beat_at > clock_timestamp() - interval '1 minute' ORDER BY name"
)
_HINTS: tuple[tuple[type[psycopg.Error], str], ...] = (
    (psycopg.errors.InsufficientPrivilege, "Let the user of state.url own the database, and its tables."),
    (
        psycopg.errors.LockNotAvailable,
        "Another program holds a lock; processing resumes after that.",
    ),
    (psycopg.errors.QueryCanceled, "The server is slow, or locked; processing resumes after that."),
    (
        psycopg.errors.ReadOnlySqlTransaction,
        "It is a standby: name the primary in state.url, or both.",
    ),
    (psycopg.errors.DiskFull, "Free up space on the database server; processing resumes automatically."),
    (psycopg.errors.DataException, "A value does not fit: the database must be UTF-8."),
)
_REFUSED = (
    "Check the user, the password and the database in state.url, and its pg_hba.conf. If the server is "
    "only starting, a daemon that is running resumes by itself."
)
_UNREACHABLE = "Is the server running, and reachable from here? A daemon that is running resumes by itself."
# What libpq refuses by itself, by words of its messages (libpq's fe-connect.c and fe-secure-openssl.c).
_LIBPQ_HINTS = (
    (
        "no password supplied",
        "Write it into a file, and name that in state.password_file; for an address on the command line, "
        "in libpq's PGPASSFILE.",
    ),
    (
        "server does not support SSL",
        "state.url asks for TLS: turn it on at the server (ssl = on in postgresql.conf).",
    ),
    (
        "certificate",
        "Check sslrootcert and the host's name in state.url against the certificate of the server.",
    ),
)
_REPEATABLE = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)


class ServerBackend:
    """See `Backend`. Its connections connect again by themselves."""

    errors: type[Exception] = psycopg.Error
    conflicts: type[Exception] = psycopg.errors.UniqueViolation
    is_remote = True
    tables = shared.TABLES

    def __init__(self, server: Server, *, create: bool) -> None:
        """With `create`, this is a daemon: while it is connected, `in_use` tells so to others."""
        self._server = server
        self._create = create
        self._connector = Connector(server)
        self.name = server.name
        self.fence = ""  # a query that finds a row as long as this host may write; see `fleet`
        self.on_fenced: Callable[[], None] = lambda: None

    def open_writer(self) -> Session:
        return Session(self._connector.connect, on_connect=self._mark_in_use)

    def open_reader(self) -> Session:
        return Session(self._connector.connect)

    def write_ahead(self, writer: Session) -> bool:  # noqa: ARG002 - SQLite's
        return True

    def begin(self, writer: Session, *, lazily: bool) -> None:
        statements = (_BEGIN_LAZILY if lazily else _BEGIN, _LOCK, self.fence)
        try:
            found = writer.run("; ".join(filter(None, statements)))
        except psycopg.errors.LockNotAvailable:
            self._end_stuck()
            raise
        if self.fence and found is None:
            self.on_fenced()

    def _end_stuck(self) -> None:
        """End the transaction of a host that has the lock, and from which the server waits for more."""
        with suppress(psycopg.Error), closing(self._connector.connect()) as another:
            another.execute(_END_STUCK.encode())

    def ended(self, writer: Session, *, lazily: bool) -> None:  # noqa: ARG002 - that ended with it
        writer.ended()

    def may_repeat(self, error: BaseException) -> bool:
        return isinstance(error, _REPEATABLE)

    def unusable(self, error: Exception) -> JournalError:
        return unusable(self.name, error)

    def probe(self) -> None:
        with closing(self._connector.connect()) as another:
            another.execute("SELECT 1")

    def changes(self, read: Read) -> tuple[int, int]:
        ((latest, written),) = read(_CHANGES, ())
        return latest, written

    def side(self) -> Side:
        """A connection besides the one that writes and the one that reads; it is made when it is needed."""
        return Side(self)

    def open_side(self) -> Session:
        """For `Side`: what it writes may be undone by a power cut of the server."""
        return Session(self._connector.connect, on_connect=_make_lazy)

    def conninfo(self) -> str:
        """How libpq connects, with the password."""
        return self._connector.conninfo()

    def erase_deleted(self, writer: Session) -> bool:  # noqa: ARG002 - the server does, when it vacuums
        return True

    # ---- for a copy of all -------------------------------------------------------------------------------

    @contextmanager
    def alone(self) -> Iterator[None]:
        with closing(self._connector.connect()) as connection:
            if not connection.execute(f"SELECT pg_try_advisory_lock({IN_USE})".encode()).fetchall()[0][0]:
                raise JournalError(
                    f"A daemon is running with the journal in {self.name}.",
                    code="already_running",
                    hint="Stop it on every host first.",
                )
            yield

    def begin_reading(self, reader: Session) -> None:
        reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def stream(self, connection: Session, query: str) -> Iterator[tuple[Any, ...]]:
        with connection.raw.cursor(name="stream") as cursor:
            cursor.itersize = _STREAMED_ROWS
            yield from cursor.execute(query.encode())

    def rows_added(self, writer: Session) -> None:
        for table, column in (
            ("jobs", "rowid"),
            ("deliveries", "rowid"),
            ("history", "id"),
            ("outputs", "id"),
        ):
            writer.execute(_NEXT_NUMBER.format(table=table, column=column))

    # ---- at the start ------------------------------------------------------------------------------------

    def missing(self) -> JournalError:
        return JournalError(
            f"There is no journal in {self.name}.",
            code="journal_missing",
            hint="Has a daemon run with this configuration? state.url is where the journal is kept.",
        )

    def require_present(self) -> None:
        try:
            with closing(self._connector.connect()) as another:
                ((is_there,),) = another.execute(_IS_THERE.encode()).fetchall()
        except psycopg.Error as error:
            raise self.unusable(error) from None
        if not is_there:
            raise self.missing()

    def has_table(self, read: Read, name: str) -> bool:
        return bool(read("SELECT to_regclass(?) IS NOT NULL", (name,))[0][0])

    def version_of(self, read: Read) -> int:
        if not self.has_table(read, "releases"):
            return 0
        version: int = read("SELECT max(version) FROM releases", ())[0][0]
        return version

    def record_version(self, writer: Session, version: int) -> None:
        """It is in the table of releases."""

    def require_readers(self, read: Read, version: int) -> None:
        found = read(_OLDER_HOSTS, (version,))
        if found:
            raise JournalError(
                f"{self.name} can't be converted while hosts work with it whose release could not use it "
                f"afterwards: {', '.join(name for (name,) in found)}.",
                code="journal_in_use",
                hint="Stop these hosts first; see docs/database.md, 'Upgrading hosts one by one'.",
            )

    def keep_copy(self, version: int) -> None:
        """The operator's backup, by pg_dump; see docs/database.md."""

    def copy_of(self, version: int) -> None:
        """None: see `keep_copy`."""

    def check_at_start(self, writer: Session) -> None:
        """The server checks the checksums of the pages that it reads."""

    def verify(self, read: Read) -> None:
        """See `check_at_start`."""

    def verify_in_steps(self, read: Read, stop: threading.Event) -> None:
        """See `check_at_start`."""

    def _mark_in_use(self, connection: psycopg.Connection[Any]) -> None:
        if self._create:
            connection.execute(f"SELECT pg_advisory_lock_shared({IN_USE})".encode())


class Connector:
    """Connects, and waits a little longer before each attempt as long as that fails."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()  # guards what follows
        self._refusal: psycopg.Error | None = None
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._not_before = 0.0

    def connect(self) -> psycopg.Connection[Any]:
        """A connection. Raises psycopg.Error, at once if that was tried a moment ago."""
        with self._lock:
            if self._refusal is not None and time.monotonic() < self._not_before:
                raise self._refusal
            try:
                made = psycopg.connect(self.conninfo(), autocommit=True)
                made.execute(_SESSION)
            except psycopg.Error as error:
                self._refusal = error.with_traceback(None)
                self._not_before = time.monotonic() + self._pause_seconds * random.uniform(0.5, 1)  # noqa: S311
                self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
                raise
            self._refusal, self._pause_seconds = None, _FIRST_PAUSE_SECONDS
            return made

    def conninfo(self) -> str:
        """How libpq connects, with the password that is in its file now."""
        try:
            given = conninfo.conninfo_to_dict(self._server.url)
        except psycopg.ProgrammingError:  # which shows parts of it
            raise JournalError(
                f"The journal {self._server.name} can't be used: its address can't be read.",
                hint="Is state.url written as PostgreSQL's documentation has it, in 'Connection URIs'?",
            ) from None
        parameters: dict[str, Any] = {**_CONNECTION, **given}
        file = self._server.password_file
        if file is not None:
            try:
                parameters["password"] = file.read_text().removesuffix("\n")
            except OSError as error:
                raise NotPermittedError(
                    f"state.password_file: {file} can't be read: {error.strerror}",
                    hint="Let the daemon's user read it.",
                ) from None
        return conninfo.make_conninfo(**parameters)


class Side:
    """Single statements that wait for no other write. Safe for several threads; raises JournalError."""

    def __init__(self, backend: ServerBackend) -> None:
        self._backend = backend
        self._lock = threading.Lock()  # guards what follows
        self._session: Session | None = None

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of one query."""
        with self._lock:
            return self._executed(query, values).fetchall()

    def write(self, statement: str, values: Sequence[Any]) -> int:
        """How many rows it has changed."""
        with self._lock:
            return self._executed(statement, values).rowcount

    def close(self) -> None:
        """Close the connection, if it was made."""
        with self._lock:
            if self._session is not None:
                self._session.close()

    def _executed(self, statement: str, values: Sequence[Any]) -> Cursor:
        try:
            if self._session is None:
                self._session = self._backend.open_side()
            return self._session.execute(statement, values)
        except psycopg.Error as error:
            raise self._backend.unusable(error) from None


def _make_lazy(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SET synchronous_commit = off")


def unusable(name: str, error: Exception) -> JournalError:
    """What PostgreSQL says, as our error, without the values that were to be written."""
    kind = UncertainError if isinstance(error, LostCommitError) else JournalError
    diagnostics = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    # Without a diagnosis it is libpq that speaks: of addresses and of the network, in several lines.
    said = diagnostics or " ".join(str(error).split()) or type(error).__name__
    hint = next((hint for kinds, hint in _HINTS if isinstance(error, kinds)), None)
    if hint is None:
        hint = next((hint for words, hint in _LIBPQ_HINTS if diagnostics is None and words in said), None)
    if hint is None:
        lost = isinstance(error, psycopg.OperationalError)
        hint = _UNREACHABLE if lost else "No recording is taken until this is fixed."
        hint = _REFUSED if lost and "FATAL:" in said else hint
    return kind(f"The journal {name} can't be used: {said}", hint=hint)
