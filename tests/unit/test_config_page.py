"""The section `page`: what is accepted, what is said about the rest, and what it means."""

from __future__ import annotations

import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

from invox_watcher.config import Config, load
from invox_watcher.errors import ConfigurationError

BASE = """\
api: {base_url: 'https://api.example.com'}
credentials: {app_id: a, api_key: b}
folders: {root: /srv/dictation}
"""
USERS = "users_file: /etc/users.yaml"


def loaded(tmp_path: Path, page: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(f"{BASE}page: {{{page}}}\n")
    return load(path, {})


def problem(tmp_path: Path, page: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, page)
    (only,) = caught.value.problems
    return str(only).partition(": ")[2]


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("listen: 127.0.0.1:8786", "page.users_file: or page.user_header is required"),
        (f"listen: nowhere, {USERS}", "page.listen: must be host:port, for example 127.0.0.1:8786, or"),
        (f"listen: '127.0.0.1:70000', {USERS}", "page.listen: must be host:port"),
        (f"listen: 'unix:page.sock', {USERS}", "page.listen: must have an absolute path"),
        (
            f"listen: 'unix:/{'x' * 107}', {USERS}",
            "page.listen: must have an absolute path of at most 107 bytes",
        ),
        (f"listen: 8786, {USERS}, user_header: X-User", "page.trusted_proxies: must name the web servers"),
        ("listen: 'unix:/s', user_header: X-User", "page.header_roles: or page.users_file is required"),
        (f"{USERS}, user_header: 'X User'", "page.user_header: must be the name of a header"),
        *(
            (f"{USERS}, user_header: {name}", "page.user_header: must be a header of its own")
            for name in ("Cookie", "host", "X-Forwarded-For", "Authorization", "Sec-Fetch-Site", "User-Agent")
        ),
        *(
            (f"{USERS}, trusted_proxies: [127.0.0.1, '{one}']", "page.trusted_proxies: must name the web")
            for one in ("0.0.0.0/0", "::/0", "128.0.0.0/1")
        ),
        ("listen: '127.0.0.1:0'", "page.listen: must be host:port, for example 127.0.0.1:8786"),
        (f"{USERS}, trusted_proxies: [proxy.example.com]", "page.trusted_proxies: must list IP addresses"),
        (f"{USERS}, trusted_proxies: [10.0.0.1/8]", "page.trusted_proxies: must list IP addresses"),
        (f"{USERS}, header_roles: [admin]", "page.header_roles[0]: must be 'see', 'listen' or 'act'"),
        (f"{USERS}, session_minutes: 0", "page.session_minutes: must be greater than 0"),
        ("users_file: users.yaml", "page.users_file: must be an absolute path"),
    ],
)
def test_what_can_not_be_is_explained(tmp_path: Path, page: str, says: str) -> None:
    assert problem(tmp_path, page).startswith(says)


@pytest.mark.parametrize(
    ("page", "address", "socket"),
    [
        ("listen: null", None, None),
        (f"listen: 8786, {USERS}", ("127.0.0.1", 8786), None),
        (
            f"listen: 8786, {USERS}, user_header: X-Forwarded-User, trusted_proxies: [10.0.0.0/8]",
            ("127.0.0.1", 8786),
            None,
        ),
        (f"listen: '[::1]:8786', {USERS}", ("::1", 8786), None),
        (f"listen: 'unix:/run/page.sock', {USERS}", None, Path("/run/page.sock")),
        ("listen: 'unix:/s', user_header: X-User, header_roles: [see]", None, Path("/s")),
    ],
)
def test_where_it_listens(
    tmp_path: Path, page: str, address: tuple[str, int] | None, socket: Path | None
) -> None:
    section = loaded(tmp_path, page).page
    assert (section.address, section.socket) == (address, socket)


def test_who_is_believed(tmp_path: Path) -> None:
    section = loaded(tmp_path, "trusted_proxies: [127.0.0.1, 10.0.5.0/24, '::1']").page
    assert section.proxies == [ip_network("127.0.0.1/32"), ip_network("10.0.5.0/24"), ip_network("::1/128")]


@pytest.mark.parametrize("library", ["bcrypt", "jinja2"])
def test_without_its_extra_a_page_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    says = problem(tmp_path, f"listen: 8786, {USERS}")
    assert says.startswith(
        "page.listen: needs the extra `page`, which is not installed: pip install 'PATH[page]'"
    )
    assert loaded(tmp_path, f"listen: null, {USERS}").page.listen is None
