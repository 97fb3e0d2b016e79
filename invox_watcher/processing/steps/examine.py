"""A part of publish: does the transcript cover its recording? What is suspicious goes into the journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from invox_watcher.baton import waiting
from invox_watcher.coverage import Question, Stretch, UnheardError, judge, questions
from invox_watcher.events import Event, log
from invox_watcher.job import Job
from invox_watcher.processing.context import Context
from invox_watcher.transcript import Transcript


def examine(context: Context, job: Job, transcript: Transcript, recording: BinaryIO | None) -> Job:
    """`job` with what is suspicious about its transcript. `recording` is None if it was removed.

    Once something was heard, or should have been, the verdict is in the journal, and the next attempt to
    publish writes the same. A whole transcript asks for nothing: then there is nothing to write either.

    Raises:
        ListenerBusyError: another recording is being listened to.
        StoppedError: the daemon is stopping.
    """
    segments, length_seconds = transcript.segments, job.duration_seconds
    asked = questions(segments, length_seconds)
    heard = _heard(context, job, asked, recording) if asked else None
    found = judge(segments, length_seconds, () if heard is None else asked, heard or ())
    if not asked and not found:
        return job
    job = context.journal.update(job, suspect=found)
    if found:
        log.warning(
            Event.TRANSCRIPT_SUSPECT, job=job.id, recording=job.path, count=len(found),
            reasons=sorted({one.reason for one in found}),
        )  # fmt: skip
    return job


def _heard(
    context: Context, job: Job, asked: Sequence[Question], recording: BinaryIO | None
) -> list[Stretch] | None:
    """Where people speak in these stretches; None if that can't be known."""
    if context.listener is None or recording is None:
        return None
    try:
        with waiting:
            return context.listener.speech(recording, [one.stretch for one in asked], context.stop)
    except UnheardError as error:
        log.info(Event.TRANSCRIPT_UNCHECKED, job=job.id, code=str(error))
        return None
