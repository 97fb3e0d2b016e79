"""What may be believed of a webhook: reads one body, and records it if it is genuine and about a job of ours.

The vendor has two signatures. `signature` proves that its maker knows the APP Secret, and nothing about the
body: anyone who has seen one could send it with other words. So such a body is at first only a hint to ask
the API, and a signature stays bound to the content that it first came with. `requestSignature` covers
the body, so its words may be believed.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from invox_watcher.errors import InvoxError
from invox_watcher.events import Event, log
from invox_watcher.invox import request_signature
from invox_watcher.invox.replies import ReplyStatus, parse_reply
from invox_watcher.invox.signature import cipher, is_genuine
from invox_watcher.notice import NoticeOutcome, WebhookNotice

MAX_BODY_BYTES = 4 << 20
_MAX_ID_BYTES = 256
_ID_KEYS = ("requestId", "request_id", "jobId", "id")
# In a JSON text, in which some writers escape the slash of base64.
_SIGNATURE = re.compile(rb'"signature"\s*:\s*"((?:[A-Za-z0-9+/=]|\\/){1,4096})"')
_REQUEST_SIGNATURE = re.compile(rb'"requestSignature"\s*:\s*"(?:[A-Za-z0-9+/=]|\\/){44,64}"')
# Some senders test the address first: by a small object without any of these.
_OF_A_RESULT = (b"ignature", b"equestId", b"request_id", b"jobId", b'"id"', b"ranscription", b"segments")
_MAX_TEST_BYTES = 1024
_LOGGED_EVERY_SECONDS = 10.0
_UNUSABLE = (ValueError, RecursionError, AttributeError, LookupError, TypeError, InvoxError)

Refusal = Literal["no_signature", "signature", "request_signature", "unknown_request"]
_REFUSAL_HINTS: dict[Refusal, str] = {
    "no_signature": "It has no signature: a test of the address, or not from the vendor.",
    "signature": "Its `signature` does not fit credentials.app_id, .api_key and .app_secret.",
    "request_signature": "Its `requestSignature` does not fit credentials.app_secret and .api_key.",
    "unknown_request": "It is genuine, but not the result of a request of this daemon.",
}


@dataclass(frozen=True)
class Credentials:
    """What a genuine signature is made of."""

    app_id: str
    api_key: str
    app_secret: str


def read_notice(body: bytes, credentials: Credentials) -> WebhookNotice | None:
    """The notice in `body`; None if it is not genuine. Never raises.

    A genuine body that can't be used gives a notice without a request id: its signature is recorded too, so
    that it can't be used with other content.
    """
    if _REQUEST_SIGNATURE.search(body) is not None:
        notice = _signed_body(body, credentials)
        if notice is not None:
            return notice
    found = _SIGNATURE.search(body)
    # Before anything is parsed: a sender without a signature must not cost more than this.
    if found is None or not is_genuine(
        signature=(signature := found[1].replace(b"\\/", b"/").decode("ascii")),
        app_id=credentials.app_id,
        api_key=credentials.api_key,
        app_secret=credentials.app_secret,
    ):
        return None
    signature_sha256 = hashlib.sha256(signature.encode()).hexdigest()
    try:
        payload = json.loads(body, parse_constant=lambda _name: None)
        if payload["signature"] != signature:
            raise ValueError
        request_id, result, content = _result_in(payload)
    except _UNUSABLE:
        return WebhookNotice("", {}, signature_sha256, hashlib.sha256(body).hexdigest())
    return WebhookNotice(request_id, result, signature_sha256, hashlib.sha256(content).hexdigest())


def only_tests(body: bytes | None) -> bool:
    """Whether a body without a notice only tests the address: small, and no field of a result."""
    if body is None or len(body) > _MAX_TEST_BYTES or not body.lstrip().startswith(b'{"'):
        return False
    return not any(word in body for word in _OF_A_RESULT)


def refusal_of(body: bytes | None) -> Refusal:
    """Which signature a refused body has."""
    if body and _REQUEST_SIGNATURE.search(body) is not None:
        return "request_signature"
    return "signature" if body and _SIGNATURE.search(body) is not None else "no_signature"


def _signed_body(body: bytes, credentials: Credentials) -> WebhookNotice | None:
    """The notice, if its `requestSignature` is genuine."""
    try:
        payload = json.loads(body, parse_constant=lambda _name: None)
        genuine = request_signature.is_genuine(
            payload, api_key=credentials.api_key, app_secret=credentials.app_secret
        )
        if not genuine:
            return None
    except _UNUSABLE:
        return None
    signature_sha256 = hashlib.sha256(payload[request_signature.FIELD].encode()).hexdigest()
    try:
        request_id, result, content = _result_in(payload)
    except _UNUSABLE:
        unusable_sha256 = hashlib.sha256(body).hexdigest()
        return WebhookNotice("", {}, signature_sha256, unusable_sha256, covers_body=True)
    content_sha256 = hashlib.sha256(content).hexdigest()
    return WebhookNotice(request_id, result, signature_sha256, content_sha256, covers_body=True)


def _result_in(payload: dict[str, Any]) -> tuple[str, dict[str, Any], bytes]:
    """Request id, payload without signatures, and its content for comparison; raises if it is unusable."""
    result = {
        key: value for key, value in payload.items() if key not in ("signature", request_signature.FIELD)
    }
    if parse_reply(result, pushed=True).status is ReplyStatus.PENDING:
        raise ValueError
    # Without the time of sending: the same result sent again is the same result.
    content = json.dumps(
        {key: value for key, value in result.items() if key != "createdAt"}, sort_keys=True
    ).encode()
    request_id = next((str(result[key]) for key in _ID_KEYS if result.get(key)), "")
    if not 0 < len(request_id.encode()) <= _MAX_ID_BYTES:
        raise ValueError
    return request_id, result, content


class Receiver:
    """Takes bodies from the server. `record` writes a notice to the journal, `wake` expedites its job."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        record: Callable[[WebhookNotice], NoticeOutcome],
        wake: Callable[[str], None],
    ) -> None:
        cipher()  # now, not when the first webhook comes
        self._credentials = credentials
        self._record = record
        self._wake = wake
        self._refusals, self._conflicts = _Counter(), _Counter()

    def read(self, body: bytes) -> WebhookNotice | None:
        """The notice in `body`, None if it is to be refused. Quick; touches neither disk nor network."""
        return read_notice(body, self._credentials)

    def take(self, notice: WebhookNotice) -> bool:
        """Record a notice; True once it is on disk and its sender may forget it. False: refuse it.

        Raises:
            JournalError: it could not be recorded; its sender should try again.
        """
        outcome = self._record(notice)
        if outcome is NoticeOutcome.NEW:
            log.info(Event.WEBHOOK_ACCEPTED, request_id=notice.request_id)
            self._wake(notice.request_id)
        elif outcome is NoticeOutcome.CONTRADICTS and (count := self._conflicts.add()):
            log.error(
                Event.WEBHOOK_CONFLICTING,
                request_id=notice.request_id,
                count=count,
                hint="A genuine signature came with other content: was a webhook intercepted?",
            )
        return outcome in (NoticeOutcome.NEW, NoticeOutcome.REPEATED)

    def refused(self, body: bytes | None) -> None:
        """One more was refused; logged at most every ten seconds, with how many there were."""
        if count := self._refusals.add():
            genuine = body is not None and self.read(body) is not None
            kind: Refusal = "unknown_request" if genuine else refusal_of(body)
            log.warning(Event.WEBHOOK_REFUSED, count=count, code=kind, hint=_REFUSAL_HINTS[kind])


class _Counter:
    """Counts, and gives the count now and then, so that a flood of webhooks does not flood the log."""

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
