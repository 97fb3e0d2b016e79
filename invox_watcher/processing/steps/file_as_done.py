"""delivered → done: move the recording to done/."""

from __future__ import annotations

import contextlib
import itertools

from invox_watcher.errors import FolderBlockedError, RecordingVanishedError
from invox_watcher.events import Event, log
from invox_watcher.files import numbered_folders
from invox_watcher.job import Job, State
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.reservations import FOLDER_TRIES
from invox_watcher.processing.steps.verify import hold_while_open, verify


def file_as_done(context: Context, job: Job) -> Next:
    """Move the recording to done/, under the name of its transcript files, if it is what they are of.

    Raises:
        RecordingChangingError, RecordingError: see `verify`; the transcript files are withdrawn.
    """
    with (
        contextlib.suppress(RecordingVanishedError),  # a killed attempt may have moved it
        context.folders.open_recording(job.id, job.path) as file,
    ):
        if (held := hold_while_open(context, job, file)) is not None:
            return held
        job = verify(context, job, file)
    return close_as_done(context, job, _file_away(context, job))


def close_as_done(context: Context, job: Job, filed_as: str) -> Next:
    """The recording is in done/ as `filed_as`, or is gone: nothing more happens to it."""
    job = context.reservations.release(job, State.DONE, filed_as=filed_as, detail=context.ending_detail)
    log.info(Event.DONE, job=job.id, recording=job.path)
    return Next(job)


def _file_away(context: Context, job: Job) -> str:
    root = context.folders.done
    # A recording named like another one's folder may have been filed in the place of that folder.
    for path in itertools.islice(numbered_folders(job.filed_as or job.path), FOLDER_TRIES):
        with contextlib.suppress(FolderBlockedError):
            return context.folders.file_away(job.id, job.path, root, path, job.identity)
    raise FolderBlockedError(f"A file or a link stands where a folder is needed in {root.name}/.")
