"""Whatever is killed, stopped, locked or away: an open page says so, and recovers without being touched."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from invox_watcher.files import replace_durably
from tests.kit.browser import Browser
from tests.kit.chromium import Chromium, chromium
from tests.kit.hospital import PASSWORD, Hospital, hospital, segments
from tests.kit.page_clinic import page_of
from tests.kit.waiting import wait_for

pytestmark = [pytest.mark.needs("chromium", "chromedriver"), pytest.mark.timeout(400)]

LOST, UNAVAILABLE = "Connection lost", "This can't be updated right now."
RUNS, STOPPED = "Recordings are being processed", "Stopped: recordings wait until the service is started"
SHORT = segments([(0.2, 2.8, "A short one.")])


@pytest.fixture
def watcher(clinic: Hospital) -> Iterator[Chromium]:
    """An open page of the administrator's, which nobody touches: it is never loaded again."""
    with chromium(clinic.url) as browser:
        browser.sign_in("anna", PASSWORD)
        browser.shows(RUNS)
        browser.ask("window.untouched = true")
        yield browser
        assert browser.ask("return window.untouched") is True


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def needing(browser: Chromium) -> int:
    """How many recordings need someone, as the page says."""
    number, *_ = browser.text(".callout").split() or ["0"]
    return int(number)


def follows(clinic: Hospital, browser: Chromium, name: str) -> None:
    """Assert that the open page counts a recording that fails now, and complains about nothing."""
    before = needing(browser)
    clinic.dictate(f"ward3/{name}.wav", seconds=3, is_understood=False)
    clinic.wait_until(f"ward3/{name}.wav", "failed")
    browser.wait("one more needs someone", lambda: needing(browser) == before + 1)
    browser.shows(RUNS)
    browser.wait("nothing is complained about", lambda: browser.text("#connection") == "")


def test_a_killed_page_is_started_again(clinic: Hospital) -> None:
    with chromium(clinic.url) as browser:
        browser.sign_in("anna", PASSWORD)
        browser.shows(RUNS)
        page = clinic.page_pid()
        assert page is not None
        os.kill(page, signal.SIGKILL)
        browser.shows(LOST)
        wait_for("another page", lambda: clinic.page_pid() not in (None, page), seconds=60)
        # Sessions are in the page's memory: one signs in again, and comes back to where one was.
        browser.wait("asked to sign in", lambda: browser.path().startswith("/sign-in"))
        browser.find("#name").send_keys("anna")
        browser.find("#password").send_keys(PASSWORD, "\n")
        browser.shows(RUNS)
    assert is_alive(clinic.daemon_pid)
    assert clinic.clinic.events("page_ended")[-1]["exit_status"] == -signal.SIGKILL


def test_a_killed_daemon_takes_its_page_along(clinic: Hospital) -> None:
    with chromium(clinic.url) as browser:
        browser.sign_in("anna", PASSWORD)
        browser.shows(RUNS)
        page = clinic.page_pid()
        assert page is not None
        clinic.kill()
        wait_for("the page has ended", lambda: not is_alive(page), seconds=60)
        browser.shows(LOST)
        assert "Now" in browser.text("h1")  # what was shown stays
        clinic.start()
        browser.wait("asked to sign in", lambda: browser.path().startswith("/sign-in"))


def test_a_journal_that_is_locked_is_waited_for(clinic: Hospital, watcher: Chromium) -> None:
    path = clinic.clinic.root / "state" / "journal.sqlite"
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        answer = Browser(clinic.at)
        answer.cookies = {one["name"]: one["value"] for one in watcher.driver.get_cookies()}
        assert answer.get("/find").status in (200, 503)  # an answer, and soon
        assert time.monotonic() - began < 30
        other.execute("ROLLBACK")
    follows(clinic, watcher, "after-the-lock")


def test_an_api_that_is_down_is_said_to_be(clinic: Hospital, watcher: Chromium) -> None:
    clinic.api.fault({"on": "token", "do": "status", "status": 503, "times": None})
    clinic.api.fault({"on": "presign", "do": "status", "status": 503, "times": None})
    for number in range(8):
        clinic.dictate(f"ward3/waits-{number}.wav", seconds=3, said=SHORT)
    watcher.shows("Recordings are held up")
    watcher.shows("since", ".health")
    assert "503" in watcher.text(".health") or "API" in watcher.text(".health")
    clinic.api.clear_faults()
    watcher.shows(RUNS)
    for number in range(8):
        clinic.wait_until(f"ward3/waits-{number}.wav", "done")
    watcher.shows("Nothing is under way.")


