"""delivered → done: move the recording to done/."""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import Any

from invox_watcher.errors import FolderBlockedError, RecordingVanishedError, StorageError
from invox_watcher.events import Event, log
from invox_watcher.files import numbered_folders
from invox_watcher.inbox import Writer, writer_of
from invox_watcher.job import Job, State
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.reservations import FOLDER_TRIES
from invox_watcher.processing.steps.verify import hold_while_open, verify
from invox_watcher.recording import FileIdentity
from invox_watcher.times import seconds_since


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


def filed_at_once(context: Context, job: Job) -> str | None:
    """Move the recording of `job`, whose transcript files are written, to done/; its name there.

    None if anything is not as it should be, or it would have to be copied: then the job is delivered first.
    """
    if not context.may_file_first():
        return None
    try:
        with context.folders.open_recording(job.id, job.path) as file:
            descriptor = file.fileno()
            if writer_of(descriptor) is Writer.OPEN or FileIdentity.of(os.fstat(descriptor)) != job.identity:
                return None
        return _file_away(context, job, copy=False)
    except (RecordingVanishedError, StorageError):
        return None


def take_back(context: Context, job: Job) -> None:
    """Undo what an attempt has filed that the journal does not know of: the recording gets another name."""
    for path in itertools.islice(numbered_folders(job.filed_as or job.path), FOLDER_TRIES):
        with contextlib.suppress(FolderBlockedError):
            context.folders.take_back(job.id, job.path, path, job.identity)
            return


def close_as_done(context: Context, job: Job, filed_as: str, **changes: Any) -> Next:
    """The recording is in done/ as `filed_as`, or is gone: nothing more happens to it.

    `changes` as for `Journal.move`.
    """
    was = job.state
    job = context.reservations.release(
        job, State.DONE, filed_as=filed_as, detail=context.ending_detail, **changes
    )
    if was is not State.DELIVERED:
        log_delivered(job)
    log.info(Event.DONE, job=job.id, recording=job.path)
    return Next(job)


def log_delivered(job: Job) -> None:
    """Its transcript files are in the outbox, and the journal knows."""
    log.info(
        Event.DELIVERED, job=job.id, recording=job.path, delivered_by=job.delivered_by,
        seconds=round(seconds_since(job.received_at), 3),
    )  # fmt: skip


def _file_away(context: Context, job: Job, *, copy: bool = True) -> str:
    root = context.folders.done
    # A recording named like another one's folder may have been filed in the place of that folder.
    for path in itertools.islice(numbered_folders(job.filed_as or job.path), FOLDER_TRIES):
        with contextlib.suppress(FolderBlockedError):
            return context.folders.file_away(job.id, job.path, root, path, job.identity, copy=copy)
    raise FolderBlockedError(f"A file or a link stands where a folder is needed in {root.name}/.")
