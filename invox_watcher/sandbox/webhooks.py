"""Announces results: POSTs each to the callback URL its request named, signed as the vendor's guide shows.

Delays, retries and repeats are the sandbox's settings; faults on "webhook" drop, delay or falsify one.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from urllib.parse import urlsplit

import h11
from Crypto.Cipher import AES
from Crypto.Util.Padding import pad

from invox_watcher.sandbox import faults, replies
from invox_watcher.sandbox.ledger import Ledger, Result, Upload, WebhookAttempt
from invox_watcher.sandbox.settings import SandboxSettings

_MOST_AT_ONCE = 64
_CHUNK_BYTES = 65536
_SALT_BYTES = 8
_SALTED_KEY_BYTES = 32


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
        self._ledger = ledger
        self._rules = rules
        self._on_attempt = on_attempt
        self._tls = ssl.create_default_context(cafile=settings.webhook_ca)
        self._places = asyncio.Semaphore(_MOST_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds them weakly

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
        for _ in range(self._settings.webhook_repeats):
            await self._deliver(request_id, url, body)

    def _body(self, request_id: str, result: Result) -> bytes:
        settings = self._settings
        signed = f"{settings.app_id}~{settings.api_key}".encode()
        seal = _raw if settings.signature_layout == "raw" else _salted
        signature = base64.b64encode(seal(signed, settings.app_secret.encode())).decode()
        content = replies.webhook_body(
            settings.reply_shape, request_id, result, signature=signature, created_at=int(time.time())
        )
        return json.dumps(content, ensure_ascii=False).encode()

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
                    status_code = await _post(url, body, self._tls)
            except TimeoutError:
                error = f"no whole answer within {self._settings.webhook_timeout_seconds} s"
            except (OSError, ValueError, h11.RemoteProtocolError) as failure:
                error = str(failure) or type(failure).__name__
        attempt = WebhookAttempt(at, status_code, error)
        self._ledger.webhook_attempted(request_id, attempt)
        self._on_attempt(status_code)
        return attempt


async def _post(url: str, body: bytes, tls: ssl.SSLContext) -> int:
    """POST JSON over a connection of its own, and read the whole answer; its status. Follows nothing.

    Raises OSError, ValueError for an invalid host name, and h11.RemoteProtocolError if the answer is not
    HTTP or is incomplete.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    headers = [
        ("Host", parts.netloc.rpartition("@")[2]),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    client = h11.Connection(h11.CLIENT)
    message = [h11.Request(method="POST", target=target, headers=headers), h11.Data(body), h11.EndOfMessage()]
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls if secure else None)
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


def _raw(plain: bytes, secret: bytes) -> bytes:
    """The layout of the guide's C#, Java and Python examples: IV, then ciphertext, the secret as the key."""
    iv = secrets.token_bytes(AES.block_size)
    return iv + _encrypted(plain, secret, iv)


def _salted(plain: bytes, secret: bytes) -> bytes:
    """The layout of the guide's TypeScript example, CryptoJS with a passphrase: see openssl-enc(1).

    Key and IV come from EVP_BytesToKey(3) with MD5 and one round.
    """
    salt = secrets.token_bytes(_SALT_BYTES)
    derived, digest = b"", b""
    while len(derived) < _SALTED_KEY_BYTES + AES.block_size:
        digest = hashlib.md5(digest + secret + salt, usedforsecurity=False).digest()
        derived += digest
    key, iv = derived[:_SALTED_KEY_BYTES], derived[_SALTED_KEY_BYTES:]
    return b"Salted__" + salt + _encrypted(plain, key, iv)


def _encrypted(plain: bytes, key: bytes, iv: bytes) -> bytes:
    return AES.new(key, AES.MODE_CBC, iv=iv).encrypt(pad(plain, AES.block_size))
