"""identified → uploading → waiting: ask for a URL, write the request id to disk, send the bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from invox_watcher.audio import current_mime_type
from invox_watcher.budget import reservation_for
from invox_watcher.errors import (
    ApiRefusedError,
    InvoxError,
    JournalError,
    RecordingError,
    RecordingVanishedError,
    StorageError,
    UploadUncertainError,
    UploadUrlRefusedError,
)
from invox_watcher.events import Event, log
from invox_watcher.job import Job, State
from invox_watcher.journal import MinutesUsedUpError, releasing, reserving
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.steps.hold import hold_again
from invox_watcher.processing.steps.verify import verify
from invox_watcher.spending import Reservation
from invox_watcher.times import utc_now

_MAX_REFUSED_URLS = 3
_PROGRESS_SECONDS = 1.0


def upload(context: Context, job: Job) -> Next:
    """Send the recording, or what was prepared from it, to the API.

    Raises:
        UploadUncertainError: all bytes went out but no answer came; the job stays in state uploading.
        ApiError: the API has nothing of it; the job is identified, as before.
        RecordingError, RecordingChangingError: see `verify`.
    """
    with (
        context.folders.open_recording(job.id, job.path) as recording,
        _open_payload(context, job, recording) as file,
    ):
        job = verify(context, job, recording)
        # What waited since the recording was claimed may be that api.mime_types was put right.
        mime_type = current_mime_type(job.upload.mime_type, context.options.mime_types)
        presigned = context.api.presign(
            mime_type,
            context.options.polling.callback_url,
            fields=job.plan.presign_fields if job.plan else None,
        )
        wanted = reservation_for(job, utc_now()) if context.options.limits else None
        try:
            job = _begin(context, job, presigned.request_id, mime_type, wanted)
        except MinutesUsedUpError:
            return hold_again(job)
        began = context.clock()
        try:
            context.api.upload(
                presigned,
                file,
                size_bytes=job.upload.size_bytes,
                mime_type=mime_type,
                on_progress=_progress(context, job),
            )
        except UploadUncertainError:
            log.warning(Event.UPLOAD_UNCERTAIN, job=job.id, request_id=job.request_id)
            with contextlib.suppress(JournalError):  # then `reconcile` counts one upload less
                context.journal.update(job, uploaded_bytes=job.upload.size_bytes)
            raise  # `reconcile` asks before anything is sent again
        except UploadUrlRefusedError as error:
            return _retry_with_new_url(context, job, mime_type, error, _released(wanted))
        except InvoxError:
            # Not all bytes went out, or the answer was a clear no: the API has nothing of it.
            context.journal.move(job, State.IDENTIFIED, request_id=None, **_released(wanted))
            raise
        seconds = context.clock() - began
        job = verify(context, job, recording)
    return _uploaded(context, job, seconds)


@contextlib.contextmanager
def _open_payload(context: Context, job: Job, recording: BinaryIO) -> Iterator[BinaryIO]:
    if job.payload is None:
        yield recording
        return
    with contextlib.ExitStack() as opened:
        try:
            file = opened.enter_context(context.folders.open_recording(job.id, job.payload.path))
        except RecordingVanishedError:  # since `needs_preparing` looked
            raise StorageError("What was prepared for the upload is missing.") from None
        yield file


def _begin(context: Context, job: Job, request_id: str, mime_type: str, wanted: Reservation | None) -> Job:
    # On disk before the first byte goes out: what is uncertain later can be asked about.
    minutes: dict[str, Any] = (
        {} if wanted is None else {"reservation": wanted, "also": reserving(wanted, context.options.limits)}
    )
    job = context.journal.move(
        job,
        State.UPLOADING,
        request_id=request_id,
        mime_type=mime_type if job.payload is None else job.mime_type,
        uploaded_bytes=0,
        uploaded_at=None,
        polled_at=None,
        waited_seconds=0.0,
        denied_seconds=0.0,
        detail={"request_id": request_id},
        **minutes,
    )
    log.info(Event.UPLOAD_STARTED, job=job.id, request_id=request_id, bytes=job.upload.size_bytes)
    return job


def _released(taken: Reservation | None) -> dict[str, Any]:
    """Changes that give back the minutes that this attempt took: the API has certainly nothing of it."""
    return {} if taken is None else {"reservation": None, "also": releasing(taken)}


def _uploaded(context: Context, job: Job, seconds: float) -> Next:
    sent = job.upload
    job = context.journal.move(
        job,
        State.WAITING,
        uploaded_at=utc_now(),
        uploaded_bytes=sent.size_bytes,
        attempts=0,
        detail={"size_bytes": sent.size_bytes, "sha256": sent.sha256},
    )
    log.info(
        Event.UPLOADED, job=job.id, request_id=job.request_id, bytes=sent.size_bytes,
        seconds=round(seconds, 3),
    )  # fmt: skip
    return Next(job, context.poller.start(job))


def _retry_with_new_url(
    context: Context, job: Job, mime_type: str, error: UploadUrlRefusedError, released: dict[str, Any]
) -> Next:
    refused = job.refused_urls + 1
    of_set_up = refused >= _MAX_REFUSED_URLS and not context.api.has_stored(mime_type)
    job = context.journal.move(
        job, State.IDENTIFIED, request_id=None, refused_urls=0 if of_set_up else refused, **released
    )
    if of_set_up:
        raise ApiRefusedError(error.message, code="upload_url_refused", hint=error.hint, status=error.status)
    if refused >= _MAX_REFUSED_URLS:
        raise RecordingError(
            f"Storage refused {refused} presigned URLs: {error.message}",
            code=error.code,
            hint="Do api.mime_types name the types of your account, and is this host's clock right?",
            retry_can_help=True,
        )
    return Next(job)


def _progress(context: Context, job: Job) -> Callable[[int], None]:
    last = context.clock()

    def record(sent_bytes: int) -> None:
        nonlocal last
        if context.clock() - last >= _PROGRESS_SECONDS:
            last = context.clock()
            with contextlib.suppress(JournalError):  # it is only for display
                context.journal.update(job, durable=False, uploaded_bytes=sent_bytes)

    return record
