"""What a running sandbox remembers, in memory only: tokens, requests with their results, and counts.

The event loop and the recognition thread both write here, so every access holds the one lock.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Where a request stands. All but the first are the vendor's words."""

    NOT_UPLOADED = "NOT_UPLOADED"
    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"


class Count(StrEnum):
    """What is counted; the values are the keys of `GET /sandbox/stats`."""

    TOKENS = "tokens"  # issued
    TOKEN_CALLS = "token_calls"  # arrived, whatever the answer
    PRESIGN_CALLS = "presign_calls"  # the same
    UNKNOWN_PATHS = "unknown_paths"  # calls of what is neither the API nor the sandbox's own
    PRESIGNS = "presigns"  # granted
    UPLOADS = "uploads"  # complete
    UPLOAD_ATTEMPTS = "upload_attempts"  # arrived at storage, refused and broken ones included
    STATUS_CALLS = "status_calls"  # arrived, whatever the answer
    WEBHOOKS_SENT = "webhooks_sent"  # attempts, successful or not
    WEBHOOKS_DELIVERED = "webhooks_delivered"  # attempts answered with a 2xx


@dataclass(frozen=True)
class Segment:
    """One stretch of speech. `speaker` counts from 0, None if it is not known."""

    start_seconds: float
    end_seconds: float
    text: str
    speaker: int | None = None


