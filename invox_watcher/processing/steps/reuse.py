"""identified → transcribed, for content that is known: take the earlier job's transcript, or wait for it."""

from __future__ import annotations

from invox_watcher.errors import RecordingError
from invox_watcher.invox import parse_reply
from invox_watcher.job import Job
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.steps.accept import accept
from invox_watcher.processing.steps.skip import skip

_FOLLOW_SECONDS = 2.0


def reuse(context: Context, job: Job) -> Next:
    """Wait until the earlier job has its transcript; if it gets none, this job continues on its own.

    Raises:
        RecordingError: duplicates are to fail.
    """
    assert job.original_id is not None  # noqa: S101 - else it is `upload` that is called
    if context.options.on_duplicate == "fail":
        raise RecordingError(
            f"The same recording has been taken before, as job {job.original_id}.",
            code="duplicate",
            hint="To transcribe it again, set intake.on_duplicate to process.",
        )
    if context.options.on_duplicate == "skip" and (following := skip(context, job)) is not None:
        return following
    payload = context.journal.reply(job.original_id)
    original = context.journal.get(job.original_id)
    if (
        original is None
        or original.sha256 != job.sha256  # it was written to since
        or (payload is None and (original.state.is_final or original.state.is_given_up))
    ):
        return Next(context.journal.follow_again(job))
    if payload is None:
        return Next(job, _FOLLOW_SECONDS)
    return accept(
        context,
        job,
        parse_reply(payload, duration_seconds=job.duration_seconds, pushed=True),
        "reuse",
        request_id=original.request_id,
        uploaded_at=original.uploaded_at,
    )
