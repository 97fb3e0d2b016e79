"""failing → failed: write the error file and move the recording to failed/, both under the same name."""

from __future__ import annotations

import hashlib

from invox_watcher.errors import FolderBlockedError
from invox_watcher.events import Event, log
from invox_watcher.files import ERROR_SUFFIX, NameTakenError
from invox_watcher.job import Job, State
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.documents import error_file
from invox_watcher.processing.steps.fail import begin_failing


def file_as_failed(context: Context, job: Job) -> Next:
    """Write the error file, then move the recording. If a name is taken by now, both get the next one."""
    failure, folders = job.failure, context.folders
    assert job.filed_as is not None and failure is not None  # noqa: S101, PT018 - written with the state
    outputs: dict[str, str] = {}
    path, content = job.filed_as + ERROR_SUFFIX, error_file(job, failure)
    try:
        folders.publish(job.id, folders.failed, path, content)
        outputs = {path: hashlib.sha256(content).hexdigest()}
    except FolderBlockedError:
        return begin_failing(context, job, failure)  # under a name whose folder can be made
    except NameTakenError:  # another program took the name since it was reserved
        if folders.has_recording(job.id, job.path):
            return begin_failing(context, job, failure)
        # A killed attempt has moved the recording, and its error file was changed since: keep that.
    try:
        filed_as = folders.file_away(
            job.id, job.path, folders.failed, job.filed_as, job.identity, exactly=True
        )  # fmt: skip
    except (NameTakenError, FolderBlockedError):
        folders.retract(folders.failed, path, content)
        return begin_failing(context, job, failure)
    job = context.reservations.release(
        job, State.FAILED, filed_as=filed_as, outputs=outputs, detail=context.ending_detail
    )
    log.warning(Event.FAILED, job=job.id, recording=job.path, code=failure.reason.code)
    return Next(job)
