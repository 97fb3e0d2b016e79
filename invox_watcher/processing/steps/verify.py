"""Is the recording in processing/ still what was hashed, and closed? If not, the attempt is void or waits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from typing import Any, BinaryIO

from invox_watcher.baton import waiting
from invox_watcher.errors import RecordingChangingError, RecordingError, StoppedError, StorageError
from invox_watcher.events import Event, log
from invox_watcher.files import output_path
from invox_watcher.heartbeat import beat
from invox_watcher.inbox import Writer, writer_of
from invox_watcher.job import Job, State
from invox_watcher.outputs import is_document_of
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.documents import delivery_of, transcript_of
from invox_watcher.recording import FileIdentity

_HASH_BLOCK_BYTES = 1 << 20
_AT_ONCE_BYTES = 1 << 18
_MAX_CHANGED_UPLOADS = 6
_OPEN_SECONDS = 2.0


def verify(context: Context, job: Job, file: BinaryIO) -> Job:
    """`job`, if its recording, opened as `file`, is what was hashed.

    Another time or inode does not make it another recording: programs touch files, and backups are restored.

    Raises:
        RecordingChangingError: it was written to; the job is claimed again.
        RecordingError: it was written to for the last time that is put up with.
    """
    found = FileIdentity.of(os.fstat(file.fileno()))
    if found == job.identity:
        return job
    if found.size_bytes == job.size_bytes:
        file.seek(0)
        same = sha256_of(context, file, found.size_bytes) == job.sha256
        check_unchanged(file, found)
        if same:
            file.seek(0)
            return context.journal.update(job, identity=found)
    detail = _discard(context, job)
    job = context.journal.move(
        job, State.CLAIMED, request_id=None, uploaded_at=None, payload=None, suspect=None, reservation=None,
        changed_uploads=job.changed_uploads + 1, identity=found, detail=detail,
    )  # fmt: skip
    if job.changed_uploads >= _MAX_CHANGED_UPLOADS:
        raise RecordingError(
            f"It was written to {job.changed_uploads} times after it had been complete.",
            code="changing",
            hint="Which program writes to it? Once that has ended, `invox-watcher retry`.",
            retry_can_help=True,
        )
    raise changing(context, "The recording changed after it was taken from the inbox.")


def _discard(context: Context, job: Job) -> dict[str, Any]:
    """What was made of a part of the recording is withdrawn: the detail of the journal's entry."""
    if job.state is State.TRANSCRIBED:
        _retract_outputs(context, job)
    if job.state is not State.DELIVERED:
        log.warning(Event.UPLOAD_DISCARDED, job=job.id, request_id=job.request_id)
        return {}
    log.error(Event.RECORDING_CHANGED, job=job.id, recording=job.path, state=job.state)
    outputs = context.journal.finished.outputs(job.id)
    context.folders.withdraw(outputs)
    return {"withdrawn": outputs}


def _retract_outputs(context: Context, job: Job) -> None:
    """Remove what an attempt to publish has written that was killed before the journal knew of it."""
    assert job.filed_as is not None  # noqa: S101 - written with the state
    reply = context.journal.reply(job.id)
    delivery = delivery_of(job, transcript_of(job, reply), reply)
    for format in context.formats_of(job):
        path = output_path(job.filed_as, format)
        if os.path.lexists(context.folders.outbox / path):
            retract_earlier(context, job, path, content := context.rendered(job, delivery, format))
            context.folders.retract(context.folders.outbox, path, content)


def retract_earlier(context: Context, job: Job, path: str, content: bytes) -> None:
    """Remove the document at `path` of the outbox that a killed attempt has made with another template.

    `content` is what it is now: a template may be changed at any time.
    """
    if not path.endswith(".docx"):
        return
    outbox = context.folders.outbox
    try:
        is_file = stat.S_ISREG(os.lstat(outbox / path).st_mode)
        found = (outbox / path).read_bytes() if is_file else content
    except OSError:
        return  # it is not there, or the next write reports it
    if found != content and is_document_of(found, job.id):
        context.folders.retract(outbox, path, found)


def hold_while_open(context: Context, job: Job, file: BinaryIO) -> Next | None:
    """The same step again in a moment, if a process has the recording, opened as `file`, open for writing."""
    if writer_of(file.fileno()) is not Writer.OPEN:
        context.open_reported.discard(job.id)
        return None
    if job.id not in context.open_reported:
        context.open_reported.add(job.id)
        log.warning(Event.RECORDING_OPEN, job=job.id, recording=job.path, state=job.state)
    return Next(job, _OPEN_SECONDS)


def changing(context: Context, message: str) -> RecordingChangingError:
    """The error for a recording that changes: it is read again when it may have been quiet long enough."""
    error = RecordingChangingError(message)
    error.retry_after_seconds = context.options.quiet_seconds
    return error


def check_unchanged(file: BinaryIO, expected: FileIdentity) -> None:
    """Raise RecordingChangingError if the open file is no longer as `expected`."""
    if FileIdentity.of(os.fstat(file.fileno())) != expected:
        raise RecordingChangingError("The recording changed after it was taken from the inbox.")


def sha256_of(context: Context, file: BinaryIO, size_bytes: int) -> str:
    """The SHA-256 of the next `size_bytes` of `file`, in hexadecimal.

    Raises:
        StorageError: it can't be read.
        StoppedError: the daemon is stopping.
    """
    digest = hashlib.sha256()
    left = size_bytes
    try:
        # A little of it is nearly always in memory: read before the baton would be passed on.
        with waiting if left > _AT_ONCE_BYTES else contextlib.nullcontext():
            while left and (block := file.read(min(left, _HASH_BLOCK_BYTES))):
                digest.update(block)
                left -= len(block)
                beat()
                if context.stop.is_set():
                    raise StoppedError("stopped while reading a recording")
    except OSError as error:
        raise StorageError(f"reading a recording: {error.strerror}", code="read_failed") from None
    return digest.hexdigest()
