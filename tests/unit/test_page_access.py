"""Who may see the page: whom to believe, how often passwords may be tried, how long a session lasts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from invox_watcher.accounts import Role, User, UsersFileError, read_users, write_users
from invox_watcher.page.access import Access, AccessRules
from invox_watcher.page.app import Site, create_app
from invox_watcher.page.limits import Attempts, network_of
from invox_watcher.page.live import Live
from invox_watcher.page.model import Sight, Source
from invox_watcher.page.peers import Peer, peer_of
from invox_watcher.page.record import Record
from invox_watcher.page.sessions import Sessions
from invox_watcher.page.signing_in import path_within
from invox_watcher.page.users import Users, hash_of, is_password_of
from tests.kit.asgi import ask
from tests.kit.captured_log import LogStream
from tests.kit.clock import ManualClock

PROXIES = [ip_network("127.0.0.1"), ip_network("10.0.5.0/24"), ip_network("fd00::/8")]
ANNA = User("anna", None, frozenset({Role.SEE}), None)
HASH = "$2b$12$K/iZXdwgHrXWF8iOnRzKk.pWhPMQsBFIm28mH0fQFPW60.zMu9h.i"  # of "correct horse battery"


def scope(client: str | None, *headers: tuple[str, str]) -> Mapping[str, Any]:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    return {"client": None if client is None else (client, 4711), "headers": raw}


def peer(client: str | None, *headers: tuple[str, str]) -> Peer:
    return peer_of(scope(client, *headers), PROXIES, "X-Remote-User")


# ---- whom to believe ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "headers", "named", "address", "is_https"),
    [
        ("127.0.0.1", [("X-Remote-User", "anna")], "anna", "127.0.0.1", False),
        (None, [("X-Remote-User", "anna"), ("X-Forwarded-Proto", "https")], "anna", "unix", True),
        ("10.0.5.9", [("X-Remote-User", "jürgen"), ("X-Forwarded-For", "192.0.2.7")],
         "jürgen", "192.0.2.7", False),
        ("::ffff:10.0.5.9", [("X-Remote-User", "anna")], "anna", "::ffff:10.0.5.9", False),
        ("fd12::1", [("X-Remote-User", "anna")], "anna", "fd12::1", False),
        # of someone who only says so
        ("10.0.6.9", [("X-Remote-User", "anna"), ("X-Forwarded-For", "10.0.5.9"),
                      ("X-Forwarded-Proto", "https")], None, "10.0.6.9", False),
        ("192.0.2.7", [("x-remote-user", "anna")], None, "192.0.2.7", False),
        # the browser's own, before the proxy's
        ("127.0.0.1", [("X-Remote-User", "root"), ("X-Remote-User", "anna")], None, "127.0.0.1", False),
        ("127.0.0.1", [("X-Forwarded-For", "8.8.8.8, 192.0.2.7, 10.0.5.1")], None, "192.0.2.7", False),
        ("127.0.0.1", [("X-Forwarded-For", "8.8.8.8"), ("X-Forwarded-For", "192.0.2.7")],
         None, "192.0.2.7", False),
        ("127.0.0.1", [("X-Forwarded-For", "nonsense")], None, "127.0.0.1", False),
        ("127.0.0.1", [("X-Remote-User", " ")], None, "127.0.0.1", False),
    ],
)  # fmt: skip
def test_only_a_trusted_proxy_says_who_it_is(
    client: str | None, headers: list[tuple[str, str]], named: str | None, address: str, is_https: bool
) -> None:
    found = peer(client, *headers)
    assert (found.named, found.address, found.is_https) == (named, address, is_https)


def test_what_only_a_proxy_may_say_goes_no_further() -> None:
    found = peer(
        "192.0.2.7",
        ("Host", "h"),
        ("X-Remote-User", "a"),
        ("X-Forwarded-For", "b"),
        ("X-Forwarded-Proto", "c"),
    )
    assert found.headers == [(b"host", b"h")]


class Echo:
    """Views whose only page shows the headers that it got."""

    def routes(self, site: Site) -> Sequence[BaseRoute]:
        async def echo(request: Request) -> Response:
            return PlainTextResponse(" ".join(request.headers))

        return [Route("/", echo)]

    def render(
        self, request: Request, name: str, /, *, status_code: int = 200, **context: object
    ) -> Response:
        return PlainTextResponse(f"{name} {context}", status_code)


def test_a_route_gets_no_header_of_a_proxy(tmp_path: Path) -> None:
    access = Access(None, AccessRules(PROXIES, "X-Remote-User", [Role.SEE]))
    source = cast(Source, None)
    app = create_app(Site(source, access, Record(tmp_path)), access, Live(source, access), Echo())
    sent = {"Host": "h", "X-Remote-User": "a", "X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
    assert ask(app, "/", headers=sent).text == "host"
    assert ask(app, "/", headers=sent, client="192.0.2.7").status == 401


def test_a_page_that_updates_itself_keeps_no_session_open(tmp_path: Path) -> None:
    clock, source = ManualClock(), cast(Source, None)
    write_users(tmp_path / "users.yaml", {"anna": User("anna", HASH, frozenset({Role.SEE}), None)})
    access = Access(Users(tmp_path / "users.yaml"), AccessRules(idle_seconds=600), clock)
    app = create_app(Site(source, access, Record(tmp_path)), access, Live(source, access), Echo())
    signed_in = access.sign_in("anna", "correct horse battery")
    assert signed_in is not None
    cookie = {"Cookie": f"invox-watcher={signed_in.session_id}"}
    clock.now += 500
    assert ask(app, "/", headers=cookie).status == 200  # a click
    clock.now += 500
    assert ask(app, "/?part=1", headers=cookie).status == 200
    assert ask(app, "/live", method="HEAD", headers=cookie).status == 200  # the connection was lost
    clock.now += 200
    assert ask(app, "/", headers=cookie).status == 303


def test_without_a_header_nobody_is_named() -> None:
    assert peer_of(scope("127.0.0.1", ("X-Remote-User", "anna")), PROXIES, None).named is None


def test_roles_of_a_named_user_are_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "users.yaml"
    write_users(file, {"anna": User("anna", None, frozenset({Role.SEE}), frozenset({"ward3"}))})
    rules = AccessRules(PROXIES, "X-Remote-User", [Role.LISTEN])
    access = Access(Users(file), rules)

    def viewer(name: str) -> Any:
        found = access.identify(peer("127.0.0.1", ("X-Remote-User", name)), is_activity=True)
        assert found is not None
        return found.viewer

    for name in ("anna", "ANNA", "Anna", "\uff21nn\u1d43", "ANN\u0041"):
        assert viewer(name).name == "anna"
        assert viewer(name).sight == Sight(frozenset({"ward3"}))
        assert viewer(name).roles == {Role.SEE}
    # What may be anna all the same, to the directory, sees nothing.
    for name in ("anna@CLINIC.EXAMPLE", "CLINIC\\anna", "\u00e1nna", "bob"):
        assert viewer(name).roles == frozenset()
    for name in ("-", "(null)", " ", "(NULL)"):
        nobody = peer("127.0.0.1", ("X-Remote-User", name))
        assert access.identify(nobody, is_activity=True) is None
    write_users(file, {"anna": User("anna", None, frozenset({Role.SEE}), None)})
    assert viewer("anna@CLINIC.EXAMPLE").roles == frozenset()  # anna may not listen
    write_users(file, {"anna": User("anna", None, frozenset({Role.SEE, Role.LISTEN}), None)})
    assert viewer("bob").roles == {Role.SEE, Role.LISTEN}
    assert viewer("b\x07b").roles == frozenset()
    write_users(file, {"anna": User("anna", None, frozenset({Role.SEE}), frozenset({"ward3"}))})
    rules = replace(rules, header_roles_beside_limits=True)
    access = Access(Users(file), rules)
    assert viewer("bob").roles == {Role.SEE, Role.LISTEN}
    assert viewer("ANNA").sight == Sight(frozenset({"ward3"}))
    assert Access(None, AccessRules(PROXIES, "X-Remote-User")).identify(
        peer("127.0.0.1", ("X-Remote-User", "bob")), is_activity=True
    ).viewer.roles == frozenset()  # type: ignore[union-attr]  # fmt: skip


# ---- passwords ---------------------------------------------------------------------------------------------


def test_a_password_is_right_whatever_its_normal_form() -> None:
    user = User("anna", HASH, frozenset({Role.SEE}), None)
    assert is_password_of(user, "correct horse battery")
    assert not is_password_of(user, "correct horse batterY")
    assert not is_password_of(None, "correct horse battery")
    assert not is_password_of(ANNA, "")
    composed, decomposed = "gr\u00fcn blau rot gelb", "gru\u0308n blau rot gelb"
    assert is_password_of(User("a", hash_of(composed), frozenset(), None), decomposed)


def test_an_unknown_name_costs_as_much_as_a_known_one() -> None:
    """By the time of the processor, whatever else the machine does."""

    def cost_once(user: User | None) -> float:
        began = time.thread_time()
        assert not is_password_of(user, "not the password")
        return time.thread_time() - began

    def cost(user: User | None) -> float:
        return min(cost_once(user) for _ in range(3))

    known = cost(User("anna", HASH, frozenset({Role.SEE}), None))
    assert known / 2 < cost(None) < known * 2
    assert known / 2 < cost(ANNA) < known * 2  # who comes by a proxy's header


@pytest.mark.parametrize("password", ["short", "x" * 73, "ä" * 37, "with a\0nul byte"])
def test_a_password_that_bcrypt_would_cut_is_refused(password: str) -> None:
    with pytest.raises(UsersFileError) as refused:
        hash_of(password)
    assert refused.value.code == "password"


def test_a_longer_password_is_not_the_one_it_begins_with() -> None:
    password = "x" * 72
    user = User("anna", hash_of(password), frozenset(), None)
    assert is_password_of(user, password)
    assert not is_password_of(user, password + "y")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("users: [anna]", "the key `users`"),
        ("{}", "the key `users`"),
        ("users: {anna: {profiles: [ward3]}, ANNA: {}}", "two entries for one user, anna and ANNA"),
        ("users: {anna: {profiles: [ward3]}, anna: {}}", "the key anna twice"),
        ("users: {j\u00fcrgen: {}, ju\u0308rgen: {}}", "two entries"),
        ("users: {'-': {}}", "or is `-`"),
        ("users: {anna: {}}\nmore: 1", "no other"),
        ("users: {anna: {role: [see]}}", "nothing else"),
        ("users: {anna: {roles: [admin]}}", "see, listen, act"),
        ("users: {anna: {roles: see}}", "see, listen, act"),
        ("users: {anna: {profiles: ward3}}", "names of profiles"),
        ("users: {anna: {password: secret}}", "not a bcrypt hash"),
        (f"users: {{anna: {{password: {HASH.replace('$12$', '$04$')}}}}}", "cost 10"),
        ("users: {' anna': {}}", "printable"),
        ("users: {1: {}}", "printable"),
        ("users: {", "not valid YAML"),
        ("users: &a [*a]", "users"),
    ],
)
def test_a_users_file_that_is_not_understood_is_refused(tmp_path: Path, content: str, what: str) -> None:
    file = tmp_path / "users.yaml"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(UsersFileError) as refused:
        read_users(file)
    assert what in refused.value.message
    assert "secret" not in refused.value.message


def test_a_users_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "users.yaml"
    write_users(file, {"anna": ANNA})
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_users(file) == {"anna": ANNA}
    file.chmod(0o620)
    with pytest.raises(UsersFileError, match="Others may change"):
        read_users(file)


def test_a_changed_users_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "users.yaml"
    users = Users(file)
    with pytest.raises(UsersFileError, match="can't be read"):
        users.get("anna")
    write_users(file, {"anna": ANNA})
    assert users.get("anna") == ANNA
    write_users(file, {"berta": User("berta", HASH, frozenset({Role.SEE, Role.ACT}), frozenset())})
    assert users.get("anna") is None
    assert users.get("berta") is not None
    file.write_text("users: 1")
    with pytest.raises(UsersFileError):
        users.get("berta")
    with pytest.raises(UsersFileError):  # not from what was read before
        users.get("berta")
    os.unlink(file)
    with pytest.raises(UsersFileError):
        users.get("berta")


# ---- sessions ----------------------------------------------------------------------------------------------


def test_a_session_ends_when_it_is_old_or_idle() -> None:
    clock = ManualClock()
    sessions = Sessions(3600, 600, clock)
    identifier = sessions.begin(ANNA)
    assert len(identifier) == 43
    assert sessions.get("", is_activity=True) is None
    for _ in range(6):
        clock.now += 599
        assert sessions.get(identifier, is_activity=True) is not None
    clock.now += 10  # 3,604 s after it began
    assert sessions.get(identifier, is_activity=True) is None

    identifier = sessions.begin(ANNA)
    clock.now += 400
    assert sessions.get(identifier, is_activity=False) is not None
    clock.now += 400
    assert sessions.get(identifier, is_activity=True) is None


def test_each_session_has_its_own_id_and_form_token() -> None:
    sessions = Sessions(3600, 600)
    ids = {sessions.begin(ANNA) for _ in range(10)}
    found = [sessions.get(one, is_activity=True) for one in ids]
    assert len({one.form_token() for one in found if one}) == 10


def test_the_oldest_of_many_sessions_ends() -> None:
    sessions = Sessions(3600, 600)
    other = sessions.begin(User("berta", None, frozenset(), None))
    ids = [sessions.begin(ANNA) for _ in range(21)]
    assert sessions.get(ids[0], is_activity=True) is None
    assert sessions.get(ids[1], is_activity=True) is not None
    assert sessions.get(other, is_activity=True) is not None


def test_changed_rights_end_a_session(tmp_path: Path) -> None:
    file = tmp_path / "users.yaml"
    both = User("anna", HASH, frozenset({Role.SEE, Role.LISTEN}), None)
    write_users(file, {"anna": both})
    access = Access(Users(file), AccessRules())
    signed_in = access.sign_in("ANNA", "correct horse battery")  # a name, however it is spelt
    assert signed_in is not None
    assert signed_in.name == "anna"
    of_anna = peer("192.0.2.7", ("Cookie", f"invox-watcher={signed_in.session_id}"))
    identity = access.identify(of_anna, is_activity=True)
    assert identity is not None
    assert access.is_current(identity)
    write_users(file, {"anna": User("anna", HASH, frozenset({Role.SEE}), None)})
    assert not access.is_current(identity)
    assert access.identify(of_anna, is_activity=True) is None
    write_users(file, {"anna": both})
    assert access.identify(of_anna, is_activity=True) is None  # it has ended


# ---- how often ---------------------------------------------------------------------------------------------


def test_attempts_are_limited_and_possible_again() -> None:
    clock = ManualClock()
    attempts = Attempts(clock)
    assert [attempts.begin("anna", "192.0.2.7") for _ in range(5)] == [0] * 5
    assert attempts.begin("anna", "192.0.2.7") == pytest.approx(60)
    assert attempts.begin("berta", "192.0.2.7") == 0
    assert attempts.begin("anna", "192.0.2.8") == 0
    clock.now += 61
    assert attempts.begin("anna", "192.0.2.7") == 0


@pytest.mark.parametrize(
    "names",
    [
        ["j\u00fcrgen", "ju\u0308rgen", " j\u00fcrgen "],
        ["ann lee", f"Ann{' ' * 100}Lee", "ann\tlee", "ann\u3000lee"],
        ["x" * 101, "y" * 9000, "\0", ""],
    ],
)
def test_a_name_written_otherwise_is_no_further_attempt(tmp_path: Path, names: list[str]) -> None:
    source = cast(Source, None)
    write_users(tmp_path / "users.yaml", {})
    access = Access(Users(tmp_path / "users.yaml"), AccessRules(), ManualClock())
    app = create_app(Site(source, access, Record(tmp_path)), access, Live(source, access), Echo())
    tried = [{"name": names[n % len(names)], "password": "x"} for n in range(6)]
    assert [ask(app, "/sign-in", form=one).status for one in tried] == [403] * 5 + [429]


def test_a_broken_users_file_is_for_the_log_only(tmp_path: Path, own_log: LogStream) -> None:
    source, file = cast(Source, None), tmp_path / "users.yaml"
    write_users(file, {"anna": User("anna", HASH, frozenset({Role.SEE}), None)})
    content = file.read_bytes()
    access = Access(Users(file), AccessRules(PROXIES, "X-Remote-User"), ManualClock())
    app = create_app(Site(source, access, Record(tmp_path)), access, Live(source, access), Echo())
    file.write_text("users: [")
    for _ in range(7):
        answer = ask(app, "/sign-in", form={"name": "anna", "password": "correct horse battery"})
        assert answer.status == 503
        assert "can't be found out" in answer.text
        assert str(tmp_path) not in answer.text
    named = ask(app, "/", headers={"X-Remote-User": "anna"})
    assert (named.status, str(tmp_path) in named.text) == (503, False)
    file.write_bytes(content)
    right = ask(app, "/sign-in", form={"name": "ANNA", "password": "correct horse battery"})
    assert right.status == 303  # none of those was an attempt
    logged = [json.loads(line) for line in own_log.getvalue().splitlines()]
    events = [line["event"] for line in logged]
    assert events == ["page_users_unavailable", "page_users_available", "page_signed_in"]
    assert str(file) in logged[0]["error"]
    assert logged[-1]["viewer"] == "anna"


def test_what_anyone_could_replace_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "users.yaml"
    file.parent.mkdir()
    write_users(file, {"anna": ANNA})
    file.parent.chmod(0o777)
    with pytest.raises(UsersFileError, match="Others may replace"):
        read_users(file)
    file.parent.chmod(0o1777)  # as /tmp: only its owner may replace it
    assert read_users(file) == {"anna": ANNA}
    file.unlink()
    os.mkfifo(file, 0o600)
    with pytest.raises(UsersFileError, match="is not a file"):
        read_users(file)
    file.unlink()
    file.touch(0o600)
    assert read_users(file, may_be_empty=True) == {}  # for `page user`
    with pytest.raises(UsersFileError, match="is empty"):  # an editor may be about to write it
        read_users(file)


def test_one_address_can_not_try_many_names() -> None:
    attempts = Attempts(ManualClock())
    assert [attempts.begin(f"user{n}", "192.0.2.7") for n in range(31)].count(0) == 30


def test_guessing_elsewhere_does_not_lock_a_user_out() -> None:
    clock = ManualClock()
    attempts = Attempts(clock)
    assert attempts.begin("anna", "192.0.2.7") == 0
    attempts.succeeded("anna", "192.0.2.7")
    tried = [attempts.begin("anna", f"198.51.100.{n}") for n in range(200)]
    assert tried.count(0) <= 50
    assert attempts.begin("anna", "192.0.2.7") == 0
    clock.now += 3000
    assert attempts.begin("anna", "203.0.113.9") == 0  # nobody else either, for good


def test_a_success_does_not_count() -> None:
    attempts = Attempts(ManualClock())
    for _ in range(100):
        assert attempts.begin("anna", "192.0.2.7") == 0
        attempts.succeeded("anna", "192.0.2.7")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(address: str, network: str) -> None:
    assert network_of(address) == network


# ---- where to go after signing in --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/", "/"),
        ("/recordings/20261123t185056-9f2c41d07ab3", "/recordings/20261123t185056-9f2c41d07ab3"),
        ("/find?text=a%20b&after=x", "/find?text=a%20b&after=x"),
        ("", "/"),
        ("https://example.com/", "/"),
        ("//example.com/", "/"),
        ("/\\example.com/", "/"),
        ("\\\\example.com", "/"),
        ("javascript:alert(1)", "/"),
        ("/\t/example.com", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("/sign-out", "/"),
        ("/sign-in?next=/sign-in", "/"),
        ("/live", "/"),
        ("//[", "/"),
    ],
)
def test_after_signing_in_one_stays_on_this_site(text: str, path: str) -> None:
    assert path_within(text) == path
