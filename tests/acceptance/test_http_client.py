"""`net` against real sockets: deadlines, abort, redirects, uploads, TLS, and what errors give away."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import queue
import socket
import ssl
import threading
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.errors import (
    ApiRefusedError,
    ApiUnavailableError,
    InvoxError,
    RecordingError,
    StoppedError,
    StorageError,
    UploadUncertainError,
)
from invox_watcher.net.client import HttpClient, HttpReply, read_object
from tests.kit.clinic import free_port
from tests.kit.loopback import Peer, Server, make_certificate, one_reply, serve

MIB = 1024 * 1024
SECRET = "Sup3rS3cret"


@pytest.fixture
def client() -> Iterator[HttpClient]:
    client = HttpClient(connect_timeout_seconds=2, max_reply_bytes=MIB)
    yield client
    client.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def post(client: HttpClient, url: str, *, deadline_seconds: float = 10.0, **headers: str) -> HttpReply:
    return client.call("POST", url, headers=headers, body=b"ask", deadline_seconds=deadline_seconds)


def upload(client: HttpClient, url: str, file: Any, size_bytes: int, **options: Any) -> HttpReply:
    headers = {"Content-Type": "audio/wav"}
    options = {"deadline_seconds": 10.0, "silence_seconds": 10.0, "headers": headers, **options}
    return client.upload(url, file, size_bytes=size_bytes, **options)


def failure_of(call: Callable[[], object]) -> InvoxError:
    with pytest.raises(InvoxError) as caught:
        call()
    return caught.value


class TestPost:
    def test_the_reply_is_returned_with_any_status(self, client: HttpClient) -> None:
        with serve(one_reply(418, b"teapot", Kind="short")) as server:
            reply = post(client, server.url + "/a?b=c", Own="1")
        assert (reply.status, reply.body, reply.ok) == (418, b"teapot", False)
        assert reply.headers["kind"] == "short"
        (request,) = server.requests
        assert (request.line, request.body) == ("POST /a?b=c HTTP/1.1", b"ask")
        assert request.headers["own"] == "1"
        assert request.headers["user-agent"].startswith("invox-watcher/")

    def test_a_connection_is_kept_for_the_next_call(self, client: HttpClient) -> None:
        with serve(one_reply()) as server:
            for _ in range(3):
                post(client, server.url)
            assert (len(server.requests), server.connections) == (3, 1)

    def test_a_kept_connection_that_is_dead_is_replaced_at_once(self, client: HttpClient) -> None:
        def handler(peer: Peer) -> None:
            peer.request()
            peer.answer(200, b"well")
            if peer.server.connections == 1:
                peer.request()  # taken, then hung up on without a word

        with serve(handler) as server:
            assert post(client, server.url).body == b"well"
            assert post(client, server.url).body == b"well"
            assert (len(server.requests), server.connections) == (3, 2)

    def test_on_a_new_connection_a_request_is_never_sent_twice(self, client: HttpClient) -> None:
        with serve(lambda peer: peer.request() and None) as server:
            assert failure_of(lambda: post(client, server.url)).code == "network"
            assert len(server.requests) == 1

    def test_cookies_are_neither_kept_nor_sent(self, client: HttpClient) -> None:
        with serve(one_reply(Set_Cookie="a=b")) as server:
            post(client, server.url)
            post(client, server.url)
        assert "cookie" not in server.requests[1].headers

    @pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
    def test_a_redirect_is_refused_and_its_target_not_called(self, client: HttpClient, status: int) -> None:
        with serve(one_reply()) as target, serve(one_reply(status, Location=target.url)) as server:
            error = failure_of(lambda: post(client, server.url, Authorization=SECRET))
            assert isinstance(error, ApiRefusedError)
            assert (error.code, error.status) == ("redirected", status)
            refused = failure_of(lambda: upload(client, server.url, io.BytesIO(b"x"), 1))
            assert refused.code == "redirected"
            assert target.connections == 0

    def test_no_descriptor_and_no_thread_is_left_behind(self) -> None:
        before = len(os.listdir("/proc/self/fd")), threading.active_count()
        with serve(one_reply()) as server, serve(lambda peer: None) as rude:
            client = HttpClient()
            for _ in range(10):
                post(client, server.url)
                failure_of(lambda: post(client, rude.url))
                upload(client, server.url, io.BytesIO(b"x"), 1)
            client.close()
        assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def silent(peer: Peer) -> None:
    peer.request()
    peer.stay_silent()


def drip(peer: Peer, start: bytes) -> None:
    peer.request()
    peer.sock.sendall(start)
    while not peer.server.closing.wait(0.02):
        peer.sock.sendall(b"x")


def drip_status(peer: Peer) -> None:
    drip(peer, b"HTTP/1.1 200 ")


def drip_headers(peer: Peer) -> None:
    drip(peer, b"HTTP/1.1 200 OK\r\nX-Slow: ")


def drip_body(peer: Peer) -> None:
    drip(peer, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")


def drip_chunk(peer: Peer) -> None:
    drip(peer, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n")


def drip_without_length(peer: Peer) -> None:
    drip(peer, b"HTTP/1.1 200 OK\r\n\r\n")


class TestDeadline:
    @pytest.mark.parametrize(
        "handler", [silent, drip_status, drip_headers, drip_body, drip_chunk, drip_without_length]
    )
    @pytest.mark.parametrize("over_tls", [False, True])
    def test_covers_the_whole_exchange(
        self, handler: Callable[[Peer], None], over_tls: bool, certificate: tuple[Path, ssl.SSLContext]
    ) -> None:
        pem, context = certificate
        client = HttpClient(ca_bundle=str(pem))
        with serve(handler, tls=context if over_tls else None) as server:
            began = time.monotonic()
            error = failure_of(lambda: post(client, server.url, deadline_seconds=0.3))
            elapsed = time.monotonic() - began
        client.close()
        assert isinstance(error, ApiUnavailableError)
        assert error.code == "timeout"
        assert 0.25 < elapsed < 1.5

    def test_covers_a_call_over_a_kept_connection(self, client: HttpClient) -> None:
        def handler(peer: Peer) -> None:
            peer.request()
            peer.answer()
            drip_body(peer)

        with serve(handler) as server:
            assert post(client, server.url).ok
            began = time.monotonic()
            error = failure_of(lambda: post(client, server.url, deadline_seconds=0.3))
            assert time.monotonic() - began < 1.5
            assert server.connections == 1
        assert error.code == "timeout"

    def test_covers_a_tls_handshake_that_is_never_answered(self) -> None:
        client = HttpClient(connect_timeout_seconds=20)
        with serve(Peer.stay_silent) as server:
            began = time.monotonic()
            url = server.url.replace("http:", "https:")
            error = failure_of(lambda: post(client, url, deadline_seconds=0.3))
            assert time.monotonic() - began < 1.5
        client.close()
        assert error.code == "timeout"

    def test_covers_an_upload_whose_receiver_stops_reading(self, client: HttpClient) -> None:
        def handler(peer: Peer) -> None:
            peer.head()
            peer.stay_silent()

        with serve(handler) as server:
            began = time.monotonic()
            body = io.BytesIO(bytes(50 * MIB))
            error = failure_of(lambda: upload(client, server.url, body, 50 * MIB, deadline_seconds=0.4))
            assert time.monotonic() - began < 1.5
        assert error.code == "upload_interrupted"

    def test_silence_within_an_upload_ends_it_early(self, client: HttpClient) -> None:
        def handler(peer: Peer) -> None:
            peer.head()
            peer.stay_silent()

        with serve(handler) as server:
            began = time.monotonic()
            body = io.BytesIO(bytes(50 * MIB))
            error = failure_of(
                lambda: upload(client, server.url, body, 50 * MIB, deadline_seconds=60, silence_seconds=0.3)
            )
            assert time.monotonic() - began < 3
        assert error.code == "upload_interrupted"

    def test_an_upload_may_take_longer_than_connecting(self) -> None:
        client = HttpClient(connect_timeout_seconds=0.2)

        def handler(peer: Peer) -> None:
            peer.head()
            peer.server.closing.wait(0.5)  # the kernel's buffers are full long before that
            peer.drain(20 * MIB)
            peer.answer()

        with serve(handler) as server:
            assert upload(client, server.url, io.BytesIO(bytes(20 * MIB)), 20 * MIB).ok
        client.close()

    def test_one_exchange_ending_leaves_the_others_alone(self, client: HttpClient) -> None:
        def handler(peer: Peer) -> None:
            request = peer.request()
            if request and request.target == "/slow":
                peer.server.closing.wait(0.6)
                peer.answer(200, b"slow")
            else:
                peer.stay_silent()

        replies: list[HttpReply] = []
        with serve(handler) as server:
            slow = threading.Thread(target=lambda: replies.append(post(client, server.url + "/slow")))
            slow.start()
            assert failure_of(lambda: post(client, server.url, deadline_seconds=0.2)).code == "timeout"
            slow.join()
        assert [reply.body for reply in replies] == [b"slow"]


class TestBadReplies:
    @pytest.mark.parametrize(
        ("sent", "code"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "api_protocol"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", "api_protocol"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}", "api_protocol"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}", "api_protocol"),
            (b"220 mail.example.com ESMTP\r\n", "api_protocol"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", "api_protocol"),
            (b"", "network"),
        ],
    )
    def test_broken_off_or_not_http(self, client: HttpClient, sent: bytes, code: str) -> None:
        def handler(peer: Peer) -> None:
            peer.request()
            peer.sock.sendall(sent)

        with serve(handler) as server:
            error = failure_of(lambda: post(client, server.url))
        assert isinstance(error, ApiUnavailableError)
        assert error.code == code

    @pytest.mark.parametrize("declared", [True, False])
    def test_a_huge_body_is_cut_off(self, client: HttpClient, declared: bool) -> None:
        def handler(peer: Peer) -> None:
            peer.request()
            length = b"Content-Length: 10000000000\r\n" if declared else b""
            peer.sock.sendall(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
            while True:
                peer.sock.sendall(b" " * MIB)

        with serve(handler) as server:
            error = failure_of(lambda: post(client, server.url))
        assert error.code == "api_protocol"
        assert "exceeds 1 MiB" in error.message

    def test_a_reset_connection(self, client: HttpClient) -> None:
        def handler(peer: Peer) -> None:
            peer.request()
            peer.reset()

        with serve(handler) as server:
            error = failure_of(lambda: post(client, server.url))
        assert (error.code, error.retry_can_help) == ("network", True)
        assert "Connection reset by peer" in error.message

    def test_connection_refused(self, client: HttpClient) -> None:
        with serve(one_reply()) as server:
            pass
        error = failure_of(lambda: post(client, server.url))
        assert error.code == "network"
        assert error.message == f"The connection to 127.0.0.1:{server.port} failed: Connection refused."

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>Please log in</html>",
            b'{"a": ',
            b'{"a": "\xff\xfe"}',
            b'{"a": ' + b"9" * 10_000 + b"}",
            b'{"a":' * 100_000,
            b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        ],
        ids=lambda body: repr(body[:20]),
    )
    def test_anything_but_json(self, body: bytes) -> None:
        reply = HttpReply(200, "api.example.com", {"Content-Type": "text/html\x1b[31m"}, body)
        error = failure_of(lambda: read_object(reply))
        assert isinstance(error, ApiUnavailableError)
        assert (error.code, error.status) == ("api_protocol", 200)
        assert "text/html" in error.message
        assert f"{len(body)} bytes" in error.message
        assert "\x1b" not in error.message
        assert error.__context__ is None

    @pytest.mark.parametrize("body", [b"[1, 2]", b'"text"', b"null", b"5"])
    def test_json_that_is_no_object(self, body: bytes) -> None:
        error = failure_of(lambda: read_object(HttpReply(200, "api.example.com", {}, body)))
        assert (type(error), error.code) == (ApiUnavailableError, "api_protocol")
        assert error.message == "api.example.com answered 200 with JSON that is not an object."

    @pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity"])
    def test_numbers_that_json_lacks_become_null(self, word: bytes) -> None:
        reply = HttpReply(200, "api.example.com", {}, b'{"end": %s, "text": "a"}' % word)
        assert read_object(reply) == {"end": None, "text": "a"}

    def test_a_json_object(self) -> None:
        reply = HttpReply(200, "api.example.com", {}, '{"text": "ä", "n": 1.5}'.encode())
        assert read_object(reply) == {"text": "ä", "n": 1.5}


def answer_after(*interim: bytes, status: int = 200) -> Callable[[Peer], None]:
    """A handler that sends interim answers before the final one."""

    def handler(peer: Peer) -> None:
        while peer.request() is not None:
            for line in interim:
                peer.sock.sendall(b"HTTP/1.1 " + line + b"\r\nLink: </x>\r\n\r\n")
            peer.answer(status, b"final")

    return handler


INTERIM = [
    (b"102 Processing",),
    (b"103 Early Hints",),
    (b"100 Continue",),
    (b"102 Processing", b"103 Early Hints", b"100 Continue", b"199 Odd", b"102 Processing"),
]


class TestInterimAnswers:
    @pytest.mark.parametrize("interim", INTERIM)
    @pytest.mark.parametrize("status", [200, 403])
    def test_an_upload_waits_for_the_final_one(
        self, client: HttpClient, interim: tuple[bytes, ...], status: int
    ) -> None:
        with serve(answer_after(*interim, status=status)) as server:
            reply = upload(client, server.url, io.BytesIO(b"abc"), 3)
        assert reply.status == status
        assert [request.body for request in server.requests] == [b"abc"]

    def test_a_call_waits_and_keeps_its_connection(self, client: HttpClient) -> None:
        with serve(answer_after(*INTERIM[-1])) as server:
            assert [post(client, server.url).body for _ in range(2)] == [b"final"] * 2
            assert server.connections == 1

    def test_without_a_final_one_an_upload_is_uncertain(self, client: HttpClient) -> None:
        def handler(peer: Peer) -> None:
            peer.request()
            peer.sock.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")

        with serve(handler) as server:
            error = failure_of(lambda: upload(client, server.url, io.BytesIO(b"abc"), 3))
        assert isinstance(error, UploadUncertainError)

    def test_endless_ones_end_at_the_deadline(self, client: HttpClient) -> None:
        def handler(peer: Peer) -> None:
            peer.request()
            while not peer.server.closing.wait(0.02):
                peer.sock.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")

        with serve(handler) as server:
            began = time.monotonic()
            error = failure_of(lambda: post(client, server.url, deadline_seconds=0.3))
            assert time.monotonic() - began < 1.5
        assert error.code == "timeout"


WORDS = b'{"text": "' + b"Guten Morgen. " * 1000 + b'"}'


class TestCompression:
    @pytest.mark.parametrize(
        ("encoding", "pack"),
        [
            ("gzip", gzip.compress),
            ("GZIP", gzip.compress),
            ("x-gzip", gzip.compress),
            ("deflate", zlib.compress),
            ("gzip", bytes),
            ("identity", bytes),
        ],
    )
    def test_a_reply_is_unpacked(
        self, client: HttpClient, encoding: str, pack: Callable[[bytes], bytes]
    ) -> None:
        with serve(one_reply(200, pack(WORDS), Content_Encoding=encoding)) as server:
            assert post(client, server.url).body == WORDS
        assert server.requests[0].headers["accept-encoding"] == "identity"

    def test_a_bomb_is_refused(self, client: HttpClient) -> None:
        bomb = gzip.compress(b'"' + bytes(64 * MIB) + b'"')
        with serve(one_reply(200, bomb, Content_Encoding="gzip")) as server:
            error = failure_of(lambda: post(client, server.url))
        assert error.code == "api_protocol"
        assert "exceeds 1 MiB" in error.message

    def test_exactly_the_limit_is_taken(self, client: HttpClient) -> None:
        with serve(one_reply(200, gzip.compress(bytes(MIB)), Content_Encoding="gzip")) as server:
            assert post(client, server.url).body == bytes(MIB)


TARGETS = [
    "/bucket/a%2bb%2Fc?X-Amz-Signature=%2b%3D%7e",
    "/bucket/../x/./y//z?a=1&&b=",
    "/%41%5B%2e%2e/?q=~'()*!",
    "/a?b=/../c%0d%0a",
    "/?",
    "?sig=1",
    "",
]


def whole(target: str) -> str:
    """What has to be on the request's line."""
    return target if target.startswith("/") else f"/{target}"


