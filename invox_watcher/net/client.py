"""HTTP exchanges: one deadline for each as a whole, abort, no redirects, a bounded reply.

What requests, urllib3, ssl and socket raise is translated into the package's errors here and nowhere else: a
library's exception may quote a presigned URL or a header, and is never chained.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

import requests
import urllib3

from invox_watcher import __version__
from invox_watcher.errors import (
    ApiError,
    ApiRefusedError,
    ApiUnavailableError,
    InvoxError,
    RecordingError,
    StorageError,
    UploadUncertainError,
)
from invox_watcher.heartbeat import beat
from invox_watcher.net.connections import Adapter, Exchange, Watchdog
from invox_watcher.net.failures import LIBRARY_ERRORS, proxy_refused, redirected, translated

_MIB = 1024 * 1024
_READ_BYTES = 64 * 1024
_KEPT_CONNECTIONS = 16
_ERROR_BODY_BYTES = 16 * 1024
# A gateway got an invalid response, or none, from its upstream (RFC 9110 §15.6.3, §15.6.5).
_BAD_GATEWAY = (502, 504)


@dataclass(frozen=True)
class HttpReply:
    """A complete reply. `where` is the host, for messages; header names are case-insensitive."""

    status: int
    where: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


def read_object(reply: HttpReply) -> dict[str, Any]:
    """The reply's body as a JSON object. Raises ApiUnavailableError (`api_protocol`) for anything else.

    Stricter than Python's parser: NaN and Infinity are not JSON (RFC 8259 §6).
    """
    try:
        payload = json.loads(reply.body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # malformed, not UTF-8, numbers beyond reason; nested too deeply
        payload = None
    if isinstance(payload, dict):
        return payload
    kind = re.sub(r"[^\w/+.;= -]", "", reply.headers.get("Content-Type", ""))[:60] or "no Content-Type"
    raise ApiUnavailableError(
        f"{reply.where} answered {reply.status}, but the body is not a JSON object"
        f" ({kind}, {len(reply.body)} bytes).",
        code="api_protocol",
        status=reply.status,
        hint="Check that api.base_url and the api.*_path keys point to the API, not to a login page.",
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


class HttpClient:
    """Makes exchanges, from any thread. The environment (proxies, .netrc, CA files) is ignored.

    Uses requests' transport adapter without a Session: a Session adds cookies, environment and redirects,
    and reads the body of a 3xx unbounded even with redirects off. The adapter's pools are urllib3's, which
    are thread-safe.

    A deadline covers a whole exchange. It and `abort_all` cannot interrupt two waits: resolving the host
    name, which the operating system does not allow, and one attempt to connect, which takes at most
    `connect_timeout_seconds` for each address of the host.
    """

    def __init__(
        self,
        *,
        ca_bundle: str | None = None,
        proxy: str | None = None,
        connect_timeout_seconds: float = 10.0,
        max_reply_bytes: int = 32 * _MIB,
    ) -> None:
        """`ca_bundle`: a PEM file or an OpenSSL folder instead of the public authorities.

        Raises ApiRefusedError for a bundle that can't be loaded or a proxy that isn't http(s)://.
        """
        _check_ca_bundle(ca_bundle)
        _check_proxy(proxy)
        self._verify: bool | str = ca_bundle or True
        self._proxies = {"http": proxy, "https": proxy} if proxy else {}
        self._connect_timeout_seconds = connect_timeout_seconds
        self._max_reply_bytes = max_reply_bytes
        self._kept = Adapter(pool_maxsize=_KEPT_CONNECTIONS)
        self._watchdog = Watchdog()

    def post(
        self, url: str, *, headers: Mapping[str, str], body: bytes, deadline_seconds: float
    ) -> HttpReply:
        """POST `body` and return the complete reply, whatever its status, except 3xx and 407.

        For idempotent requests: if a pooled connection turns out to be closed, the request is sent again
        at once over a new one. Raises ApiUnavailableError (`network`, `timeout`, `api_protocol`),
        ApiRefusedError (`tls`, `proxy`, `redirected`, `bad_url`), StoppedError.
        """
        with self._watchdog.over(Exchange(url, deadline_seconds, deadline_seconds)) as exchange:
            plan = _Plan(exchange, "POST", url, headers, body)
            try:
                return self._perform(self._kept, plan)
            except ApiUnavailableError as error:
                if error.code != "network" or exchange.answered or not exchange.on_kept_connection:
                    raise
            with contextlib.closing(Adapter()) as fresh:
                return self._perform(fresh, plan)

    def upload(
        self,
        url: str,
        file: BinaryIO,
        *,
        size_bytes: int,
        content_type: str,
        deadline_seconds: float,
        silence_seconds: float,
        on_progress: Callable[[int], None] | None = None,
    ) -> HttpReply:
        """PUT exactly `size_bytes` of `file` from its current position, in constant memory, never chunked.

        Always over a new connection. `silence_seconds` is the longest time without progress;
        `on_progress` gets the number of bytes sent so far. A 2xx is returned without its body; of an
        error's body, the first 16 KiB. In addition to what `post` raises:
        - ApiUnavailableError `upload_interrupted`, StoppedError: not all bytes were sent: it did not arrive;
        - UploadUncertainError: all bytes were sent, but no response came, or a gateway's 502 or 504;
        - RecordingError `changed_during_upload`: the file ended early; StorageError: it can't be read.
        """
        reader = _BoundedReader(file, size_bytes, silence_seconds, on_progress)
        with (
            self._watchdog.over(Exchange(url, deadline_seconds, silence_seconds)) as exchange,
            contextlib.closing(Adapter()) as fresh,
        ):
            try:
                reply = self._perform(
                    fresh, _Plan(exchange, "PUT", url, {"Content-Type": content_type}, reader)
                )
            except InvoxError as error:
                failure = _upload_failure(error, exchange.where, handed_over=reader.handed_over)
            else:
                answered = f"{exchange.where} answered {reply.status}"
                if reply.ok and not reader.handed_over:
                    failure = _interrupted(f"{answered} before it had received all bytes.")
                elif reader.handed_over and reply.status in _BAD_GATEWAY:
                    failure = _uncertain(f"{answered}: the host behind it may have received the upload.")
                else:
                    return reply
        raise failure

    def abort_all(self) -> None:
        """End every exchange in progress at once, and refuse new ones: both raise StoppedError."""
        self._watchdog.end_all()

    def close(self) -> None:
        """Abort every exchange, then close the connections and stop the watchdog's thread."""
        self._watchdog.end_all()
        self._watchdog.close()
        self._kept.close()

    def _perform(self, adapter: Adapter, plan: _Plan) -> HttpReply:
        """The boundary: one request and its reply; every failure is one of `errors`."""
        exchange = plan.exchange
        failure: Exception | None = None
        beat(exchange.silence_seconds)
        try:
            reply = self._talk(adapter, plan)
        except LIBRARY_ERRORS as error:
            failure = translated(error, exchange.where)
        beat()
        # Also checked on success: a reply without a length looks complete if we cut it short.
        failure = exchange.ending() or failure
        if failure is not None:
            raise failure  # outside the handler, so that the library's exception is not chained
        return reply

    def _talk(self, adapter: Adapter, plan: _Plan) -> HttpReply:
        exchange = plan.exchange
        with exchange.in_this_thread():
            response = adapter.send(
                plan.prepared(),
                stream=True,
                timeout=(self._connect_timeout_seconds, exchange.silence_seconds),
                verify=self._verify,
                proxies=self._proxies,
            )
            exchange.answered = True
            try:
                _refuse_redirect_or_proxy(response.status_code, exchange.where)
                body = self._read(response, plan)
            finally:
                response.close()
        return HttpReply(response.status_code, exchange.where, response.headers, body)

    def _read(self, response: requests.Response, plan: _Plan) -> bytes:
        if isinstance(plan.body, _BoundedReader):
            # An upload's outcome is its status; a body that stalls or is cut short must not change that.
            return b"" if response.ok else _read_some(response, _ERROR_BODY_BYTES)
        chunks, size = [], 0
        for chunk in response.raw.stream(_READ_BYTES, decode_content=False):
            size += len(chunk)
            if size > self._max_reply_bytes:
                raise ApiUnavailableError(
                    f"The reply of {plan.exchange.where} exceeds {self._max_reply_bytes / _MIB:g} MiB.",
                    code="api_protocol",
                    status=response.status_code,
                )
            chunks.append(chunk)
        return b"".join(chunks)


