"""The durable journal: one row per recording, its history, and the replies that were paid for.

Every state write names the state it expects (`UPDATE … WHERE id = ? AND state = ?`); if no row changes,
another thread has moved the job on and `StaleStateError` ends the attempt. Each write is one transaction, on
disk when the call returns.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from invox_watcher.errors import JournalError, StaleStateError
from invox_watcher.events import Event, log
from invox_watcher.invox import NoticeOutcome, WebhookNotice
from invox_watcher.job import ACTIVE, TRANSITIONS, Job, State
from invox_watcher.journal.finished import Finished
from invox_watcher.journal.migrations import Copies, migrate, require_current
from invox_watcher.journal.sqlite import DAMAGED, FILENAME, HINTS, connect, require_file
from invox_watcher.journal.tables import FIELDS as _FIELDS
from invox_watcher.journal.tables import (
    HOOK,
    JOB_COLUMNS,
    DeliveryState,
    columns_of,
    is_suspect,
    job_of,
    row_of,
)
from invox_watcher.journal.tables import deliveries as _deliveries
from invox_watcher.journal.tables import history as _history
from invox_watcher.journal.tables import jobs as _jobs
from invox_watcher.journal.tables import notices as _notices
from invox_watcher.journal.tables import outputs as _outputs
from invox_watcher.journal.tables import replies as _replies
from invox_watcher.journal.tables import signatures as _signatures
from invox_watcher.journal.tables import taken as _taken
from invox_watcher.recording import FileIdentity
from invox_watcher.times import utc_now

_RATIO_SAMPLES = 20
# Without a transcript, now and for good.
_GIVEN_UP = (State.FAILING, State.FAILED, State.VANISHED)
# Where the outputs lie that are written with a move to these states.
_OUTPUT_FOLDERS = {State.DELIVERED: "outbox", State.FAILED: "failed"}
# The one failure after which polling the same request id again can't help.
_ANSWERED_WITH_ERROR = "transcription_failed"
_NO_REQUEST: dict[str, Any] = {"request_id": None, "uploaded_at": None}


@dataclasses.dataclass(frozen=True)
class HistoryEntry:
    """One line of a job's history."""

    at: datetime
    state: State
    detail: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StoredNotice:
    """A webhook that was recorded for a request: its body without signatures, and when it came."""

    payload: object
    at: datetime
    covers_body: bool  # whether its signature covered the body


class TransitionListener(Protocol):
    """Called with every state write before its commit; if it raises, the write is rolled back."""

    def __call__(self, was: State | None, job: Job, detail: Mapping[str, Any]) -> None:
        """`job` is what it is about to be; `was` is the state that it had, None for a new one."""


class NameReservedError(Exception):
    """Another job under way has reserved the name; the caller tries the next one."""


class _UncertainError(JournalError):
    """A write failed, perhaps only in its very last fsync: then it is in the journal nevertheless."""