class TestRequestTarget:
    """Paths and queries go out as they were given: a signature may cover each byte."""

    @pytest.mark.parametrize("target", TARGETS)
    @pytest.mark.parametrize("over_tls", [False, True])
    def test_is_sent_byte_for_byte(
        self, target: str, over_tls: bool, certificate: tuple[Path, ssl.SSLContext]
    ) -> None:
        pem, context = certificate
        client = HttpClient(ca_bundle=str(pem))
        with serve(one_reply(), tls=context if over_tls else None) as server:
            upload(client, server.url + target + "#f", io.BytesIO(b"x"), 1)
            client.call("GET", server.url + target, headers={}, body=None, deadline_seconds=5)
        client.close()
        assert [request.line for request in server.requests] == [
            f"PUT {whole(target)} HTTP/1.1",
            f"GET {whole(target)} HTTP/1.1",
        ]

    @pytest.mark.parametrize("target", TARGETS)
    def test_is_sent_so_to_a_proxy_for_http(self, target: str) -> None:
        with serve(one_reply()) as proxy:
            client = HttpClient(proxy=proxy.url)
            upload(client, "http://storage.example" + target, io.BytesIO(b"x"), 1)
            client.close()
        assert proxy.requests[0].line == f"PUT http://storage.example{whole(target)} HTTP/1.1"

    @pytest.mark.parametrize("target", TARGETS)
    def test_is_sent_so_through_a_tunnel(self, target: str, certificate: tuple[Path, ssl.SSLContext]) -> None:
        pem, context = certificate

        def tunnel(peer: Peer) -> None:
            peer.head()
            peer.sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            inside = Peer(context.wrap_socket(peer.sock, server_side=True), peer.server)
            inside.request()
            inside.answer()
            inside.close()

        with serve(tunnel) as proxy:
            client = HttpClient(proxy=proxy.url, ca_bundle=str(pem))
            assert upload(client, "https://127.0.0.1:1" + target, io.BytesIO(b"x"), 1).ok
            client.close()
        connect, put = proxy.requests
        assert connect.target == "127.0.0.1:1"
        assert put.line == f"PUT {whole(target)} HTTP/1.1"


