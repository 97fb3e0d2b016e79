"""What may be believed of a webhook: reads one body, and keeps it if it is genuine and about a job of ours.

The signature proves that its maker knows the APP Secret, and nothing about the body: whoever has seen one
could send it with other words. So a body is at first only a hint to ask the API; and a signature counts for
the content that it first came with, for ever.
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
    """A genuine webhook: what it says about which request ("" if it is unusable).

    `payload` is the body without its signature.
    """

    request_id: str
    payload: Mapping[str, Any]
    signature_sha256: str
    content_sha256: str


class NoticeOutcome(StrEnum):
    """What the journal says to a notice."""

    NEW = "new"  # on disk now
    REPEATED = "repeated"  # it was there already, or came too late to matter
    UNKNOWN = "unknown"  # no job of ours has that request id
    CONTRADICTS = "contradicts"  # its signature, or its request, came with other content before


MAX_BODY_BYTES = 4 << 20
_MAX_ID_BYTES = 256
# In a JSON text, where some writers escape the slash of base64.
_SIGNATURE = re.compile(rb'"signature"\s*:\s*"((?:[A-Za-z0-9+/=]|\\/){1,4096})"')
_LOGGED_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class Credentials:
    """What a genuine signature is made of."""

    app_id: str
    api_key: str
    app_secret: str


def read_notice(body: bytes, credentials: Credentials) -> WebhookNotice | None:
    """The notice in `body`; None if it is not genuine. Never raises.

    What is genuine but can't be used is a notice without a request id: its signature is to be remembered all
    the same, so that it counts for nothing else.
    """
    found = _SIGNATURE.search(body)
    # Before anything is parsed: whoever has no signature shall cost no more than this.
    if found is None or not is_genuine(
        signature=(signature := found[1].replace(b"\\/", b"/").decode("ascii")),
        app_id=credentials.app_id,
        api_key=credentials.api_key,
        app_secret=credentials.app_secret,
    ):
        return None
    signature_sha256 = hashlib.sha256(signature.encode()).hexdigest()
    try:
        request_id, payload, content = _told(json.loads(body), signature)
    except (ValueError, RecursionError, AttributeError, LookupError, TypeError, InvoxError):
        return WebhookNotice("", {}, signature_sha256, hashlib.sha256(body).hexdigest())
    return WebhookNotice(request_id, payload, signature_sha256, hashlib.sha256(content).hexdigest())


def _told(payload: dict[str, Any], signature: str) -> tuple[str, dict[str, Any], bytes]:
    """Request id, payload without the signature, and its content for comparison; raises if unusable."""
    if payload.pop("signature") != signature or parse_reply(payload).status is ReplyStatus.PENDING:
        raise ValueError
    # Without the time of sending: the same result sent anew is the same result.
    told = {key: value for key, value in payload.items() if key != "createdAt"}
    content = json.dumps(told, sort_keys=True, allow_nan=False).encode()
    request_id = payload["requestId"]
    if not isinstance(request_id, str) or not 0 < len(request_id.encode()) <= _MAX_ID_BYTES:
        raise ValueError
    return request_id, payload, content


class Receiver:
    """Takes bodies from the server. `keep` writes a notice to the journal, `wake` hurries its job on."""

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
        """The notice in `body`, None if it is to be refused. Quick; touches neither disk nor network."""
        return read_notice(body, self._credentials)

    def take(self, notice: WebhookNotice) -> bool:
        """Keep a notice; True once it is on disk, whose sender may then forget it. False: refuse it.

        Raises:
            JournalError: it could not be kept; its sender should try again.
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
                hint="A genuine signature came with other content: has somebody read a webhook on its way?",
            )
        return kept in (NoticeOutcome.NEW, NoticeOutcome.REPEATED)

    def refused(self) -> None:
        """One more was refused; said in the log at most every ten seconds, with how many there were."""
        count = self._refusals.add()
        if count:
            log.warning(Event.WEBHOOK_REFUSED, count=count)


class _Counter:
    """Counts, and says the count now and then, so that a flood of webhooks is no flood of log lines."""

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
