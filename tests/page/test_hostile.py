"""Names, words and errors that were chosen to do harm: shown as what they are, and nothing of them runs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from selenium.webdriver.common.by import By

from invox_watcher.sandbox.ledger import Segment
from tests.kit.browser import Browser
from tests.kit.chromium import Chromium, chromium
from tests.kit.hospital import PASSWORD, Hospital, hospital, put
from tests.kit.waiting import wait_for

pytestmark = [pytest.mark.needs("chromium", "chromedriver"), pytest.mark.timeout(400)]

RUN = "window.harmed=1"
TEXTS = (
    f"<script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f'"><svg onload={RUN}>',
    f"' onmouseover='{RUN}' x='",
    f"</title></textarea></style></script><script>{RUN}</script>",
    f"javascript:{RUN}",
    "{{7*7}}${7*7}<%=7*7%>{% raw %}",
    "<!--<base href=//example.com><meta http-equiv=refresh content=0;url=//example.com>",
    f"<iframe srcdoc='<script>parent.harmed=1</script>'></iframe><a href=javascript:{RUN}>x</a>",
    "\u202e\u2066gpj.wav\u2069 \u200b\u00ad\ufeff",
    "\x01\x07\x1b[31m\x7f\x85\u2028",
    "👩🏽‍⚕️🏥 Ünïcödé ﷽ ج",
    "&lt;b&gt;&amp;&#60;script&#62;",
)
# As file names: without a slash, and no longer than 255 bytes.
NAMES = (
    f"<img src=x onerror={RUN}>.wav",
    f'"><svg onload={RUN}>.wav',
    f"' autofocus onfocus='{RUN}.wav",
    f"<script>{RUN}<\u2215script>.wav",
    "\u202egpj.\x1b[31m\x07.wav",
    os.fsdecode(b"not-utf-8-\xff\xfe\xc3\x28.wav"),
    "👩🏽‍⚕️🏥 ج.wav",
    "n" * 251 + ".wav",
    "%2e%2e%2f%00?#&=+.wav",
    "a b  c;d,e'f`g.wav",
    "{{7*7}}.wav",
    "-rf.wav",
)

_HARMFUL = """
const places = ["href", "src", "action", "formaction", "srcdoc", "style"];
const isHarmful = ({name, value}) => name.startsWith("on") || places.includes(name) && !/^[/#]/.test(value);
return [...document.querySelectorAll("*")].filter((one) => [...one.attributes].some(isHarmful))
  .map((one) => one.outerHTML);
"""
_FROM_ELSEWHERE = """
const loaded = performance.getEntriesByType("resource").map((one) => one.name);
return loaded.filter((one) => !one.startsWith(origin));
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """Everything that can be chosen from outside is hostile: names, words, speakers, a target's answer."""
    speakers = {
        "Speaker_00": TEXTS[0],
        "Speaker_01": TEXTS[1],
        "Speaker_02": TEXTS[2],
        "Speaker_03": TEXTS[4],
    }
    with hospital(tmp_path_factory.mktemp("hostile"), outputs={"speaker_names": speakers}) as clinic:
        clinic.letters.refuse = 422
        clinic.recognizer.complaint = f"{TEXTS[0]} {TEXTS[1]} {TEXTS[2]} {TEXTS[9]}"
        words = [Segment(0.2 * n, 0.2 * n + 0.2, text, n % 4) for n, text in enumerate(TEXTS)]
        for number, name in enumerate(NAMES):
            folder = ("ward3", "ward4", f"<b onclick={RUN}>folder")[number % 3]
            is_understood = number % 4 != 3
            clinic.dictate(f"{folder}/{name}", seconds=3, said=words, is_understood=is_understood)
        put(clinic.clinic.inbox, f"ward3/<script>{RUN}<\u2215script>.docx", b"PK not a recording")
        put(clinic.clinic.inbox, os.fsdecode(b'ward3/\xff"onload=x.wav.part'), b"RIFF")
        clinic.start()
        wait_for("all have ended", lambda: has_ended(clinic, len(NAMES)), seconds=120)
        yield clinic


def has_ended(clinic: Hospital, count: int) -> bool:
    states = [job["state"] for job in clinic.jobs().values()]
    return len(states) >= count and set(states) <= {"done", "failed"}


def is_unharmed(browser: Chromium) -> None:
    """Assert that nothing ran, nothing was let through, and no policy had to be enforced."""
    assert browser.ask("return window.harmed") is None, browser.path()
    allowed = "script[src^='/static/'], link[href^='/static/']"
    for forbidden in ("script", "iframe", "base", "meta[http-equiv]", "img", "object", "style"):
        found = [one for one in browser.all(forbidden) if one not in browser.all(allowed)]
        assert found == [], (browser.path(), forbidden)
    assert browser.ask(_HARMFUL) == []
    assert browser.ask(_FROM_ELSEWHERE) == []
    assert browser.look_for_complaints() == [], browser.path()


def test_nothing_hostile_runs_on_any_page(hostile: Hospital) -> None:
    jobs = hostile.jobs()
    with chromium(hostile.url) as browser:
        browser.sign_in("anna", PASSWORD)
        for path in ("/", "/needs", "/find", "/find?rows=3"):
            browser.go(path)
            browser.wait("it is drawn", lambda: browser.all("main h1"))
            is_unharmed(browser)
        for text in TEXTS:
            browser.go("/find")
            box = browser.find("#text")
            browser.ask("arguments[0].value = arguments[1]; arguments[0].form.submit()", box, text)
            browser.wait("it was looked for", lambda: browser.path().startswith("/find?"))
            is_unharmed(browser)
        shown = ""
        for job in jobs.values():
            browser.go(f"/recordings/{job['id']}")
            if job["state"] == "done":
                browser.wait("the words are there", lambda: len(browser.all(".lines li")) >= len(TEXTS))
                for link in browser.all(".documents a"):
                    assert link.get_attribute("href").startswith(
                        f"{hostile.url}/recordings/{job['id']}/documents/"
                    )
            browser.find("#technical summary").click()
            is_unharmed(browser)
            shown += browser.text()
            if job["state"] == "done":
                browser.go(f"/recordings/{job['id']}/words")
                is_unharmed(browser)
    for text in (*TEXTS[:9], TEXTS[12]):  # as they are, letter by letter
        assert " ".join(text.split()) in shown, text
    for odd in (
        "not-utf-8-\\xff\\xfe\\xc3(",
        "\\u202egpj.\\x1b[31m\\x07.wav",
        "n" * 251 + ".wav",
        "👩🏽",
        "{{7*7}}.wav",
    ):
        assert odd in shown, odd
    [complaint] = {job["failure"]["message"] for job in jobs.values() if TEXTS[0] in str(job["failure"])}
    assert TEXTS[1] in complaint
    assert f"{TEXTS[0]} {TEXTS[1]}" in shown
    assert "\u202e" not in shown
    assert "49.wav" not in shown


def test_hostile_documents_are_downloaded_whole(hostile: Hospital) -> None:
    """Whatever its bytes, each link leads to its file."""
    anna = Browser(hostile.at)
    anna.sign_in("anna", PASSWORD)
    seen = 0
    with chromium(hostile.url) as browser:
        browser.sign_in("anna", PASSWORD)
        for job in hostile.jobs().values():
            browser.go(f"/recordings/{job['id']}")
            for link in browser.driver.find_elements(By.CSS_SELECTOR, ".documents a"):
                answer = anna.get(link.get_attribute("href").removeprefix(hostile.url))
                assert answer.status == 200, link.get_attribute("href")
                assert answer.headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''")
                seen += 1
    assert seen >= 2 * len([job for job in hostile.jobs().values() if job["state"] == "done"])


def test_hostile_names_in_the_form_are_only_text(hostile: Hospital) -> None:
    with chromium(hostile.url) as browser:
        for text in TEXTS:
            browser.go("/sign-in?next=" + "%22%3E%3Cscript%3Ewindow.harmed=1%3C/script%3E")
            browser.ask("document.querySelector('#name').value = arguments[0]", text)
            browser.ask(
                "document.querySelector('#password').value = 'x'; document.querySelector('form').submit()"
            )
            browser.find("#failure")
            assert browser.ask("return window.harmed") is None
            complaints = [
                one
                for one in browser.look_for_complaints()
                if "status of 403" not in one and "429" not in one
            ]
            assert complaints == []


def test_hostile_recordings_can_be_retried(hostile: Hospital) -> None:
    """The button of a name that nobody would choose works as any other."""
    hostile.recognizer.not_understood.clear()
    with chromium(hostile.url) as browser:
        browser.sign_in("anna", PASSWORD)
        browser.go("/needs")
        count = len(browser.all("#failed-title ~ ul form"))
        assert count >= 3
        for left in range(count, 0, -1):
            browser.wait("the button", lambda: browser.find("#failed-title ~ ul form button").click() is None)
            browser.wait("it is gone", lambda left=left: len(browser.all("#failed-title ~ ul form")) < left)
        assert browser.look_for_complaints() == []
    done = hostile.clinic.done
    wait_for("all are done", lambda: len(hostile.clinic.files(done)) == len(NAMES), seconds=60)
