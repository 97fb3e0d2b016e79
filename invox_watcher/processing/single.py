"""One recording through the cycle by itself, without folders and without a journal: for `transcribe`.

The same calls in the same order as the daemon's: presign, upload, poll. What the journal does for the daemon,
the caller does here: `on_request` gets the request id before the first byte goes out, so that an interrupted
run can be continued with `poll_single` and is not paid for again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import BinaryIO

from invox_watcher.backoff import Backoff
from invox_watcher.errors import (
    ApiUnavailableError,
    RecordingError,
    RequestUnknownError,
    StoppedError,
    UploadUncertainError,
)
from invox_watcher.invox import InvoxApi, ReplyStatus, TranscriptionReply
from invox_watcher.processing.poll_schedule import first_poll_delay, next_poll_delay
from invox_watcher.processing.polling import PollingPolicy
from invox_watcher.times import utc_now

_MOST_UNUSABLE = 3  # replies in a row without a usable answer: a person waits, and should see why


@dataclass(frozen=True)
class Single:
    """What one run needs besides the recording."""

    api: InvoxApi
    polling: PollingPolicy
    backoff: Backoff
    stop: threading.Event
    on_request: Callable[[str], None]  # gets the request id before the upload begins


@dataclass(frozen=True)
class SingleResult:
    """A final reply, words or an error, and when it came to be."""

    request_id: str
    reply: TranscriptionReply
    uploaded_at: datetime | None  # None if an earlier run has uploaded it
    completed_at: datetime


def transcribe_single(
    file: BinaryIO, single: Single, *, size_bytes: int, mime_type: str, duration_seconds: float | None
) -> SingleResult:
    """Upload the recording and wait for its result, words or an error.

    Raises:
        ApiError: the API, or the storage, did not accept it.
        RecordingError: no result within `polling.deadline_seconds`.
        StoppedError: `stop` was set.
    """
    presigned = single.api.presign(mime_type)
    single.on_request(presigned.request_id)
    uncertain = False
    try:
        single.api.upload(presigned, file, size_bytes=size_bytes, mime_type=mime_type)
    except UploadUncertainError:
        uncertain = True  # whether it arrived shows in the result
    uploaded_at = utc_now()
    found = poll_single(single, presigned.request_id, duration_seconds=duration_seconds, uncertain=uncertain)
    return replace(found, uploaded_at=uploaded_at)


def poll_single(
    single: Single, request_id: str, *, duration_seconds: float | None, uncertain: bool = False
) -> SingleResult:
    """Poll until there is a transcript or an error.

    A reply that the request is unknown is believed only for an `uncertain` upload, and not at once.

    Raises:
        ApiError: the API refuses to say, or says nothing usable several times in a row.
        RecordingError: no result within `polling.deadline_seconds`.
        StoppedError: `stop` was set.
    """
    began = time.monotonic()
    faults = unusable = 0
    policy = single.polling
    delay = first_poll_delay(
        duration_seconds, first_seconds=policy.first_seconds, max_seconds=policy.max_seconds
    )
    while not single.stop.wait(delay):
        waited = time.monotonic() - began
        try:
            reply = single.api.result(request_id, duration_seconds=duration_seconds)
            if reply.status is not ReplyStatus.PENDING:
                return SingleResult(request_id, reply, None, utc_now())
            faults = unusable = 0
        except RequestUnknownError as error:
            # A 404 about the path will not change; one about the request may, if storage has acknowledged it.
            if (uncertain or error.code != RequestUnknownError.code) and waited >= policy.unknown_seconds:
                raise
        except ApiUnavailableError as error:
            faults += 1
            unusable = unusable + 1 if error.code == "api_protocol" else 0
            if unusable >= _MOST_UNUSABLE:
                raise
        if waited >= policy.deadline_seconds:
            raise RecordingError(
                f"No result after {_length(waited)} (polling.deadline_seconds).",
                code="deadline",
                hint=f"Request id {request_id}: ask the vendor about it.",
            )
        delay = next_poll_delay(waited, first_seconds=policy.first_seconds, max_seconds=policy.max_seconds)
        if faults:
            delay = max(delay, single.backoff.delay_seconds(faults))
    raise StoppedError("Stopped before the result arrived.")


def _length(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds:.0f} s"