class TestUpload:
    def test_sends_exactly_the_file(self, client: HttpClient) -> None:
        content = os.urandom(MIB + 17)
        progress: list[int] = []
        with serve(one_reply()) as server:
            reply = upload(
                client,
                server.url + "/put?sig=1",
                io.BytesIO(content),
                len(content),
                on_progress=progress.append,
            )
        (request,) = server.requests
        assert reply.ok
        assert request.line == "PUT /put?sig=1 HTTP/1.1"
        assert request.body == content
        assert request.headers["content-length"] == str(len(content))
        assert request.headers["content-type"] == "audio/wav"
        assert not {"transfer-encoding", "authorization", "cookie"} & set(request.headers)
        assert progress == sorted(progress)
        assert progress[-1] == len(content)

    def test_an_empty_file_is_not_chunked_either(self, client: HttpClient) -> None:
        with serve(one_reply()) as server:
            assert upload(client, server.url, io.BytesIO(), 0).ok
        (request,) = server.requests
        assert request.headers["content-length"] == "0"
        assert "transfer-encoding" not in request.headers

    def test_every_upload_has_a_connection_of_its_own(self, client: HttpClient) -> None:
        with serve(one_reply()) as server:
            post(client, server.url)
            upload(client, server.url, io.BytesIO(b"a"), 1)
            upload(client, server.url, io.BytesIO(b"b"), 1)
            assert server.connections == 3

    def test_a_file_that_grows_is_cut_at_its_first_size(self, client: HttpClient, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        path.write_bytes(b"a" * (MIB + 5))

        def grow(_sent: int) -> None:
            with path.open("ab") as file:
                file.write(b"b" * MIB)

        with serve(one_reply()) as server, path.open("rb") as file:
            assert upload(client, server.url, file, MIB + 5, on_progress=grow).ok
        assert server.requests[0].body == b"a" * (MIB + 5)

    def test_a_file_that_shrinks_ends_the_exchange_at_once(self, client: HttpClient, tmp_path: Path) -> None:
        path = tmp_path / "a.wav"
        path.write_bytes(b"a" * 4 * MIB)
        received: queue.Queue[int] = queue.Queue()

        def handler(peer: Peer) -> None:
            peer.head()
            received.put(peer.drain(4 * MIB))

        with serve(handler) as server, path.open("rb") as file:
            began = time.monotonic()
            error = failure_of(
                lambda: upload(
                    client, server.url, file, 4 * MIB, on_progress=lambda _: os.truncate(path, 1000)
                )
            )
            assert time.monotonic() - began < 2
            assert received.get(timeout=5) < 4 * MIB  # storage was told that the body is incomplete
        assert isinstance(error, RecordingError)
        assert error.code == "changed_during_upload"

    def test_an_unreadable_file_is_not_a_network_error(self, client: HttpClient) -> None:
        with serve(one_reply()) as server, io.FileIO(os.memfd_create("write-only"), "w") as unreadable:
            error = failure_of(lambda: upload(client, server.url, unreadable, 10))
        assert isinstance(error, StorageError)

    @pytest.mark.parametrize("over_tls", [False, True])
    def test_an_early_403_is_seen_as_403(
        self, over_tls: bool, certificate: tuple[Path, ssl.SSLContext]
    ) -> None:
        pem, context = certificate
        client = HttpClient(ca_bundle=str(pem))

        def handler(peer: Peer) -> None:
            peer.head()
            peer.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            peer.drain(MIB)

        with serve(handler, tls=context if over_tls else None) as server:
            reply = upload(client, server.url, io.BytesIO(bytes(50 * MIB)), 50 * MIB)
        client.close()
        assert (reply.status, b"AccessDenied" in reply.body) == (403, True)

    def test_an_early_200_is_not_believed(self, client: HttpClient) -> None:
        def handler(peer: Peer) -> None:
            peer.head()
            peer.answer(200)
            peer.drain(MIB)

        with serve(handler) as server:
            error = failure_of(lambda: upload(client, server.url, io.BytesIO(bytes(50 * MIB)), 50 * MIB))
        assert error.code == "upload_interrupted"

    def test_lost_before_the_last_byte(self, client: HttpClient) -> None:
        def handler(peer: Peer) -> None:
            peer.head()
            peer.drain(MIB)
            peer.reset()

        with serve(handler) as server:
            error = failure_of(lambda: upload(client, server.url, io.BytesIO(bytes(50 * MIB)), 50 * MIB))
        assert isinstance(error, ApiUnavailableError)
        assert error.code == "upload_interrupted"

    def test_connection_refused(self, client: HttpClient) -> None:
        with serve(one_reply()) as server:
            pass
        for size in (0, 10):
            error = failure_of(lambda size=size: upload(client, server.url, io.BytesIO(bytes(size)), size))
            assert error.code == "upload_interrupted"

    @pytest.mark.parametrize("size", [0, 1, 3 * MIB])
    @pytest.mark.parametrize("ending", [Peer.reset, Peer.close, Peer.stay_silent])
    def test_lost_after_the_last_byte(
        self, client: HttpClient, size: int, ending: Callable[[Peer], None]
    ) -> None:
        def handler(peer: Peer) -> None:
            peer.head()
            peer.drain(size)
            ending(peer)

        with serve(handler) as server:
            error = failure_of(
                lambda: upload(client, server.url, io.BytesIO(bytes(size)), size, silence_seconds=0.3)
            )
        assert isinstance(error, UploadUncertainError)

    @pytest.mark.parametrize("status", [101, 500, 501, 502, 503, 504, 599])
    def test_a_bare_5xx_after_the_last_byte_is_uncertain(self, client: HttpClient, status: int) -> None:
        def early(peer: Peer) -> None:
            peer.head()
            peer.answer(status)

        with serve(one_reply(status)) as server:
            error = failure_of(lambda: upload(client, server.url, io.BytesIO(b"abc"), 3))
        assert isinstance(error, UploadUncertainError)
        with serve(early) as server:
            assert upload(client, server.url, io.BytesIO(bytes(50 * MIB)), 50 * MIB).status == status

    @pytest.mark.parametrize(
        ("status", "body"), [(500, b"<Error><Code>InternalError</Code></Error>"), (400, b""), (403, b"")]
    )
    def test_a_definite_no_after_the_last_byte_is_returned(
        self, client: HttpClient, status: int, body: bytes
    ) -> None:
        with serve(one_reply(status, body)) as server:
            assert upload(client, server.url, io.BytesIO(b"abc"), 3).status == status

    def test_headers_go_along(self, client: HttpClient) -> None:
        headers = {"Content-Type": "audio/mp3", "x-amz-acl": "private"}
        with serve(one_reply()) as server:
            upload(client, server.url, io.BytesIO(b"x"), 1, headers=headers)
        assert (
            headers.items()
            <= {
                "Content-Type": server.requests[0].headers["content-type"],
                "x-amz-acl": server.requests[0].headers["x-amz-acl"],
            }.items()
        )

    def test_a_failing_progress_report_leaves_it_uncertain(self, client: HttpClient) -> None:
        def fail(_sent: int) -> None:
            raise StorageError("no room for notes")

        with serve(one_reply()) as server:
            error = failure_of(lambda: upload(client, server.url, io.BytesIO(b"x"), 1, on_progress=fail))
        assert isinstance(error, UploadUncertainError)

    def test_a_200_counts_even_if_its_body_never_comes(self, client: HttpClient) -> None:
        def handler(peer: Peer) -> None:
            peer.request()
            peer.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            peer.stay_silent()

        with serve(handler) as server:
            assert upload(client, server.url, io.BytesIO(b"x"), 1).ok

    def test_takes_constant_memory(self, client: HttpClient, tmp_path: Path) -> None:
        size = 200 * MIB
        path = tmp_path / "sparse.wav"
        path.touch()
        os.truncate(path, size)
        received: list[int] = []

        def handler(peer: Peer) -> None:
            peer.head()
            received.append(peer.drain(size))
            peer.answer()

        with serve(handler) as server, path.open("rb") as file:
            tracemalloc.start()
            try:
                assert upload(client, server.url, file, size).ok
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert received == [size]
        assert peak < 4 * MIB


class TestAbort:
    def aborted(self, client: HttpClient, ready: threading.Event, call: Callable[[], object]) -> InvoxError:
        """The error that `call` ends with, within a second, when all is aborted at `ready`."""
        errors: list[InvoxError] = []
        thread = threading.Thread(target=lambda: errors.append(failure_of(call)))
        thread.start()
        assert ready.wait(10)
        began = time.monotonic()
        client.abort_all()
        thread.join(10)
        assert time.monotonic() - began < 1
        return errors[0]

    @pytest.mark.parametrize("over_tls", [False, True])
    def test_during_an_upload(self, over_tls: bool, certificate: tuple[Path, ssl.SSLContext]) -> None:
        pem, context = certificate
        client = HttpClient(ca_bundle=str(pem))
        ready = threading.Event()

        def handler(peer: Peer) -> None:
            peer.head()
            peer.drain(MIB)
            ready.set()
            peer.stay_silent()

        with serve(handler, tls=context if over_tls else None) as server:
            body = io.BytesIO(bytes(50 * MIB))
            error = self.aborted(client, ready, lambda: upload(client, server.url, body, 50 * MIB))
        client.close()
        assert isinstance(error, StoppedError)

    def test_after_the_last_byte(self, client: HttpClient) -> None:
        ready = threading.Event()

        def handler(peer: Peer) -> None:
            peer.request()
            ready.set()
            peer.stay_silent()

        with serve(handler) as server:
            body = io.BytesIO(b"all")
            error = self.aborted(client, ready, lambda: upload(client, server.url, body, 3))
        assert isinstance(error, UploadUncertainError)

    def test_during_a_call_and_ever_after(self, client: HttpClient) -> None:
        ready = threading.Event()

        def handler(peer: Peer) -> None:
            peer.request()
            ready.set()
            peer.stay_silent()

        with serve(handler) as server:
            error = self.aborted(client, ready, lambda: post(client, server.url))
            assert isinstance(error, StoppedError)
            assert isinstance(failure_of(lambda: post(client, server.url)), StoppedError)
            assert isinstance(failure_of(lambda: upload(client, server.url, io.BytesIO(), 0)), StoppedError)
            assert server.connections == 1


class TestEnvironment:
    def test_proxies_netrc_and_ca_files_are_not_read(
        self, client: HttpClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text(f"machine 127.0.0.1 login x password {SECRET}\n")
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".netrc").write_text(netrc.read_text())
        with serve(one_reply(599)) as elsewhere, serve(one_reply()) as server:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
                monkeypatch.setenv(name, elsewhere.url)
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
            assert post(client, server.url).ok
            assert upload(client, server.url, io.BytesIO(b"x"), 1).ok
            assert elsewhere.connections == 0
        assert all("authorization" not in request.headers for request in server.requests)

    def test_ca_files_of_the_environment_are_not_trusted(
        self,
        client: HttpClient,
        monkeypatch: pytest.MonkeyPatch,
        certificate: tuple[Path, ssl.SSLContext],
    ) -> None:
        pem, context = certificate
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(pem))
        with serve(one_reply(), tls=context) as server:
            assert failure_of(lambda: post(client, server.url)).code == "tls"


