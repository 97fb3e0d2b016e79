"""Announces results: POSTs each to the callback URL its request named, signed as the vendor's guide shows.

Delays, retries and repeats are the sandbox's settings; faults on "webhook" drop, delay or falsify one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from urllib.parse import urlsplit

import h11

from invox_watcher.sandbox import faults, signing
from invox_watcher.sandbox.ledger import Ledger, Result, Upload, WebhookAttempt
from invox_watcher.sandbox.replies import Replies
from invox_watcher.sandbox.settings import SandboxSettings

_MOST_AT_ONCE = 64
_CHUNK_BYTES = 65536
_EVENT_NAME = "transcription.finished"
_TEST_BODY = b'{"eventName":"webhook.test"}'


class Webhooks:
    """The webhooks of one sandbox. Used by the event loop only, whose end cancels those under way."""

    def __init__(
        self,
        settings: SandboxSettings,
        ledger: Ledger,
        rules: faults.FaultRules,
        on_attempt: Callable[[int | None], None],
    ) -> None:
        """`on_attempt` is told the receiver's HTTP status, None if there was none.

        Raises OSError if `webhook_ca` can't be read or contains no certificate.
        """
        self._settings = settings
        self._reading = settings.reading
        self._replies = Replies(settings.reading)
        self._ledger = ledger
        self._rules = rules
        self._on_attempt = on_attempt
        if settings.webhook_ca is not None:
            _ = self._tls
        self._places = asyncio.Semaphore(_MOST_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds them weakly

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        """For receivers at https URLs. To read the system's certificates takes longer than to start."""
        return ssl.create_default_context(cafile=self._settings.webhook_ca)

    def announce(self, request_id: str, upload: Upload, recognized: Future[None]) -> None:
        """Have the result of this upload announced once it is due, if its request named a callback URL."""
        record = self._ledger.find(request_id)
        if record is None or record.callback_url is None:
            return
        task = asyncio.create_task(self._announce(request_id, record.callback_url, upload, recognized))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def send_again(self, request_id: str) -> WebhookAttempt | None:
        """Send the request's webhook once more, now; None if there is none yet. Faults don't touch it."""
        record = self._ledger.find(request_id)
        if record is None or record.callback_url is None or record.webhook_body is None:
            return None
        return await self._attempt(request_id, record.callback_url, record.webhook_body)

    async def _announce(self, request_id: str, url: str, upload: Upload, recognized: Future[None]) -> None:
        await asyncio.wrap_future(recognized)
        await asyncio.sleep(upload.due_at + self._settings.webhook_delay_seconds - time.monotonic())
        fault = self._rules.take("webhook")
        if isinstance(fault, faults.Latency):
            await asyncio.sleep(fault.seconds)
        record = self._ledger.find(request_id)
        if record is None or record.upload is not upload or record.result is None:
            return  # another upload has taken this one's place, and announces its own result
        result = Result(error=fault.message) if isinstance(fault, faults.ErrorResult) else record.result
        body = self._body(request_id, result)
        self._ledger.webhook_made(request_id, body)
        if isinstance(fault, faults.Drop):
            return
        if not await self._passes_test(url):
            return
        for _ in range(self._settings.webhook_repeats):
            await self._deliver(request_id, url, body)

    def _body(self, request_id: str, result: Result) -> bytes:
        """The webhook as it goes out, signed as the reading has it."""
        settings, signatures = self._settings, self._reading.webhook_signatures
        content = self._replies.webhook(request_id, result)
        if signatures in ("aes", "both"):
            seal = signing.LAYOUTS[self._reading.aes_layout]
            content["signature"] = seal(f"{settings.app_id}~{settings.api_key}", settings.app_secret)
        content["createdAt"] = self._replies.created_at(time.time())
        if signatures in ("request", "both"):
            content = {"eventName": _EVENT_NAME} | content
            signature = signing.request_signature(content, settings.app_secret, settings.api_key)
            content["requestSignature"] = signature
        return signing.stringify(content).encode()

    async def _passes_test(self, url: str) -> bool:
        """POST to the address what only tests it, if the reading does so; whether a webhook may follow."""
        if self._reading.webhook_test == "none":
            return True
        status_code = None
        with contextlib.suppress(TimeoutError, OSError, ValueError, h11.RemoteProtocolError):
            async with self._places, asyncio.timeout(self._settings.webhook_timeout_seconds):
                status_code = await self._post(url, _TEST_BODY)
        if self._reading.webhook_test == "ignored":
            return True
        return status_code is not None and 200 <= status_code < 300

    async def _deliver(self, request_id: str, url: str, body: bytes) -> None:
        """Send it until the receiver takes it, or all tries are used up."""
        pause_seconds = self._settings.webhook_backoff_seconds
        attempt = await self._attempt(request_id, url, body)
        for _ in range(self._settings.webhook_retries):
            if attempt.delivered:
                return
            await asyncio.sleep(pause_seconds)
            pause_seconds *= 2
            attempt = await self._attempt(request_id, url, body)

    async def _attempt(self, request_id: str, url: str, body: bytes) -> WebhookAttempt:
        status_code, error = None, None
        async with self._places:
            at = datetime.now(UTC)
            try:
                async with asyncio.timeout(self._settings.webhook_timeout_seconds):
                    status_code = await self._post(url, body)
            except TimeoutError:
                error = f"no whole answer within {self._settings.webhook_timeout_seconds} s"
            except (OSError, ValueError, h11.RemoteProtocolError) as failure:
                error = str(failure) or type(failure).__name__
        attempt = WebhookAttempt(at, status_code, error)
        self._ledger.webhook_attempted(request_id, attempt)
        self._on_attempt(status_code)
        return attempt

    async def _post(self, url: str, body: bytes) -> int:
        if self._reading.webhook_chunked:
            length = ("Transfer-Encoding", "chunked")
        else:
            length = ("Content-Length", str(len(body)))
        headers = [("Content-Type", self._reading.webhook_content_type), length]
        return await _post(url, body, headers, self._tls if urlsplit(url).scheme == "https" else None)


async def _post(url: str, body: bytes, headers: Sequence[tuple[str, str]], tls: ssl.SSLContext | None) -> int:
    """POST over a connection of its own, and read the whole answer; its status. Follows nothing.

    Raises OSError, ValueError for an invalid host name, and h11.RemoteProtocolError if the answer is not
    HTTP or is incomplete.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if tls else 80)
    headers = [("Host", parts.netloc.rpartition("@")[2]), *headers, ("Connection", "close")]
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    client = h11.Connection(h11.CLIENT)
    message = [h11.Request(method="POST", target=target, headers=headers), h11.Data(body), h11.EndOfMessage()]
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls)
    try:
        for event in message:
            writer.write(client.send(event) or b"")
        return await _status(client, reader)
    finally:
        writer.transport.abort()  # the answer is in, or will not be waited for


async def _status(client: h11.Connection, reader: asyncio.StreamReader) -> int:
    status = 0
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            client.receive_data(await reader.read(_CHUNK_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.EndOfMessage):
            return status
