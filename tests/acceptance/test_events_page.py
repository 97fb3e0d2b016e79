"""docs/events.md against the enum, the source, and what a daemon logs on good days and bad ones."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from invox_watcher.events import Event
from invox_watcher.sandbox.server import Sandbox
from tests.kit import event_page
from tests.kit.clinic import Clinic, running
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for
from tests.kit.webhook_clinic import send, webhook_clinic

EXAMPLE_JOB = "20261123t185056-9f2c41d07ab3"
QUICK = {"settle_seconds": 0.05, "rescan_seconds": 0.5, "patience_seconds": 0.5}


def test_the_page_has_every_event_and_no_other() -> None:
    assert set(event_page.of_page()) == {event.value for event in Event}


def test_the_page_has_the_levels_and_fields_of_the_source() -> None:
    assert event_page.of_page() == event_page.of_source()


def test_every_field_is_explained_and_no_other() -> None:
    assert event_page.explained_fields() == set().union(
        *(facts.fields for facts in event_page.of_page().values())
    )


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", event_page.PAGE.read_text()):
        assert (event_page.PAGE.parent / target).is_file(), target


# ---- what is really logged ---------------------------------------------------------------------------------


def logged(clinic: Clinic) -> set[str]:
    """The names of all events of a clinic's log; none of them may be other than the page says."""
    events = clinic.events()
    event_page.check(events)
    return {event["event"] for event in events}


def a_good_day(root: Path, api: Sandbox) -> Clinic:
    """Deliveries, a duplicate, a letter, a link, a file that stays empty, one that grows; a reload."""
    clinic = Clinic(root, api.base_url, watch=QUICK)
    with running(clinic):
        os.symlink("nowhere", clinic.inbox / "link.wav")
        (clinic.inbox / "empty.wav").touch()
        (clinic.inbox / "letter.wav").write_text("Dear colleague")
        write_wav(clinic.inbox / "smith.wav")
        wait_for("one is done", lambda: clinic.files(clinic.done) != [])
        write_wav(clinic.inbox / "again.wav")
        with (clinic.inbox / "endless.wav").open("wb") as growing:

            def grows() -> bool:
                growing.write(b"RIFF")
                growing.flush()
                return any(event["level"] == "warning" for event in clinic.events("inbox_unfinished"))

            wait_for("it is reported", grows)
        os.kill(clinic.events("started")[0]["pid"], signal.SIGHUP)
        wait_for("it is reloaded", lambda: clinic.events("reloaded") != [])
        content = clinic.config.read_text()
        clinic.config.write_text("api: 1")
        os.kill(clinic.events("started")[0]["pid"], signal.SIGHUP)
        wait_for("it is refused", lambda: clinic.events("reload_refused") != [])
        clinic.config.write_text(content)
        wait_for("two are done", lambda: len(clinic.files(clinic.done)) == 2)
    return clinic


def a_bad_day(root: Path, api: Sandbox) -> Clinic:
    """The API is away, refuses us, loses an answer; the inbox is gone; a recording vanishes."""
    clinic = Clinic(root, api.base_url, watch=QUICK, polling={"unknown_seconds": 0.1})
    api.fault({"on": "token", "do": "status", "status": 503, "times": 6})
    with running(clinic):
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        api.fault({"on": "upload", "do": "drop_reply"})
        api.fault({"on": "status", "do": "unknown_status", "value": "ON_HOLD"})
        api.fault({"on": "presign", "do": "status", "status": 403, "times": 2})
        write_wav(clinic.inbox / "jones.wav", pitch=500)
        wait_for("it is done", lambda: "jones.wav" in clinic.files(clinic.done))
        clinic.inbox.rename(root / "elsewhere")
        wait_for("it is gone", lambda: clinic.events("inbox_unavailable") != [])
        (root / "elsewhere").rename(clinic.inbox)
        wait_for("it is back", lambda: clinic.events("inbox_available") != [])
        api.fault({"on": "presign", "do": "status", "status": 503, "times": 1000})
        write_wav(clinic.inbox / "lopez.wav", pitch=600)
        wait_for("it is under way", lambda: len(clinic.events("claimed")) == 3)
        for path in clinic.processing.rglob("*.wav"):
            path.unlink()
        wait_for("it is closed", lambda: clinic.events("vanished") != [])
    return clinic


