"""The page's HTML: each page, hostile values, forms with their token, what each role sees, errors, ranges."""

from __future__ import annotations

import dataclasses
import html
import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from html.parser import HTMLParser
from ipaddress import ip_network
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from invox_watcher.accounts import Role
from invox_watcher.errors import InvoxError, JournalError, Reason
from invox_watcher.page import pages, rendering
from invox_watcher.page.access import Access, AccessRules
from invox_watcher.page.app import Site, create_app
from invox_watcher.page.live import Live
from invox_watcher.page.model import Trouble
from invox_watcher.page.record import Record
from tests.kit import page_samples as samples
from tests.kit.asgi import Answer, ask
from tests.kit.page_samples import SampleSource

Asker = Callable[..., Answer]
ONE = f"/recordings/{samples.SUSPECT.id}"
PAGES = (
    "/",
    "/needs",
    "/find",
    *(f"/recordings/{row.id}" for row in samples.ROWS),
    f"{ONE}/words",
    "/recordings/unknown",
)
VOID = {"meta", "link", "input", "br"}
IN_SVG = {"path", "rect", "circle", "use"}


class Document(HTMLParser):
    """The elements of a page; `problems` has what a browser would repair."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.problems: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.problems += [f"<{name}> stays open" for name in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in IN_SVG:
            self.problems.append(f"<{tag}/>")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")


@pytest.fixture
def source() -> SampleSource:
    return SampleSource()


@pytest.fixture
def asker(source: SampleSource, tmp_path: Path) -> Iterator[Asker]:
    """Asks the app as a viewer whom a proxy names, with the given roles."""
    record = Record(tmp_path)

    @cache
    def app_for(roles: frozenset[Role]) -> ASGIApp:
        access = Access(None, AccessRules((ip_network("127.0.0.1"),), "X-Remote-User", roles))
        return create_app(Site(source, access, record), access, Live(source, access), pages)

    def asked(target: str, *, roles: frozenset[Role] = frozenset(Role), **more: object) -> Answer:
        headers: Mapping[str, str] = more.pop("headers", None) or {}  # type: ignore[assignment]
        return ask(app_for(roles), target, headers={"X-Remote-User": "meier", **headers}, **more)  # type: ignore[arg-type]

    yield asked
    record.close()


def token_of(answer: Answer) -> str:
    return re.findall(r'name="token" value="(\w+)"', answer.text)[0]


@pytest.mark.parametrize("language", ["en", "de", "es"])
@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_whole_and_marks_its_language(asker: Asker, path: str, language: str) -> None:
    answer = asker(path, headers={"Accept-Language": language})
    assert answer.status == (404 if path.endswith("unknown") else 200)
    document = Document(answer.text)
    assert document.problems == []
    assert ("html", {"lang": language}) in document.elements
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert sorted(ids) == sorted(set(ids))
    headings = [int(tag[1]) for tag, _ in document.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))


@pytest.mark.parametrize("path", PAGES)
def test_hostile_values_are_only_ever_text(asker: Asker, source: SampleSource, path: str) -> None:
    for health in (samples.READY, samples.HELD, samples.UNKNOWN):
        source.told = health
        text = asker(path).text
        for tag, attributes in Document(text).elements:
            assert tag != "script" or attributes["src"].startswith("/static/")
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            assert not attributes.get("href", "").lower().startswith(("javascript:", "data:", "http"))
        assert "<script>alert" not in text
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_a_page_with_words_does_not_ask_for_them_again_and_again(asker: Asker) -> None:
    assert 'data-live="/live"' in asker(ONE).text
    assert "data-live" not in asker(f"{ONE}/words").text


def test_odd_bytes_and_invisible_characters_are_shown(asker: Asker) -> None:
    text = asker(f"/recordings/{samples.ODD.id}").text
    assert r"\u202egpj.\x1b[31m\xff.wav</bdi>" in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("smith.wav", "<bdi>smith.wav</bdi>"),
        ("ward 3/müller.wav", '<bdi><span class="folder">ward 3/</span>müller.wav</bdi>'),
        ("<b>/&.wav", '<bdi><span class="folder">&lt;b&gt;/</span>&amp;.wav</bdi>'),
        ("a\udcffb\n\u200bc\ue000", r"<bdi>a\xffb\x0a\u200bc\ue000</bdi>"),
        ("\U000e0041.wav", r"<bdi>\U000e0041.wav</bdi>"),
        ("دكتور.wav", "<bdi>دكتور.wav</bdi>"),
    ],
)
def test_name_is_isolated_and_legible(name: str, shown: str) -> None:
    assert rendering.named(name) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "< 1 s"), (0.99, "< 1 s"), (4.8, "4 s"), (59.9, "59 s"), (60, "1 min"), (75, "1 min 15 s"),
     (601, "10 min"), (7500, "2 h 5 min"), (7200, "2 h"), (40_000, "11 h"), (1e5, "1 d 3 h"), (1e7, "115 d")],
)  # fmt: skip
def test_durations_have_two_units_at_most(seconds: float, shown: str) -> None:
    assert rendering.took(seconds).replace("\N{NO-BREAK SPACE}", " ") == shown


def test_every_form_that_acts_carries_the_token(asker: Asker) -> None:
    acting = 0
    for path in PAGES:
        for form in re.findall(r'<form method="post".*?</form>', asker(path).text, re.S):
            acting += 1
            assert re.search(r'<input type="hidden" name="token" value="\w{64}">', form)
    assert acting >= 4


def test_a_part_is_what_the_script_exchanges(asker: Asker) -> None:
    whole, part = asker("/").text, asker("/?part=1").text
    assert part.startswith("<header")
    assert part.rstrip().endswith("</main>")
    assert re.sub(r"\s", "", part) in re.sub(r"\s", "", whole)


def test_an_unreadable_inbox_is_not_shown_as_an_empty_one(asker: Asker, source: SampleSource) -> None:
    source.inbox_unknown_because = "The share does not answer."
    text = asker("/").text
    assert "The share does not answer." in text
    assert "No file waits" not in text


def test_nothing_to_show_is_said_in_words(asker: Asker, source: SampleSource) -> None:
    source.is_empty = True
    text = asker("/").text
    assert "Nothing is under way." in text
    assert "No file waits in the inbox." in text
    assert "Every transcript is delivered." in text
    assert "needs you" not in text
    assert "Nothing needs you." in asker("/needs").text
    assert "No recording found." in asker("/find?text=nobody").text


# ---- what each role sees -----------------------------------------------------------------------------------


def test_one_who_may_only_see_gets_no_words_and_no_buttons(asker: Asker) -> None:
    see = frozenset({Role.SEE})
    for path in PAGES:
        if path.endswith("words"):
            continue
        text = asker(path, roles=see).text
        assert "<button" not in text or path == "/find"
        assert "/words" not in text
        assert "/sound" not in text
        assert "/documents/" not in text
    for path in ("words", "sound", "loudness", "documents/smith.json"):
        assert asker(f"{ONE}/{path}", roles=see).status == 403
    assert asker(f"{ONE}/retry", roles=see, form={}).status == 403
    assert asker("/", roles=frozenset()).status == 403


def test_a_look_at_words_is_recorded_and_one_at_a_life_is_not(asker: Asker, tmp_path: Path) -> None:
    asker(ONE)
    assert not list(tmp_path.glob("audit*"))
    lines = asker(f"{ONE}/words?part=lines")
    assert lines.text.lstrip().startswith('<ol class="lines">')
    asker(f"{ONE}/documents/smith.json")
    for part in ("bytes=1-", "bytes=2-", "bytes=9-"):
        asker(f"{ONE}/sound", headers={"Range": part})
    recorded = "".join(file.read_text() for file in tmp_path.glob("audit*"))
    assert [recorded.count(what) for what in ("words_seen", "document_downloaded", "sound_played")] == [
        1,
        1,
        1,
    ]
    assert recorded.count("meier") == 3


# ---- actions -----------------------------------------------------------------------------------------------


def test_retry_goes_back_with_a_notice(asker: Asker, source: SampleSource) -> None:
    form = {"token": token_of(asker("/needs")), "back": "needs"}
    answer = asker(f"/recordings/{samples.FAILED.id}/retry", form=form)
    assert (answer.status, answer.headers["location"]) == (303, "/needs?did=retried")
    assert source.asked == [f"retry {samples.FAILED.id}"]
    assert 'id="notice"' in asker("/needs?did=retried").text
    assert 'id="notice"' not in asker("/needs?did=%3Cb%3E").text


def test_what_was_done_before_is_not_said_to_be_done(asker: Asker) -> None:
    token = token_of(asker("/needs"))
    for path, first, again in (
        (f"/recordings/{samples.FAILED.id}/retry", "moved to the inbox", "This was done before"),
        (f"{ONE}/targets/letters/send", "It is sent again", "already waiting to be sent"),
    ):
        for says in (first, again):
            answer = asker(path, form={"token": token})
            assert says in asker(answer.headers["location"]).text


def test_a_delivery_is_sent_again_by_the_name_of_its_target(asker: Asker, source: SampleSource) -> None:
    text = asker(ONE).text
    action = re.findall(r'action="(/recordings/[^"]*/send)"', text)
    assert action == [f"{ONE}/targets/letters/send"]
    form = {"token": token_of(asker(ONE))}
    answer = asker(f"{ONE}/targets/a%2Fb%FF/send", form=form)
    assert (answer.status, answer.headers["location"]) == (303, f"{ONE}?did=sent_again")
    assert source.asked == [f"send {samples.SUSPECT.id} a/b\udcff"]


def test_what_was_retried_says_why_it_had_failed_and_is_not_retried_twice(asker: Asker) -> None:
    failed, retried = (asker(f"/recordings/{row.id}").text for row in (samples.FAILED, samples.RETRIED))
    for text in (failed, retried):
        assert "Copy it again from the recorder." in text
    assert "/retry" in failed
    assert "/retry" not in retried
    assert f'href="/recordings/{samples.RETRY.id}"' in retried
    assert f'href="/recordings/{samples.RETRIED.id}"' in asker(f"/recordings/{samples.RETRY.id}").text


def test_what_was_not_delivered_can_be_sent_from_the_list(asker: Asker, source: SampleSource) -> None:
    text = asker("/needs").text
    action = f"/recordings/{samples.UNDELIVERED.id}/targets/letters/send"
    assert f'action="{action}"' in text
    answer = asker(action, form={"token": token_of(asker("/needs")), "back": "needs"})
    assert answer.headers["location"] == "/needs?did=sent_again"
    assert source.asked == [f"send {samples.UNDELIVERED.id} letters"]


def test_a_refused_action_gives_its_reason(asker: Asker, source: SampleSource) -> None:
    def refuse(*_args: object) -> str:
        raise InvoxError("Its file is gone.", code="gone", hint="Copy it to the inbox.")

    form = {"token": token_of(asker("/needs"))}
    source.retry = refuse  # type: ignore[method-assign]
    answer = asker(f"/recordings/{samples.FAILED.id}/retry", form=form)
    assert answer.status == 409
    assert "Its file is gone." in answer.text
    assert "Copy it to the inbox." in answer.text
    assert f'href="/recordings/{samples.FAILED.id}"' in answer.text


def test_an_action_without_the_journal_is_to_be_tried_again(asker: Asker, source: SampleSource) -> None:
    def refuse(*_args: object) -> str:
        raise JournalError("The journal is locked.")

    form = {"token": token_of(asker("/needs"))}
    source.retry = refuse  # type: ignore[method-assign]
    assert asker(f"/recordings/{samples.FAILED.id}/retry", form=form).status == 503


@pytest.mark.parametrize("form", [{}, {"token": ""}, {"token": "0" * 64}])
def test_without_its_token_nothing_is_done(asker: Asker, source: SampleSource, form: dict[str, str]) -> None:
    assert asker(f"/recordings/{samples.FAILED.id}/retry", form=form).status == 403
    assert asker(f"{ONE}/targets/letters/send", form=form).status == 403
    assert source.asked == []


# ---- find --------------------------------------------------------------------------------------------------


def test_find_keeps_what_was_asked_on_its_next_page(asker: Asker, source: SampleSource) -> None:
    source.rows = [dataclasses.replace(samples.DONE, id=f"job{number}") for number in range(250)]
    text = asker("/find?text=okafor&state=done&zone=60&suspect=").text
    assert text.count('<tr role="row" id="f-job') == 100
    [more] = re.findall(r'rel="next" href="([^"]*)"', text)
    assert more == "/find?text=okafor&amp;zone=60&amp;state=done&amp;after=100"
    last = asker("/find?text=okafor&after=200").text
    assert 'rel="next"' not in last
    assert last.count('<tr role="row" id="f-job') == 50


def test_a_search_that_goes_on_does_not_say_that_nothing_is_there(asker: Asker, source: SampleSource) -> None:
    source.searched_up_to = 700
    text = asker("/find?text=nobody").text
    assert "No recording found." not in text
    assert "There are older recordings that have not been searched yet." in text
    assert re.findall(r'rel="next" href="([^"]*)"', text) == ["/find?text=nobody&amp;after=700"]


@pytest.mark.parametrize(
    "query", ["day=2026-99-01", "zone=x", "rows=1e9", "state=lost", "rows=-5", "text=%00%FF"]
)
def test_nonsense_in_a_query_is_no_error(asker: Asker, query: str) -> None:
    assert asker(f"/find?{query}").status == 200


def test_a_thousand_rows_are_drawn_in_a_moment(asker: Asker, source: SampleSource) -> None:
    source.rows = [dataclasses.replace(samples.ROWS[n % 11], id=f"job{n}") for n in range(1200)]
    asker("/find")
    began = time.process_time()
    text = asker("/find?rows=5000").text
    took = time.process_time() - began
    assert text.count('<tr role="row" id="f-job') == 1000
    assert took < 2  # seconds of CPU; a tenth of that is usual


def test_what_only_administrators_can_do_is_shown_to_them(asker: Asker, source: SampleSource) -> None:
    command = Trouble(Reason("x", "It failed.", "`invox-watcher show ID` has what it printed."), None)
    plain = Trouble(Reason("y", "It is full.", "Free up space."), None)
    source.told = dataclasses.replace(
        samples.READY, ready=False, troubles=(command, plain), unknown_because="No address."
    )
    for roles, is_shown in ((frozenset(Role), True), (frozenset({Role.SEE, Role.LISTEN}), False)):
        text = html.unescape(asker("/", roles=roles).text)
        assert ("`invox-watcher show ID`" in text) == is_shown
        assert ("No address." in text) == is_shown
        assert ("Tell your administrator." in text) != is_shown
        assert "Free up space." in text
    source.inbox_unknown_because = "/srv/inbox can't be read"
    assert "/srv/inbox" not in asker("/", roles=frozenset({Role.SEE})).text


def test_what_has_no_words_or_no_sound_says_so(asker: Asker, source: SampleSource) -> None:
    assert 'id="player"' in asker(ONE).text
    assert "No words were recognized." not in asker(f"{ONE}/words?part=lines").text
    source.is_audio, source.is_mute = False, True
    shown = asker(ONE).text
    assert 'id="player"' not in shown
    assert "this file is not a recording" in shown
    assert "No words were recognized." in asker(f"{ONE}/words?part=lines").text


# ---- errors ------------------------------------------------------------------------------------------------


def test_an_unreadable_journal_is_said_with_its_hint(asker: Asker, source: SampleSource) -> None:
    source.raises = JournalError("The journal is locked.", hint="Stop the other program.")
    for path in PAGES:
        answer = asker(path)
        assert answer.status == 503
        assert "The journal is locked." in answer.text
        assert "Stop the other program." in answer.text
        assert 'data-live="/live"' in answer.text  # so that it recovers by itself


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 429, 500, 503])
def test_every_error_has_a_title_and_what_to_do(status: int) -> None:
    t = rendering.words_in("en")
    title, advice = pages._explained(t, status)
    assert len(title) > 5
    assert len(advice) > 10


@pytest.mark.parametrize(
    ("health", "line"),
    [
        (samples.READY, "Recordings are being processed since 2026-11-26 05:30 UTC"),
        (samples.HELD, "Recordings are held up since 2026-11-28 18:02 UTC"),
        (
            samples.STOPPED,
            "Stopped: recordings wait until the service is started since 2026-11-28 07:02 UTC",
        ),
        (samples.UNKNOWN, "It is not known whether recordings are being processed"),
    ],
)
def test_health_in_one_line(asker: Asker, source: SampleSource, health: samples.Health, line: str) -> None:
    source.told = health
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", asker("/").text))
    assert line in text
    assert ("Why?" in asker("/find").text) == (health is not samples.READY)


# ---- sound and documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("", (200, b"0123456789", None)),
        ("bytes=0-", (206, b"0123456789", "bytes 0-9/10")),
        ("bytes=2-4", (206, b"234", "bytes 2-4/10")),
        ("bytes=-3", (206, b"789", "bytes 7-9/10")),
        ("bytes=-99", (206, b"0123456789", "bytes 0-9/10")),
        ("bytes=8-99", (206, b"89", "bytes 8-9/10")),
        ("bytes=10-", (416, b"", "bytes */10")),
        ("bytes=5-4", (416, b"", "bytes */10")),
        ("bytes=-0", (416, b"", "bytes */10")),
        ("bytes=0-1,3-4", (200, b"0123456789", None)),
        ("lines=1-2", (200, b"0123456789", None)),
        ("bytes=-", (200, b"0123456789", None)),
    ],
)
def test_sound_by_range(
    asker: Asker, source: SampleSource, asked: str, answered: tuple[int, bytes, str | None]
) -> None:
    source.tone = b"0123456789"
    answer = asker(f"{ONE}/sound", headers={"Range": asked} if asked else {})
    assert (answer.status, answer.body, answer.headers.get("content-range")) == answered
    head = asker(f"{ONE}/sound", method="HEAD", headers={"Range": asked} if asked else {})
    assert (head.status, head.headers["content-length"]) == (200, "10")  # ranges are of GET only
    assert "content-range" not in head.headers


def test_a_document_is_downloaded_by_its_bytes(asker: Asker, source: SampleSource) -> None:
    text = asker(ONE).text
    [link] = re.findall(r'href="([^"]*%FF\.txt)"', text)
    answer = asker(link)
    assert source.asked == [f"{samples.HOSTILE.replace('/', '')}\udcff.txt"]
    assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''%3Cscript%3E")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_static_files_are_kept_forever_and_only_by_their_own_name(asker: Asker) -> None:
    [style] = re.findall(r'rel="stylesheet" href="([^"]*)"', asker("/").text)
    answer = asker(style)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in answer.headers["cache-control"]
    assert asker(style.replace("page.css", "..%2Fpages.py")).status == 404
    assert asker("/static/0/page.css").status == 404
    for name, content in rendering._static_files().items():
        assert b"http" not in content.replace(b"http://www.w3.org/2000/svg", b""), name
