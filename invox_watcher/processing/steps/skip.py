"""identified → forgotten: the same name with the same content is in done/ already, so nothing is added.

For sources that are mirrored into the inbox: what the daemon has taken comes again with the next round.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat

from invox_watcher.errors import FolderBlockedError, RecordingVanishedError
from invox_watcher.events import Event, log
from invox_watcher.job import Job, State
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.steps.verify import sha256_of, verify

_FOLLOW_SECONDS = 2.0


def skip(context: Context, job: Job) -> Next | None:
    """Delete a recording that is in done/ under its name; wait while that is under way. Else None.

    Raises:
        RecordingChangingError: it is being written to, so it is not the same after all.
    """
    same = context.journal.finished.same_recordings(job)
    for other in same:
        if other.state is State.DONE and _is_in_done(context, job, other):
            return _skip(context, job, other)
    if any(not other.state.is_final for other in same):
        return Next(job, _FOLLOW_SECONDS)
    return None


def _is_in_done(context: Context, job: Job, other: Job) -> bool:
    """Whether the file in done/ is, byte for byte, what was hashed of `job`."""
    with (
        contextlib.suppress(RecordingVanishedError, FolderBlockedError),
        context.folders.open_filed(other.filed_as or other.path) as file,
    ):
        status = os.fstat(file.fileno())
        whole = stat.S_ISREG(status.st_mode) and status.st_size == job.size_bytes
        return whole and sha256_of(context, file, status.st_size) == job.sha256
    return False


def _skip(context: Context, job: Job, other: Job) -> Next:
    with (
        contextlib.suppress(RecordingVanishedError),  # it was deleted by an attempt that was killed
        context.folders.open_recording(job.id, job.path) as file,
    ):
        job = verify(context, job, file)
    context.folders.discard(job.id, job.path)
    context.journal.discard(job, other.id)
    log.info(Event.DUPLICATE_SKIPPED, job=job.id, recording=job.path, original=other.id)
    return Next(dataclasses.replace(job, state=State.DONE))  # there is no row of it any more
