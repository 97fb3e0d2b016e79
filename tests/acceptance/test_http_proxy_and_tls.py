"""Proxies, certificates and the environment of `net`, against real sockets."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
from pathlib import Path

import pytest

from invox_watcher.errors import (
    ApiRefusedError,
    ApiUnavailableError,
)
from invox_watcher.net import HttpClient
from tests.kit.clinic import free_port
from tests.kit.http_client import MIB, SECRET, certificate, client, failure_of, post, upload
from tests.kit.loopback import make_certificate, never_answer, one_reply, serve

__all__ = ["certificate", "client"]  # fixtures


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
        with serve(never_answer) as proxy:
            client = HttpClient(proxy=proxy.url)
            error = failure_of(lambda: post(client, "https://api.example.com/x", deadline_seconds=0.3))
            client.close()
        assert error.code == "timeout"

    def test_only_http_proxies_are_taken(self) -> None:
        error = failure_of(lambda: HttpClient(proxy=f"socks5://me:{SECRET}@proxy"))
        assert (error.code, SECRET in str(error)) == ("proxy", False)
