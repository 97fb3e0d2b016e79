"""HTTP exchanges: one deadline for each as a whole, abort, no redirects, a bounded reply.

What requests, urllib3, ssl and socket raise is translated into the package's errors here and nowhere else: a
library's exception may quote a presigned URL or a header, and is never chained.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import io
import math
import os
import re
import ssl
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Literal

import urllib3

from invox_watcher import version
from invox_watcher.baton import waiting
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
from invox_watcher.net.connections import Adapter
from invox_watcher.net.exchanges import Exchange, Watchdog
from invox_watcher.net.failures import LIBRARY_ERRORS, proxy_refused, redirected, translated
from invox_watcher.net.reply import HttpReply
from invox_watcher.net.responses import Reading

_MIB = 1024 * 1024
_READ_BYTES = 64 * 1024
_AT_ONCE_BYTES = 4 * 1024
_KEPT_CONNECTIONS = 16
_ERROR_BODY_BYTES = 16 * 1024
_MOST_IDLE_SECONDS = 2.0  # servers close idle connections after 5 s and more (nginx 75, Apache 5)


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
        max_reply_bytes: int = 128 * _MIB,
    ) -> None:
        """`ca_bundle`: a PEM file or an OpenSSL folder instead of the public authorities.

        Raises ApiRefusedError for a bundle that can't be loaded or a proxy that isn't http(s)://.
        """
        _check_ca_bundle(ca_bundle)
        _check_proxy(proxy)
        self._adapter = partial(
            Adapter, verify=ca_bundle or True, proxies={"http": proxy, "https": proxy} if proxy else {}
        )
        self._connect_timeout_seconds = connect_timeout_seconds
        self._max_reply_bytes = max_reply_bytes
        self._kept = self._adapter(pool_maxsize=_KEPT_CONNECTIONS)
        self._watchdog = Watchdog()

    def call(
        self,
        method: Literal["GET", "POST"],
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline_seconds: float,
    ) -> HttpReply:
        """Send a request and return the whole reply, whatever its status, except 3xx and 407.

        For idempotent requests: if a pooled connection turns out to be closed, the request is sent again
        at once over a new one. Raises ApiUnavailableError (`network`, `timeout`, `api_protocol`),
        ApiRefusedError (`tls`, `proxy`, `redirected`, `bad_url`), StoppedError.
        """
        with self._watchdog.over(Exchange(url, deadline_seconds, deadline_seconds)) as exchange:
            plan = _Plan(exchange, method, url, headers, body)
            try:
                return self._perform(self._kept, plan)
            except ApiUnavailableError as error:
                if error.code != "network" or exchange.answered or not exchange.on_kept_connection:
                    raise
            with contextlib.closing(self._adapter()) as fresh:
                return self._perform(fresh, plan)

    def upload(
        self,
        url: str,
        file: BinaryIO,
        *,
        size_bytes: int,
        headers: Mapping[str, str],
        deadline_seconds: float,
        silence_seconds: float,
        on_progress: Callable[[int], None] | None = None,
    ) -> HttpReply:
        """PUT exactly `size_bytes` of `file` from its current position, in constant memory, never chunked.

        Over a kept connection only if it was used a moment ago: of one that the server has closed meanwhile,
        it would be uncertain whether the bytes arrived. `silence_seconds` bounds the time in which nothing
        moves, and that from the last byte to the whole answer; `deadline_seconds` is for a line that moves,
        and yet hardly; `on_progress` hears how many bytes were handed over. A 2xx is returned without its
        body; of an error's body the first 16 KiB. Beyond what `call` raises:
        - ApiUnavailableError `upload_interrupted`, StoppedError: not all bytes went out: it did not arrive;
        - UploadUncertainError: all bytes went out, and no answer came, or none that says no for certain;
        - RecordingError `changed_during_upload`: the file ended early; StorageError: it can't be read.
        """
        reader = _BoundedReader(file, size_bytes, silence_seconds, on_progress)
        exchange = Exchange(url, deadline_seconds, silence_seconds, most_idle_seconds=_MOST_IDLE_SECONDS)
        with self._watchdog.over(exchange):
            try:
                reply = self._perform(self._kept, _Plan(exchange, "PUT", url, headers, reader))
            except InvoxError as error:
                failure = _upload_failure(error, exchange.where, handed_over=reader.handed_over)
            else:
                answered = f"{exchange.where} answered {reply.status}"
                if reply.ok and not reader.handed_over:
                    failure = _interrupted(f"{answered} before it had received all bytes.")
                elif reader.handed_over and not reply.ok and not _is_definite_no(reply):
                    failure = _uncertain(f"{answered}, but may have taken it.")
                else:
                    return reply
        raise failure

    def deliver(
        self, url: str, *, headers: Mapping[str, str], body: bytes, deadline_seconds: float
    ) -> HttpReply:
        """POST `body` once, and return the reply, whatever its status, except 3xx and 407; a 2xx has no body.

        For requests that a receiver can recognise as a repeat, but that are not repeated here: beyond what
        `call` raises of connections, an answer is left to the caller. UploadUncertainError: all bytes went
        out, and no answer came.
        """
        reader = _BoundedReader(io.BytesIO(body), len(body), deadline_seconds, None)
        exchange = Exchange(url, deadline_seconds, deadline_seconds, most_idle_seconds=_MOST_IDLE_SECONDS)
        with self._watchdog.over(exchange):
            try:
                return self._perform(self._kept, _Plan(exchange, "POST", url, headers, reader))
            except InvoxError as error:
                failure: InvoxError = error
                if reader.handed_over and not (isinstance(error, ApiError) and error.status is not None):
                    why = f"{exchange.where} did not respond. {error.message}"
                    failure = UploadUncertainError(f"All bytes were sent. {why}")
        raise failure

    def reach(self, url: str, *, deadline_seconds: float) -> None:
        """Open a connection to the host of `url`, TLS included, and request nothing.

        Raises what `call` raises if there is none.
        """
        failure: Exception | None = None
        with (
            self._watchdog.over(Exchange(url, deadline_seconds, deadline_seconds)) as exchange,
            contextlib.closing(self._adapter()) as fresh,
        ):
            try:
                with exchange.in_this_thread():
                    fresh.connect(url, connect_seconds=self._connect_timeout_seconds)
            except LIBRARY_ERRORS as error:
                failure = translated(error, exchange.where)
            failure = exchange.ending() or failure
        if failure is not None:
            raise failure  # outside the handler, so that nothing leads back to the library's exception

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
            response = adapter.exchange(
                plan.method,
                exchange,
                headers=plan.all_headers(),
                body=plan.body,
                connect_seconds=self._connect_timeout_seconds,
            )
            exchange.answered = True
            try:
                _refuse_redirect_or_proxy(response.status, exchange.where)
                body = self._read(response, plan)
            finally:
                response.close()
                response.release_conn()
        return HttpReply(response.status, exchange.where, response.headers, body)

    def _read(self, response: Reading, plan: _Plan) -> bytes:
        if isinstance(plan.body, _BoundedReader):
            # An upload's outcome is its status; a body that stalls or is cut short must not change that.
            is_ok = 200 <= response.status < 300
            is_done = is_ok and plan.body.handed_over
            plan.exchange.leaves_clean_connection = is_done
            if is_done and response.headers.get("Content-Length") == "0":
                response.read(1)  # there is none, after which the connection is free for the next upload
            return b"" if is_ok else _read_some(response, _ERROR_BODY_BYTES)
        chunks, size = [], 0
        # One of a few kilobytes has come with its header, or is about to.
        with waiting if _length_of(response) > _AT_ONCE_BYTES else contextlib.nullcontext():
            while chunk := response.read(_READ_BYTES, decode_content=False):
                size += len(chunk)
                if size > self._max_reply_bytes:
                    raise _too_large(response.status, plan.exchange.where, self._max_reply_bytes)
                chunks.append(chunk)
        return _decoded(b"".join(chunks), response, plan.exchange.where, self._max_reply_bytes)


def _length_of(response: Reading) -> float:
    """The length of the body that the header states; infinite for any other."""
    try:
        return int(response.headers.get("Content-Length", ""))
    except ValueError:
        return math.inf


def _decoded(body: bytes, response: Reading, where: str, max_bytes: int) -> bytes:
    """The body without its compression, which some gateways apply although none was asked for."""
    if response.headers.get("Content-Encoding", "").strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return body
    try:
        # 32: a gzip or a zlib header, whichever is there (zlib manual, inflateInit2).
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
        unpacked = unpacker.decompress(body, max_bytes)
    except zlib.error:
        return body  # some say so and send it plain
    if unpacker.unconsumed_tail:
        raise _too_large(response.status, where, max_bytes)
    return unpacked


def _too_large(status: int, where: str, max_bytes: int) -> ApiUnavailableError:
    return ApiUnavailableError(
        f"The reply of {where} exceeds {max_bytes / _MIB:g} MiB.",
        code="api_protocol",
        status=status,
        hint="Ask the vendor: no transcript is that long.",
    )


def _is_definite_no(reply: HttpReply) -> bool:
    """Whether an answer after the last byte means that the upload was not taken: 4xx, or a code of S3's.

    A bare 5xx may come from a gateway behind which the upload has arrived (RFC 9110 §15.6).
    """
    return 400 <= reply.status < 500 or b"<Code>" in reply.body


def _read_some(response: Reading, limit_bytes: int) -> bytes:
    with contextlib.suppress(urllib3.exceptions.HTTPError, http.client.HTTPException, OSError):
        return response.read(limit_bytes, decode_content=False)
    return b""


_ALWAYS = (("User-Agent", f"invox-watcher/{version()}"), ("Accept-Encoding", "identity"))
# http.client lets values of several lines pass (RFC 9112 §5.2, obsolete line folding).
_HEADER_VALUE = re.compile(r"(?:\S[^\r\n]*)?")


@dataclass(frozen=True)
class _Plan:
    """What to send in an exchange."""

    exchange: Exchange
    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | _BoundedReader | None = field(repr=False)

    def all_headers(self) -> dict[str, str]:
        """The headers to send; of two that differ only in case, the caller's.

        Raises:
            ValueError: one would end its line, or begin with a space.
        """
        named = {name.lower(): (name, value) for name, value in (*_ALWAYS, *self.headers.items())}
        if isinstance(self.body, _BoundedReader):
            named["content-length"] = ("Content-Length", str(self.body.size_bytes))
        for _name, value in named.values():
            if not _HEADER_VALUE.fullmatch(value):
                raise ValueError
        return dict(named.values())


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
                retry_can_help=True,
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