class TestTls:
    def test_a_certificate_of_our_own_needs_the_ca_bundle(
        self, client: HttpClient, certificate: tuple[Path, ssl.SSLContext]
    ) -> None:
        pem, context = certificate
        with serve(one_reply(), tls=context) as server:
            error = failure_of(lambda: post(client, server.url))
            assert isinstance(error, ApiRefusedError)
            assert error.code == "tls"
            assert "api.ca_bundle" in error.hint
            trusting = HttpClient(ca_bundle=str(pem))
            assert post(trusting, server.url).ok
            assert post(trusting, server.url).ok
            assert upload(trusting, server.url, io.BytesIO(bytes(MIB)), MIB).ok
            trusting.close()
        assert len(server.requests) == 3

    def test_a_certificate_for_another_name_is_refused(self, tmp_path: Path) -> None:
        pem, context = make_certificate(tmp_path, "DNS:elsewhere.example")
        client = HttpClient(ca_bundle=str(pem))
        with serve(one_reply(), tls=context) as server:
            assert failure_of(lambda: post(client, server.url)).code == "tls"
        client.close()
        assert server.requests == []

    def test_https_to_a_port_with_plain_http(self, client: HttpClient) -> None:
        with serve(lambda peer: peer.answer(400)) as server:
            error = failure_of(lambda: post(client, server.url.replace("http:", "https:")))
        assert isinstance(error, ApiRefusedError)
        assert error.code == "tls"

    def test_hanging_up_during_the_handshake_is_transient(self, client: HttpClient) -> None:
        with serve(lambda peer: None) as server:
            error = failure_of(lambda: post(client, server.url.replace("http:", "https:")))
        assert (type(error), error.code) == (ApiUnavailableError, "network")

    @pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
    def test_an_unusable_bundle_is_reported_at_once(self, tmp_path: Path, content: bytes | None) -> None:
        path = tmp_path / "ca.pem"
        if content is not None:
            path.write_bytes(content)
        error = failure_of(lambda: HttpClient(ca_bundle=str(path)))
        assert isinstance(error, ApiRefusedError)
        assert str(path) in error.message


