"""Every route of the page, as the app has them, for everybody: what one may not see seems not to exist.

A new route is tried as soon as it exists; one with a new parameter fails until this says what to put in.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.routing import Route

from invox_watcher.page import pages
from invox_watcher.page.access import Access, AccessRules
from invox_watcher.page.app import Site, create_app
from invox_watcher.page.live import Live
from invox_watcher.page.record import Record
from tests.kit.browser import Answer, Browser
from tests.kit.hospital import PASSWORD, Hospital, hospital
from tests.kit.page_clinic import page_of
from tests.kit.page_samples import SampleSource
from tests.kit.recordings import write_wav

# Ids that are no job's: of the right form, and whatever else one may type.
UNKNOWN = "20260101t000000-000000000000"
ODD_IDS = ("x", "..", "%2e%2e", "%00", "%ff", "'%20OR%201=1--", "a" * 300, "-", "*", "jones.wav")
PUBLIC = ("/sign-in", "/static/{digest}/{name}")
WARD3 = ("nora", "olga", "sam")  # see nothing of ward 4; nora may listen, olga act as well, sam neither


def app_routes(folder: Path) -> list[Route]:
    """The routes of the app."""
    source, access = SampleSource(), Access(None, AccessRules())
    app = cast("Any", create_app(Site(source, access, Record(folder)), access, Live(source, access), pages))
    found = [route for route in app._app.routes if isinstance(route, Route)]
    assert len(found) == len(app._app.routes)
    return found


@dataclass
class Wards:
    clinic: Hospital
    routes: list[Route]
    done: str  # the jobs of ward 4
    failed: str
    browsers: Mapping[str, Browser]

    def addresses(self, route: Route, job: str) -> list[str]:
        """The route's addresses for that job, with the names of ward 4's document and target."""
        put = {
            "id": [job],
            "name": ["jones.json"] if "/documents/" in route.path else ["page.css"],
            "target": ["letters"],
            "digest": ["0" * 16],
        }
        names = re.findall(r"{(\w+)(?::\w+)?}", route.path)
        assert set(names) <= set(put), f"say here what to put into {route.path}"
        paths = []
        for values in itertools.product(*(put[name] for name in names)):
            path = route.path
            for name, value in zip(names, values, strict=True):
                path = re.sub(rf"{{{name}(:\w+)?}}", value, path)
            paths += [path, f"{path}?part=1"]
        return paths

    def ask(self, who: str, method: str, path: str, **headers: str) -> Answer:
        """A request with everything that a form of this viewer's carries."""
        browser = self.browsers[who]
        form = {"content-type": "application/x-www-form-urlencoded"}
        body = f"token={self.tokens[who]}" if method == "POST" else None
        return browser.request(method, path, body, headers=(form if body else {}) | headers)

    def __post_init__(self) -> None:
        self.tokens = {
            name: browser.token() if browser.cookies else "x" for name, browser in self.browsers.items()
        }


@pytest.fixture(scope="module")
def wards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wards]:
    root = tmp_path_factory.mktemp("wards")
    with hospital(root) as found:
        found.letters.refuse = 422
        inbox = found.clinic.inbox
        write_wav(inbox / "ward3" / "smith.wav")
        write_wav(inbox / "ward4" / "jones.wav", pitch=500)
        found.dictate("ward4/miller.wav", seconds=2, is_understood=False)
        found.clinic.once()
        ids = {name: job["id"] for name, job in found.jobs().items()}
        with page_of(found.clinic, "{}:{}".format(*found.at)):
            browsers = {name: Browser(found.at) for name in ("nobody", *WARD3, "wilma", "anna")}
            for name, browser in browsers.items():
                assert name == "nobody" or browser.sign_in(name, PASSWORD).status == 303
            jones, miller = ids["ward4/jones.wav"], ids["ward4/miller.wav"]
            yield Wards(found, app_routes(root), jones, miller, browsers)


def methods(route: Route) -> list[str]:
    return sorted(route.methods or ())


def as_seen(answer: Answer, job: str) -> tuple[object, ...]:
    """Everything that an answer tells but its time, with the id that was asked for left out."""
    kept = [
        (name.lower(), value.replace(job, "ID"))
        for name, value in answer.headers.items()
        if name.lower() != "date"
    ]
    sized = [(name, value) for name, value in kept if name != "content-length" or job not in answer.text]
    return answer.status, sorted(sized), answer.body.replace(job.encode(), b"ID")


def test_every_route_needs_a_person(wards: Wards) -> None:
    tried = 0
    for route in wards.routes:
        for path, method in itertools.product(wards.addresses(route, wards.done), methods(route)):
            answer = wards.ask("nobody", method, path)
            tried += 1
            if route.path in PUBLIC:
                assert answer.status in (200, 303, 403, 404), (method, path)
                assert "jones" not in answer.text
            elif answer.status == 303:
                assert answer.headers["Location"].startswith("/sign-in?next=")
                assert answer.body == b""
            else:
                assert answer.status == 401, (method, path)
    assert tried > 30


