"""Receives webhooks: reads a body, and records it if it is genuine and about one of the daemon's jobs.

The signature proves that its maker knows the APP Secret, and nothing about the body: anyone who has seen one
could send it with other words. So a body is at first only a hint to poll the API; and a signature is bound
permanently to the content that it first came with.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from invox_watcher.errors import InvoxError
from invox_watcher.events import Event, log
from invox_watcher.invox.replies import ReplyStatus, parse_reply
from invox_watcher.invox.signature import is_genuine


@dataclass(frozen=True)
class WebhookNotice:
    """A genuine webhook: its content, and the request that it is about ("" if it is unusable).

    `payload` is the body without its signature.
    """

    request_id: str
    payload: Mapping[str, Any]
    signature_sha256: str
    content_sha256: str


class NoticeOutcome(StrEnum):
    """What the journal did with a notice."""

    NEW = "new"  # stored
    REPEATED = "repeated"  # already stored, or too late to matter
    UNKNOWN = "unknown"  # no job has that request id
    CONTRADICTS = "contradicts"  # its signature, or its request, came with other content before


MAX_BODY_BYTES = 4 << 20
_MAX_ID_BYTES = 256
# In JSON text, in which some writers escape the slash of base64.
_SIGNATURE = re.compile(rb'"signature"\s*:\s*"((?:[A-Za-z0-9+/=]|\\/){1,4096})"')
_LOGGED_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class Credentials:
    """The secrets that a genuine signature is made from."""

    app_id: str
    api_key: str
    app_secret: str


def read_notice(body: bytes, credentials: Credentials) -> WebhookNotice | None:
    """The notice in `body`; None if it is not genuine. Never raises.

    A genuine but unusable body gives a notice without a request id: its signature is recorded all the same,
    so that it is not accepted with other content.
    """
    found = _SIGNATURE.search(body)
    # Before anything is parsed, so that a request without a genuine signature costs no more than this.
    if found is None or not is_genuine(
        signature=(signature := found[1].replace(b"\\/", b"/").decode("ascii")),
        app_id=credentials.app_id,
        api_key=credentials.api_key,
        app_secret=credentials.app_secret,
    ):
        return None
    signature_sha256 = hashlib.sha256(signature.encode()).hexdigest()
    try:
        request_id, payload, content = _read_payload(json.loads(body), signature)
    except (ValueError, RecursionError, AttributeError, LookupError, TypeError, InvoxError):
        return WebhookNotice("", {}, signature_sha256, hashlib.sha256(body).hexdigest())
    return WebhookNotice(request_id, payload, signature_sha256, hashlib.sha256(content).hexdigest())


def _read_payload(payload: dict[str, Any], signature: str) -> tuple[str, dict[str, Any], bytes]:
    """Request id, payload without the signature, and its content to compare; raises if unusable."""
    if payload.pop("signature") != signature or parse_reply(payload).status is ReplyStatus.PENDING:
        raise ValueError
    # Without the time of sending, so that a result sent again counts as the same.
    lasting = {key: value for key, value in payload.items() if key != "createdAt"}
    content = json.dumps(lasting, sort_keys=True, allow_nan=False).encode()
    request_id = payload["requestId"]
    if not isinstance(request_id, str) or not 0 < len(request_id.encode()) <= _MAX_ID_BYTES:
        raise ValueError
    return request_id, payload, content


class Receiver:
    """Takes bodies from the server. `keep` writes a notice to the journal, `wake` has its job run at once."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        keep: Callable[[WebhookNotice], NoticeOutcome],
        wake: Callable[[str], None],
    ) -> None:
        self._credentials = credentials
        self._keep = keep
        self._wake = wake
        self._refusals, self._contradictions = _Counter(), _Counter()

    def read(self, body: bytes) -> WebhookNotice | None:
        """The notice in `body`, None to refuse it. Fast; uses neither disk nor network."""
        return read_notice(body, self._credentials)

    def take(self, notice: WebhookNotice) -> bool:
        """Store a notice; True once it is on disk, so that its sender need not retry. False: refuse it.

        Raises:
            JournalError: it could not be stored; its sender should retry.
        """
        kept = self._keep(notice)
        if kept is NoticeOutcome.NEW:
            log.info(Event.WEBHOOK_ACCEPTED, request_id=notice.request_id)
            self._wake(notice.request_id)
        elif kept is NoticeOutcome.CONTRADICTS and (count := self._contradictions.add()):
            log.error(
                Event.WEBHOOK_CONFLICTING,
                request_id=notice.request_id,
                count=count,
                hint="A genuine signature was sent again with other content. Check who can read webhooks in"
                " transit: proxies, their logs.",
            )
        return kept in (NoticeOutcome.NEW, NoticeOutcome.REPEATED)

    def refused(self) -> None:
        """Count a refused webhook; logged at most every ten seconds, with the number since."""
        count = self._refusals.add()
        if count:
            log.warning(Event.WEBHOOK_REFUSED, count=count)


class _Counter:
    """Counts, and returns the count at most every ten seconds, so that webhooks can't flood the log."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._next_at = 0.0

    def add(self) -> int:
        with self._lock:
            self._count += 1
            if time.monotonic() < self._next_at:
                return 0
            self._next_at = time.monotonic() + _LOGGED_EVERY_SECONDS
            count, self._count = self._count, 0
            return count