class TestProxy:
    def test_everything_goes_through_it(self) -> None:
        with serve(one_reply(200, b"from the proxy")) as proxy, serve(one_reply()) as server:
            client = HttpClient(proxy=proxy.url)
            assert post(client, server.url + "/x").body == b"from the proxy"
            client.close()
            assert proxy.requests[0].target == server.url + "/x"
            assert server.connections == 0

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_407(self, scheme: str) -> None:
        with serve(one_reply(407)) as proxy:
            client = HttpClient(proxy=proxy.url)
            error = failure_of(lambda: post(client, f"{scheme}://api.example.com/x"))
            client.close()
        assert isinstance(error, ApiRefusedError)
        assert (error.code, error.status) == ("proxy", 407)

    def test_a_proxy_that_does_not_reach_the_host_is_transient(self) -> None:
        with serve(one_reply(502)) as proxy:
            client = HttpClient(proxy=proxy.url)
            error = failure_of(lambda: post(client, "https://api.example.com/x"))
            client.close()
        assert (type(error), error.code) == (ApiUnavailableError, "network")

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize(
        ("host", "reason"),
        [("127.0.0.1", "Connection refused"), ("a.invalid", "can't resolve its host name")],
    )
    def test_a_proxy_that_is_down_is_an_outage(self, scheme: str, host: str, reason: str) -> None:
        client = HttpClient(proxy=f"http://me:{SECRET}@{host}:{free_port()}")
        error = failure_of(lambda: post(client, f"{scheme}://api.example.com/x"))
        client.close()
        assert (type(error), error.code) == (ApiUnavailableError, "network")
        assert error.message == f"Can't reach the proxy: {reason}."
        assert SECRET not in str(error) + error.hint

    def test_a_proxy_whose_machine_does_not_answer_is_an_outage(self) -> None:
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(3):  # its queue is full: the kernel ignores whoever comes then
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(listener.getsockname())
            proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
            client = HttpClient(proxy=proxy, connect_timeout_seconds=0.3)
            error = failure_of(lambda: post(client, "https://api.example.com/x"))
            client.close()
        assert (type(error), error.code) == (ApiUnavailableError, "network")
        assert error.message == "Can't reach the proxy: no response in time."

    def test_the_deadline_holds_for_a_proxy_too(self) -> None:
        with serve(silent) as proxy:
            client = HttpClient(proxy=proxy.url)
            error = failure_of(lambda: post(client, "https://api.example.com/x", deadline_seconds=0.3))
            client.close()
        assert error.code == "timeout"

    def test_only_http_proxies_are_taken(self) -> None:
        error = failure_of(lambda: HttpClient(proxy=f"socks5://me:{SECRET}@proxy"))
        assert (error.code, SECRET in str(error)) == ("proxy", False)


