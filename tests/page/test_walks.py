"""What a nurse, the help desk and an administrator do on the page, in Debian's Chromium, with real sound."""

from __future__ import annotations

import pytest

from bench.page_load import Browsers
from tests.kit.chromium import Chromium, chromium
from tests.kit.hospital import CITIES, PASSWORD, SPEECH_SECONDS, Hospital, put, segments, speech

pytestmark = [pytest.mark.needs("chromium", "chromedriver"), pytest.mark.timeout(400)]

DICTATION, SECRET, DOUBTFUL = "ward3/okafor-0412.wav", "ward4/jones-0077.wav", "ward3/lindqvist-0398.wav"
SAID = CITIES[0][2]


@pytest.fixture(scope="module", autouse=True)
def day(clinic: Hospital) -> None:
    """A day's dictations: one as it should be, one of ward 4 that its target refuses, one with a gap."""
    clinic.letters.refuse = 422
    clinic.dictate(DICTATION)
    clinic.dictate(SECRET)
    clinic.dictate(DOUBTFUL, said=segments([line for line in CITIES if not 12 < line[0] < 28]))
    for name in (DICTATION, SECRET, DOUBTFUL):
        clinic.wait_until(name, "done")


def played(browser: Chromium) -> float:
    return float(browser.ask("return document.querySelector('#sound').currentTime"))


def current(browser: Chromium) -> str:
    """The line that is highlighted."""
    return browser.text(".lines [aria-current]")


def seen_by_nobody(browser: Chromium, clinic: Hospital, job: str) -> None:
    """Assert that nothing is shown any more, neither by going back nor by any address."""
    for _ in range(4):
        browser.driver.back()
        assert SAID not in browser.driver.page_source
        assert "okafor-0412" not in browser.driver.page_source
    one = f"/recordings/{job}"
    for path in (
        "/",
        "/needs",
        "/find",
        one,
        f"{one}/words",
        f"{one}/sound",
        f"{one}/documents/okafor-0412.json",
    ):
        browser.go(path)
        assert browser.path().startswith("/sign-in"), path
        assert "okafor" not in browser.text()


def test_a_nurse_finds_reads_and_hears_her_dictation(clinic: Hospital, browser: Chromium) -> None:
    job = clinic.jobs()[DICTATION]["id"]
    browser.sign_in("nora", PASSWORD)
    browser.shows("Recordings are being processed")
    browser.keys("/")
    browser.wait("the form that finds", lambda: browser.path() == "/find")
    browser.find("#text").send_keys("okafor\n")
    browser.wait("it is found", lambda: len(browser.all("a.row")) == 1)
    assert "jones" not in browser.text()
    browser.keys("j", "\n")
    browser.shows(SAID)
    assert browser.path() == f"/recordings/{job}"
    assert "Dr. Okafor" in browser.text(".lines")
    assert browser.text(".lines li:last-child p").endswith("comparison only.")

    browser.keys(" ")
    browser.wait("it plays", lambda: played(browser) > 1.2)
    browser.wait("the line follows", lambda: SAID in current(browser))
    browser.wait("the next line follows", lambda: "age of wisdom" in current(browser))
    line = next(one for one in browser.all(".lines li") if "epoch of incredulity" in one.text)
    line.click()
    browser.wait("it has jumped", lambda: 10.5 <= played(browser) < 13.2)
    browser.wait("the line is current", lambda: "incredulity" in current(browser))
    browser.keys("s", "s")  # half as fast, so that the rest takes a while
    assert browser.ask("return document.querySelector('#sound').playbackRate") == 0.5
    browser.keys("f", "f", "f", "f", "f", "f")
    assert browser.ask("return document.querySelector('#sound').playbackRate") == 2
    at = played(browser)
    browser.wait("it is fast", lambda: played(browser) > at + 1)
    browser.keys(" ")
    assert browser.ask("return document.querySelector('#sound').paused")
    at = played(browser)
    browser.keys("\ue012")  # the arrow to the left
    assert played(browser) == pytest.approx(at - 5, abs=0.2)
    assert not browser.all("form[action$=retry]")

    browser.link("Sign out").click()
    browser.wait("signed out", lambda: browser.path() == "/sign-in")
    seen_by_nobody(browser, clinic, job)
    looks = [(one["viewer"], one["what"]) for one in clinic.audit() if one["job"] == job]
    assert looks == [("nora", "words_seen"), ("nora", "sound_played")]
    assert browser.look_for_complaints() == []