@dataclass(frozen=True)
class Result:
    """What recognition made of an upload: segments, or `error` saying why there are none."""

    segments: tuple[Segment, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Upload:
    """The bytes of one complete upload; `sha256` in hex, `due_at` on the monotonic clock."""

    size_bytes: int
    sha256: str
    uploaded_at: datetime
    due_at: float


@dataclass(frozen=True)
class WebhookAttempt:
    """One try to deliver a webhook: the receiver's HTTP status, or `error` saying why there is none."""

    at: datetime
    status_code: int | None
    error: str | None

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it."""
        return self.status_code is not None and 200 <= self.status_code < 300

    def summary(self) -> dict[str, Any]:
        """Ready for JSON, with either the status or the error."""
        outcome = {"error": self.error} if self.status_code is None else {"status_code": self.status_code}
        return outcome | {"at": self.at.isoformat()}


@dataclass(frozen=True)
class Record:
    """One request id, from the presigned URL on. `upload` is the latest of `uploads` complete ones.

    `acknowledged` says whether storage has answered an upload with a 2xx, `denials` how often a fault has
    denied the request. `webhook_body` is the latest made for it, sent or not; `status_calls` are those that
    were looked at.
    """

    id: str
    mime_type: str
    callback_url: str | None
    presigned_at: datetime
    uploads: int = 0
    upload: Upload | None = None
    result: Result | None = None
    acknowledged: bool = False
    denials: int = 0
    status_calls: int = 0
    webhook_body: bytes | None = None
    webhook_attempts: tuple[WebhookAttempt, ...] = ()

    @property
    def status(self) -> Status:
        """The status now: a result shows only once the set delay since the upload is over."""
        if self.upload is None:
            return Status.NOT_UPLOADED
        if self.result is None or time.monotonic() < self.upload.due_at:
            return Status.PENDING
        return Status.COMPLETED if self.result.error is None else Status.ERROR


class Ledger:
    """The memory of one sandbox; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Count] = Counter()
        self._token_ends: dict[str, float] = {}
        self._records: dict[str, Record] = {}
        self._stored: Counter[str] = Counter()  # by the content's SHA-256
        self._acknowledged: Counter[str] = Counter()

    def count(self, what: Count) -> None:
        """Count one more."""
        with self._lock:
            self._counts[what] += 1

    def issue_token(self, token: str, lifetime_seconds: float, *, only_this: bool = False) -> None:
        """Accept this token for `lifetime_seconds`; `only_this` revokes all others."""
        with self._lock:
            self._counts[Count.TOKENS] += 1
            if only_this:
                self._token_ends.clear()
            self._token_ends[token] = time.monotonic() + lifetime_seconds

    def accepts_token(self, token: str) -> bool:
        """Whether the token was issued here and is still good."""
        with self._lock:
            return time.monotonic() < self._token_ends.get(token, 0.0)

    def open_record(self, mime_type: str, callback_url: str | None, *, odd_id: bool = False) -> Record:
        """A new request that waits for its upload; with `odd_id` its id has to be escaped in a URL."""
        request_id = f"job#{uuid.uuid4()}+é %2B?=" if odd_id else str(uuid.uuid4())
        record = Record(request_id, mime_type, callback_url, datetime.now(UTC))
        with self._lock:
            self._counts[Count.PRESIGNS] += 1
            self._records[record.id] = record
        return record

    def find(self, request_id: str) -> Record | None:
        """The request as it is now, None if there is none under this id."""
        with self._lock:
            return self._records.get(request_id)

    def asked(self, request_id: str) -> Record | None:
        """The same, and count that a status call asked for it."""
        with self._lock:
            record = self._records.get(request_id)
            if record is not None:
                self._records[request_id] = replace(record, status_calls=record.status_calls + 1)
            return record

    def uploaded(self, request_id: str, upload: Upload) -> Record:
        """Note a complete upload; a second one starts the request over."""
        with self._lock:
            self._counts[Count.UPLOADS] += 1
            self._stored[upload.sha256] += 1
            before = self._records[request_id]
            record = replace(before, uploads=before.uploads + 1, upload=upload, result=None)
            self._records[request_id] = record
            return record

    def acknowledged(self, request_id: str, upload: Upload) -> None:
        """Note that storage has answered this upload with a 2xx."""
        with self._lock:
            self._acknowledged[upload.sha256] += 1
            self._records[request_id] = replace(self._records[request_id], acknowledged=True)

    def denied(self, request_id: str) -> None:
        """Note that a fault has denied a request that there is."""
        with self._lock:
            record = self._records[request_id]
            self._records[request_id] = replace(record, denials=record.denials + 1)

    def recognized(self, request_id: str, upload: Upload, result: Result) -> None:
        """Note the result, unless another upload has taken this one's place meanwhile."""
        with self._lock:
            record = self._records[request_id]
            if record.upload is upload:
                self._records[request_id] = replace(record, result=result)

    def webhook_made(self, request_id: str, body: bytes) -> None:
        """Keep the webhook that announces the request's result."""
        with self._lock:
            self._records[request_id] = replace(self._records[request_id], webhook_body=body)

    def webhook_attempted(self, request_id: str, attempt: WebhookAttempt) -> None:
        """Note one try to deliver the request's webhook."""
        with self._lock:
            self._counts[Count.WEBHOOKS_SENT] += 1
            self._counts[Count.WEBHOOKS_DELIVERED] += attempt.delivered
            record = self._records[request_id]
            attempts = (*record.webhook_attempts, attempt)
            self._records[request_id] = replace(record, webhook_attempts=attempts)

    def stats(self) -> dict[str, Any]:
        """The counts, every request, oldest first, and every recording by its SHA-256, ready for JSON.

        A recording's uploads are counted over all its requests: those that storage has, and those that it
        has acknowledged with a 2xx.
        """
        with self._lock:
            counts = {what.value: self._counts[what] for what in Count}
            recordings = {
                sha256: {"stored": stored, "acknowledged": self._acknowledged[sha256]}
                for sha256, stored in self._stored.items()
            }
            requests = [_summary(record) for record in self._records.values()]
            return counts | {"requests": requests, "recordings": recordings}


def _summary(record: Record) -> dict[str, Any]:
    upload = record.upload
    return {
        "id": record.id,
        "mime_type": record.mime_type,
        "callback_url": record.callback_url,
        "bytes": upload.size_bytes if upload else None,
        "sha256": upload.sha256 if upload else None,
        "uploads": record.uploads,
        "presigned_at": record.presigned_at.isoformat(),
        "uploaded_at": upload.uploaded_at.isoformat() if upload else None,
        "status": record.status.value,
        "denials": record.denials,
        "status_calls": record.status_calls,
        "webhooks": [attempt.summary() for attempt in record.webhook_attempts],
    }
