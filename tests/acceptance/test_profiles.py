"""Profiles, priority and daily minutes as an administrator sees them: docs/profiles.md, files, commands."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, running, sandbox, stop
from tests.kit.documents import save, text_of
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

PAGE = Path(__file__).parent.parent.parent / "docs" / "profiles.md"


def configure(clinic: Clinic, **sections: Any) -> None:
    keys = yaml.safe_load(clinic.config.read_text())
    for name, value in sections.items():
        keys[name] = keys.get(name, {}) | value if isinstance(value, dict) else value
    clinic.config.write_text(yaml.safe_dump(keys))


def recording(path: Path, *, author: str = "", pitch: float = 440, seconds: float = 0.5) -> None:
    """A WAV whose header names its author."""
    made = write_wav(path.with_suffix(".part"), pitch=pitch, seconds=seconds)
    if author:
        name = author.encode() + b"\0" * (2 - len(author) % 2)
        item = b"IART" + len(name).to_bytes(4, "little") + name
        data = made.read_bytes() + b"LIST" + (4 + len(item)).to_bytes(4, "little") + b"INFO" + item
        made.write_bytes(data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:])
    made.rename(path)


def recordings_for_the_example(clinic: Clinic) -> Path:
    """The page's configuration, and recordings for its profiles; returns where its template is missing."""
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block.count("\n") < 30
    letter = clinic.root / "letter.docx"
    configure(clinic, **yaml.safe_load(block.replace("/etc/invox-watcher/letter.docx", str(letter))))
    recording(clinic.inbox / "SMITH_02_0001.wav", author="smith")
    recording(clinic.inbox / "JONES_09_0002.wav", pitch=500)
    recording(clinic.inbox / "surgery/theatre2/a.wav", pitch=600)
    recording(clinic.inbox / "SMITH_02_0003.wav", author="nobody", pitch=700)
    recording(clinic.inbox / "surgery/copy.wav", author="smith")
    return letter


def test_the_example_of_the_page(clinic: Clinic, api: Sandbox) -> None:
    letter = recordings_for_the_example(clinic)
    says = clinic.run("explain", str(clinic.inbox / "SMITH_02_0003.wav"))
    assert says.returncode == 0
    assert (
        "profile     default, routine ("
        "not urgent-report: its name does not match [A-Z]+_(?P<work_type>09)_.*; "
        "not cardiology-letter: its author is nobody; not surgery: it is not in the folder surgery; "
        "default matches). Its attributes: author: nobody.\n" in says.stdout
    )
    checked = clinic.run("check").stdout
    assert f"set.template: The template {letter} can't be read: No such file or directory." in checked
    assert "cardiology-letter names the target ehr, which is not configured" in checked

    save(letter, "{{ author }}, {{ department }}, {{ work_type }}: {{ turns[0].speaker }}")
    assert clinic.once() == 0
    assert clinic.files(clinic.outbox) == [
        "JONES_09_0002.json", "JONES_09_0002.txt", "SMITH_02_0001.docx", "SMITH_02_0001.txt",
        "SMITH_02_0003.json", "SMITH_02_0003.srt", "surgery/copy.json", "surgery/copy.srt",
        "surgery/theatre2/a.json", "surgery/theatre2/a.srt",
    ]  # fmt: skip
    assert "Cardiology:" in (clinic.outbox / "SMITH_02_0001.txt").read_text()
    document = (clinic.outbox / "SMITH_02_0001.docx").read_bytes()
    assert text_of(document) == "smith, cardiology, 02: Cardiology"
    assert "Cardiology:" not in (clinic.outbox / "surgery/copy.srt").read_text()
    assert api.stats()["uploads"] == 4, "the copy costs nothing"
    jobs = {job["path"]: job for job in json.loads(clinic.run("jobs", "--all", "--json").stdout)}
    assert jobs["SMITH_02_0001.wav"]["plan"] == {
        "profile": "cardiology-letter",
        "formats": ["txt", "docx"],
        "speaker_names": {"Speaker_00": "Cardiology"},
        "attributes": {"author": "smith", "work_type": "02", "department": "cardiology"},
        "priority": "routine",
        "template": str(letter),
        "targets": ["ehr"],
        "presign_fields": {"language": "es-ES"},
    }
    assert jobs["JONES_09_0002.wav"]["plan"]["priority"] == "stat"
    shown = clinic.run("show", jobs["SMITH_02_0001.wav"]["id"]).stdout
    assert "profile           cardiology-letter\n" in shown
    assert "attributes        author: smith, work_type: 02, department: cardiology\n" in shown


def test_check_finds_a_profile_that_nothing_can_get(clinic: Clinic) -> None:
    configure(clinic, profiles=[{"name": "all"}, {"name": "ward3", "match": {"folder": "ward3"}}])
    says = clinic.run("check").stdout
    assert "no recording can get ward3: all, which comes before it, matches all that it matches" in says