def a_kill(root: Path, api: Sandbox) -> Clinic:
    """The daemon is killed while a recording is under way; the next one finds it, and what a third left."""
    clinic = Clinic(root, api.base_url, watch=QUICK)
    api.fault({"on": "presign", "do": "status", "status": 503, "times": None})
    daemon = clinic.start()
    write_wav(clinic.inbox / "smith.wav")
    wait_for("it is under way", lambda: clinic.events("claimed") != [])
    daemon.kill()
    daemon.wait()
    api.clear_faults()
    write_wav(clinic.processing / EXAMPLE_JOB / "lost.wav", pitch=500)
    assert clinic.once() == 0
    return clinic


def webhooks(root: Path, api: Sandbox) -> Clinic:
    """A genuine one, a forged one, and a genuine signature with other words."""
    clinic = webhook_clinic(root, api, watch=QUICK)
    with running(clinic):
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is done", lambda: clinic.files(clinic.done) != [])
        genuine = api.webhook_body(api.stats()["requests"][0]["id"])
        send(clinic, b"{}")
        send(clinic, genuine.replace(b"COMPLETED", b"ERROR"))
    return clinic


@pytest.mark.parametrize(
    ("day", "seen"),
    [
        (
            a_good_day,
            "started watching claimed identified upload_started api_called token_refreshed uploaded"
            " transcribed delivered done duplicate failing failed inbox_skipped inbox_unfinished reloading"
            " reloaded reload_refused stopping stopped",
        ),
        (
            a_bad_day,
            "step_retry breaker_opened breaker_closed upload_uncertain api_status_unknown api_refused"
            " inbox_unavailable inbox_available vanished",
        ),
        (a_kill, "recovered returned_to_inbox done"),
        (webhooks, "listening webhook_accepted webhook_refused webhook_conflicting"),
    ],
    ids=["a good day", "a bad day", "a kill", "webhooks"],
)
def test_what_is_logged_is_what_the_page_says(
    tmp_path: Path, api: Sandbox, day: Callable[[Path, Sandbox], Clinic], seen: str
) -> None:
    clinic, page = day(tmp_path / "clinic", api), event_page.of_page()
    assert set(seen.split()) - logged(clinic) == set()
    hintless = {line["event"] for line in clinic.events() if not line.get("hint")}
    said_in_full = {"reload_refused"}  # by the configuration's errors, line by line
    assert {name for name in hintless if "hint" in page[name].fields} <= said_in_full


@pytest.mark.needs("jq")
def test_the_pages_commands_find_what_they_are_for(clinic: Clinic) -> None:
    with running(clinic):
        for name in ("letter.wav", "list.wav"):
            (clinic.inbox / name).write_text(name)
        wait_for("both have failed", lambda: len(clinic.events("failed")) == 2)
    job = clinic.events("failed")[0]["job"]
    log = clinic.root / "journal"
    log.write_text("Started invox-watcher.service - Takes dictations.\n" + clinic.log.read_text())

    def output(command: str) -> list[str]:
        command = re.sub(r"journalctl [^|]+", f"cat {log} ", command).replace(EXAMPLE_JOB, job)
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=True
        ).stdout.splitlines()

    blocks = re.findall(r"^```sh\n(.*?)^```", event_page.PAGE.read_text(), re.MULTILINE | re.DOTALL)
    commands = [command for block in blocks for command in re.split(r"\n(?=journalctl)", block)]
    trouble, life, reasons = map(output, commands)
    assert {json.loads(line)["event"] for line in trouble} == {"failing", "failed"}
    assert [json.loads(line)["event"] for line in life] == ["claimed", "failing", "failed"]
    assert [line.split() for line in reasons] == [["2", "not_audio"]]
