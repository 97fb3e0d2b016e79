"""requests' transport over connections that belong to their thread's exchange."""

from __future__ import annotations

import errno
import http.client
import math
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import Timeout

from invox_watcher.baton import waiting
from invox_watcher.heartbeat import beat
from invox_watcher.net.exchanges import MOST_ORIGINS, Exchange, exchange_of_this_thread, parted
from invox_watcher.net.responses import FIELD, Reading, Response

# urllib3's default is 16 KiB; larger blocks cost memory per upload and save system calls.
_BLOCK_BYTES = 256 * 1024
# A timeout covers everything that one call sends, and the kernel wakes a waiting sender once half of the
# unsent bytes are gone: with more of either, a slow line would look like a stalled one. A line that has taken
# so much, more than is buffered on its way, in pieces that took no time, is fast; pieces may be large then.
_PIECE_BYTES, _LARGE_PIECE_BYTES = 16 * 1024, 256 * 1024
_FAST_BYTES, _FAST_PIECE_SECONDS = 1 << 20, 0.02
_UNSENT_BYTES = 32 * 1024
_ANY_TARGET = "/"  # each exchange has its own


# What may stand between the method and the version of a request's first line (RFC 9112 §3).
_TARGET = re.compile(r"[!-~]+")


@lru_cache(MOST_ORIGINS)
def _beginning_of_field(name: str) -> bytes:
    """What a field's line begins with. Raises ValueError if that can't be its name."""
    encoded = name.encode("ascii")
    if not FIELD.fullmatch(encoded + b":\n"):
        raise ValueError
    return encoded + b": "


@lru_cache(MOST_ORIGINS)
def _host_field(host: str, port: int, default_port: int) -> bytes:
    """The line that names the host, as http.client writes it."""
    named = host.encode("ascii" if host.isascii() else "idna")
    named = b"[" + named + b"]" if b":" in named else named
    return b"Host: " + named + (b"" if port == default_port else b":%d" % port)


def _blocks_of(body: Any, size: int) -> Iterator[bytes]:
    while body is not None and (block := body.read(size)):
        yield block


class _PlainConnection(HTTPConnection):
    """A connection that registers its socket with its thread's exchange."""

    response_class = Response
    idle_since = math.inf
    _taken_at_once = 0  # how many bytes were sent since a piece last took its time

    @property
    def idle_seconds(self) -> float:
        """How long it has lain in its pool; negative if it is new."""
        return time.monotonic() - self.idle_since

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        if (exchange := exchange_of_this_thread()) is not None:
            exchange.watch(sock.fileno(), kept=False)
        return sock

    def connect(self) -> None:
        super().connect()
        if (exchange := exchange_of_this_thread()) is not None:
            # urllib3 would apply the connect timeout to every block that is sent.
            self.timeout = exchange.silence_seconds
            self.sock.settimeout(self.timeout)
            # The kernel would buffer megabytes: keep the reported progress close to what was really sent.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        exchange = exchange_of_this_thread()
        if exchange is not None:
            if self.sock is not None:
                exchange.watch(self.sock.fileno(), kept=True)
            # As it was given, byte for byte: urllib3 tidies escapes and dots, and a signature may cover them.
            # A proxy for plain http is given the host as well.
            url = exchange.target if url == _ANY_TARGET else exchange.origin + exchange.target
        super().request(method, url, *args, **kwargs)

    def exchange(self, method: str, exchange: Exchange, headers: Mapping[str, str], body: Any) -> Response:
        """Send a request over this connection, which is open, and return the response without its body.

        What `request` and `getresponse` do, without what urllib3 does for other callers.
        """
        exchange.watch(self.sock.fileno(), kept=True)
        self.sock.settimeout(exchange.silence_seconds)
        head = self._head_of(method, exchange.target, headers, body)
        with waiting:
            try:
                if isinstance(body, bytes):
                    self.send(head + body)
                else:
                    self.send(head)
                    for block in _blocks_of(body, self.blocksize):
                        self.send(block)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                pass  # a server may answer, and close the connection before it has read all
            exchange.all_handed_over()
            response = Response(self.sock, method=method)
            try:
                response.begin()
            except BaseException:
                response.close()
                raise
        return response

    def _head_of(self, method: str, target: str, headers: Mapping[str, str], body: Any) -> bytes:
        """A request's first line and fields. `HttpClient` has seen that the fields' values are legal."""
        if not _TARGET.fullmatch(target):
            raise http.client.InvalidURL
        named = {name.lower() for name in headers}
        lines = [f"{method} {target} HTTP/1.1".encode("ascii")]
        if "host" not in named:
            lines.append(_host_field(self.host, self.port or self.default_port, self.default_port))
        if "content-length" not in named and (body is not None or method != "GET"):
            lines.append(b"Content-Length: %d" % len(body or b""))
        lines += [_beginning_of_field(name) + value.encode("latin-1") for name, value in headers.items()]
        return b"\r\n".join((*lines, b"", b""))

    def send(self, data: Any) -> None:
        if not isinstance(data, bytes) or len(data) <= _PIECE_BYTES:
            super().send(data)
            return
        at, exchange = 0, exchange_of_this_thread()
        while at < len(data):
            size = _PIECE_BYTES if self._taken_at_once < _FAST_BYTES else _LARGE_PIECE_BYTES
            began = time.monotonic()
            super().send(memoryview(data)[at : at + size])
            is_fast = time.monotonic() - began < _FAST_PIECE_SECONDS
            self._taken_at_once = self._taken_at_once + size if is_fast else 0
            at += size
            if exchange is not None:
                beat(exchange.silence_seconds)

    def getresponse(self) -> Any:
        if (exchange := exchange_of_this_thread()) is not None:
            exchange.all_handed_over()
        return super().getresponse()