def test_a_changed_profile_changes_nothing_under_way(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", result_delay_seconds=2.5) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        configure(clinic, profiles=[{"name": "one", "set": {"formats": ["txt"]}}])
        daemon = clinic.start()
        recording(clinic.inbox / "a.wav")
        wait_for("it is uploaded", lambda: bool(clinic.events("uploaded")))
        configure(clinic, profiles=[{"name": "two", "set": {"formats": ["vtt"]}}])
        daemon.send_signal(signal.SIGHUP)
        wait_for("the new configuration is in use", lambda: bool(clinic.events("reloaded")))
        recording(clinic.inbox / "b.wav", pitch=500)
        wait_for("both are done", lambda: len(clinic.files(clinic.done)) == 2)
        assert stop(daemon) == 0
        assert clinic.files(clinic.outbox) == ["a.txt", "b.vtt"]


def test_a_stat_recording_goes_before_all_that_wait(tmp_path: Path) -> None:
    """One upload at a time, and few in progress."""
    with sandbox(tmp_path / "api", upload_bytes_per_second=60_000) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url, upload={"workers": 1}, intake={"max_in_flight": 6})
        stat = {"name": "stat", "match": {"author": "chief"}, "set": {"priority": "stat"}}
        configure(clinic, profiles=[stat])
        for number in range(40):
            recording(clinic.inbox / f"r{number:02}.wav", pitch=300 + number)
        with running(clinic):
            wait_for("some are uploaded", lambda: api.stats()["uploads"] >= 3)
            recording(clinic.inbox / "now.wav", author="chief", pitch=5000)
            wait_for("it is claimed", lambda: bool(clinic_jobs(clinic, "now.wav")))
            before = api.stats()["uploads"]
            wait_for("all are done", lambda: len(clinic.files(clinic.done)) == 41, seconds=60)
        (job,) = clinic_jobs(clinic, "now.wav")
        uploads = sorted(
            (one for one in api.stats()["requests"] if one["uploaded_at"]), key=lambda one: one["uploaded_at"]
        )
        place = [one["id"] for one in uploads].index(job["request_id"])
        assert place <= before + 2, "after the one under way, and perhaps one that ended meanwhile"
        assert before < 30


def clinic_jobs(clinic: Clinic, name: str) -> list[dict[str, Any]]:
    found = json.loads(clinic.run("jobs", "--all", "--json", "--name", name).stdout)
    assert isinstance(found, list)
    return found


def shortly_before_midnight(seconds: float) -> dict[str, str]:
    """A time zone in which the day ends in so many seconds."""
    into_day = (time.time() + seconds) % 86400
    offset = int(into_day) if into_day < 43200 else int(into_day) - 86400
    sign, (hours, rest) = "-" if offset < 0 else "", divmod(abs(offset), 3600)
    return {"TZ": f"XXX{sign}{hours:02}:{rest // 60:02}:{rest % 60:02}"}


def test_beyond_the_daily_minutes_recordings_are_held(clinic: Clinic, api: Sandbox) -> None:
    configure(clinic, intake={"daily_minutes": 0.05, "max_in_flight": 2})
    for number in range(5):
        recording(clinic.inbox / f"{number}.wav", pitch=300 + 20 * number, seconds=2)
    assert clinic.once() == 75
    assert api.stats()["uploads"] == 1
    assert len(clinic.events("upload_held")) == 4, "more than max_in_flight: they hold up nothing"
    assert clinic.files(clinic.failed) == []
    says = clinic.run("status").stdout
    assert "4 recordings are held until " in says
    assert "00:00: the daily minutes are used up (intake.daily_minutes).\n" in says
    listed = clinic.run("jobs").stdout.splitlines()
    assert len(listed) == 4
    assert all(line.endswith(" 00:00") and "  held until " in line for line in listed)
    shown = clinic.run("show", listed[0].split()[0]).stdout
    assert re.search(
        r"held_until +\S+ 00:00: the daily minutes are used up \(intake.daily_minutes\)\n", shown
    )
    recording(clinic.inbox / "next.wav", pitch=900, seconds=2)
    explained = clinic.run("explain", str(clinic.inbox / "next.wav"))
    assert explained.returncode == 1
    assert (
        "later   minutes     It counts as 0.0 minutes, but the daily minutes are used up" in explained.stdout
    )


@pytest.mark.slow
def test_the_next_day_sends_what_was_held(clinic: Clinic, api: Sandbox) -> None:
    configure(clinic, intake={"daily_minutes": 0.05})
    recording(clinic.inbox / "a.wav", seconds=2)
    recording(clinic.inbox / "b.wav", pitch=500, seconds=2)
    with running(clinic, environ=shortly_before_midnight(10)):
        wait_for("one is done", lambda: len(clinic.files(clinic.done)) == 1, seconds=10)
        wait_for("the other is held", lambda: bool(clinic.events("upload_held")))
        assert api.stats()["uploads"] == 1
        wait_for("the next day came", lambda: len(clinic.files(clinic.done)) == 2, seconds=30)
    assert api.stats()["uploads"] == 2


def test_a_raised_limit_lets_go_what_is_held(clinic: Clinic, api: Sandbox) -> None:
    configure(clinic, profiles=[{"name": "one", "set": {"daily_minutes": 0.05}}])
    recording(clinic.inbox / "a.wav", seconds=2)
    recording(clinic.inbox / "b.wav", pitch=500, seconds=2)
    daemon = clinic.start()
    wait_for("one is held", lambda: bool(clinic.events("upload_held")))
    (held,) = clinic.events("upload_held")
    assert held["limits"] == ["daily_minutes of the profile one"]
    configure(clinic, profiles=[{"name": "one", "set": {"daily_minutes": 0.1}}])
    daemon.send_signal(signal.SIGHUP)
    wait_for("both are done", lambda: len(clinic.files(clinic.done)) == 2)
    assert stop(daemon) == 0
    assert api.stats()["uploads"] == 2
