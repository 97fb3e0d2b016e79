"""The page over real HTTP: who sees what, what every answer carries, and what is refused."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.accounts import write_users
from tests.kit.browser import Answer, Browser
from tests.kit.clinic import Clinic, sandbox
from tests.kit.page_clinic import PASSWORD, PROXY, page_of, page_section, users
from tests.kit.recordings import write_wav

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
UNKNOWN = "20260101t000000-000000000000"
# What signing in is limited by: each test that types wrong passwords comes from an address of its own.
ELSEWHERE = (f"127.0.1.{number}" for number in range(1, 250))


@dataclass
class Ward:
    """A clinic with one recording of ward 3 and one of ward 4, and its page."""

    clinic: Clinic
    at: tuple[str, int] | Path
    ward3: str  # the jobs' ids
    ward4: str

    def browser(self, name: str | None = None, **headers: str) -> Browser:
        """A browser, in which that user has signed in."""
        browser = Browser(self.at, headers=headers)
        if name is not None:
            assert browser.sign_in(name, PASSWORD).status == 303
        return browser

    def audit(self) -> list[dict[str, Any]]:
        """The lines of the audit log about looks."""
        return [entry for entry in self.clinic.audit_log() if "viewer" in entry]

    @property
    def users_file(self) -> Path:
        return self.clinic.root / "users.yaml"


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    root = tmp_path_factory.mktemp("ward")
    section = page_section(root / "clinic")
    with sandbox(root / "api") as api:
        clinic = Clinic(root / "clinic", api.base_url, page=section)
        settings = (
            clinic.config.read_text()
            + "\nprofiles:\n"
            + "".join(
                f"- {{name: {name}, match: {{folder: {name}}}, set: {{}}}}\n" for name in ("ward3", "ward4")
            )
        )
        clinic.config.write_text(settings)
        write_wav(clinic.inbox / "ward3" / "smith.wav")
        write_wav(clinic.inbox / "ward4" / "jones.wav", pitch=500)
        assert clinic.once() == 0
    listed = json.loads(clinic.run("jobs", "--all", "--json").stdout)
    ids = {Path(job["path"]).parent.name: job["id"] for job in listed}
    with page_of(clinic, section["listen"]) as browser:
        yield Ward(clinic, browser.at, ids["ward3"], ids["ward4"])


def routes(job: str, document: str) -> list[str]:
    """Every address that shows something of a recording."""
    one = f"/recordings/{job}"
    return [one, f"{one}?part=1", f"{one}/words", f"{one}/words?part=1", f"{one}/sound", f"{one}/loudness",
            f"{one}/documents/{document}"]  # fmt: skip


PAGES = ["/", "/?part=1", "/needs", "/find", "/find?text=smith&state=done"]


def hides(answer: Answer) -> None:
    """Assert what every answer carries."""
    headers = answer.headers
    assert headers["Content-Security-Policy"] == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "microphone=()" in headers["Permissions-Policy"]
    assert headers["Server"] is None


def test_every_answer_has_its_headers_and_is_not_kept(ward: Ward) -> None:
    anna, nobody = ward.browser("anna"), ward.browser()
    shown = [*PAGES, *routes(ward.ward3, "smith.json")]
    for path in [
        *shown,
        "/sign-in",
        "/recordings/x",
        "/nowhere",
        "/static/0/page.css",
        "/sign-out",
        "//",
        "/%00",
    ]:
        for browser in (anna, nobody):
            answer = browser.get(path)
            hides(answer)
            assert answer.headers["Cache-Control"] == "no-store", path
            assert answer.status in (200, 303, 401, 404, 405), path
        assert path not in shown or anna.get(path).status == 200, path
    for path in (*shown, "/live"):
        answer = anna.request("HEAD", path)
        hides(answer)
        assert (answer.status, answer.body) == (200, b""), path
    for answer in (
        anna.post(f"/recordings/{ward.ward3}/retry", {}),
        nobody.post("/sign-in", {"x": "y" * 20_000}),
        nobody.request("POST", "/sign-in", "{}", headers={"content-type": "application/json"}),
        anna.request("PUT", "/"),
        anna.request("TRACE", "/"),
    ):
        hides(answer)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.status in (400, 403, 405)
    for file in ("page.css", "page.js", "icon.svg"):
        path = next(part for part in nobody.get("/sign-in").text.split('"') if part.endswith(file))
        answer = nobody.get(path)
        hides(answer)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_nothing_is_shown_to_who_has_not_signed_in(ward: Ward) -> None:
    nobody = ward.browser(cookie="invox-watcher=made-up")
    for path in [*PAGES, *routes(ward.ward3, "smith.json"), "/live", "/recordings/unknown", "/nowhere"]:
        answer = nobody.get(path)
        assert "smith" not in answer.text
        if path == "/live" or "part=1" in path:
            assert answer.status == 401
        else:
            assert answer.status == 303
            assert answer.headers["Location"].startswith("/sign-in?next=%2F")
    assert nobody.post(f"/recordings/{ward.ward3}/retry", {"token": "x"}).status == 401


def test_after_signing_in_one_is_where_one_wanted_to_be(ward: Ward) -> None:
    browser = ward.browser()
    wanted = browser.get("/find?text=a%20b&state=done").headers["Location"]
    form = browser.get(wanted)
    assert 'name="next" value="/find?text=a%20b&amp;state=done"' in form.text
    answer = browser.sign_in("anna", PASSWORD, next="/find?text=a%20b&state=done")
    assert (answer.status, answer.headers["Location"]) == (303, "/find?text=a%20b&state=done")
    assert browser.get("/sign-in?next=/needs").headers["Location"] == "/needs"
    for elsewhere in ("https://example.com/", "//example.com", "/\\example.com"):
        assert ward.browser().sign_in("anna", PASSWORD, next=elsewhere).headers["Location"] == "/"


def test_a_link_elsewhere_leads_to_where_it_points(ward: Ward) -> None:
    """Browsers keep a SameSite=Strict cookie back until the page itself asks for the address again."""
    browser = ward.browser(**{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
    answer = browser.get('/find?text="><script>')
    assert answer.status == 200
    assert 'content="0;url=/find?text=&quot;&gt;&lt;script&gt;">' in answer.text
    answer = browser.get("/find?text=a&state=done")
    assert 'content="0;url=/find?text=a&amp;state=done"' in answer.text
    assert "smith" not in answer.text
    hides(answer)
    assert 'content="0;url=/">' in browser.get("//example.com/").text
    browser.headers = {"Sec-Fetch-Site": "same-origin"}
    assert browser.get("/find?text=a").status == 303


def test_the_cookie_is_for_this_page_alone(ward: Ward) -> None:
    answer = ward.browser().sign_in("anna", PASSWORD)
    name, _, rest = answer.cookie.partition("=")
    value, *flags = [part.strip().lower() for part in rest.split(";")]
    assert name == "invox-watcher"
    assert len(value) == 43
    assert set(flags) == {"httponly", "path=/", "samesite=strict"}

    proxied = Browser(ward.at, {"X-Forwarded-Proto": "https"}, source=PROXY)
    answer = proxied.sign_in("anna", PASSWORD)
    assert answer.cookie.startswith("__Host-invox-watcher=")
    assert "; Secure" in answer.cookie
    assert proxied.get("/").status == 200

    pretended = ward.browser(**{"X-Forwarded-Proto": "https"}).sign_in("anna", PASSWORD)
    assert "Secure" not in pretended.cookie


def test_signing_out_ends_the_session(ward: Ward) -> None:
    browser = ward.browser("anna")
    cookies, token = dict(browser.cookies), browser.token()
    assert browser.post("/sign-out", {"token": "wrong"}).status == 403
    assert browser.get("/").status == 200
    answer = browser.post("/sign-out", {"token": token})
    assert (answer.status, answer.headers["Location"]) == (303, "/sign-in")
    assert browser.cookies == {}
    browser.cookies = cookies
    assert browser.get("/").status == 303


def test_a_session_that_was_planted_is_not_taken_over(ward: Ward) -> None:
    planted = ward.browser("sam")
    victim = ward.browser()
    victim.cookies = dict(planted.cookies)
    assert victim.sign_in("anna", PASSWORD).status == 303
    assert victim.cookies != planted.cookies
    assert planted.get("/").status == 303  # it has ended
    made_up = ward.browser()
    made_up.cookies = {"invox-watcher": "x" * 43}
    assert made_up.sign_in("anna", PASSWORD).status == 303
    assert made_up.cookies["invox-watcher"] != "x" * 43


def test_a_form_of_another_session_or_site_is_refused(ward: Ward) -> None:
    anna, other = ward.browser("anna"), ward.browser("anna")
    retry, token = f"/recordings/{ward.ward3}/retry", anna.token()
    host = "{}:{}".format(*ward.at)  # type: ignore[str-bytes-safe]
    for fields in ({}, {"token": ""}, {"token": other.token()}):
        assert anna.post(retry, fields).status == 403
    for headers in (
        {"Origin": "http://example.com"},
        {"Origin": "null"},
        {"Origin": f"http://{host}.example.com"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": f"http://{host}", "Sec-Fetch-Site": "cross-site"},
    ):
        assert anna.post(retry, {"token": token}, **headers).status == 403
        assert (
            ward.browser().post("/sign-in", {"name": "anna", "password": PASSWORD}, **headers).status == 403
        )
    answer = anna.post(retry, {"token": token}, Origin=f"http://{host}", **{"Sec-Fetch-Site": "same-origin"})
    assert answer.status in (303, 409)  # ours: it is done, so that it can't be retried
    assert anna.request("PUT", retry).status in (403, 405)


def test_wrong_passwords_are_slowed_down(ward: Ward) -> None:
    guesser = Browser(ward.at, source=next(ELSEWHERE))
    unknown = guesser.sign_in("nobody", "x" * 20)
    wrong = guesser.sign_in("sam", "x" * 20)
    assert (unknown.status, wrong.status) == (403, 403)
    assert unknown.text.replace("nobody", "sam") == wrong.text
    for _ in range(4):
        assert guesser.sign_in("sam", "x" * 20).status == 403
    slow = guesser.sign_in("sam", PASSWORD)
    assert slow.status == 429
    assert 0 < int(slow.headers["Retry-After"]) <= 60
    assert guesser.cookies == {}
    assert ward.browser("sam").get("/").status == 200  # elsewhere he can
    assert guesser.sign_in("anna", PASSWORD).status == 303


def test_a_proxys_header_counts_from_its_address_only(ward: Ward) -> None:
    header = {"X-Remote-User": "paul"}
    assert Browser(ward.at, header).get("/").status == 303
    assert Browser(ward.at, header, source="127.0.0.10").get("/?part=1").status == 401
    paul = Browser(ward.at, header, source=PROXY)
    assert paul.get("/").status == 200
    assert "paul" in paul.get("/").text
    assert paul.get(f"/recordings/{ward.ward3}").status == 404
    stranger = Browser(ward.at, {"X-Remote-User": "stranger"}, source=PROXY)
    assert [stranger.get(path).status for path in ("/", "/live")] == [403, 403]
    assert Browser(ward.at, {}, source=PROXY).get("/").status == 303
    # Not even the proxy's address helps who has no header: and no password is one.
    assert Browser(ward.at, source=next(ELSEWHERE)).sign_in("paul", "").status == 403


def test_roles_and_sight_are_respected(ward: Ward) -> None:
    sam, nora = ward.browser("sam"), ward.browser("nora")
    assert sam.get(f"/recordings/{ward.ward3}").status == 200
    for path in routes(ward.ward3, "smith.json")[2:]:
        assert sam.get(path).status == 403, path
    for path in routes(ward.ward3, "smith.json"):
        assert nora.get(path).status == 200, path
    token = nora.token()
    hidden = [
        *(nora.get(path) for path in routes(ward.ward4, "jones.json")),
        nora.post(f"/recordings/{ward.ward4}/retry", {"token": token}),
        nora.post(f"/recordings/{ward.ward4}/targets/x/send", {"token": token}),
    ]
    unknown = [
        *(nora.get(path) for path in routes(UNKNOWN, "jones.json")),
        nora.post(f"/recordings/{UNKNOWN}/retry", {"token": token}),
        nora.post(f"/recordings/{UNKNOWN}/targets/x/send", {"token": token}),
    ]
    assert {answer.status for answer in hidden} == {404}
    assert [answer.body for answer in hidden] == [answer.body for answer in unknown]
    for path in PAGES:
        assert "jones" not in nora.get(path).text
    assert sam.post(f"/recordings/{ward.ward3}/retry", {"token": sam.token()}).status == 403


def test_looks_at_words_are_in_the_audit_log(ward: Ward) -> None:
    nora = Browser(ward.at, source="127.0.0.7")
    nora.sign_in("nora", PASSWORD)
    seen = len(ward.audit())
    for path in routes(ward.ward3, "smith.json"):
        nora.get(path)
    nora.get(f"/recordings/{ward.ward3}/sound", Range="bytes=1-")
    nora.get(f"/recordings/{ward.ward4}/words")
    entries = ward.audit()[seen:]
    assert {(one["viewer"], one["address"], one["job"]) for one in entries} == {
        ("nora", "127.0.0.7", ward.ward3)
    }
    assert {one["what"] for one in entries} == {"words_seen", "sound_played", "document_downloaded"}
    assert [one["what"] for one in entries].count("sound_played") == 1


def test_what_can_not_be_recorded_is_not_shown(ward: Ward) -> None:
    nora = ward.browser("nora")
    log = ward.clinic.root / "state" / "audit.jsonl"
    kept = log.rename(log.with_suffix(".kept"))
    log.mkdir()
    try:
        answer = nora.get(f"/recordings/{ward.ward3}/words")
        assert answer.status == 503
        assert "audit" in answer.text
        assert nora.get(f"/recordings/{ward.ward3}").status == 200
    finally:
        log.rmdir()
        kept.rename(log)
    assert nora.get(f"/recordings/{ward.ward3}/words").status == 200


def test_a_changed_users_file_counts_at_once(ward: Ward) -> None:
    sam, anna = ward.browser("sam"), ward.browser("anna")
    try:
        write_users(ward.users_file, {name: user for name, user in users().items() if name != "sam"})
        assert sam.get("/").status == 303
        assert anna.get("/").status == 200
        ward.users_file.write_text("users: [")
        answer = anna.get("/")
        assert answer.status == 503
        assert "smith" not in answer.text
    finally:
        write_users(ward.users_file, users())
    assert anna.get("/").status == 200


def test_open_pages_are_told_what_changes(ward: Ward) -> None:
    nora = ward.browser("nora")
    with stream(nora) as lines:
        assert next(line for line in lines if line.startswith("event:")) == "event: health"
        assert next(lines) == "data: {}"
        write_wav(ward.clinic.inbox / "ward3" / "new.wav", pitch=700)
        assert ward.clinic.once() == 69  # the API is gone by now
        assert "event: changed" in lines
        nora.post("/sign-out", {"token": nora.token()})
        assert "event: signed-out" in lines
        assert list(lines)[-1:] in ([], [""])


@contextmanager
def stream(browser: Browser) -> Iterator[Iterator[str]]:
    """The lines of /live, as they come."""
    connection = browser.connection()
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    connection.request("GET", "/live", headers={"Cookie": cookies})
    response = connection.getresponse()
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/event-stream")
    try:
        yield (line.decode().rstrip("\n") for line in response)
    finally:
        connection.close()


def test_a_unix_socket_is_for_owner_and_group(tmp_path: Path) -> None:
    listen = f"unix:{tmp_path}/page.sock"
    clinic = Clinic(tmp_path / "c", "http://127.0.0.1:9", page=page_section(tmp_path / "c", listen=listen))
    clinic.once()
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(str(tmp_path / "page.sock"))
    left_behind.close()  # nobody listens there
    with page_of(clinic, listen) as browser:
        assert stat.S_IMODE((tmp_path / "page.sock").stat().st_mode) == 0o660
        assert os.listdir(tmp_path).count("page.sock") == 1
        assert browser.get("/?part=1").status == 401
        assert browser.get("/", X_Remote_User="paul").status == 200
        assert browser.get("/", X_Remote_User="paul", X_Forwarded_Proto="https").status == 200
        second = clinic.run("page")
        assert second.returncode == 78
        assert "another process listens there" in second.stderr
        assert browser.get("/", X_Remote_User="paul").status == 200
    assert not (tmp_path / "page.sock").exists()
    (tmp_path / "page.sock").write_text("something else")
    refused = clinic.run("page")
    assert refused.returncode == 78
    assert "not a socket" in refused.stderr
    assert (tmp_path / "page.sock").read_text() == "something else"
