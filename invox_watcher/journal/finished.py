"""What the journal knows of recordings that are finished: which hooks are due, and what may be deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from invox_watcher.job import FINAL, Job, State
from invox_watcher.journal.tables import JOB_COLUMNS, history, job_of, jobs, notices, replies
from invox_watcher.times import utc_now

Kind = Literal["recording", "transcripts"]
_AT_ONCE = 200
_DELETED_AT = {"recording": jobs.c.recording_deleted_at, "transcripts": jobs.c.transcripts_deleted_at}


class Finished:
    """The part of a journal that is about finished jobs; each call is one transaction."""

    def __init__(self, transaction: Callable[[], AbstractContextManager[sa.Connection]]) -> None:
        self._transaction = transaction

    def outputs(self, job_id: str) -> dict[str, str]:
        """The files that were written for a job: path below the outbox, or below failed/ → SHA-256."""
        query = sa.select(history.c.detail).where(
            history.c.job_id == job_id, history.c.state.in_([State.DELIVERED, State.FAILED])
        )
        with self._transaction() as connection:
            details = connection.execute(query.order_by(history.c.id.desc())).scalars().all()
        found: dict[str, str] = next((json.loads(text).get("outputs", {}) for text in details), {})
        return found

    def writer_of(self, path: str) -> str | None:
        """The id of the job that wrote `path`, below the outbox, last; None if none did."""
        holds_it = history.c.detail.contains(json.dumps(path), autoescape=True)  # as a key, or by chance
        query = sa.select(history.c.job_id, history.c.detail).where(
            (history.c.state == State.DELIVERED) & holds_it
        )
        with self._transaction() as connection:
            found = connection.execute(query.order_by(history.c.id.desc())).all()
        return next((job_id for job_id, text in found if path in json.loads(text).get("outputs", {})), None)

    # ---- hooks -------------------------------------------------------------------------------------------

    def hooks_due(self) -> list[Job]:
        """Some of the jobs whose command has not run yet, the oldest first."""
        return self._jobs(jobs.c.hook_due)

    def cancel_hooks(self, states: Collection[State]) -> None:
        """Only jobs in `states` have a command by now."""
        with self._transaction() as connection:
            without = jobs.c.hook_due & jobs.c.state.not_in(list(states))
            connection.execute(jobs.update().where(without).values(hook_due=False))

    def hook_ran(self, job: Job) -> None:
        """The command of `job` has had its turn."""
        self._set(job, hook_due=False)

    # ---- retention ---------------------------------------------------------------------------------------

    def kept(self, kind: Kind, state: State, before: datetime, but: Collection[str] = ()) -> list[Job]:
        """Some of the jobs that ended in `state` before that time and whose files were not deleted yet.

        Not those whose ids are in `but`, nor those whose name a later job has: what lies under it may be that
        one's, put back and filed again.
        """
        later = sa.select(jobs.c.filed_as).where(jobs.c.updated_at >= before, jobs.c.filed_as.is_not(None))
        condition = (jobs.c.state == state) & (jobs.c.updated_at < before) & _DELETED_AT[kind].is_(None)
        return self._jobs(condition & jobs.c.filed_as.not_in(later) & ~jobs.c.hook_due, but)

    def mark_deleted(self, job: Job, kind: Kind) -> None:
        """Nothing more is to be deleted for `job`. With its transcripts, its words leave the journal too."""
        with self._transaction() as connection:
            if kind == "transcripts":
                connection.execute(replies.delete().where(replies.c.job_id == job.id))
                connection.execute(notices.delete().where(notices.c.request_id == job.request_id))
            values = {_DELETED_AT[kind].name: utc_now()}
            connection.execute(jobs.update().where(jobs.c.id == job.id).values(values))

    def old(self, before: datetime, but: Collection[str] = ()) -> list[Job]:
        """Some of the jobs that ended before that time, whatever became of them, but for those ids."""
        return self._jobs(jobs.c.state.in_(FINAL) & (jobs.c.updated_at < before) & ~jobs.c.hook_due, but)

    def forget(self, job: Job) -> None:
        """Delete everything that the journal holds of `job`."""
        with self._transaction() as connection:
            connection.execute(replies.delete().where(replies.c.job_id == job.id))
            connection.execute(notices.delete().where(notices.c.request_id == job.request_id))
            connection.execute(history.delete().where(history.c.job_id == job.id))
            connection.execute(jobs.delete().where(jobs.c.id == job.id))

    def _set(self, job: Job, **values: bool) -> None:
        with self._transaction() as connection:
            connection.execute(jobs.update().where(jobs.c.id == job.id).values(values))

    def _jobs(self, condition: sa.ColumnElement[bool], but: Collection[str] = ()) -> list[Job]:
        # As one parameter: SQLite takes only so many.
        others = sa.select(sa.func.json_each(json.dumps(list(but))).table_valued("value").c.value)
        query = sa.select(*JOB_COLUMNS).where(condition & jobs.c.id.not_in(others))
        with self._transaction() as connection:
            rows = connection.execute(query.order_by(jobs.c.updated_at).limit(_AT_ONCE)).all()
        return [job_of(row) for row in rows]
