"""Webhooks through a real nginx with TLS, which runs docs/nginx.conf itself, to a real daemon."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, free_port, running, sandbox, wait_for
from tests.kit.recordings import write_wav

EXAMPLE = Path(__file__).parent.parent.parent / "docs/nginx.conf"
pytestmark = pytest.mark.clients
REFUSED = (403, b'{"status":"refused"}')

# What nginx.conf has around a site. One process, so that it needs no user of its own where root runs it.
AROUND = """
daemon off;
master_process off;
pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include site.conf;
}
"""

# A CA, and a server's certificate by it. Python's strict checks want the key usage to be named.
CERTIFICATES = """
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
authorityKeyIdentifier = keyid
"""
NEW_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
SIGN = [
    f"req -x509 -config tls.cnf -extensions ca {NEW_KEY} -keyout ca.key -out ca.pem -subj /CN=CA -days 2",
    f"req -config tls.cnf {NEW_KEY} -keyout server.key -out server.csr -subj /CN=localhost",
    "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile tls.cnf -extensions server"
    " -out server.pem -days 2",
]


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


def make_certificates(folder: Path) -> None:
    """ca.pem, server.pem and server.key."""
    (folder / "tls.cnf").write_text(CERTIFICATES)
    for command in SIGN:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


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


@contextlib.contextmanager
def nginx(folder: Path, *, port: int, daemon_port: int) -> Iterator[None]:
    """nginx, for as long as the block lasts."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.fail("nginx is missing. As root, run: apt-get install nginx")
    (folder / "nginx.conf").write_text(AROUND)
    (folder / "site.conf").write_text(site(folder, port=port, daemon_port=daemon_port))
    log = folder / "error.log"
    command = [program, "-p", str(folder), "-e", str(log), "-c", "nginx.conf"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for("nginx listens", lambda: process.poll() is not None or accepts(port))
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(10)


def accepts(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


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
        with nginx(tls, port=port, daemon_port=daemon_port), running(clinic):
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
