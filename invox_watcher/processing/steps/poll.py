"""waiting → transcribed: poll the API for the result until there is one."""

from __future__ import annotations

from invox_watcher.errors import RecordingError
from invox_watcher.events import Event, log
from invox_watcher.job import Job
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.steps.accept import accept_outcome


def poll(context: Context, job: Job) -> Next:
    """Poll once.

    Raises:
        RecordingError: the deadline has passed. Until then a denial counts for nothing.
        TranscriptionFailedError: the API reports an error.
    """
    outcome = context.poller.poll(job)
    if outcome.reply is not None:
        return accept_outcome(context, job, outcome)
    waiting = outcome.waiting
    if context.poller.is_overdue(job, waiting):
        raise RecordingError(
            f"No result after {waiting.waited_seconds / 3600:.1f} hours (polling.deadline_seconds).",
            code="deadline",
            hint="`invox-watcher retry` asks about the request id again before it sends anything.",
            retry_can_help=True,
        )
    log.debug(Event.PENDING, job=job.id, waited_seconds=round(waiting.waited_seconds, 1))
    job = context.journal.update(
        job, durable=False, attempts=0, last_fault=None, **waiting.columns
    )  # the API answers, so no fault is left
    return Next(job, context.poller.next_delay(job, waiting))
