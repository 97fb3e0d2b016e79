"""Any state before delivered → failing: the reason goes into the journal."""

from __future__ import annotations

import dataclasses

from invox_watcher.errors import InvoxError
from invox_watcher.events import Event, log
from invox_watcher.job import Failure, Job
from invox_watcher.processing.context import Context, Next
from invox_watcher.times import rfc3339, utc_now


def fail(context: Context, job: Job, error: InvoxError) -> Next:
    """Give `job` up for good because of `error`."""
    return begin_failing(context, job, Failure(job.state, error.reason, error.retry_can_help))


def begin_failing(context: Context, job: Job, failure: Failure) -> Next:
    """Write the reason down and reserve a name in failed/; or another name, if the job is failing already."""
    # Fixed here, so that the error file is the same however many attempts it takes to write it.
    failure = dataclasses.replace(failure, attempts=job.attempts, at=failure.at or rfc3339(utc_now()))
    detail = {"code": failure.reason.code, "stage": failure.stage}
    job = context.reservations.reserve_failure(job, failure=failure, detail=detail)
    log.warning(Event.FAILING, job=job.id, code=failure.reason.code, stage=failure.stage)
    return Next(job)