class TestWhatErrorsGiveAway:
    @pytest.mark.parametrize(
        "make_url",
        [
            lambda server: f"{server.url}/bucket?X-Amz-Signature={SECRET}",
            lambda server: f"http://user:{SECRET}@127.0.0.1:1/?sig={SECRET}",
            lambda server: f"http://[bad/?sig={SECRET}",
            lambda server: f"gopher://127.0.0.1/?sig={SECRET}",
            lambda server: f"http://{SECRET} host/?sig={SECRET}",
            lambda server: f"/{SECRET}",
            lambda server: f"https://127.0.0.1:{server.port}/?sig={SECRET}",
        ],
    )
    def test_nothing_secret_is_shown_or_hidden_in_a_traceback(
        self, client: HttpClient, make_url: Callable[[Server], str]
    ) -> None:
        with serve(lambda peer: None) as server:
            url = make_url(server)
            bearer = f"Bearer {SECRET}"
            for error in (
                failure_of(lambda: post(client, url, Authorization=bearer)),
                failure_of(lambda: upload(client, url, io.BytesIO(b"x"), 1)),
            ):
                assert SECRET not in "".join(traceback.format_exception(error)) + error.hint
                assert error.__cause__ is None
                assert error.__context__ is None

    @pytest.mark.parametrize("value", [f"Bearer {SECRET}\n", f"Bearer {SECRET}\u20ac", f" {SECRET}"])
    def test_a_header_that_cannot_be_sent_is_not_quoted(self, client: HttpClient, value: str) -> None:
        with serve(one_reply()) as server:
            error = failure_of(lambda: post(client, server.url, Authorization=value))
        assert error.code == "bad_request"
        assert SECRET not in "".join(traceback.format_exception(error))
        assert server.requests == []

    def test_a_reply_hides_its_words_from_repr(self) -> None:
        assert SECRET not in repr(HttpReply(200, "host", {"X": SECRET}, SECRET.encode()))
