"""What `check` finds about the page: where it listens, whom it believes, what its users file says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from invox_watcher.accounts import Role, User, write_users
from invox_watcher.config import Config, load
from invox_watcher.diagnostics.check._page import page

BASE = """\
api: {base_url: 'https://api.example.com'}
credentials: {app_id: a, api_key: b}
folders: {root: ROOT/files}
state: {directory: ROOT/state}
profiles: [{name: ward3, match: {folder: ward3}}]
http: {listen: '127.0.0.1:8799'}
"""
HEADER = "user_header: X-User, trusted_proxies: [127.0.0.1]"
ANNA = User("anna", "$2b$10$" + "x" * 53, frozenset({Role.SEE}), None)


def section(root: Path, text: str) -> Config:
    (root / "files/inbox").mkdir(parents=True, exist_ok=True)
    (root / "state").mkdir(exist_ok=True)
    (root / "etc").mkdir(exist_ok=True)
    path = root / "config.yaml"
    path.write_text(f"{BASE}page: {{{text}}}\n".replace("ROOT", str(root)))
    return load(path, {})


def found(root: Path, text: str) -> list[tuple[str, str, str]]:
    return [(one.check, one.level, one.problem or "") for one in page(section(root, text))]


@pytest.mark.parametrize(
    ("text", "level", "says"),
    [
        ("listen: 127.0.0.1:8799, users_file: ROOT/etc/u", "failed", "is http.listen's as well"),
        ("listen: '0.0.0.0:8799', users_file: ROOT/etc/u", "failed", "is http.listen's as well"),
        ("listen: 'no.such.host.invalid:8798', users_file: ROOT/etc/u", "failed", "can't listen on"),
        ("listen: 'unix:ROOT/etc/file', users_file: ROOT/etc/u", "failed", "is there, and not a socket"),
        ("listen: 'unix:ROOT/files/inbox/a.sock', users_file: ROOT/etc/u", "failed", "in folders.inbox"),
        ("listen: 'unix:ROOT/etc/s', users_file: ROOT/files/inbox/u", "failed", "in folders.inbox"),
        ("listen: 'unix:ROOT/etc/s', users_file: ROOT/etc/u, header_roles: [see]", "warning", "no effect"),
    ],
)
def test_a_place_that_can_not_work_is_found(tmp_path: Path, text: str, level: str, says: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/file").touch()
    write_users(tmp_path / "etc/u", {"anna": ANNA})
    levels = [of for _check, of, problem in found(tmp_path, text) if problem]
    problems = [problem for _check, _level, problem in found(tmp_path, text) if problem]
    assert levels == [level]
    assert says in problems[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("users: [", "is not valid YAML"),
        ("users: {anna: {password: plain}}", "not a bcrypt hash"),
        ("users: {anna: {roles: [admin]}}", "must list see, listen, act"),
        ("users: {anna: {}, ANNA: {}}", "two entries for one user"),
        (None, "is not a file"),
    ],
)
def test_a_users_file_that_the_page_refuses_fails(tmp_path: Path, content: str | None, says: str) -> None:
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc/u"
    if content is None:
        os.mkfifo(file, 0o600)
    else:
        file.write_text(content)
        file.chmod(0o600)
    *_, (check, level, problem) = found(
        tmp_path, f"listen: 'unix:ROOT/etc/s', users_file: ROOT/etc/u, {HEADER}"
    )
    assert (check, level) == ("page.users_file", "failed")
    assert says in problem


def test_what_may_be_meant_otherwise_is_a_warning(tmp_path: Path) -> None:
    text = f"listen: 'unix:ROOT/etc/s', users_file: ROOT/etc/u, header_roles: [see], {HEADER}"
    config = section(tmp_path, text)
    file = tmp_path / "etc/u"
    limited = User("berta", None, frozenset({Role.SEE}), frozenset({"ward3", "ward9"}))
    write_users(file, {"anna": ANNA, "berta": limited})
    file.chmod(0o644)
    problems = [finding.problem or "" for finding in page(config) if finding.level == "warning"]
    assert len(problems) == 3
    for problem, says in zip(
        problems,
        (
            "anyone on this machine can read",
            "user berta has profiles that",
            "the users file gives berta less",
        ),
        strict=True,
    ):
        assert says in problem
    file.chmod(0o600)
    write_users(file, {"anna": ANNA})
    assert [finding.problem for finding in page(config)] == [None, None]
    more = section(tmp_path, text.replace("[see]", "[see, act]"))
    assert "the users file gives anna less" in str([finding.problem for finding in page(more)])
    file.parent.chmod(0o777)
    assert [finding.level for finding in page(config)] == ["ok", "failed"]
    write_users(file, {"anna": User("anna", None, frozenset({Role.SEE}), None)})
    file.parent.chmod(0o700)
    deaf = section(tmp_path, "listen: 'unix:ROOT/etc/s', users_file: ROOT/etc/u")
    deaf = deaf.model_copy(update={"http": deaf.http.model_copy(update={"listen": None})})
    assert "http.listen is null" in str([finding.problem for finding in page(deaf)])
    without = section(tmp_path, "listen: 'unix:ROOT/etc/s', users_file: ROOT/etc/u")
    assert "anna can't sign in" in str(list(page(without))[-1].problem)
