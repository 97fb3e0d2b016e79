"""The page through a real nginx with TLS, which runs docs/nginx-page.conf itself, by a Unix socket."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kit.browser import SECONDS, Browser
from tests.kit.clinic import Clinic, free_port
from tests.kit.nginx import make_certificates, nginx
from tests.kit.page_clinic import PASSWORD, page_of, page_section

EXAMPLE = Path(__file__).parent.parent.parent / "docs/nginx-page.conf"
pytestmark = pytest.mark.clients


@dataclass
class SecureBrowser(Browser):
    """A browser that checks the certificate."""

    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def connection(self) -> http.client.HTTPConnection:
        assert not isinstance(self.at, Path)
        return http.client.HTTPSConnection(*self.at, timeout=SECONDS, context=self.tls)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[SecureBrowser]:
    make_certificates(tmp_path)
    port, socket = free_port(), tmp_path / "page.sock"
    letsencrypt = "/etc/letsencrypt/live/transcripts.example.com"
    site = EXAMPLE.read_text()
    for old, new in {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "listen [::]:443 ssl;": "",  # not every machine has IPv6
        "server_name transcripts.example.com;": "server_name localhost;",
        f"{letsencrypt}/fullchain.pem": str(tmp_path / "server.pem"),
        f"{letsencrypt}/privkey.pem": str(tmp_path / "server.key"),
        "unix:/run/invox-watcher/page.sock": f"unix:{socket}",
    }.items():
        assert site.count(old) == 1, old
        site = site.replace(old, new)
    listen = f"unix:{socket}"
    clinic = Clinic(
        tmp_path / "clinic", "http://127.0.0.1:9", page=page_section(tmp_path / "clinic", listen=listen)
    )
    assert clinic.once() in (0, 69)
    with page_of(clinic, listen), nginx(tmp_path, site, port):
        tls = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        yield SecureBrowser(("127.0.0.1", port), tls=tls)


def test_one_signs_in_through_nginx(browser: SecureBrowser) -> None:
    host = "{}:{}".format(*browser.at)  # type: ignore[str-bytes-safe]
    assert browser.get("/").headers["Location"] == "/sign-in?next=%2F"
    own = {"Origin": f"https://{host}", "Sec-Fetch-Site": "same-origin"}
    answer = browser.post("/sign-in", {"name": "anna", "password": PASSWORD}, **own)
    assert answer.status == 303
    assert answer.cookie.startswith("__Host-invox-watcher=")
    assert "; Secure" in answer.cookie
    shown = browser.get("/")
    assert shown.status == 200
    assert shown.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert shown.headers["Content-Security-Policy"].startswith("default-src 'none';")
    foreign = {"Origin": "https://example.com"}
    assert browser.post("/sign-out", {"token": browser.token()}, **foreign).status == 403
    assert browser.post("/sign-out", {"token": browser.token()}, **own).status == 303
    assert browser.get("/").status == 303


def test_a_browser_can_not_name_itself_through_nginx(browser: SecureBrowser) -> None:
    for name in ("X-Remote-User", "x-remote-user", "X_Remote_User"):
        assert browser.request("GET", "/", headers={name: "anna"}).status == 303


def test_events_come_through_nginx_at_once(browser: SecureBrowser) -> None:
    assert browser.sign_in("anna", PASSWORD).status == 303
    connection = browser.connection()
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    connection.request("GET", "/live", headers={"Cookie": cookies})
    response = connection.getresponse()
    lines = iter(response.readline, b"")
    assert b"event: health\n" in lines
    connection.close()


def test_wrong_passwords_count_by_the_browsers_address(browser: SecureBrowser) -> None:
    for number in range(6):
        answer = browser.post(
            "/sign-in", {"name": "sam", "password": "x" * 20}, **{"X-Forwarded-For": f"192.0.2.{number}"}
        )
    assert answer.status == 429