def test_a_recording_that_is_deleted_is_shown_no_more(clinic: Hospital, watcher: Chromium) -> None:
    clinic.dictate("ward3/old.wav", seconds=3, said=SHORT)
    job = clinic.wait_until("ward3/old.wav", "done")["id"]
    watcher.ask(f"history.replaceState(null, '', '/recordings/{job}'); refresh()")
    watcher.shows("old.wav", "h1")
    with closing(sqlite3.connect(clinic.clinic.root / "state" / "journal.sqlite", timeout=30)) as journal:
        journal.execute("DELETE FROM jobs WHERE id = ?", (job,))  # as `retention` does in the end
        journal.commit()
    watcher.shows("Not found", "h1")
    assert "old.wav" not in watcher.text()


def is_open(browser: Chromium) -> bool:
    return bool(browser.ask("return events.readyState === EventSource.OPEN"))


def test_a_broken_users_file_does_not_end_the_updates(clinic: Hospital, watcher: Chromium) -> None:
    file = clinic.clinic.root.parent / "users.yaml"
    content = file.read_bytes()
    try:
        file.write_text("users: [")
        watcher.shows(UNAVAILABLE, "#connection")
        time.sleep(8)  # for as long as someone needs to fix it, so that the page tries several times
    finally:
        replace_durably(file, content, 0o600)
    watcher.wait("it is available", lambda: watcher.text("#connection") == "")
    watcher.wait("it is updated again", lambda: is_open(watcher))
    follows(clinic, watcher, "after-the-users-file")
    logged = clinic.clinic.events("page_users_unavailable", "page_users_available")
    assert [one["event"] for one in logged] == ["page_users_unavailable", "page_users_available"]
    assert watcher.path() == "/"  # nobody had to sign in again


def test_a_page_that_falls_silent_is_noticed(clinic: Hospital, watcher: Chromium) -> None:
    watcher.wait("it is updated", lambda: is_open(watcher))
    page = clinic.page_pid()
    assert page is not None
    limit = watcher.ask("return document.body.dataset.silence")
    assert 15 < float(limit) < 60
    os.kill(page, signal.SIGSTOP)
    try:
        watcher.ask("document.body.dataset.silence = 5")  # not to wait for so long
        watcher.shows(LOST)
    finally:
        os.kill(page, signal.SIGCONT)
    watcher.ask(f"document.body.dataset.silence = {limit}")
    watcher.wait("it is there again", lambda: watcher.text("#connection") == "")
    watcher.wait("it is updated again", lambda: is_open(watcher))
    follows(clinic, watcher, "after-the-silence")


def test_a_daemon_that_is_stopped_is_said_to_be(tmp_path: Path) -> None:
    """With a page that runs by itself, as `invox-watcher page`: it outlives daemon, journal and all."""
    with hospital(tmp_path / "alone") as clinic:
        listen = "{}:{}".format(*clinic.at)
        settings = clinic.clinic.config.read_text()
        clinic.start()
        clinic.dictate("ward3/first.wav", seconds=3, said=SHORT)
        clinic.wait_until("ward3/first.wav", "done")
        clinic.stop()
        with page_of(clinic.clinic, listen), chromium(clinic.url) as browser:
            browser.sign_in("anna", PASSWORD)
            browser.shows(STOPPED)
            browser.ask("window.untouched = true")
            clinic.clinic.config.write_text(settings.replace(f"listen: {listen}", "listen: null"))
            daemon = clinic.clinic.start()
            try:
                browser.shows(RUNS)
                daemon.kill()
                daemon.wait()
                browser.shows(STOPPED)
                state = clinic.clinic.root / "state"
                away = state.rename(clinic.clinic.root / "away")
                browser.shows(UNAVAILABLE, "#connection")
                away.rename(state)
                browser.wait("it is available", lambda: browser.text("#connection") == "")
                browser.shows(STOPPED)
                daemon = clinic.clinic.start()
                browser.shows(RUNS)
                clinic.dictate("ward3/second.wav", seconds=3, said=SHORT)
                clinic.wait_until("ward3/second.wav", "done")
                assert browser.ask("return window.untouched") is True
            finally:
                daemon.kill()
                daemon.wait()
