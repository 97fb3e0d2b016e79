"""A final reply, from wherever it came: into the journal, and the names of its outputs are reserved."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

from invox_watcher.errors import RecordingVanishedError, StorageError, TranscriptionFailedError
from invox_watcher.events import Event, log
from invox_watcher.invox import ReplyStatus, TranscriptionReply
from invox_watcher.job import Job, State
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.polling import PollOutcome
from invox_watcher.processing.steps.verify import hold_while_open, verify
from invox_watcher.times import utc_now

_SHOWN_REPAIRS = 5
# So many replies wait in memory for the step that publishes them, which is nearly always the next one.
_MOST_KEPT = 16


def accept_outcome(context: Context, job: Job, outcome: PollOutcome, **changes: Any) -> Next:
    """Accept the final reply that a poll found."""
    assert outcome.reply is not None  # noqa: S101 - the caller has checked
    following = accept(context, job, outcome.reply, outcome.delivered_by, **changes)
    if following.job.state is State.TRANSCRIBED:
        context.poller.learn(job, outcome)
    return following if outcome.asked_api else dataclasses.replace(following, asked_api=False)


def accept(context: Context, job: Job, reply: TranscriptionReply, delivered_by: str, **changes: Any) -> Next:
    """Write a final reply into the journal and reserve the names of its outputs, with `changes` to the job.

    Raises:
        TranscriptionFailedError: the reply is an error.
    """
    if reply.status is ReplyStatus.ERROR:
        raise TranscriptionFailedError(
            f"The API could not transcribe it: {reply.error_message or 'no reason given'}",
            hint="Listen to it: is there speech in it? `invox-watcher retry` sends it once more.",
        )
    # The words are of what will lie in done/. A recording that is gone gets its transcript all the same.
    with (
        contextlib.suppress(RecordingVanishedError, StorageError),
        context.folders.open_recording(job.id, job.path) as file,
    ):
        if (held := hold_while_open(context, job, file)) is not None:
            return held
        job = verify(context, job, file)
    if reply.repairs:
        log.warning(
            Event.REPLY_REPAIRED, job=job.id, count=len(reply.repairs),
            repairs=list(reply.repairs[:_SHOWN_REPAIRS]),
        )  # fmt: skip
    job = context.reservations.reserve_outputs(
        job,
        context.formats_of(job),
        reply=reply.raw,
        completed_at=utc_now(),
        delivered_by=delivered_by,
        attempts=0,
        **changes,
    )
    if len(context.accepted) < _MOST_KEPT:
        context.accepted[job.id] = reply
    log.info(
        Event.TRANSCRIBED, job=job.id, request_id=job.request_id, delivered_by=delivered_by,
        seconds=job.transcription_seconds,
    )  # fmt: skip
    return Next(job)