def _read_some(response: requests.Response, limit_bytes: int) -> bytes:
    with contextlib.suppress(urllib3.exceptions.HTTPError, http.client.HTTPException, OSError):
        return bytes(response.raw.read(limit_bytes, decode_content=False))
    return b""


@dataclass(frozen=True)
class _Plan:
    """What to send in an exchange."""

    exchange: Exchange
    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | _BoundedReader = field(repr=False)

    def prepared(self) -> requests.PreparedRequest:
        """The request as a requests object, always with a declared length."""
        always = {"User-Agent": f"invox-watcher/{__version__}", "Accept-Encoding": "identity"}
        data = self.body if isinstance(self.body, bytes) else None
        request = requests.Request(
            self.method, self.url, headers={**always, **self.headers}, data=data
        ).prepare()
        if isinstance(self.body, _BoundedReader):
            # Set here, because requests chunks a body whose length it can't determine, or that is empty.
            request.headers["Content-Length"] = str(self.body.size_bytes)
            request.body = self.body  # type: ignore[assignment]  # urllib3 takes anything that reads
        return request


class _BoundedReader:
    """Reads exactly the declared number of bytes, and counts how many were handed to the network.

    A file that has grown is cut at the declared length. One that has shrunk ends the exchange at once, since
    the receiver would wait for the rest until the deadline.
    """

    def __init__(
        self,
        file: BinaryIO,
        size_bytes: int,
        silence_seconds: float,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        self.size_bytes = size_bytes
        self._silence_seconds = silence_seconds
        self._file = file
        self._left_bytes = size_bytes
        self._sent_bytes = 0
        self._pending_bytes = 0
        self._on_progress = on_progress
        self.handed_over = False

    def read(self, size: int) -> bytes:
        """The next block. A call means that the kernel has accepted the previous one."""
        self.handed_over = self._left_bytes == 0
        beat(self._silence_seconds)
        if self._pending_bytes:
            self._sent_bytes += self._pending_bytes
            self._pending_bytes = 0
            if self._on_progress is not None:
                self._on_progress(self._sent_bytes)
        if self.handed_over:
            return b""
        block = self._read_file(min(size, self._left_bytes))
        self._left_bytes -= len(block)
        self._pending_bytes = len(block)
        return block

    def _read_file(self, size: int) -> bytes:
        failure = 0
        try:
            block = self._file.read(size)
        except OSError as error:  # must not be mistaken for a network error
            failure = error.errno or errno.EIO
        if failure:
            raise StorageError(f"Can't read the recording: {os.strerror(failure)}.", code="read_failed")
        if not block:
            raise RecordingError(
                f"The recording became shorter during the upload: {self._left_bytes} bytes are missing.",
                code="changed_during_upload",
                hint="A program is still writing to the file. Copy it to the inbox again once complete.",
            )
        return block


def _refuse_redirect_or_proxy(status: int, where: str) -> None:
    if 300 <= status < 400:
        raise redirected(where, status)
    if status == 407:
        raise proxy_refused(where, status)


def _upload_failure(error: InvoxError, where: str, *, handed_over: bool) -> InvoxError:
    if isinstance(error, ApiError) and error.status is not None:
        return error  # there was a response
    if handed_over:
        return _uncertain(f"{where} did not respond. {error.message}")
    return _interrupted(error.message) if isinstance(error, ApiUnavailableError) else error


def _uncertain(why: str) -> UploadUncertainError:
    return UploadUncertainError(f"All bytes of the upload were sent. {why}")


def _interrupted(why: str) -> ApiUnavailableError:
    return ApiUnavailableError(
        f"The upload was interrupted before all bytes were sent. {why}",
        code="upload_interrupted",
        hint="Check the network connection if this happens often.",
    )


def _check_ca_bundle(ca_bundle: str | None) -> None:
    if ca_bundle is None:
        return
    try:
        folder = os.path.isdir(ca_bundle)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cafile=None if folder else ca_bundle, capath=ca_bundle if folder else None
        )
    except OSError:
        raise ApiRefusedError(
            f"api.ca_bundle: can't load certificates from {ca_bundle}.",
            code="tls",
            hint="It must be a PEM file, or a folder prepared with `openssl rehash`, readable by the daemon.",
        ) from None


def _check_proxy(proxy: str | None) -> None:
    if proxy is not None and not re.match(r"https?://[^/]", proxy, re.IGNORECASE):
        raise ApiRefusedError(
            "api.proxy is not an http:// or https:// address.", code="proxy", hint="SOCKS is not supported."
        )