@pytest.mark.parametrize("who", [*WARD3, "nobody"])
def test_another_wards_recording_is_as_one_that_does_not_exist(wards: Wards, who: str) -> None:
    known = {wards.done, wards.failed}
    tried = 0
    for route in wards.routes:
        if "{id}" not in route.path:
            continue
        for method in methods(route):
            places = zip(*(wards.addresses(route, job) for job in (UNKNOWN, *sorted(known))), strict=True)
            for unknown, *hidden in places:
                expected = as_seen(wards.ask(who, method, unknown), UNKNOWN)
                assert expected[0] in {"olga": (404,), "nobody": (303, 401)}.get(who, (403, 404)), unknown
                for path, job in zip(hidden, sorted(known), strict=True):
                    assert as_seen(wards.ask(who, method, path), job) == expected, (method, path)
                    tried += 1
    assert tried > 40
    jobs = wards.clinic.jobs()
    assert jobs["ward4/miller.wav"]["id"] == wards.failed  # it was not retried
    assert not [one for one in wards.clinic.audit() if one["job"] in known and one["viewer"] == who]


def test_ids_that_no_job_has_are_not_found(wards: Wards) -> None:
    for route in wards.routes:
        if "{id}" not in route.path:
            continue
        for job, method in itertools.product(ODD_IDS, methods(route)):
            for path in wards.addresses(route, job):
                for who in ("olga", "anna"):
                    answer = wards.ask(who, method, path)
                    assert answer.status in (404, 405), (method, path, answer.status)
                    assert "Traceback" not in answer.text


def test_lists_hold_nothing_of_another_ward(wards: Wards) -> None:
    cursor = re.search(r"after=([^&\"]+)", wards.browsers["wilma"].get("/find?rows=1").text)
    assert cursor is not None
    after = (f"after={cursor[1]}", f"after={wards.done}", f"rows=1&after={cursor[1]}")
    texts = ("text=jones", "text=%25", "text=_")
    queries = ("", *texts, "state=done", "state=failed", "suspect=1", "rows=1", "rows=1000", *after)
    for route in wards.routes:
        if "{" in route.path or "GET" not in methods(route) or route.path == "/live":
            continue
        for query, part in itertools.product(queries, ("", "&part=1")):
            for who in WARD3:
                text = wards.browsers[who].get(f"{route.path}?{query}{part}").text
                for hidden in ("jones", "miller", "ward4", wards.done, wards.failed, "letters"):
                    assert hidden not in re.sub(r'value="[^"]*"|[?&](text|after)=[^"&]*', "", text), (
                        route.path,
                        query,
                    )
    for who in ("wilma", "anna"):  # who may see it does
        assert "jones" in wards.browsers[who].get("/find?text=jones").text
        assert "miller" in wards.browsers[who].get("/needs").text


def test_who_may_reaches_it_by_the_same_addresses(wards: Wards) -> None:
    """Else the tests above would show nothing."""
    reached = {}
    for route in wards.routes:
        if "{id}" in route.path and "GET" in methods(route):
            path = wards.addresses(route, wards.done)[0]
            reached[path] = [wards.ask(who, "GET", path).status for who in ("wilma", "anna")]
    assert set(map(tuple, reached.values())) == {(200, 200)}, reached
    assert len(reached) >= 5
    send = f"/recordings/{wards.done}/targets/letters/send"
    assert wards.ask("olga", "POST", send).status == 404
    assert wards.ask("wilma", "POST", send).status == 303


def test_every_form_has_to_be_sent_by_a_page_from_here(wards: Wards) -> None:
    host = "{}:{}".format(*wards.clinic.at)
    own = {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    foreign = [
        {"Origin": "http://example.com"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"}, {"Origin": f"http://{host}0"}, {"Sec-Fetch-Site": "none"},
    ]  # fmt: skip
    posts = [route for route in wards.routes if "POST" in methods(route)]
    assert len(posts) >= 4
    wilma = wards.browsers["wilma"]
    for route in posts:
        path = wards.addresses(route, wards.failed)[0]
        for headers in foreign:
            assert wards.ask("wilma", "POST", path, **headers).status == 403, (path, headers)
        if route.path != "/sign-in":  # which has its own defence: whoever signs in gets a new session
            for token in ("", "x", wards.tokens["anna"], wards.tokens["olga"]):
                assert wilma.post(path, {"token": token}, **own).status == 403, path
            assert wilma.request("POST", path).status in (400, 403)
    for route, method in itertools.product(wards.routes, ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")):
        path = wards.addresses(route, wards.failed)[0]
        assert wards.ask("wilma", method, path).status in (403, 405), (method, path)
    assert wards.clinic.jobs()["ward4/miller.wav"]["id"] == wards.failed
    assert wilma.get("/").status == 200  # she was not signed out either
