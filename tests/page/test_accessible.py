"""The page for everybody: axe-core finds nothing, nothing is cut off, and a large journal is no wait."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from bench.journal import seed
from tests.kit.chromium import Chromium, chromium, cost_of_loading
from tests.kit.hospital import CITIES, PASSWORD, Hospital, hospital, put, segments
from tests.kit.page_clinic import page_of

pytestmark = [pytest.mark.needs("chromium", "chromedriver"), pytest.mark.timeout(550)]

AXE = Path(sys.prefix, "axe/node_modules/axe-core/axe.min.js")
RUN_AXE = """
const done = arguments[0];
axe.run(document, {resultTypes: ["violations"]}).then(({violations}) => done(violations.map(
  ({id, nodes}) => `${id}: ${nodes.map((one) => one.html).join(" ").slice(0, 300)}`)));
"""
_STOPS = """
const stops = document.querySelectorAll("a[href], button, summary, input:not([type=hidden]), select, audio");
return [...stops].filter((one) => one.checkVisibility()).map((one, number) => {
  one.stop = number; // an update may change its markup
  return [number, one.outerHTML];
});
"""
_FOCUS = """
const one = document.activeElement, look = getComputedStyle(one);
return [one.stop ?? -1, look.outlineStyle !== "none" || look.boxShadow !== "none"];
"""
TITLES = {"en": "Needs you", "de": "Zu erledigen", "es": "Pendiente de usted"}
FINISHED = 100_000
NAMES = ("done", "doubtful", "failed", "refused")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """One recording of each kind, one under way, and a file that is not taken."""
    with hospital(tmp_path_factory.mktemp("full")) as clinic:
        clinic.letters.refuse = 422
        clinic.dictate("ward3/done.wav")
        clinic.dictate(
            "ward3/doubtful.wav", said=segments([line for line in CITIES if not 12 < line[0] < 28])
        )
        clinic.dictate("ward3/failed.wav", seconds=3, is_understood=False)
        clinic.dictate("ward4/refused.wav", seconds=8, said=segments(CITIES[:2]))
        clinic.start()
        for name, state in zip(NAMES, ("done", "done", "failed", "done"), strict=True):
            clinic.wait_until(f"ward{4 if name == 'refused' else 3}/{name}.wav", state)
        clinic.api.fault({"on": "status", "do": "status", "status": 503, "times": None})
        clinic.dictate("ward3/under-way.wav", seconds=3)
        put(clinic.clinic.inbox, "ward3/not-audio.docx", b"PK")
        yield clinic


def pages(clinic: Hospital) -> dict[str, str]:
    """The path of every page, by what it shows."""
    ids = {Path(name).stem: job["id"] for name, job in clinic.jobs().items()}
    return {
        "now": "/",
        "needs": "/needs",
        "find": "/find",
        "nothing found": "/find?text=nobody",
        **{name: f"/recordings/{ids[name]}" for name in (*NAMES, "under-way")},
        "words": f"/recordings/{ids['done']}/words",
        "not found": "/recordings/unknown",
        "notice": "/needs?did=retried",
    }


def drawn(browser: Chromium) -> None:
    """Wait until everything is there, the words included."""
    browser.wait("it is drawn", lambda: browser.ask("return document.readyState") == "complete")
    if browser.all("#words"):
        browser.wait("the words are there", lambda: browser.all(".lines li"))


def violations(browser: Chromium) -> list[Any]:
    browser.evaluate(AXE.read_text())
    found: list[Any] = browser.driver.execute_async_script(RUN_AXE)
    return found


@pytest.mark.parametrize("language", TITLES)
def test_axe_finds_nothing_on_any_page(full: Hospital, language: str) -> None:
    assert AXE.exists(), "axe-core is missing. `make test-page` installs it"
    found: dict[tuple[str, str], list[Any]] = {}
    with chromium(full.url, language=language) as browser:
        browser.driver.set_script_timeout(60)
        for scheme in ("light", "dark"):
            browser.look(language=language, scheme=scheme)
            browser.go("/sign-in")
            found["sign-in", scheme] = violations(browser)
            browser.find("#name").send_keys(
                f"nobody-{language}-{scheme}"
            )  # few attempts are allowed for each
            browser.find("#password").send_keys("wrong", Keys.ENTER)
            browser.find("#failure")
            found["refused sign-in", scheme] = violations(browser)
            browser.sign_in("anna", PASSWORD)
            for name, path in pages(full).items():
                browser.go(path)
                drawn(browser)
                assert browser.ask("return document.documentElement.lang") == language
                found[name, scheme] = violations(browser)
            assert TITLES[language] in browser.text("h1")
            browser.link({"en": "Sign out", "de": "Abmelden", "es": "Cerrar sesión"}[language]).click()
            browser.wait("signed out", lambda: browser.path() == "/sign-in")
    assert {page: one for page, one in found.items() if one} == {}
    assert len(found) == 2 * (2 + len(pages(full)))


@pytest.mark.parametrize("language", TITLES)
def test_nothing_is_cut_off_on_a_phone_or_at_200_percent(full: Hospital, language: str) -> None:
    sideways = []
    with chromium(full.url) as browser:
        browser.sign_in("anna", PASSWORD)
        for width in (320, 390, 640):
            browser.look(language=language, width=width, height=700, scale=2)
            for name, path in pages(full).items():
                browser.go(path)
                drawn(browser)
                shown, wide = browser.ask("return [document.documentElement.scrollWidth, innerWidth]")
                if shown > wide:
                    sideways.append((name, width, shown))
    assert sideways == []


def test_everything_is_reached_by_the_keyboard(full: Hospital) -> None:
    """Tab comes by everything that a mouse could click, in its order, and one sees where it is."""
    with chromium(full.url) as browser:
        browser.sign_in("anna", PASSWORD)
        for name in ("needs", "find", "doubtful"):
            browser.go(pages(full)[name])
            drawn(browser)
            browser.ask("document.querySelector('.skip').focus()")
            left = dict(browser.ask(_STOPS)[1:])
            invisible = []
            for _ in range(3 * len(left)):
                browser.keys(Keys.TAB)
                stop, is_marked = browser.ask(_FOCUS)
                if stop in left:
                    element = left.pop(stop)
                    invisible += [] if is_marked else [element]
                if not left:
                    break
            assert left == {}, name
            assert invisible == [], name


def test_a_large_journal_is_no_wait(tmp_path: Path) -> None:
    """Figures of loading the pages with 100,000 recordings in the journal: -s shows them."""
    with hospital(tmp_path / "large") as clinic:
        clinic.dictate("ward3/okafor.wav", seconds=3, said=segments([(0.2, 2.9, "Of the usual size.")]))
        clinic.clinic.once()
        [job] = clinic.jobs().values()
        seed(tmp_path / "large" / "clinic" / "state", FINISHED)
        one = f"/recordings/{job['id']}"
        rows_of = {"/": 0, "/needs": 0, "/find": 100, "/find?rows=1000": 1000, "/find?text=old": 100,
                   "/find?text=okafor": 1, one: 0}  # fmt: skip
        with page_of(clinic.clinic, "{}:{}".format(*clinic.at)), chromium(clinic.url) as browser:
            of_ward = {path: rows_of[path] for path in ("/", "/find", "/find?text=okafor", one)}
            for who, wanted in (("anna", rows_of), ("nora", of_ward)):
                browser.driver.delete_all_cookies()
                browser.sign_in(who, PASSWORD)
                for path, rows in wanted.items():
                    browser.go(path)
                    drawn(browser)
                    assert len(browser.all("a.row")) == rows
                    cost = cost_of_loading(browser)
                    print(who, path, {name: round(value) for name, value in cost.items()})
                    assert cost["requests"] <= 8
                    assert cost["bytes"] < (1_500_000 if rows == 1000 else 200_000)
                    assert cost["shown"] < 20_000  # on a busy machine
