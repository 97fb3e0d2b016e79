"""Uploads by `net` against real sockets: progress, replies before the end, silence, abort."""

from __future__ import annotations

import io
import os
import queue
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from invox_watcher.errors import (
    ApiUnavailableError,
    InvoxError,
    RecordingError,
    StoppedError,
    StorageError,
    UploadUncertainError,
)
from invox_watcher.net import HttpClient
from tests.kit.http_client import MIB, certificate, client, failure_of, post, upload
from tests.kit.loopback import Peer, one_reply, serve

__all__ = ["certificate", "client"]  # fixtures


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

    def test_a_connection_is_kept_for_the_next_upload(self, client: HttpClient) -> None:
        with serve(one_reply(body=b"")) as server:
            for body in (b"a", b"b", b"c"):
                assert upload(client, server.url, io.BytesIO(body), 1).ok
            assert server.connections == 1
        assert [request.body for request in server.requests] == [b"a", b"b", b"c"]

    def test_one_that_lay_idle_is_not_used(self, client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("invox_watcher.net.client._MOST_IDLE_SECONDS", 0.05)
        with serve(one_reply(body=b"")) as server:
            for _ in range(2):
                assert upload(client, server.url, io.BytesIO(b"a"), 1).ok
                time.sleep(0.1)
            assert server.connections == 2

    @pytest.mark.parametrize("answer", [(403, b"denied"), (403, b""), (200, b"{}")])
    def test_one_that_is_not_known_to_be_free_is_not_used(
        self, client: HttpClient, answer: tuple[int, bytes]
    ) -> None:
        with serve(one_reply(*answer)) as server:
            for _ in range(2):
                upload(client, server.url, io.BytesIO(b"a"), 1)
            assert server.connections == 2

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


def silent_after_request(ready: threading.Event) -> Callable[[Peer], None]:
    """A handler that takes one request, sets `ready`, and never answers."""

    def handler(peer: Peer) -> None:
        peer.request()
        ready.set()
        peer.stay_silent()

    return handler


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
        with serve(silent_after_request(ready)) as server:
            body = io.BytesIO(b"all")
            error = self.aborted(client, ready, lambda: upload(client, server.url, body, 3))
        assert isinstance(error, UploadUncertainError)

    def test_during_a_call_and_ever_after(self, client: HttpClient) -> None:
        ready = threading.Event()
        with serve(silent_after_request(ready)) as server:
            error = self.aborted(client, ready, lambda: post(client, server.url))
            assert isinstance(error, StoppedError)
            assert isinstance(failure_of(lambda: post(client, server.url)), StoppedError)
            assert isinstance(failure_of(lambda: upload(client, server.url, io.BytesIO(), 0)), StoppedError)
            assert server.connections == 1
