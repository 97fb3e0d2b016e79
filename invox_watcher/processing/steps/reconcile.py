"""uploading → transcribed, or back to identified: the upload's answer was lost, so the API is asked first."""

from __future__ import annotations

from datetime import datetime, timedelta

from invox_watcher.errors import RecordingError
from invox_watcher.job import Job, State
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.steps.accept import accept_outcome

_MAX_LOST_UPLOADS = 3


def reconcile(context: Context, job: Job) -> Next:
    """Ask whether the API has the upload before it is sent again.

    Raises:
        RecordingError: all of it has been sent several times, and the API never had it.
    """
    outcome = context.poller.poll(job)
    if outcome.is_unknown:
        return _upload_again(context, job)
    if outcome.reply is not None:
        return accept_outcome(context, job, outcome, uploaded_at=_arrived_at(job))
    # Counted from the first answer: an outage, in which nothing could be asked, is not patience spent.
    waited, patience = outcome.waiting.waited_seconds, context.poller.patience_seconds(job)
    if waited >= patience:
        return _upload_again(context, job)
    job = context.journal.update(job, durable=False, **outcome.waiting.columns)
    return Next(job, min(context.poller.next_delay(job, outcome.waiting), patience - waited))


def _arrived_at(job: Job) -> datetime:
    """When the upload ended, as far as that is known: before the first poll."""
    if job.uploaded_at is not None:
        return job.uploaded_at
    if job.polled_at is not None:
        return job.polled_at - timedelta(seconds=job.waited_seconds)
    return job.updated_at


def _upload_again(context: Context, job: Job) -> Next:
    """Back to identified. An upload that may have cost something, since all bytes went out, is counted."""
    sent_whole = job.uploaded_bytes == job.upload.size_bytes
    history = context.journal.history(job.id)
    lost = sent_whole + sum(entry.detail.get("upload") == "lost" for entry in history)
    if sent_whole and lost >= _MAX_LOST_UPLOADS:
        raise RecordingError(
            f"It was uploaded {lost} times. Storage confirmed no upload, and the API knows of none.",
            code="upload_lost",
            hint="Ask the vendor about its storage. `invox-watcher retry` polls once more before it sends"
            " anything.",
            retry_can_help=True,
        )
    detail = {"upload": "lost" if sent_whole else "broken_off"}
    return Next(context.journal.move(job, State.IDENTIFIED, request_id=None, detail=detail))