def test_the_help_desk_retries_what_failed(clinic: Hospital, browser: Chromium) -> None:
    name = "ward3/benali-0011.wav"
    clinic.dictate(name, is_understood=False)
    put(clinic.clinic.inbox, "ward3/cut-off.wav", speech(4)[:-30_001])
    failed = clinic.wait_until(name, "failed")["id"]
    cut = clinic.wait_until("ward3/cut-off.wav", "failed")["id"]
    browser.sign_in("hanna", PASSWORD)
    browser.link("Needs you").click()
    browser.shows("benali-0011.wav", f"#failed-{failed}")
    assert browser.text(f"#failed-{failed} .why")
    assert browser.text(f"#failed-{failed} .hint")
    browser.shows("cut-off.wav", f"#failed-{cut}")
    assert "again" in browser.text(f"#failed-{cut} .hint")
    assert "Try again" not in browser.text(f"#failed-{cut}")

    clinic.recognizer.not_understood.clear()
    before = clinic.api.stats()["uploads"]
    browser.wait("the button", lambda: browser.find(f"#failed-{failed} button").click() is None)
    browser.shows("The recording was moved to the inbox.")
    browser.wait("it is gone from here", lambda: not browser.all(f"#failed-{failed}"))
    clinic.wait_until(name, "done")
    assert clinic.api.stats()["uploads"] == before + 1
    assert clinic.clinic.files(clinic.clinic.outbox / "ward3").count("benali-0011.json") == 1
    browser.go(f"/recordings/{failed}")
    browser.link("See the new attempt").click()
    browser.shows("A new attempt after an earlier one failed")
    for hidden in ("#words", "#sound", ".documents"):
        assert not browser.all(hidden)
    assert SAID not in browser.driver.page_source
    assert [one["what"] for one in clinic.audit() if one["viewer"] == "hanna"] == ["retried"]
    assert browser.look_for_complaints() == []


def test_an_administrator_checks_gaps_and_sends_again(clinic: Hospital, browser: Chromium) -> None:
    job, refused = clinic.jobs()[DOUBTFUL]["id"], clinic.jobs()[SECRET]["id"]
    browser.sign_in("anna", PASSWORD)
    browser.link("Needs you").click()
    browser.shows("lindqvist-0398.wav", f"#suspect-{job}")
    browser.shows("jones-0077.wav", f"#undelivered-{refused}-letters")
    browser.go(f"/recordings/{job}")
    browser.shows("Listen to these places")
    gap = browser.find(".places .jump")
    start, end = (
        float(
            browser.ask(
                f"return arguments[0].{edge}.baseVal.valueInSpecifiedUnits", browser.find("#bar .doubt")
            )
        )
        for edge in ("x", "width")
    )
    assert 10 < start / 100 * SPEECH_SECONDS < 16  # marked on the bar where it is
    assert 12 < end / 100 * SPEECH_SECONDS < 19
    browser.wait("the gap is in the transcript", lambda: browser.all(".lines .gap"))
    browser.wait("the loudness is drawn", lambda: len(browser.find("#loudness").get_attribute("d")) > 100)
    gap.click()
    browser.wait("it plays there", lambda: 10 < played(browser) < 25)
    browser.find(".documents a").click()

    clinic.letters.refuse = None
    browser.go(f"/recordings/{refused}")
    browser.shows("422")
    browser.link("Send again").click()
    browser.shows("It is sent again.")
    browser.shows("Delivered", "[aria-labelledby=deliveries-title]")  # without a reload
    assert clinic.letters.taken >= 1
    browser.link("Needs you").click()
    browser.wait("no longer needed", lambda: not browser.all(f"#undelivered-{refused}-letters"))
    what = {one["what"] for one in clinic.audit() if one["viewer"] == "anna"}
    assert what == {"words_seen", "sound_played", "document_downloaded", "sent_again"}
    assert browser.look_for_complaints() == []


