"""transcribed → delivered: write the transcript files to the outbox.

If nothing stands in the way, the recording is moved to done/ at once, and both are one write in the journal.
"""

from __future__ import annotations

import contextlib
import hashlib

from invox_watcher.coverage import ListenerBusyError
from invox_watcher.errors import RecordingVanishedError
from invox_watcher.files import NameTakenError, output_path
from invox_watcher.job import Job, State
from invox_watcher.outputs import Delivery
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.documents import delivery_of, transcript_of
from invox_watcher.processing.steps.examine import examine
from invox_watcher.processing.steps.file_as_done import (
    close_as_done,
    filed_at_once,
    log_delivered,
    take_back,
)
from invox_watcher.processing.steps.verify import hold_while_open, retract_earlier, verify

_BUSY_SECONDS = 1.0


def publish(context: Context, job: Job) -> Next:
    """Write every output, whole or not at all. If a name is taken by now, the whole set gets the next one."""
    accepted = context.accepted.pop(job.id, None)
    if accepted is not None and accepted.transcript is not None:
        reply, transcript = accepted.raw, accepted.transcript
    else:
        reply = context.journal.reply(job.id)
        transcript = transcript_of(job, reply)
    with contextlib.ExitStack() as opened:
        recording = None
        with contextlib.suppress(RecordingVanishedError):
            recording = opened.enter_context(context.folders.open_recording(job.id, job.path))
            if (held := hold_while_open(context, job, recording)) is not None:
                return held
            job = verify(context, job, recording)
        if job.suspect is None:
            try:
                job = examine(context, job, transcript, recording)
            except ListenerBusyError:
                return Next(job, _BUSY_SECONDS)
    return _write_outputs(context, job, delivery_of(job, transcript, reply))


def _write_outputs(context: Context, job: Job, delivery: Delivery) -> Next:
    filed_as = job.filed_as
    assert filed_as is not None  # noqa: S101 - written with the state
    folders, formats = context.folders, context.formats_of(job)
    # All of them before the first is written: a template may be broken.
    contents = {output_path(filed_as, format): context.rendered(job, delivery, format) for format in formats}
    for path, content in contents.items():
        retract_earlier(context, job, path, content)
    try:
        folders.publish_all(job.id, folders.outbox, contents)
    except NameTakenError:  # another program put a file there since the name was reserved
        for path, content in contents.items():
            folders.retract(folders.outbox, path, content)
        take_back(context, job)
        return Next(context.reservations.reserve_outputs(job, formats))
    outputs = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    if (filed := filed_at_once(context, job)) is not None:
        return close_as_done(context, job, filed, via=State.DELIVERED, outputs=outputs)
    job = context.journal.move(
        job,
        State.DELIVERED,
        reserve=output_path(filed_as, ""),  # kept, so that the recording in done/ gets the same name
        outputs=outputs,
    )
    log_delivered(job)
    return Next(job)