class Journal:
    """The journal of one daemon. Safe to use from several threads; each call is one transaction."""

    def __init__(
        self,
        directory: Path,
        *,
        create: bool = True,
        hooks_after: Collection[State] = (),
        on_transition: TransitionListener | None = None,
    ) -> None:
        """Open the journal in `directory`; with `create`, make it if it is missing, convert it if it is old.

        For jobs that end in a state of `hooks_after` a delivery to the hook is due; see `finished`.

        Raises:
            JournalError: it is missing, corrupt, locked, not writable, or of another version.
            NotPermittedError: it exists, and may not be read.
        """
        self.path = directory / FILENAME
        self._hooks_after = frozenset(hooks_after)
        self._on_transition = on_transition
        self.finished = Finished(self._transaction)
        if not create:
            require_file(self.path)
        self._engine = sa.create_engine(
            "sqlite://",
            creator=lambda: connect(self.path, create=create),
            poolclass=sa.pool.QueuePool,
            max_overflow=-1,
            hide_parameters=True,
        )
        # SQLAlchemy leaves BEGIN to us. IMMEDIATE, since two that begin by reading and then write deadlock.
        sa.event.listen(
            self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE")
        )
        if create:
            self._prepare()
        else:
            with self._transaction() as connection:
                require_current(connection, self.path)
        self._copies = Copies(directory)

    def _prepare(self) -> None:
        with self._transaction() as connection:
            self._check_whole(connection)
            migration = migrate(connection, self.path)
        if migration is not None:
            log.info(Event.JOURNAL_MIGRATED, version=migration.version, copy=str(migration.copy))

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def check(self) -> None:
        """Run one transaction that changes nothing.

        Raises:
            JournalError: no other transaction would work now either.
        """
        with self._transaction() as connection:
            connection.execute(sa.select(_jobs.c.id).limit(1))

    def verify(self) -> None:
        """Read every page, as the daemon does at each start.

        Raises:
            JournalError: it is damaged.
        """
        with self._transaction() as connection:
            self._check_whole(connection)

    # ---- writing -----------------------------------------------------------------------------------------

    def add(self, job: Job, *, waited_seconds: float | None = None) -> None:
        """A new row: the recording is claimed, `waited_seconds` after it was first seen in the inbox.

        If it is the file of a job that failed, or whose recording was removed from processing/, the row names
        that job as its predecessor.
        """
        detail = {"size_bytes": job.size_bytes, "format": job.format, "waited_seconds": waited_seconds}
        try:
            with self._transaction() as connection:
                predecessor = _predecessor(connection, job.id, _is_file(job.identity))
                connection.execute(_jobs.insert().values(row_of(job) | {"predecessor_id": predecessor}))
                _append_history(connection, job.id, job.state, detail)
                if self._on_transition:
                    self._on_transition(None, job, {})
        except _UncertainError:
            if self.get(job.id) is None:
                raise

    def move(
        self,
        job: Job,
        to: State,
        *,
        reserve: str | None = None,
        reply: object = None,
        outputs: Mapping[str, str] | None = None,
        detail: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Job:
        """Move `job` from the state it has to `to`, with `changes` to its other fields; return the new job.

        `reserve` is a name that no other job under way may hold; the next move releases it. `reply` is what
        the API sent, kept for `reuse` and for publishing after a crash. `outputs` are the files that were
        written for the job: path → SHA-256, in outbox/ for `delivered`, in failed/ for `failed`.

        Raises:
            StaleStateError: the row is no longer in `job.state`.
            NameReservedError: another job holds the name.
        """
        if to not in TRANSITIONS[job.state]:
            raise AssertionError(f"no transition leads from {job.state} to {to}")
        told = dict(detail or {}) if outputs is None else {**(detail or {}), "outputs": outputs}
        with self._transaction() as connection:
            moved = self._write(connection, job, state=to, reserved=_key(reserve), **changes)
            if reply is not None:
                connection.execute(_replies.delete().where(_replies.c.job_id == job.id))
                connection.execute(_replies.insert().values(job_id=job.id, reply=json.dumps(reply)))
            _add_outputs(connection, job.id, to, outputs or {})
            if to in self._hooks_after:
                _add_hook(connection, job.id)
            _append_history(connection, job.id, to, told)
            if self._on_transition:
                self._on_transition(job.state, moved, told)
        if to is State.DONE:
            self._copies.discard_after(job)
        return moved

    def update(self, job: Job, **changes: Any) -> Job:
        """Change fields of `job` without moving it; guarded like `move`, but without a history entry."""
        with self._transaction() as connection:
            return self._write(connection, job, **changes)

    def identify(
        self, job: Job, sha256: str, *, follow: bool, detail: Mapping[str, Any] | None = None, **changes: Any
    ) -> Job:
        """Move `job` from claimed to identified. With `follow`, name the earlier job of the same content.

        Query and write are one transaction, so of two recordings with the same content exactly one finds
        none. If an earlier job of this content was given up while the API may still have had it, the new one
        takes over its request id, and the time of its upload if storage acknowledged that: see
        `Job.uploaded_at`.

        A failed job of this content whose recording has not come back before is the predecessor.
        """
        with self._transaction() as connection:
            original = self._original(connection, job.id, sha256) if follow else None
            changes |= {"sha256": sha256, "original_id": original}
            changes |= _NO_REQUEST if original else self._abandoned_request(connection, sha256)
            known = connection.execute(sa.select(_jobs.c.predecessor_id).where(_jobs.c.id == job.id)).scalar()
            changes["predecessor_id"] = known or _predecessor(connection, job.id, _jobs.c.sha256 == sha256)
            moved = self._write(connection, job, state=State.IDENTIFIED, **changes)
            identified = {"sha256": sha256, "original_id": original, **(detail or {})}
            _append_history(connection, job.id, moved.state, identified)
        return moved

    def discard(self, job: Job, original_id: str) -> None:
        """Delete the row of `job`, whose recording is that of `original_id` once more; guarded like `move`.

        Raises:
            StaleStateError: the row is no longer in `job.state`.
        """
        with self._transaction() as connection:
            job = self._write(connection, job)
            connection.execute(_history.delete().where(_history.c.job_id == job.id))
            connection.execute(_jobs.delete().where(_jobs.c.id == job.id))
            if self._on_transition:
                self._on_transition(job.state, job, {"duplicate_of": original_id})

    def follow_again(self, job: Job) -> Job:
        """The original failed: follow another job of the same content, or none and be uploaded itself."""
        sha256 = job.sha256 or ""
        with self._transaction() as connection:
            original = self._original(connection, job.id, sha256)
            request = _NO_REQUEST if original else self._abandoned_request(connection, sha256)
            return self._write(connection, job, original_id=original, **request)

    def _original(self, connection: sa.Connection, job_id: str, sha256: str) -> str | None:
        query = sa.select(_jobs.c.id).where(
            _jobs.c.sha256 == sha256,
            _jobs.c.id != job_id,
            # A follower counts as soon as it has the words itself: the first may be deleted by now.
            _jobs.c.original_id.is_(None) | _jobs.c.id.in_(sa.select(_replies.c.job_id)),
            _jobs.c.transcripts_deleted_at.is_(None),
            _jobs.c.state.not_in([State.CLAIMED, *_GIVEN_UP])
            | _jobs.c.id.in_(sa.select(_replies.c.job_id)),  # given up, but the words are here
        )
        found: str | None = connection.execute(query.order_by(_taken)).scalars().first()
        return found

    def _abandoned_request(self, connection: sa.Connection, sha256: str) -> dict[str, Any]:
        """The request under which the API may have this content, and when storage acknowledged the upload."""
        query = sa.select(_jobs.c.request_id, _jobs.c.uploaded_at, _jobs.c.failure).where(
            _jobs.c.sha256 == sha256, _jobs.c.state.in_(_GIVEN_UP), _jobs.c.request_id.is_not(None)
        )
        latest = connection.execute(query.order_by(_taken.desc())).first()
        if latest is None or (
            latest.failure is not None and latest.failure.reason.code == _ANSWERED_WITH_ERROR
        ):
            return _NO_REQUEST
        return {"request_id": latest.request_id, "uploaded_at": latest.uploaded_at}

    def _write(self, connection: sa.Connection, job: Job, **changes: Any) -> Job:
        changes["updated_at"] = utc_now()
        mine = (_jobs.c.id == job.id) & (_jobs.c.state == job.state)
        statement = _jobs.update().where(mine).values(columns_of(changes))
        if connection.execute(statement).rowcount == 0:
            raise StaleStateError(f"Job {job.id} is no longer {job.state}.")
        return dataclasses.replace(job, **{name: changes[name] for name in changes if name in _FIELDS})

    def record_notice(self, notice: WebhookNotice) -> NoticeOutcome:
        """Store a webhook, once, and return how it relates to what is known.

        A signature is valid only for the content that it first came with, whatever the outcome was; and of
        several webhooks for a request the first one counts, unless only a later one has a signature over its
        body.
        """
        with self._transaction() as connection:
            if self._claims_other_content(connection, notice):
                return NoticeOutcome.CONTRADICTS
            ours = sa.select(_jobs.c.state).where(_jobs.c.request_id == notice.request_id)
            states = set(connection.execute(ours).scalars())
            if not states:
                return NoticeOutcome.UNKNOWN
            of_request = _notices.c.request_id == notice.request_id
            known = connection.execute(sa.select(_notices).where(of_request)).first()
            if known is not None:
                if known.covers_body or not notice.covers_body:
                    same = known.content_sha256 == notice.content_sha256
                    return NoticeOutcome.REPEATED if same else NoticeOutcome.CONTRADICTS
                connection.execute(_notices.delete().where(of_request))
            connection.execute(
                _notices.insert().values(
                    request_id=notice.request_id,
                    content_sha256=notice.content_sha256,
                    payload=json.dumps(notice.payload),
                    at=utc_now(),
                    covers_body=notice.covers_body,
                )
            )
        return NoticeOutcome.NEW if states & ACTIVE else NoticeOutcome.REPEATED

    def _claims_other_content(self, connection: sa.Connection, notice: WebhookNotice) -> bool:
        known = sa.select(_signatures.c.content_sha256).where(_signatures.c.sha256 == notice.signature_sha256)
        content = connection.execute(known).scalar()
        if content is None:
            values = {"sha256": notice.signature_sha256, "content_sha256": notice.content_sha256}
            connection.execute(_signatures.insert().values(values))
        return content not in (None, notice.content_sha256)

    # ---- reading -----------------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job | None:
        """The job with that id, or None."""
        return next(iter(self._jobs(_jobs.c.id == job_id)), None)

    def find(self, beginning: str, *, limit: int) -> list[Job]:
        """Jobs whose id, or the second half of it, begins so; the newest first."""
        wanted = _jobs.c.id.startswith(beginning, autoescape=True) | _jobs.c.id.contains(
            f"-{beginning}", autoescape=True
        )
        return self._jobs(wanted, limit=limit)

    def latest(
        self, states: Iterable[State] = State, *, path: str | None = None, filed_as: str | None = None
    ) -> Job | None:
        """The newest job that came under that path, or was filed under it; None if there is none."""
        named = _jobs.c.filed_as == filed_as if path is None else _jobs.c.path == path
        return next(iter(self._jobs(_jobs.c.state.in_(list(states)) & named, limit=1)), None)

    def original(self, sha256: str) -> Job | None:
        """The job whose transcript a new recording of this content would get; None if there is none."""
        with self._transaction() as connection:
            job_id = self._original(connection, "", sha256)
        return None if job_id is None else self.get(job_id)

    def jobs(
        self,
        states: Iterable[State] = State,
        *,
        since: datetime | None = None,
        suspect: bool = False,
        limit: int | None = None,
    ) -> list[Job]:
        """Jobs in these states, received at or after `since`, the oldest first.

        With `suspect`, those alone whose transcript is; with `limit`, the newest so many of them.
        """
        wanted: sa.ColumnElement[bool] = _jobs.c.state.in_(list(states))
        if since is not None:
            wanted &= _jobs.c.received_at >= since
        if suspect:
            wanted &= is_suspect
        return self._jobs(wanted, limit=limit)[::-1]

    def active(self) -> list[Job]:
        """Every job that is not yet done, failed or vanished, the oldest first."""
        return self.jobs(ACTIVE)

    def counts(self) -> dict[State, int]:
        """How many jobs there are in each state."""
        query = sa.select(_jobs.c.state, sa.func.count()).group_by(_jobs.c.state)
        with self._transaction() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def history(self, job_id: str) -> list[HistoryEntry]:
        """The history of one recording, the oldest entry first."""
        query = sa.select(_history).where(_history.c.job_id == job_id).order_by(_history.c.id)
        with self._transaction() as connection:
            rows = connection.execute(query).all()
        return [HistoryEntry(row.at, State(row.state), json.loads(row.detail)) for row in rows]

    def reply(self, job_id: str) -> object | None:
        """What the API answered for that job, as it was sent; None if there is no answer yet."""
        query = sa.select(_replies.c.reply).where(_replies.c.job_id == job_id)
        with self._transaction() as connection:
            text = connection.execute(query).scalar()
        return None if text is None else json.loads(text)

    def notice(self, request_id: str) -> StoredNotice | None:
        """The webhook that was recorded for a request; None if there is none."""
        query = sa.select(_notices).where(_notices.c.request_id == request_id)
        with self._transaction() as connection:
            row = connection.execute(query).first()
        return None if row is None else StoredNotice(json.loads(row.payload), row.at, row.covers_body)

    def transcription_ratios(self, delivered_by: str) -> list[float]:
        """Seconds until the result was polled per second of recording, of the latest jobs."""
        query = (
            sa.select(_jobs.c.uploaded_at, _jobs.c.completed_at, _jobs.c.duration_seconds)
            .where(_jobs.c.delivered_by == delivered_by, _jobs.c.duration_seconds > 0)
            .order_by(_jobs.c.completed_at.desc())
            .limit(_RATIO_SAMPLES)
        )
        with self._transaction() as connection:
            rows = connection.execute(query).all()
        return [
            max((row.completed_at - row.uploaded_at).total_seconds(), 0.0) / row.duration_seconds
            for row in rows
            if row.uploaded_at and row.completed_at
        ]

    def _jobs(self, condition: sa.ColumnElement[bool], limit: int | None = None) -> list[Job]:
        query = sa.select(*JOB_COLUMNS).where(condition)
        with self._transaction() as connection:
            rows = connection.execute(query.order_by(_taken.desc()).limit(limit)).all()
        return [job_of(row) for row in rows]

    # ---- the boundary ------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """One transaction. SQLite's errors become ours, without the values that were to be written."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.IntegrityError:
            raise NameReservedError from None
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            raise self._unusable(getattr(error, "orig", None) or error) from None

    def _unusable(self, error: BaseException) -> JournalError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code; the rest is detail
        kind = _UncertainError if code == sqlite3.SQLITE_IOERR else JournalError
        return kind(
            f"The journal {self.path} can't be used: {error}",
            hint=HINTS.get(code, "No recording is taken until this is fixed."),
        )

    def _check_whole(self, connection: sa.Connection) -> None:
        """Read every page: damage is better found before a recording is taken than during its processing."""
        if connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one() != "ok":
            raise JournalError(f"The journal {self.path} can't be used.", hint=DAMAGED)


def _append_history(connection: sa.Connection, job_id: str, state: State, detail: Mapping[str, Any]) -> None:
    text = json.dumps({key: value for key, value in detail.items() if value is not None}, default=str)
    connection.execute(_history.insert().values(job_id=job_id, at=utc_now(), state=state, detail=text))


def _add_outputs(connection: sa.Connection, job_id: str, state: State, outputs: Mapping[str, str]) -> None:
    for path, sha256 in outputs.items():
        values = {"job_id": job_id, "folder": _OUTPUT_FOLDERS[state], "path": path, "sha256": sha256}
        connection.execute(_outputs.insert().values(values))


def _add_hook(connection: sa.Connection, job_id: str) -> None:
    values = {
        "job_id": job_id,
        "target": HOOK,
        "state": DeliveryState.DUE,
        "attempts": 0,
        "due_at": utc_now(),
    }
    connection.execute(_deliveries.insert().values(values))


def _is_file(identity: FileIdentity) -> sa.ColumnElement[bool]:
    """Jobs of the very same file: a rename changes none of this."""
    columns = dataclasses.asdict(identity).items()
    return sa.and_(*(_jobs.c[name] == value for name, value in columns))


def _predecessor(connection: sa.Connection, job_id: str, same: sa.ColumnElement[bool]) -> str | None:
    """The latest of the jobs that are the `same` and ended without a transcript, and had no successor yet."""
    later = _jobs.alias("later")
    has_successor = sa.exists().where(later.c.predecessor_id == _jobs.c.id)
    query = sa.select(_jobs.c.id).where(
        same, _jobs.c.id != job_id, _jobs.c.state.in_([State.FAILED, State.VANISHED]), ~has_successor
    )
    found: str | None = connection.execute(query.order_by(_taken.desc())).scalars().first()
    return found


def _key(name: str | None) -> bytes | None:
    """Names that differ only in case or Unicode form are the same on the shares that transcripts go to."""
    return None if name is None else os.fsencode(unicodedata.normalize("NFC", name).casefold())
