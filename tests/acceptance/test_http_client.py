"""`net` against real sockets: calls, deadlines, replies, redirects, and what errors give away."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import ssl
import threading
import time
import traceback
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from invox_watcher.errors import (
    ApiRefusedError,
    ApiUnavailableError,
    UploadUncertainError,
)
from invox_watcher.net import HttpClient, HttpReply, read_object
from tests.kit.http_client import MIB, SECRET, certificate, client, failure_of, post, upload
from tests.kit.loopback import Peer, Server, never_answer, one_reply, serve, slow_line

__all__ = ["certificate", "client"]  # fixtures


OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 4\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
FORMS = {
    "no reason": (b"HTTP/1.1 200\r\n" + LENGTH + b"\r\nwell", True),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 4\n\nwell", True),
    "a folded field": (OK + b"Kind: a\r\n b\r\n" + LENGTH + b"\r\nwell", True),
    "a folded length": (OK + b"Content-Length:\r\n 4\r\n\r\nwell", True),
    "spaces after a length": (OK + b"Content-Length: 4 \t\r\n\r\nwell", True),
    "a length twice": (OK + LENGTH + LENGTH + b"\r\nwell", True),
    "two lengths": (OK + b"Content-Length: 4, 4\r\n\r\nwell", False),
    "a negative length": (OK + b"Content-Length: -1\r\n\r\nwell", False),
    "no length": (OK + b"\r\nwell", False),
    "a line that is no field": (OK + b"nonsense\r\n" + LENGTH + b"\r\nwell", False),
    "bytes that are no text": (OK + b"Kind: \xff\0\r\n" + LENGTH + b"\r\nwell", True),
    "a long field": (OK + b"Kind: " + b"a" * 60_000 + b"\r\n" + LENGTH + b"\r\nwell", True),
    "too long a field": (OK + b"Kind: " + b"a" * 70_000 + b"\r\n" + LENGTH + b"\r\nwell", None),
    "too many fields": (OK + b"Kind: a\r\n" * 101 + LENGTH + b"\r\nwell", None),
    "the last one": (OK + b"Connection: close\r\n" + LENGTH + b"\r\nwell", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\nwell", False),
    "HTTP/1.0, kept": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + LENGTH + b"\r\nwell", True),
    "HTTP/2": (b"HTTP/2.0 200 OK\r\n" + LENGTH + b"\r\nwell", None),
    "chunks": (OK + CHUNKED + b"\r\n1;a=b\r\nw\r\n3\r\nell\r\n0\r\nTrailer: a\r\n\r\n", True),
    "chunks after a space": (OK + b"Transfer-Encoding: chunked \r\n\r\n4\r\nwell\r\n0\r\n\r\n", True),
    "chunks with a length": (OK + CHUNKED + b"Content-Length: 3\r\n\r\n4\r\nwell\r\n0\r\n\r\n", True),
    "no last chunk": (OK + CHUNKED + b"\r\n4\r\nwell\r\n", None),
    "a chunk without a size": (OK + CHUNKED + b"\r\nzz\r\nwell\r\n0\r\n\r\n", None),
    "more than its length": (OK + LENGTH + b"\r\nwell" + OK + b"Content-Length: 3\r\n\r\nill", False),
    "less than its length": (OK + b"Content-Length: 5\r\n\r\nwell", None),
}


@pytest.mark.parametrize(("raw", "keeps"), FORMS.values(), ids=FORMS)
def test_a_reply_of_any_form(client: HttpClient, raw: bytes, keeps: bool | None) -> None:
    """Of each form the first reply is read whole, and so is the next one; None: it is no reply."""
    client_closes = keeps is False and (b"close" in raw or raw.startswith(b"HTTP/1.0"))

    def handler(peer: Peer) -> None:
        while peer.request():
            peer.sock.sendall(raw)
            if not keeps and not client_closes:
                return

    with serve(handler) as server:
        for _ in range(2):
            if keeps is None:
                assert failure_of(lambda: post(client, server.url)).code == "api_protocol"
            else:
                assert post(client, server.url).body == b"well"
        assert (len(server.requests), server.connections) == (2, 1 if keeps else 2)


def reads_the_head_alone(peer: Peer) -> None:
    peer.head()
    peer.stay_silent()


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

    def test_a_header_of_the_caller_replaces_our_own(self, client: HttpClient) -> None:
        with serve(one_reply()) as server:
            post(client, server.url, **{"user-agent": "clinic"})
        assert server.requests[0].headers["user-agent"] == "clinic"  # and once only, as `serve` checks

    def test_a_request_that_can_not_be_sent_leaves_nothing(self, client: HttpClient) -> None:
        with serve(one_reply()) as server:
            assert failure_of(lambda: post(client, server.url, Own="1", Price="€")).code == "bad_request"
            assert post(client, server.url).ok
            (request,) = server.requests
        assert request.line == "POST / HTTP/1.1"
        assert "own" not in request.headers

    def test_a_host_is_found_again_after_many_others(self, client: HttpClient) -> None:
        with serve(one_reply()) as server:
            assert post(client, server.url).ok
            for port in range(1, 71):  # more than are remembered, and none of them answers
                assert failure_of(lambda: post(client, f"http://127.0.0.1:{port}")).code == "network"  # noqa: B023
            assert post(client, server.url).ok

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
                failure_of(lambda: post(client, rude.url))
                upload(client, server.url, io.BytesIO(b"x"), 1)
                post(client, server.url)  # its connection is kept
            client.close()
        assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


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
        "handler", [never_answer, drip_status, drip_headers, drip_body, drip_chunk, drip_without_length]
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
        with serve(reads_the_head_alone) as server:
            began = time.monotonic()
            body = io.BytesIO(bytes(50 * MIB))
            error = failure_of(lambda: upload(client, server.url, body, 50 * MIB, deadline_seconds=0.4))
            assert time.monotonic() - began < 1.5
        assert error.code == "upload_interrupted"

    def test_silence_within_an_upload_ends_it_early(self, client: HttpClient) -> None:
        with serve(reads_the_head_alone) as server:
            began = time.monotonic()
            body = io.BytesIO(bytes(50 * MIB))
            error = failure_of(
                lambda: upload(client, server.url, body, 50 * MIB, deadline_seconds=60, silence_seconds=0.3)
            )
            assert time.monotonic() - began < 3
        assert error.code == "upload_interrupted"

    def test_a_slow_line_that_is_never_silent_is_not_cut(
        self, certificate: tuple[Path, ssl.SSLContext]
    ) -> None:
        """Each takes five seconds, and waits most of the time."""
        pem, context = certificate

        def seconds_of_upload(bytes_per_second: int, over_tls: bool) -> float:
            client = HttpClient(ca_bundle=str(pem))
            size = bytes_per_second * 5
            with (
                serve(one_reply(), tls=context if over_tls else None) as server,
                slow_line(server.port, bytes_per_second) as port,
            ):
                url = server.url.replace(str(server.port), str(port))
                body = io.BytesIO(bytes(size))
                began = time.monotonic()
                assert upload(client, url, body, size, deadline_seconds=60, silence_seconds=1.5).ok
                seconds = time.monotonic() - began
            client.close()
            return seconds

        lines = list(itertools.product((64_000, 16_000), (False, True)))
        with ThreadPoolExecutor(len(lines)) as pool:
            uploads = {line: pool.submit(seconds_of_upload, *line) for line in lines}
        for line, took in uploads.items():
            error = took.exception()
            assert error is None, f"{line}: {error!r}"
            assert took.result() > 4, line

    def test_a_slow_line_that_falls_silent_is_cut(self, client: HttpClient) -> None:
        with serve(one_reply()) as server, slow_line(server.port, 64_000, stalls_after=100_000) as port:
            url = server.url.replace(str(server.port), str(port))
            began = time.monotonic()
            body = io.BytesIO(bytes(MIB))
            error = failure_of(lambda: upload(client, url, body, MIB, deadline_seconds=60, silence_seconds=1))
            assert time.monotonic() - began < 6
        assert error.code == "upload_interrupted"

    @pytest.mark.parametrize("handler", [drip_status, drip_headers])
    def test_covers_the_answer_to_an_upload(
        self, client: HttpClient, handler: Callable[[Peer], None]
    ) -> None:
        with serve(handler) as server:
            began = time.monotonic()
            body = io.BytesIO(b"x" * 1000)
            error = failure_of(
                lambda: upload(client, server.url, body, 1000, deadline_seconds=60, silence_seconds=0.4)
            )
            assert time.monotonic() - began < 3
        assert isinstance(error, UploadUncertainError)

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
    "/a;v=1/b;?c=d;e=f;;",
    "//a//b/?&a=&b&=&c==",
    "/a+b%20c%2B?d=e+f%20g",
    "/%C3%A4%e4%F6?%c3%a4=%E4",
    "/%",
    "/a%2?b=%zz%",
    "/a?b?c/d?e=https://x.example/y//z",
    '/[a]{b}|c\\\\d^`?<e>"f"',
    "/..",
    "/.",
    "/%2e/%2E./a/..%2f",
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

    @pytest.mark.parametrize(
        "value", [f"Bearer {SECRET}\n", f"Bearer\r\n {SECRET}", f"Bearer {SECRET}\u20ac", f" {SECRET}"]
    )
    def test_a_header_that_cannot_be_sent_is_not_quoted(self, client: HttpClient, value: str) -> None:
        with serve(one_reply()) as server:
            error = failure_of(lambda: post(client, server.url, Authorization=value))
        assert error.code == "bad_request"
        assert SECRET not in "".join(traceback.format_exception(error))
        assert server.requests == []

    @pytest.mark.parametrize("path", ["/a b", "/a\tb", "/a\r\nb", "/a?b=\x7f"])
    def test_an_address_that_cannot_be_sent_is_called_invalid(self, client: HttpClient, path: str) -> None:
        with serve(one_reply()) as server:
            for error in (
                failure_of(lambda: post(client, server.url + path)),
                failure_of(lambda: upload(client, server.url + path, io.BytesIO(b"x"), 1)),
            ):
                assert (type(error), error.code) == (ApiRefusedError, "bad_url")
        assert server.requests == []

    def test_a_reply_hides_its_words_from_repr(self) -> None:
        assert SECRET not in repr(HttpReply(200, "host", {"X": SECRET}, SECRET.encode()))
