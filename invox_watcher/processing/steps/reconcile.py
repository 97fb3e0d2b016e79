"""uploading → transcribed, or back to identified: the upload's answer was lost, so the API is asked first."""

from __future__ import annotations

from datetime import datetime, timedelta

from invox_watcher.job import Job, State
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.steps.accept import accept_outcome


def reconcile(context: Context, job: Job) -> Next:
    """Ask whether the API has the upload before it is sent again."""
    outcome = context.poller.poll(job)
    if outcome.is_unknown:
        return _upload_again(context, job)
    if outcome.reply is not None:
        return accept_outcome(context, job, outcome, uploaded_at=_arrived_at(job))
    # Counted from the first answer: an outage, in which nothing could be asked, is not patience spent.
    waited, patience = outcome.waiting.waited_seconds, context.poller.patience_seconds(job)
    if waited >= patience:
        return _upload_again(context, job)
    job = context.journal.update(job, **outcome.waiting.columns)
    return Next(job, min(context.poller.next_delay(outcome.waiting), patience - waited))


def _arrived_at(job: Job) -> datetime:
    """When the upload ended, as far as that is known: before the first poll."""
    if job.uploaded_at is not None:
        return job.uploaded_at
    if job.polled_at is not None:
        return job.polled_at - timedelta(seconds=job.waited_seconds)
    return job.updated_at


def _upload_again(context: Context, job: Job) -> Next:
    return Next(context.journal.move(job, State.IDENTIFIED, request_id=None, detail={"upload": "lost"}))
