"""The durable journal: one row per recording, its history, and the replies that were paid for.

Every state write names the state it expects (`UPDATE … WHERE id = ? AND state = ?`); if no row changes,
another thread has moved the job on and `StaleStateError` ends the attempt. Each write is undone as a whole or
on disk when the call returns, with those of other threads that write at the same time: see `database`.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

from invox_watcher.errors import StaleStateError
from invox_watcher.events import Event, log
from invox_watcher.job import ACTIVE, TRANSITIONS, Job, State
from invox_watcher.journal import contents, deliveries, finished, history, notices, spending
from invox_watcher.journal.backend import Backend, Connection, Server, UncertainError, read_on
from invox_watcher.journal.database import Database
from invox_watcher.journal.deliveries import Deliveries
from invox_watcher.journal.file import FileBackend
from invox_watcher.journal.finished import UNCONFIRMED_CLOCK, Finished
from invox_watcher.journal.fleet import Fleet
from invox_watcher.journal.history import HistoryEntry
from invox_watcher.journal.lookup import Lookup
from invox_watcher.journal.migrations import Copies, Migration, migrate, require_current
from invox_watcher.journal.moving import moved, moved_to, require_not_moved
from invox_watcher.journal.notices import StoredNotice
from invox_watcher.journal.opening import server_backend
from invox_watcher.journal.processing_times import ProcessingTime, processing_times
from invox_watcher.journal.search import Search
from invox_watcher.journal.sqlite import FILENAME
from invox_watcher.journal.tables import (
    FIELDS,
    JOB_COLUMNS,
    SUSPECT,
    UNFINISHED,
    columns_of,
    encode_time,
    insertion,
    job_of,
    placeholders,
    row_of,
)
from invox_watcher.notice import NoticeOutcome, WebhookNotice
from invox_watcher.times import utc_now

# An id is made, by the same clock, just before the recording counts as received.
_ID_MARGIN = timedelta(seconds=5)
_SELECT = f"SELECT {JOB_COLUMNS} FROM jobs"
_BY_ID = f"{_SELECT} WHERE id = ?"
_REPLY = "SELECT reply FROM replies WHERE job_id = ?"
_COUNTS = f"SELECT state, count(*) FROM jobs WHERE {UNFINISHED} GROUP BY state"
_TOTALS = "SELECT state, jobs FROM totals WHERE jobs > 0"


class TransitionListener(Protocol):
    """Called with every state write that is about to be committed; if it raises, it is rolled back.

    So are those that are committed with it.
    """

    def __call__(self, was: State | None, job: Job, detail: Mapping[str, Any]) -> None:
        """`job` is what it is about to be; `was` is the state that it had, None for a new one."""


class Journal:
    """The journal of one daemon. Safe to use from several threads; each call is one transaction."""

    def __init__(
        self,
        directory: Path,
        *,
        create: bool = True,
        targets_of: Callable[[Job], Iterable[str]] = lambda _job: (),
        on_transition: TransitionListener | None = None,
        server: Server | None = None,
        before_commit: Callable[[], None] = lambda: None,
        busy_seconds: float | None = None,
    ) -> None:
        """Open the journal in `directory`; with `create`, make it if it is missing, convert it if it is old.

        Without `create` it can only be read. With `server` it is in that database, which several hosts share,
        and `directory` has what is this host's alone. `targets_of` names the targets that a job which has
        ended is delivered to; see `deliveries`. `before_commit` is called after `on_transition`, once for all
        that is committed together. `busy_seconds`, if it is only read: how long each call waits while another
        program has it locked; None for long.

        Raises:
            JournalError: it is missing, corrupt, locked, not writable, or of another version.
            WrongJournalError: it was copied elsewhere, and `create` is set; without, see `moved_to`.
            NotPermittedError: it exists, and may not be read.
            ConfigurationError: there is a `server`, and the extra for it is not installed.
        """
        self.path = directory / FILENAME  # of a single host's journal
        self._targets_of = targets_of
        self._on_transition = on_transition
        common = None if server is None else server_backend(server, create=create)
        self._backend: Backend = common or FileBackend(self.path, create=create, busy_seconds=busy_seconds)
        if not create:
            self._backend.require_present()
        self._database = Database(self._backend, create=create, before_commit=before_commit)
        self.finished = Finished(self._database)
        self.lookup = Lookup(self._database)
        self.deliveries = Deliveries(self._database)
        self.search = Search(self._database)
        self.fleet = None if common is None else Fleet(self._database, common)
        self.moved_to: str | None = None  # the place that it was copied to, of one that is only read
        try:
            if create:
                self._prepare()
            else:
                require_current(self._database.read, self._backend)
                self.moved_to = moved_to(self._database.read, self._backend)
        except BaseException:
            self.close()
            raise
        self._copies = Copies(directory)

    def _prepare(self) -> None:
        def prepare(connection: Connection) -> Migration | None:
            require_not_moved(read_on(connection), self._backend)
            return migrate(connection, self._backend)

        migration = self._database.prepare(prepare, alone=self._backend.check_at_start)
        if migration is not None:
            copy = None if migration.copy is None else str(migration.copy)
            log.info(Event.JOURNAL_MIGRATED, version=migration.version, copy=copy)

    @property
    def name(self) -> str:
        """Where it is, for messages."""
        return self._backend.name

    @property
    def host(self) -> str | None:
        """The name of this host, if it has joined a fleet."""
        return None if self.fleet is None else self.fleet.name

    def require_not_moved(self) -> None:
        """Raise WrongJournalError if it was copied elsewhere, and that one is used; see `moved_to`."""
        if self.moved_to is not None:
            raise moved(self.name, self.moved_to)

    def close(self) -> None:
        """Close every connection."""
        if self.fleet is not None:
            self.fleet.close()
        self._database.close()

    def check(self) -> None:
        """Open it once more, and run one transaction that changes nothing.

        Raises:
            JournalError: no other transaction would work now either.
        """
        self._database.probe()

    def verify(self) -> None:
        """Read every page.

        Raises:
            JournalError: it is damaged.
        """
        self._backend.verify(self._database.read)

    def verify_in_steps(self, stop: threading.Event) -> None:
        """Read every row of a journal that is too large to be checked at the start, slowly.

        Raises:
            JournalError: it is damaged.
        """
        self._backend.verify_in_steps(self._database.read, stop)

    # ---- writing -----------------------------------------------------------------------------------------

    def add(self, job: Job, *, waited_seconds: float | None = None) -> None:
        """A new row: the recording is claimed, `waited_seconds` after it was first seen in the inbox.

        If it is the file of a job that failed, or whose recording was removed from processing/, the row names
        that job as its predecessor.
        """
        self.add_all([(job, waited_seconds)])

    def add_all(self, jobs: Sequence[tuple[Job, float | None]]) -> None:
        """`add` each of them, with its waiting time if that is known, in one write."""

        def write(connection: Connection) -> None:
            for job, waited_seconds in jobs:
                self._add(connection, job, waited_seconds)

        try:
            self._database.write(write)
        except UncertainError:
            if any(self.get(job.id) is None for job, _waited_seconds in jobs):
                raise

    def reserve_all(self, jobs: Sequence[tuple[Job, float | None]]) -> set[str]:
        """`add` each of them before its file is moved; return the ids of those that no other host has.

        What is reserved is the name in the inbox, until the job's next move: hosts see other devices and
        inodes, and no second file has the name before the first one was moved.
        """

        def write(connection: Connection) -> set[str]:
            won = set()
            for job, waited_seconds in jobs:
                key = b"\0" + os.fsencode(job.path)  # unlike any name of an output
                if not connection.execute("SELECT 1 FROM jobs WHERE reserved = ?", (key,)).fetchall():
                    self._add(connection, job, waited_seconds, reserved=key)
                    won.add(job.id)
            return won

        try:
            return self._database.write(write)
        except UncertainError:
            stored = {job.id for job, _waited_seconds in jobs if self.get(job.id) is not None}
            if not stored:
                raise
            return stored

    def withdraw_all(self, jobs: Iterable[Job]) -> None:
        """Delete the rows of these jobs, which are claimed and whose files were not moved."""

        def write(connection: Connection) -> None:
            for job in jobs:
                with suppress(StaleStateError):
                    self._delete(connection, job, None, {"not_moved": True})

        self._database.write(write)

    def discard(self, job: Job, original_id: str) -> None:
        """Delete the row of `job`, whose recording is that of `original_id` once more; guarded like `move`.

        Raises:
            StaleStateError: the row is no longer in `job.state`.
        """
        told = {"duplicate_of": original_id}
        self._database.write(lambda connection: self._delete(connection, job, original_id, told))

    def _delete(
        self, connection: Connection, job: Job, instead: str | None, detail: Mapping[str, Any]
    ) -> None:
        """Delete a row that is in the state of `job`; `instead` is the retry of what it was a retry of."""
        moved = self._write(connection, job, utc_now())
        contents.end_succession(connection, job.id, instead=instead)
        connection.execute("DELETE FROM history WHERE job_id = ?", (job.id,))
        connection.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
        self._tell(job.state, moved, detail)

    def _add(
        self, connection: Connection, job: Job, waited_seconds: float | None, reserved: bytes | None = None
    ) -> None:
        row = row_of(job) | {"host": self.host, "reserved": reserved}
        predecessor = contents.predecessor_by_file(connection, job.id, job.identity)
        row |= {"predecessor_id": predecessor, "profile": None if job.plan is None else job.plan.profile}
        connection.execute(_insert_job(tuple(row)), tuple(row.values()))
        contents.succeed(connection, predecessor, job.id)
        detail = {"size_bytes": job.size_bytes, "format": job.format, "waited_seconds": waited_seconds}
        history.append(connection, job.id, job.state, detail, utc_now())
        self._tell(None, job, {})

    def move(
        self,
        job: Job,
        to: State,
        *,
        reserve: str | None = None,
        reply: object = None,
        outputs: Mapping[str, str] | None = None,
        detail: Mapping[str, Any] | None = None,
        also: spending.Change | None = None,
        via: State | None = None,
        **changes: Any,
    ) -> Job:
        """Move `job` from the state it has to `to`, with `changes` to its other fields; return the new job.

        `reserve` is a name that no other job under way may hold; the next move releases it. `reply` is what
        the API sent, kept for `reuse` and for publishing after a crash. `outputs` are the files that were
        written for the job: path → SHA-256, in outbox/ for `delivered`, in failed/ for `failed`. `also` is
        written with it. `via` is a state that the job has passed on the way: for `done`, it is `delivered`.

        Raises:
            StaleStateError: the row is no longer in `job.state`.
            NameReservedError: another job holds the name.
            MinutesUsedUpError: `also` reserves more minutes than there are.
        """
        path = (job.state, to) if via is None else (job.state, via, to)
        for was, becomes in itertools.pairwise(path):
            if becomes not in TRANSITIONS[was]:
                raise AssertionError(f"no transition leads from {was} to {becomes}")
        if job.last_fault is not None:
            changes.setdefault("last_fault", None)
        written = {} if outputs is None else {"outputs": outputs}
        told = {**(detail or {}), **(written if via is None else {})}
        text = None if reply is None else json.dumps(reply)
        confirmed = to.is_final and not UNCONFIRMED_CLOCK.items() <= told.items()

        def write(connection: Connection) -> Job:
            now = utc_now()
            ages = finished.ages(now) if confirmed else {}
            moved = self._write(connection, job, now, state=to, reserved=_key(reserve), **ages, **changes)
            if also is not None:
                also(connection)
            if text is not None:
                connection.execute("DELETE FROM replies WHERE job_id = ?", (job.id,))
                connection.execute("INSERT INTO replies (job_id, reply) VALUES (?, ?)", (job.id, text))
            if outputs:
                finished.add_outputs(connection, job.id, via or to, outputs)
            if to.is_final:
                self._record_end(connection, moved, now, confirmed=confirmed)
            before = job.state
            if via is not None:
                self._record_passage(connection, before, moved.changed({"state": via}), written, now)
                before = via
            self._record_passage(connection, before, moved, told, now)
            return moved

        moved = self._database.write(write)
        if to is State.DONE:
            self._copies.discard_after(job)
        return moved

    def _record_passage(
        self, connection: Connection, was: State, job: Job, told: Mapping[str, Any], now: datetime
    ) -> None:
        history.append(connection, job.id, job.state, told, now)
        self._tell(was, job, told)

    def _tell(self, was: State | None, job: Job, detail: Mapping[str, Any]) -> None:
        if self._on_transition:
            self._database.at_commit(partial(self._on_transition, was, job, detail))

    def _record_end(self, connection: Connection, job: Job, now: datetime, *, confirmed: bool) -> None:
        """What the end of a job brings with it; `confirmed`: this machine's clock is right."""
        deliveries.add(connection, job, self._targets_of(job), now)
        finished.add_end(connection, job.state, now, confirmed=confirmed)
        if job.state is State.VANISHED:
            contents.end_succession(connection, job.id, instead=None)

    def update(self, job: Job, *, durable: bool = True, **changes: Any) -> Job:
        """Change fields of `job` without moving it; guarded like `move`, but without a history entry.

        Unless `durable`, a power cut may undo it, if nothing else is written after it.
        """
        return self._database.write(
            lambda connection: self._write(connection, job, utc_now(), **changes), durable=durable
        )

    def identify(
        self, job: Job, sha256: str, *, follow: bool, detail: Mapping[str, Any] | None = None, **changes: Any
    ) -> Job:
        """Move `job` from claimed to identified. With `follow`, name the earlier job of the same content.

        Query and write are one transaction, so of two recordings with the same content exactly one finds
        none. If an earlier job of this content was given up while the API may still have had it, the new one
        takes over its request id, and the time of its upload if storage acknowledged that: see
        `Job.uploaded_at`.

        A failed job of this content whose recording has not come back before is the predecessor.

        A power cut may undo it: then the recording is hashed again.
        """

        def write(connection: Connection) -> Job:
            now = utc_now()
            earlier = contents.earlier(connection, job.id, sha256, now, follow=follow)
            (known,) = connection.execute(
                "SELECT predecessor_id FROM jobs WHERE id = ?", (job.id,)
            ).fetchone() or (None,)
            predecessor = known or contents.predecessor_by_content(connection, job.id, sha256)
            if known is None:
                contents.succeed(connection, predecessor, job.id)
            changed = {**changes, **earlier, "sha256": sha256, "predecessor_id": predecessor}
            if job.last_fault is not None:
                changed["last_fault"] = None
            moved = self._write(connection, job, now, state=State.IDENTIFIED, reserved=None, **changed)
            told = {"sha256": sha256, "original_id": earlier["original_id"], **(detail or {})}
            history.append(connection, job.id, moved.state, told, now)
            return moved

        return self._database.write(write, durable=False)

    def follow_again(self, job: Job) -> Job:
        """The original failed: follow another job of the same content, or none and be uploaded itself."""
        sha256 = job.sha256 or ""

        def write(connection: Connection) -> Job:
            now = utc_now()
            earlier = contents.earlier(connection, job.id, sha256, now, follow=True)
            return self._write(connection, job, now, **earlier)

        return self._database.write(write)

    def record_notice(self, notice: WebhookNotice) -> NoticeOutcome:
        """Store a webhook, once, and return how it relates to what is known.

        A signature is valid only for the content that it first came with, whatever the outcome was; and of
        several webhooks for a request the first one counts, unless only a later one has a signature over its
        body.
        """
        return self._database.write(lambda connection: notices.record(connection, notice))

    # ---- reading -----------------------------------------------------------------------------------------

    def changes(self) -> tuple[int, int]:
        """Two numbers, of which one differs soon after another process has written to the journal. Cheap."""
        return self._backend.changes(self._database.read)

    def get(self, job_id: str) -> Job | None:
        """The job with that id, or None."""
        return next(iter(self._jobs(_BY_ID, (job_id,))), None)

    def original(self, sha256: str) -> Job | None:
        """The job whose transcript a new recording of this content would get; None if there is none."""
        rows = self._database.read(contents.ORIGINAL, (sha256, "") * 2)
        return self.get(rows[0][0]) if rows else None

    def jobs(
        self,
        states: Iterable[State] = State,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        suspect: bool = False,
        limit: int | None = None,
    ) -> list[Job]:
        """Jobs in these states, received at or after `since` and before `until`, the oldest first.

        With `suspect`, those alone whose transcript is; with `limit`, the newest so many of them.
        """
        wanted = tuple(states)
        query = f"{_SELECT} WHERE state IN ({placeholders(wanted)})"
        values: list[Any] = [*wanted]
        if State.DONE not in wanted:
            query += f" AND {UNFINISHED}"
        if suspect:
            query += f" AND {SUSPECT}"
        if since is not None:
            query += " AND id >= ? AND received_at >= ?"
            values += [f"{since - _ID_MARGIN:%Y%m%dt%H%M%S}", encode_time(since)]
        if until is not None:
            query += " AND id < ? AND received_at < ?"
            values += [f"{until + _ID_MARGIN:%Y%m%dt%H%M%S}", encode_time(until)]
        # With the plus sign the order does not keep SQLite from finding the ids by their index.
        query += " ORDER BY rowid DESC" if since is None and until is None else " ORDER BY +rowid DESC"
        if limit is not None:
            query += " LIMIT ?"
            values.append(limit)
        return self._jobs(query, values)[::-1]

    def active(self) -> list[Job]:
        """Every job that is not yet done, failed or vanished, the oldest first."""
        return self.jobs(ACTIVE)

    def counts(self) -> dict[State, int]:
        """How many jobs there are in each state."""
        rows = [*self._database.read(_COUNTS), *self._database.read(_TOTALS)]
        return {State(state): count for state, count in rows}

    def history(self, job_id: str) -> list[HistoryEntry]:
        """The history of one recording, the oldest entry first."""
        return history.entries(self._database.read, job_id)

    def reply(self, job_id: str) -> object | None:
        """What the API answered for that job, as it was sent; None if there is no answer yet."""
        rows = self._database.read(_REPLY, (job_id,))
        return json.loads(rows[0][0]) if rows else None

    def spent(self, day: str) -> dict[str, float]:
        """The seconds of audio that are reserved of that day, by profile; see `spending`."""
        return dict(self._database.read(spending.SPENT, (day,)))

    def notice(self, request_id: str) -> StoredNotice | None:
        """The webhook that was recorded for a request; None if there is none."""
        rows = self._database.read(notices.KNOWN, (request_id,))
        return notices.stored(rows[0]) if rows else None

    def processing_times(self, delivered_by: str) -> list[ProcessingTime]:
        """How long the API took for the latest recordings whose result came that way."""
        return processing_times(self._database.read, delivered_by)

    def _write(self, connection: Connection, job: Job, now: datetime, **changes: Any) -> Job:
        """Change fields of a row that is in the state of `job`, and in a fleet this host's."""
        changes["updated_at"] = now
        columns = columns_of(changes)
        values = [*columns.values(), job.id, job.state]
        query = _update_job(tuple(columns))
        if (host := self.host) is not None:
            query += " AND host = ?"
            values.append(host)
        if connection.execute(query, values).rowcount == 0:
            owned = "" if host is None else f", or no longer of {host}"
            raise StaleStateError(f"Job {job.id} is no longer {job.state}{owned}.")
        return job.changed({name: changes[name] for name in changes if name in FIELDS})

    def _jobs(self, query: str, values: Iterable[Any]) -> list[Job]:
        return [job_of(row) for row in self._database.read(query, tuple(values))]


# ---- statements --------------------------------------------------------------------------------------------


@cache
def _insert_job(columns: tuple[str, ...]) -> str:
    return insertion("jobs", columns)


@cache
def _update_job(columns: tuple[str, ...]) -> str:
    return f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ? AND state = ?"


def _key(name: str | None) -> bytes | None:
    """Names that differ only in case or Unicode form are the same on the shares that transcripts go to."""
    return None if name is None else os.fsencode(unicodedata.normalize("NFC", name).casefold())