def test_a_new_recording_appears_and_disturbs_nothing(clinic: Hospital, browser: Chromium) -> None:
    browser.sign_in("nora", PASSWORD)
    browser.go("/find")
    text = browser.find("#text")
    text.send_keys("half a na")
    browser.look(height=300)
    browser.ask("scrollTo(0, 40); document.querySelector('main').isSame = true")
    clinic.dictate("ward3/new-0001.wav", seconds=3, said=segments([(0.2, 2.8, "A new one.")]))
    clinic.dictate("ward4/hidden-0001.wav", seconds=3, said=segments([(0.2, 2.8, "A hidden one.")]))
    browser.shows("new-0001.wav")
    clinic.wait_until("ward4/hidden-0001.wav", "done")
    assert browser.ask("return document.querySelector('main').isSame") is True
    assert browser.ask("return document.activeElement.id") == "text"
    assert text.get_attribute("value") == "half a na"
    assert browser.ask("return scrollY") == 40
    assert "hidden-0001" not in browser.driver.page_source

    browser.look()
    browser.go(f"/recordings/{clinic.jobs()[DICTATION]['id']}")
    browser.shows(SAID)
    browser.find("#technical summary").click()
    browser.find(".lines .jump").click()
    browser.wait("it plays", lambda: played(browser) > 1)
    browser.ask("window.waits = 0; document.querySelector('#sound').addEventListener('pause', () => waits++)")
    refreshed = (
        "return performance.getEntriesByType('resource').filter((one) => one.name.includes('part=1')).length"
    )
    before = browser.ask(refreshed)
    clinic.dictate("ward3/new-0002.wav", seconds=3, said=segments([(0.2, 2.8, "Another one.")]))
    clinic.wait_until("ward3/new-0002.wav", "done")
    browser.wait("the page has been refreshed", lambda: browser.ask(refreshed) > before)
    at = played(browser)
    browser.wait("it still plays", lambda: played(browser) > at + 0.5)
    assert browser.ask("return waits") == 0
    assert browser.ask("return document.querySelector('#technical').open")
    assert browser.look_for_complaints() == []


def test_two_people_in_one_browser_do_not_mix(clinic: Hospital) -> None:
    """Signing in as somebody else in another tab ends what the first tab shows."""
    job = clinic.jobs()[DICTATION]["id"]
    with chromium(clinic.url) as browser:
        browser.sign_in("nora", PASSWORD)
        browser.go(f"/recordings/{job}")
        browser.shows(SAID)
        first = browser.driver.current_window_handle
        browser.driver.switch_to.new_window("tab")
        browser.driver.get(f"{clinic.url}/")
        browser.link("Sign out").click()
        browser.wait("signed out", lambda: browser.path() == "/sign-in")
        browser.driver.switch_to.window(first)
        browser.wait("the other tab as well", lambda: browser.path().startswith("/sign-in"))
        assert SAID not in browser.driver.page_source


def test_a_hundred_others_do_not_keep_the_page_from_being_live(clinic: Hospital, browser: Chromium) -> None:
    crowd = Browsers(*clinic.at, count=100, names=("anna", "hanna", "nora", "olga", "sam", "wilma"))
    browser.sign_in("nora", PASSWORD)
    browser.go("/find")
    with crowd.watching():
        for number in range(5):
            clinic.dictate(f"ward3/busy-{number}.wav", seconds=3, said=segments([(0.2, 2.8, "Busy.")]))
            browser.shows(f"busy-{number}.wav")
        browser.wait("everybody was told", lambda: len(crowd.fetches) > 300)
    assert crowd.failures == 0
    assert browser.look_for_complaints() == []