class _TlsConnection(_PlainConnection, HTTPSConnection):
    """The same over TLS."""

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        try:
            super().request(method, url, *args, **kwargs)
        except ssl.SSLEOFError:
            # TLS's form of a broken pipe, after which urllib3 still reads the reply: storage that refuses an
            # upload answers and closes the connection before it has read all of it.
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None


class _PlainPool(HTTPConnectionPool):
    """A pool that lends and takes back connections as the thread's exchange wants it."""

    ConnectionCls = _PlainConnection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        exchange = exchange_of_this_thread()
        if exchange is not None and connection.idle_seconds > exchange.most_idle_seconds:
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:
        exchange = exchange_of_this_thread()
        if conn is not None and exchange is not None:
            if not exchange.leaves_clean_connection:
                conn.close()
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)

    def exchange(
        self, method: str, exchange: Exchange, headers: Mapping[str, str], body: Any, connect_seconds: float
    ) -> Reading:
        """`urlopen`, for a pool without a proxy: the response without its body."""
        connection = self._get_conn()
        try:
            if connection.sock is None:
                connection.timeout = connect_seconds
                with waiting:
                    connection.connect()
            response = connection.exchange(method, exchange, headers, body)
        except BaseException:
            connection.close()
            self._put_conn(None)  # another one: this one may hold a part of a request that was never sent
            raise
        return _Kept(self, connection, response)


class _Kept:
    """A response over a connection of a pool: see `Reading`."""

    def __init__(self, pool: _PlainPool, connection: Any, response: Response) -> None:
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers  # type: ignore[assignment]
        self._pool, self._connection, self._response = pool, connection, response

    def read(self, amt: int, decode_content: bool = False) -> bytes:  # noqa: ARG002 - as urllib3's
        block = self._response.read(amt)
        if not block and self._response.length:
            raise http.client.IncompleteRead(block, self._response.length)
        return block

    def close(self) -> None:
        if not self._response.isclosed() or self._response.will_close:
            self._response.close()
            self._connection.close()

    def release_conn(self) -> None:
        self._pool._put_conn(self._connection)


class _TlsPool(_PlainPool, HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = _TlsConnection


_POOLS = {"http": _PlainPool, "https": _TlsPool}


class Adapter(HTTPAdapter):
    """requests' transport over these connections: its pools, its proxies and its way to check certificates.

    What requests does again for each request takes longer than the exchange itself: here it is done once for
    each origin. urllib3 retries nothing: the caller decides.
    """

    def __init__(self, *, verify: bool | str, proxies: Mapping[str, str], pool_maxsize: int = 1) -> None:
        self._verify, self._proxies = verify, dict(proxies)
        self._by_origin: dict[str, Any] = {}
        super().__init__(pool_maxsize=pool_maxsize)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, blocksize=_BLOCK_BYTES, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def exchange(
        self,
        method: str,
        exchange: Exchange,
        *,
        headers: Mapping[str, str],
        body: Any,
        connect_seconds: float,
    ) -> Reading:
        """Send a request; the response without its body. Raises what requests and urllib3 raise.

        `headers` has the body's length, unless that is bytes.
        """
        pool = self._pool_of(exchange.origin)
        if pool.proxy is None:
            return cast(_PlainPool, pool).exchange(method, exchange, headers, body, connect_seconds)
        by_proxy = pool.scheme == "http"
        with waiting:
            response: Reading = pool.urlopen(
                method,
                exchange.origin + _ANY_TARGET if by_proxy else _ANY_TARGET,
                body=body,
                headers=headers,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
                retries=self.max_retries,
                timeout=Timeout(connect=connect_seconds, read=exchange.silence_seconds),
            )
        return response

    def connect(self, url: str, *, connect_seconds: float) -> None:
        """Open a connection to the host of `url`, TLS included, and close it; nothing is requested."""
        pool = self._pool_of(parted(url)[0])
        connection = pool._get_conn(connect_seconds)
        try:
            if pool.proxy is not None and pool.scheme == "https":
                pool._prepare_proxy(connection)
            else:
                connection.connect()
        finally:
            connection.close()

    def close(self) -> None:
        super().close()
        self._by_origin.clear()  # a pool closes its connections once nothing refers to it

    def _pool_of(self, origin: str) -> Any:
        pool = self._by_origin.get(origin)
        if pool is None:
            request = requests.Request("GET", origin).prepare()
            pool = self.get_connection_with_tls_context(request, self._verify, proxies=self._proxies)
            self.cert_verify(pool, origin, self._verify, None)  # type: ignore[no-untyped-call]
            if len(self._by_origin) >= MOST_ORIGINS:
                self._by_origin.clear()
            self._by_origin[origin] = pool
        return pool

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, blocksize=_BLOCK_BYTES, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager
