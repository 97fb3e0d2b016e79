"""What the journal knows of recordings that are finished: their outputs, what is still to be delivered, and
what may be deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from invox_watcher.job import ACTIVE, FINAL, Job, State
from invox_watcher.journal.tables import (
    HOOK,
    JOB_COLUMNS,
    DeliveryState,
    deliveries,
    history,
    job_of,
    jobs,
    notices,
    outputs,
    replies,
    taken,
)
from invox_watcher.times import utc_now

Kind = Literal["recording", "transcripts"]
_AT_ONCE = 200
_DELETED_AT = {"recording": jobs.c.recording_deleted_at, "transcripts": jobs.c.transcripts_deleted_at}
_DUE = deliveries.c.state == DeliveryState.DUE
# In the history of a job that ended while nothing confirmed the clock.
UNCONFIRMED_CLOCK = {"clock": "unconfirmed"}
_AWAITS_DELIVERY = jobs.c.id.in_(sa.select(deliveries.c.job_id).where(_DUE))


def _ended(before: datetime) -> sa.ColumnElement[bool]:
    """Jobs that ended before that time.

    If nothing confirmed the clock when a job ended, it may have ended later than its time says. Then another
    must have ended after it, in the order of the journal, and before that time by a clock that was confirmed.
    """
    end, later = history.alias("end"), history.alias("later")
    doubtful = json.dumps(UNCONFIRMED_CLOCK)[1:-1]
    is_end = (end.c.job_id == jobs.c.id) & end.c.state.in_(FINAL)
    confirmed_later = sa.exists().where(
        later.c.id > end.c.id,
        later.c.state.in_(FINAL),
        later.c.at < before,
        ~later.c.detail.contains(doubtful, autoescape=True),
    )
    in_doubt = sa.exists().where(is_end, end.c.detail.contains(doubtful, autoescape=True), ~confirmed_later)
    return (jobs.c.updated_at < before) & ~in_doubt


class Finished:
    """The part of a journal that is about finished jobs; each call is one transaction."""

    def __init__(self, transaction: Callable[[], AbstractContextManager[sa.Connection]]) -> None:
        self._transaction = transaction

    def outputs(self, job_id: str) -> dict[str, str]:
        """The files that were written for a job: path below outbox/, or below failed/ → SHA-256."""
        query = sa.select(outputs.c.path, outputs.c.sha256).where(outputs.c.job_id == job_id)
        with self._transaction() as connection:
            return {row.path: row.sha256 for row in connection.execute(query.order_by(outputs.c.id))}

    def writer_of(self, path: str) -> str | None:
        """The id of the job that wrote outbox/`path` last; None if none did."""
        wrote_it = (outputs.c.path == path) & (outputs.c.folder == "outbox")
        query = sa.select(outputs.c.job_id).where(wrote_it).order_by(outputs.c.id.desc())
        with self._transaction() as connection:
            job_id: str | None = connection.execute(query).scalars().first()
        return job_id

    def recent(self, since: datetime) -> list[Job]:
        """The latest of the jobs that were claimed since then and are done.

        Without those whose name in done/ a later job has: the file of that name is the later one's.
        """
        # By the primary key, however long the history is. Later is what was written later: clocks may be set.
        filed = sa.select(history.c.id, history.c.job_id).where(history.c.state == State.DONE)
        latest = filed.order_by(history.c.id.desc()).limit(_AT_ONCE).subquery()
        query = sa.select(*JOB_COLUMNS).join(latest, latest.c.job_id == jobs.c.id).order_by(latest.c.id)
        with self._transaction() as connection:
            rows = connection.execute(query).all()
        by_name = {job.filed_as: job for job in map(job_of, rows)}
        since_id = since.strftime("%Y%m%dt%H%M%S")  # an id begins with its time
        return [job for job in by_name.values() if job.id >= since_id]

    def has_its_name(self, job: Job) -> bool:
        """Whether the file in done/ under the name of `job`, which is done, is still its own, as far as the
        journal knows: no other job was filed under that name later.
        """
        filed = sa.select(sa.func.max(history.c.id)).where(
            history.c.state == State.DONE, history.c.job_id == job.id
        )
        later = (
            sa.select(jobs.c.id)
            .join(history, history.c.job_id == jobs.c.id)
            .where(jobs.c.filed_as == job.filed_as, jobs.c.state == State.DONE)
            .where(history.c.state == State.DONE, history.c.id > filed.scalar_subquery())
        )
        with self._transaction() as connection:
            return connection.execute(later).first() is None

    def same_recordings(self, job: Job) -> list[Job]:
        """The jobs that `job` may be another copy of: same name and content, done or under way.

        Of those under way, the one whose transcript `job` waits for, and those taken before it, of which some
        may still have to be hashed: no two jobs wait for one another.
        """
        mine = sa.select(sa.func.min(history.c.id)).where(history.c.job_id == job.id).scalar_subquery()
        before = (jobs.c.id == job.original_id) | (taken < mine)
        under_way = jobs.c.state.in_(ACTIVE - {State.FAILING}) & before
        same = (jobs.c.sha256 == job.sha256) | (jobs.c.state == State.CLAIMED)
        wanted = (jobs.c.path == job.path) & (jobs.c.id != job.id) & same
        return self._jobs(wanted & ((jobs.c.state == State.DONE) | under_way))

    # ---- deliveries to the hook --------------------------------------------------------------------------

    def hooks_due(self) -> list[Job]:
        """Some of the jobs whose command has not run yet, the oldest first."""
        due = sa.select(deliveries.c.job_id).where(_DUE & (deliveries.c.target == HOOK))
        return self._jobs(jobs.c.id.in_(due))

    def cancel_hooks(self, states: Collection[State]) -> None:
        """From now on only jobs in `states` have a command."""
        others = sa.select(jobs.c.id).where(jobs.c.state.not_in(list(states)))
        self._settle_hooks(deliveries.c.job_id.in_(others), DeliveryState.CANCELLED)

    def hook_ran(self, job: Job) -> None:
        """The command of `job` has run, whatever its exit status."""
        self._settle_hooks(deliveries.c.job_id == job.id, DeliveryState.SENT, attempts=1)

    def _settle_hooks(
        self, which: sa.ColumnElement[bool], state: DeliveryState, *, attempts: int = 0
    ) -> None:
        values = {"state": state, "attempts": deliveries.c.attempts + attempts, "due_at": None}
        ours = which & _DUE & (deliveries.c.target == HOOK)
        with self._transaction() as connection:
            connection.execute(deliveries.update().where(ours).values(values))

    # ---- retention ---------------------------------------------------------------------------------------

    def kept(self, kind: Kind, state: State, before: datetime, exclude: Collection[str] = ()) -> list[Job]:
        """Some of the jobs that ended in `state` before that time and whose files were not deleted yet.

        Without the ids in `exclude`, and without jobs whose name a later job has: the file of that name may
        be the later one's, because the recording was retried and filed again.
        """
        later = sa.select(jobs.c.filed_as).where(jobs.c.updated_at >= before, jobs.c.filed_as.is_not(None))
        condition = (jobs.c.state == state) & _ended(before) & _DELETED_AT[kind].is_(None)
        return self._jobs(condition & jobs.c.filed_as.not_in(later) & ~_AWAITS_DELIVERY, exclude)

    def mark_deleted(self, job: Job, kind: Kind) -> None:
        """The files of `job` are deleted; with its transcripts, also its words in the journal."""
        with self._transaction() as connection:
            if kind == "transcripts":
                connection.execute(replies.delete().where(replies.c.job_id == job.id))
                connection.execute(notices.delete().where(notices.c.request_id == job.request_id))
            values = {_DELETED_AT[kind].name: utc_now()}
            connection.execute(jobs.update().where(jobs.c.id == job.id).values(values))

    def old(self, before: datetime, exclude: Collection[str] = ()) -> list[Job]:
        """Some of the jobs that ended before that time, in whichever state; without the ids in `exclude`."""
        return self._jobs(jobs.c.state.in_(FINAL) & _ended(before) & ~_AWAITS_DELIVERY, exclude)

    def forget(self, job: Job) -> None:
        """Delete everything that the journal holds of `job`."""
        with self._transaction() as connection:
            connection.execute(notices.delete().where(notices.c.request_id == job.request_id))
            for table in (replies, outputs, deliveries, history):
                connection.execute(table.delete().where(table.c.job_id == job.id))
            connection.execute(jobs.delete().where(jobs.c.id == job.id))

    def _jobs(self, condition: sa.ColumnElement[bool], exclude: Collection[str] = ()) -> list[Job]:
        # As one parameter: SQLite allows only so many.
        excluded = sa.select(sa.func.json_each(json.dumps(list(exclude))).table_valued("value").c.value)
        query = sa.select(*JOB_COLUMNS).where(condition & jobs.c.id.not_in(excluded))
        with self._transaction() as connection:
            rows = connection.execute(query.order_by(jobs.c.updated_at).limit(_AT_ONCE)).all()
        return [job_of(row) for row in rows]
