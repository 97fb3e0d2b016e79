"""claimed → identified: the SHA-256, an earlier job with the same content, and what is to be uploaded."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

from invox_watcher.errors import RecordingError, StorageError
from invox_watcher.events import Event, log
from invox_watcher.inbox import ScreeningRules, Waits, judge_settled
from invox_watcher.job import Job
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.facts import facts_of
from invox_watcher.processing.steps.fail import begin_failing
from invox_watcher.processing.steps.prepare import prepare, refused
from invox_watcher.processing.steps.verify import (
    changing,
    check_unchanged,
    hold_while_open,
    sha256_of,
)
from invox_watcher.recording import FileIdentity

_COARSEST_TIMES_NS = 2_000_000_000
_NO_WAITS = Waits(0, 0, 0, 0)


def identify(context: Context, job: Job) -> Next:
    """Hash the recording; one that the intake refused is prepared, or fails here.

    Raises:
        RecordingChangingError: it is still being written to.
        RecordingError: it is empty by now, or can't be prepared.
    """
    with context.folders.open_recording(job.id, job.path) as file:
        if (held := hold_while_open(context, job, file)) is not None:
            return held
        found = FileIdentity.of(os.fstat(file.fileno()))
        if not _is_quiet(job, found):
            anew = {} if job.refusal is None else _judged_anew(context, job, file)
            context.journal.update(job, **({"identity": found} | anew))
            raise changing(context, "It is still being written to, in processing/.")
        if job.refusal is not None and (failure := refused(context, job)) is not None:
            return begin_failing(context, job, failure)
        if found.size_bytes == 0:
            raise RecordingError("It became empty in processing/.", code="empty", hint="Copy it again.")
        sha256 = sha256_of(context, file, found.size_bytes)
        follow = context.options.on_duplicate != "process"
        prepared = None
        # If the content is known, nothing need be uploaded, probably: if so after all, it is prepared then.
        if job.refusal and not (follow and context.journal.original(sha256)):
            prepared = prepare(context, job, file)
        check_unchanged(file, found)
    changes = {} if prepared is None else prepared.columns
    detail = {} if prepared is None else prepared.detail
    job = context.journal.identify(job, sha256, follow=follow, detail=detail, identity=found, **changes)
    log.debug(Event.IDENTIFIED, job=job.id, sha256=sha256)
    if job.original_id is not None:
        log.info(Event.DUPLICATE, job=job.id, original=job.original_id)
    return Next(job)


def _judged_anew(context: Context, job: Job, file: BinaryIO) -> dict[str, Any]:
    """What the file is now, and whether that is refused: the intake has refused a part of it, perhaps."""
    options = context.options
    rules = ScreeningRules(options.max_size_bytes, options.mime_types, _NO_WAITS)
    try:
        return facts_of(judge_settled(job.path, file.fileno(), rules))
    except OSError as error:
        raise StorageError(f"reading a recording: {error.strerror}", code="read_failed") from None


def _is_quiet(job: Job, found: FileIdentity) -> bool:
    """Whether it is as it was when it was claimed, or when it was last found to have changed."""
    if job.changed_uploads:
        return found == job.identity
    # A claim from another file system made a copy, whose time may be coarser.
    same_time = abs(found.mtime_ns - job.identity.mtime_ns) < _COARSEST_TIMES_NS
    return found.size_bytes == job.size_bytes and same_time
