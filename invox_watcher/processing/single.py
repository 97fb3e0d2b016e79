"""One recording through the cycle by itself, without folders and without a journal: for `transcribe`.

The same calls in the same order as the daemon's: presign, upload, poll. What the journal does for the daemon,
the caller does here: `on_request` gets the request id before the first byte goes out, so that an interrupted
run can be continued with `poll_until_final` and is not paid for again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from invox_watcher.errors import (
    ApiUnavailableError,
    RecordingError,
    RequestUnknownError,
    StoppedError,
    UploadUncertainError,
)
from invox_watcher.invox import InvoxApi, ReplyStatus, TranscriptionReply
from invox_watcher.processing.backoff import Backoff
from invox_watcher.processing.polling import PollingPolicy, first_poll_delay, next_poll_delay


@dataclass(frozen=True)
class Single:
    """What one run needs besides the recording."""

    api: InvoxApi
    polling: PollingPolicy
    backoff: Backoff
    stop: threading.Event
    on_request: Callable[[str], None]  # gets the request id before the upload begins


def transcribe(
    file: BinaryIO, single: Single, *, size_bytes: int, mime_type: str, duration_seconds: float | None
) -> TranscriptionReply:
    """Upload the recording and wait for its result, words or an error.

    Raises:
        ApiError: the API, or the storage, did not take it.
        RecordingError: no result within `polling.deadline_seconds`.
        StoppedError: `stop` was set.
    """
    presigned = single.api.presign(mime_type)
    single.on_request(presigned.request_id)
    uncertain = False
    try:
        single.api.upload(presigned, file, size_bytes=size_bytes, mime_type=mime_type)
    except UploadUncertainError:
        uncertain = True  # the result tells
    return poll_until_final(
        single, presigned.request_id, duration_seconds=duration_seconds, uncertain=uncertain
    )


def poll_until_final(
    single: Single, request_id: str, *, duration_seconds: float | None, uncertain: bool = False
) -> TranscriptionReply:
    """Poll until there is a transcript or an error.

    A reply that the request is unknown is believed only for an `uncertain` upload, and not at once.
    """
    began = time.monotonic()
    faults = 0
    policy = single.polling
    delay = first_poll_delay(
        duration_seconds, None, first_seconds=policy.first_seconds, max_seconds=policy.max_seconds
    )
    while not single.stop.wait(delay):
        waited = time.monotonic() - began
        try:
            reply = single.api.result(request_id, duration_seconds=duration_seconds)
            if reply.status is not ReplyStatus.PENDING:
                return reply
            faults = 0
        except RequestUnknownError:
            if uncertain and waited >= policy.unknown_seconds:
                raise
        except ApiUnavailableError:
            faults += 1
        if waited >= policy.deadline_seconds:
            raise RecordingError(
                f"No result after {waited / 3600:.1f} hours (polling.deadline_seconds).",
                code="deadline",
                hint=f"Request id {request_id}: ask the vendor about it.",
            )
        delay = next_poll_delay(waited, first_seconds=policy.first_seconds, max_seconds=policy.max_seconds)
        if faults:
            delay = max(delay, single.backoff.delay_seconds(faults))
    raise StoppedError(f"Stopped. The request id is {request_id}.")
