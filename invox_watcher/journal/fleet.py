"""Several hosts with one journal: who they are, whose a job is, and what becomes of those of a dead host.

A host joins under its name and gets an incarnation, a number that grows. It beats every few seconds. If
another host has watched it not beating for long enough, it takes it over in one transaction: the incarnation
grows, and the jobs change hands. From then on no write of the old incarnation is committed, whenever it comes
(`FencedError`): it may only have been paused. What makes a host silent is the time that the other one has
watched it, with the database answering all the while: no clock that is set, and no outage of the database,
makes a host look dead.

A job in the journal of a fleet is one host's (`jobs.host`), or unowned and then in a queue. Only its host
moves it. Times are those of the database's clock.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from invox_watcher import version as release
from invox_watcher.errors import FencedError, JournalError
from invox_watcher.job import ACTIVE, Job
from invox_watcher.journal.backend import Server, read_on
from invox_watcher.journal.database import Database
from invox_watcher.journal.dialect import literal
from invox_watcher.journal.migrations import VERSION
from invox_watcher.journal.moving import require_not_moved
from invox_watcher.journal.opening import server_backend
from invox_watcher.journal.shared import TELL, Shared
from invox_watcher.journal.tables import JOB_COLUMNS, job_of, placeholders
from invox_watcher.priority import Priority

if TYPE_CHECKING:
    import psycopg

    from invox_watcher.journal.backend import Connection
    from invox_watcher.journal.postgresql import ServerBackend
    from invox_watcher.journal.session import Session

# A beat that is this late was not late because of the host that is watched.
_GAP_SHARE = 0.5

_SELECT = f"SELECT {JOB_COLUMNS} FROM jobs"
_JOIN = """
    INSERT INTO hosts (name, instance, incarnation, address, release, journal_version)
    VALUES (?, ?, 1, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET instance = excluded.instance, incarnation = hosts.incarnation + 1,
    address = excluded.address, release = excluded.release, journal_version = excluded.journal_version,
    state = 'alive', beats = hosts.beats + 1, beat_at = clock_timestamp(), joined_at = clock_timestamp()
    WHERE hosts.instance = excluded.instance OR hosts.state <> 'alive'
    OR hosts.beat_at < clock_timestamp() - make_interval(secs => ?)
    RETURNING incarnation"""
_BEAT = """
    UPDATE hosts SET beats = beats + 1, beat_at = clock_timestamp()
    WHERE name = ? AND incarnation = ? AND state = 'alive'"""
_HOSTS = """
    SELECT name, incarnation, address, release, state, beats,
    extract(epoch FROM clock_timestamp() - beat_at)::float8,
    (SELECT count(*) FROM jobs WHERE host = name AND {under_way})
    FROM hosts ORDER BY name"""
_DECLARE_DEAD = """
    UPDATE hosts SET state = 'dead', incarnation = incarnation + 1
    WHERE name = ? AND incarnation = ? AND beats = ? AND state <> 'dead'"""
_LEAVE = "UPDATE hosts SET state = 'left' WHERE name = ? AND incarnation = ?"
_ACTIVE = ", ".join(literal(state) for state in sorted(ACTIVE))
_UNDER_WAY = f"state <> 'done' AND state IN ({_ACTIVE})"
_OF_HOST = f"{_SELECT} WHERE host = ? AND {_UNDER_WAY} ORDER BY rowid"
_TAKE_OVER = f"UPDATE jobs SET host = ? WHERE host = ? AND {_UNDER_WAY} RETURNING id"
# What is unowned while no other host runs is in no queue that is read: of a journal that was copied.
_ADOPT = f"""
    UPDATE jobs SET host = ? WHERE host IS NULL AND {_UNDER_WAY}
    AND NOT EXISTS (SELECT 1 FROM hosts WHERE state = 'alive' AND name <> ?)"""
_TAKE = "UPDATE jobs SET host = ? WHERE id = ? AND host IS NULL"
_GIVE = "UPDATE jobs SET host = NULL WHERE host = ? AND id IN ({ids}) RETURNING id"
_OF_REQUEST = f"SELECT host FROM jobs WHERE request_id = ? AND {_UNDER_WAY} AND host IS NOT NULL LIMIT 1"
_IDENTIFY = """
    INSERT INTO known (name, value, host, at) VALUES ('journal', ?, '', clock_timestamp())
    ON CONFLICT (name) DO NOTHING"""
_OTHERS = """
    SELECT name FROM hosts WHERE state = 'alive' AND name <> ?
    AND beat_at > clock_timestamp() - make_interval(secs => ?) ORDER BY name"""
_LIMIT = "takeover_seconds"  # what all that run have agreed on
_IDENTITY = "SELECT value FROM known WHERE name = 'journal'"
IN_PLAIN = """
    SELECT NOT ssl AND inet_server_addr() IS NOT NULL AND inet_server_addr() <> '::1'
    AND NOT inet_server_addr() <<= '127.0.0.0/8' FROM pg_stat_ssl WHERE pid = pg_backend_pid()"""
_FENCE = "SELECT 1 FROM hosts WHERE name = {name} AND incarnation = {incarnation} AND state = 'alive'"

# Puts unowned jobs into a queue, in the transaction that makes them so.
Place = Callable[["psycopg.Connection[Any]", Sequence[tuple[str, Priority]]], None]


@dataclass(frozen=True)
class Host:
    """One host of the fleet, as the journal knows it."""

    name: str
    incarnation: int
    address: str  # where its web server is, for people
    release: str
    state: str  # alive, left (it was stopped), dead (another one has taken over what it had)
    beats: int
    silent_seconds: float  # since its last beat, by the database's clock
    jobs: int  # under way

    @property
    def is_alive(self) -> bool:
        """Whether it is running, as far as the others know."""
        return self.state == "alive"


class Observation:
    """For how long each host has been watched without beating. Not for several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen_at: float | None = None
        self._unchanged: dict[str, tuple[int, int, float]] = {}  # incarnation, beats, since when

    def silent(self, hosts: Iterable[Host], limit_seconds: float) -> list[Host]:
        """Those that have not beaten for so long, while this was called again and again.

        After a pause of the caller, or of the database, the watch starts again.
        """
        now = self._clock()
        if self._seen_at is None or now - self._seen_at > limit_seconds * _GAP_SHARE:
            self._unchanged.clear()
        self._seen_at = now
        silent, known = [], self._unchanged
        self._unchanged = {}
        for host in hosts:
            before = known.get(host.name)
            same = before is not None and before[:2] == (host.incarnation, host.beats)
            since = before[2] if same and before is not None else now
            self._unchanged[host.name] = (host.incarnation, host.beats, since)
            if now - since >= limit_seconds:
                silent.append(host)
        return silent


class Fleet:
    """The part of a journal that is about its hosts. Safe for several threads, except `silent`."""

    def __init__(self, database: Database, backend: ServerBackend) -> None:
        self._database = database
        self._backend = backend
        self._observation = Observation()
        self._side = backend.side()
        self.name: str | None = None  # of this host, once it has joined
        self.incarnation = 0
        self.shared = Shared(self._side)

    def is_read_on_the_network(self) -> bool:
        """Whether the database is on another machine, and what it is told is not encrypted."""
        return bool(self._database.read(IN_PLAIN)[0][0])

    def conninfo(self) -> str:
        """How libpq connects, with the password: for a queue's own connections. Never to be logged."""
        return self._backend.conninfo()

    # ---- this host ---------------------------------------------------------------------------------------

    def join(
        self,
        name: str,
        *,
        instance: str,
        address: str = "",
        limit_seconds: float,
        install: Callable[[psycopg.Connection[Any]], None] = lambda _connection: None,
    ) -> list[Job]:
        """Be `name` from now on; return the jobs under way that an earlier incarnation of it had.

        If no other host runs, those that are unowned as well: no other would take them.

        `instance` identifies its state directory: another one under the same name is refused while it beats,
        and until `limit_seconds` later. `install` is called in the transaction, and may create tables.

        Raises:
            JournalError: another host has that name, or hosts that run have other `limit_seconds`.
        """

        def write(connection: Connection) -> int | None:
            install(_raw(connection))
            values = (name, instance, address, release(), VERSION, limit_seconds)
            row = connection.execute(_JOIN, values).fetchone()
            if row is None:
                return None
            self._require_limit(connection, name, limit_seconds)
            self.shared.free_all(connection, name)
            connection.execute(_ADOPT, (name, name))
            return int(row[0])

        incarnation = self._database.write(write)
        if incarnation is None:
            raise JournalError(
                f"Another host of the fleet is called {name}, and is running.",
                code="host_name_taken",
                hint="Give each host its own name. If it has moved to another state directory, start it "
                f"{limit_seconds:.0f} s after the old one has stopped.",
            )
        self.name, self.incarnation = name, incarnation
        self._backend.fence = _FENCE.format(name=literal(name), incarnation=incarnation)
        self._backend.on_fenced = self._fenced
        return self.jobs_of(name)

    def _require_limit(self, connection: Connection, name: str, limit_seconds: float) -> None:
        """Have the limit of the hosts that run: one that acts for longer than others wait is not safe."""
        row = connection.execute("SELECT value FROM known WHERE name = ?", (_LIMIT,)).fetchone()
        theirs = limit_seconds if row is None else float(row[0])
        if theirs != limit_seconds:
            # Who has been silent for longer than either limit has stopped by itself, or is dead.
            others = connection.execute(_OTHERS, (name, max(theirs, limit_seconds))).fetchall()
            if others:
                raise JournalError(
                    f"state.takeover_seconds is {limit_seconds:g} here, and {theirs:g} at the hosts that "
                    f"run: {', '.join(other for (other,) in others)}.",
                    code="takeover_differs",
                    hint="Use the same value on every host. To change it, stop all of them, then start them.",
                )
        connection.execute(TELL, (_LIMIT, repr(limit_seconds), name))

    def beat(self) -> None:
        """Say that this host is alive. Does not wait for other writes.

        Raises:
            FencedError: another host has taken over what this one had: it must stop.
            JournalError: the database does not answer.
        """
        if self._side.write(_BEAT, (self.name, self.incarnation)) == 0:
            self._fenced()

    def leave(self, place: Place | None = None) -> None:
        """This host stops, and writes nothing more.

        With `place`, what it has under way is unowned, and others may take it. Without, it has it again when
        it joins again, unless another host has taken it over because that took too long.
        """
        if place is not None:
            self.give(self.jobs_of(self.name or ""), place)

        def write(connection: Connection) -> None:
            connection.execute(_LEAVE, (self.name, self.incarnation))
            self.shared.free_all(connection, self.name or "")

        self._database.write(write)

    def _fenced(self) -> None:
        raise FencedError(
            f"{self.name} is no longer a host of the fleet: it was silent for too long, and another one has "
            "taken over what it had; or it has left.",
            hint="It joins again when it is started again. Was it suspended, or cut off from the database?",
        )

    # ---- jobs --------------------------------------------------------------------------------------------

    def jobs_of(self, host: str) -> list[Job]:
        """The jobs under way that `host` has, the oldest first."""
        return [job_of(row) for row in self._database.read(_OF_HOST, (host,))]

    def take(self, job_id: str) -> Job | None:
        """Make an unowned job this host's; None if another was quicker, or it is not known."""

        def write(connection: Connection) -> Job | None:
            if connection.execute(_TAKE, (self.name, job_id)).rowcount == 0:
                return None
            return job_of(connection.execute(f"{_SELECT} WHERE id = ?", (job_id,)).fetchone())

        return self._database.write(write)

    def give(self, jobs: Sequence[Job], place: Place) -> None:
        """Make jobs of this host unowned; `place` puts them into a queue, in the same commit.

        To put jobs of a host that has died into the queue, take it over and give them.
        """

        def write(connection: Connection) -> None:
            ids = [job.id for job in jobs]
            query = _GIVE.format(ids=placeholders(ids))
            given = {row[0] for row in connection.execute(query, (self.name, *ids)).fetchall()}
            place(_raw(connection), [(job.id, job.priority) for job in jobs if job.id in given])

        if jobs:
            self._database.write(write)

    def host_of_request(self, request_id: str) -> str | None:
        """The host whose job that request is, if it is under way; None if it is unowned, or not known."""
        rows = self._database.read(_OF_REQUEST, (request_id,))
        return rows[0][0] if rows else None

    def also(self, write: Callable[[psycopg.Connection[Any]], None]) -> None:
        """Let a queue write on a connection of the journal, in a transaction."""

        def write_raw(connection: Connection) -> None:
            write(_raw(connection))

        self._database.write(write_raw)

    def identity(self) -> str:
        """What tells this journal from every other, also after it was restored elsewhere."""

        def write(connection: Connection) -> str:
            connection.execute(_IDENTIFY, (secrets.token_hex(16),))
            found: str = connection.execute(_IDENTITY).fetchone()[0]
            return found

        return self._database.write(write)

    # ---- other hosts -------------------------------------------------------------------------------------

    def hosts(self) -> list[Host]:
        """All that ever joined, by name."""
        return [Host(*row) for row in self._database.read(_HOSTS.format(under_way=_UNDER_WAY))]

    def silent(self, limit_seconds: float) -> list[Host]:
        """The other hosts that are to be taken over: call this every few seconds; see `Observation`."""
        others = [
            host
            for host in self.hosts()
            if host.name != self.name and (host.state == "alive" or (host.state == "left" and host.jobs))
        ]
        return self._observation.silent(others, limit_seconds)

    def take_over(self, host: Host) -> list[Job] | None:
        """Make what a silent host had this one's: its jobs, which are returned; free what it held.

        None if it has beaten since, or another host has taken it over.
        """

        def write(connection: Connection) -> set[str] | None:
            found = connection.execute(_DECLARE_DEAD, (host.name, host.incarnation, host.beats))
            if found.rowcount == 0:
                return None
            taken = connection.execute(_TAKE_OVER, (self.name, host.name)).fetchall()
            self.shared.free_all(connection, host.name)
            return {row[0] for row in taken}

        taken = self._database.write(write)
        if taken is None:
            return None
        return [job for job in self.jobs_of(self.name or "") if job.id in taken]

    def take_slot(self, name: str, job_id: str, limit: int) -> bool:
        """Take one of `limit` slots of that name, which all hosts share; False if there is none."""
        return self.shared.take_slot(name, job_id, self.name or "", limit)

    def hold(self, name: str) -> bool:
        """Whether this host alone has the lease of that name, until it leaves or is taken over."""
        return self.shared.hold(name, self.name or "", self.incarnation)

    def close(self) -> None:
        """Close the connection for beats and counters."""
        self._side.close()


def identity_in(server: Server) -> str | None:
    """What `Fleet.identity` will return, of a journal of any version; None if no host has joined yet.

    Raises:
        JournalError: the database does not answer.
        WrongJournalError: its journal was copied elsewhere.
        ConfigurationError: the extra for it is not installed.
    """
    backend = server_backend(server, create=False)
    try:
        with closing(backend.open_reader()) as reader:
            read = read_on(reader)
            require_not_moved(read, backend)
            rows = read(_IDENTITY, ()) if backend.has_table(read, "known") else ()
    except backend.errors as error:
        raise backend.unusable(error) from None
    return rows[0][0] if rows else None


def _raw(connection: Connection) -> psycopg.Connection[Any]:
    """What a queue writes with: the connection of a `ServerBackend` is a `Session`."""
    return cast("Session", connection).raw
