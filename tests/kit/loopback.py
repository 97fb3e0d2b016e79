"""Small servers on the loopback interface whose every byte a test decides."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """A request as it came in; header names in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]


class Peer:
    """The server's side of one connection."""

    def __init__(self, sock: socket.socket, server: Server) -> None:
        self.sock = sock
        self.server = server
        self._incoming = sock.makefile("rb")

    def head(self) -> Request | None:
        """The request's line and headers, its body left unread; None once the client has hung up."""
        line = self._incoming.readline().decode("latin-1").strip()
        if not line:
            return None
        headers = {}
        while header := self._incoming.readline().decode("latin-1").strip():
            name, _, value = header.partition(":")
            assert name.lower() not in headers, f"{name} came twice"
            headers[name.lower()] = value.strip()
        request = Request(line, headers)
        self.server.requests.append(request)
        return request

    def request(self) -> Request | None:
        """A whole request, body included."""
        head = self.head()
        if head is None:
            return None
        body = self._incoming.read(int(head.headers.get("content-length", 0)))
        self.server.requests[self.server.requests.index(head)] = whole = Request(
            head.line, head.headers, body
        )
        return whole

    def drain(self, size: int) -> int:
        """Read and forget up to `size` bytes in constant memory; how many came."""
        buffer = memoryview(bytearray(256 * 1024))
        total = 0
        while total < size and (count := self._incoming.readinto(buffer[: min(len(buffer), size - total)])):
            total += count
        return total

    def answer(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        fields = {"Content-Length": str(len(body))}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.sock.sendall(f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode("latin-1") + body)

    def stay_silent(self) -> None:
        """Hold the connection open without a word for as long as the server runs."""
        self.server.closing.wait(30)

    def reset(self) -> None:
        """End the connection by RST, not by FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._incoming.close()
        self.sock.close()

    def close(self) -> None:
        self._incoming.close()
        self.sock.close()


@dataclass
class Server:
    """What a server saw: every request, and how many connections."""

    url: str
    port: int
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    closing: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def serve(
    handler: Callable[[Peer], None], *, tls: ssl.SSLContext | None = None, port: int = 0
) -> Iterator[Server]:
    """Run `handler` in a thread of its own for each connection, until the block ends.

    An exception of the handler fails the test, except that the client may hang up at any time.
    """
    listener = _Listener(handler, tls, port)
    acceptor = threading.Thread(target=listener.accept)
    acceptor.start()
    try:
        yield listener.server
    finally:
        listener.close(acceptor)
    if listener.failures:
        raise listener.failures[0]


class _Listener:
    """The socket of `serve`, and a thread for each connection that it accepted."""

    def __init__(self, handler: Callable[[Peer], None], tls: ssl.SSLContext | None, port: int) -> None:
        self._handler = handler
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self._threads: list[threading.Thread] = []
        self._open_socks: list[socket.socket] = []
        self.failures: list[BaseException] = []
        port = self._listener.getsockname()[1]
        self.server = Server(f"{'https' if tls else 'http'}://127.0.0.1:{port}", port)

    def accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.server.connections += 1
            self._open_socks.append(sock)
            thread = threading.Thread(target=self._converse, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _converse(self, sock: socket.socket) -> None:
        try:
            with contextlib.ExitStack() as stack:
                if self._tls is not None:
                    sock = self._tls.wrap_socket(sock, server_side=True)
                self._open_socks.append(sock)
                peer = Peer(sock, self.server)
                stack.callback(peer.close)
                self._handler(peer)
        except OSError:
            sock.close()
        except BaseException as error:
            self.failures.append(error)

    def close(self, acceptor: threading.Thread) -> None:
        self.server.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        acceptor.join(10)
        self._listener.close()
        for sock in self._open_socks:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a handler did not end"


def never_answer(peer: Peer) -> None:
    """A handler that takes one request and answers nothing."""
    peer.request()
    peer.stay_silent()


def one_reply(status: int = 200, body: bytes = b"{}", **headers: str) -> Callable[[Peer], None]:
    """A handler that answers every request in the same way, and keeps the connection."""

    def handler(peer: Peer) -> None:
        while peer.request() is not None:
            peer.answer(status, body, **headers)

    return handler


def make_certificate(folder: Path, name: str = "IP:127.0.0.1") -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for `name`: its PEM file, and a server's context that uses it."""
    pem, key = folder / "certificate.pem", folder / "key.pem"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    command = ["openssl", *options.split(), "-addext", f"subjectAltName={name}", "-keyout", key, "-out", pem]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    return pem, context


@contextlib.contextmanager
def slow_line(port: int, bytes_per_second: int, *, stalls_after: int | None = None) -> Iterator[int]:
    """A port from which everything is forwarded to `port`, no faster than that; answers come at once.

    Its buffers are small, so that a sender waits for the line, as for a real one. Nothing gets through after
    the first `stalls_after` bytes of a connection.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    closing = threading.Event()
    ends: list[socket.socket] = []

    def forward(near: socket.socket, far: socket.socket, pace: float, left: float) -> None:
        with contextlib.suppress(OSError):
            while left > 0 and (block := near.recv(2048)):
                far.sendall(block)
                left -= len(block)
                closing.wait(len(block) * pace)
            if left > 0:
                far.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                ends.extend([near, far])
                limit = float("inf") if stalls_after is None else stalls_after
                for route in ((near, far, 1 / bytes_per_second, limit), (far, near, 0.0, float("inf"))):
                    threading.Thread(target=forward, args=route, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        closing.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
