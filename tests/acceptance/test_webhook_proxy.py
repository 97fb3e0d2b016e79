"""Webhooks through a real nginx with TLS, which runs docs/nginx.conf itself, to a real daemon."""

from __future__ import annotations

import contextlib
import http.client
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, free_port, running, sandbox
from tests.kit.nginx import make_certificates, nginx
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

EXAMPLE = Path(__file__).parent.parent.parent / "docs/nginx.conf"
pytestmark = pytest.mark.clients
REFUSED = (403, b'{"status":"refused"}')


@dataclass(frozen=True)
class Front:
    """A daemon behind nginx, and the API that sends it results."""

    api: Sandbox
    clinic: Clinic
    daemon_port: int
    port: int
    tls: ssl.SSLContext

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request through nginx over TLS; its status and answer."""
        with contextlib.closing(self.connect()) as connection:
            return answer(connection, method, path, body)

    def connect(self) -> http.client.HTTPSConnection:
        """A connection to nginx whose certificate is checked."""
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=self.tls)


def answer(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError):  # nginx may answer and leave in the middle
        connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, response.read()


def site(folder: Path, *, port: int, daemon_port: int) -> str:
    """docs/nginx.conf, changed where an administrator would change it."""
    letsencrypt = "/etc/letsencrypt/live/dictation.example.com"
    changes = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "listen [::]:443 ssl;": "",  # not every machine has IPv6
        "server_name dictation.example.com;": "server_name localhost;",
        f"{letsencrypt}/fullchain.pem": str(folder / "server.pem"),
        f"{letsencrypt}/privkey.pem": str(folder / "server.key"),
        "http://127.0.0.1:8787/": f"http://127.0.0.1:{daemon_port}/",
    }
    text = EXAMPLE.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    tls = tmp_path / "nginx"
    tls.mkdir()
    make_certificates(tls)
    port, daemon_port = free_port(), free_port()
    with sandbox(tmp_path / "api", webhook_ca=tls / "ca.pem") as api:
        clinic = Clinic(
            tmp_path / "clinic",
            api.base_url,
            credentials={"app_secret": api.settings.app_secret},
            webhook={"enabled": True, "public_url": f"https://127.0.0.1:{port}/webhook"},
            http={"listen": f"127.0.0.1:{daemon_port}"},
            polling={"first_seconds": 0.1, "max_seconds": 60},  # without its webhook a result comes too late
        )
        with nginx(tls, site(tls, port=port, daemon_port=daemon_port), port), running(clinic):
            yield Front(api, clinic, daemon_port, port, ssl.create_default_context(cafile=tls / "ca.pem"))


def test_results_arrive_through_nginx(front: Front) -> None:
    for number in range(3):
        write_wav(front.clinic.inbox / f"{number}.wav", pitch=300 + number)
    wait_for("three are done", lambda: len(front.clinic.files(front.clinic.done)) == 3)
    assert [front.clinic.transcript(f"{n}.json")["delivered_by"] for n in range(3)] == ["webhook"] * 3
    assert front.api.stats()["webhooks_delivered"] == 3
    request_id = front.api.stats()["requests"][0]["id"]
    assert front.ask("POST", "/webhook", front.api.webhook_body(request_id)) == (200, b'{"status":"taken"}')


def test_nothing_but_webhooks_gets_through(front: Front) -> None:
    inside = http.client.HTTPConnection("127.0.0.1", front.daemon_port, timeout=20)
    assert answer(inside, "GET", "/healthz")[0] == 200
    inside.close()
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        assert front.ask(method, "/webhook")[0] == 403, method  # the daemon would say 405
    paths = ("/", "/healthz", "/readyz", "/webhook/", "/webhook/../healthz", "/webhook%2f..%2freadyz", "/..")
    for path in paths:
        for method in ("GET", "POST"):
            assert front.ask(method, path, b"{}")[0] in (400, 404), (method, path)
    plain = http.client.HTTPConnection("127.0.0.1", front.port, timeout=20)
    assert answer(plain, "POST", "/webhook", b"{}")[0] == 400
    plain.close()
    assert front.clinic.events("webhook_refused") == []  # none of these reached the daemon
    assert front.ask("POST", "/webhook", b"{}") == REFUSED
    assert len(front.clinic.events("webhook_refused")) == 1


def test_what_is_too_large_or_too_much_stops_at_nginx(front: Front) -> None:
    assert front.ask("POST", "/webhook", b" " * 10_000_000)[0] == 413
    assert front.clinic.events("webhook_refused") == []
    assert front.ask("POST", "/webhook", b" " * (4 << 20)) == REFUSED
    with contextlib.closing(front.connect()) as connection:
        statuses = [answer(connection, "POST", "/webhook", b"{}")[0] for _ in range(200)]
    assert set(statuses[:80]) == {403}
    assert set(statuses[80:]) == {403, 429}
