"""Retention: what is old enough goes, with an audit entry each; what somebody has changed stays."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, running
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for


def clinic_with_a_past(tmp_path: Path, api: Sandbox, days: float, **retention: Any) -> Clinic:
    """One done and one failed recording which ended so many days ago."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, retention=retention)
    write_wav(clinic.inbox / "ward 3" / "smith.wav")
    (clinic.inbox / "letter.wav").write_text("Dear Mrs Miller")
    assert clinic.once() == 1
    age(clinic, days)
    return clinic


def left(clinic: Clinic) -> set[str]:
    """What lies in the three folders."""
    folders = {"outbox": clinic.outbox, "done": clinic.done, "failed": clinic.failed}
    return {f"{name}/{path}" for name, folder in folders.items() for path in clinic.files(folder)}


ALL = {
    "outbox/ward 3/smith.json",
    "outbox/ward 3/smith.srt",
    "done/ward 3/smith.wav",
    "failed/letter.wav",
    "failed/letter.wav.error.json",
}


@pytest.mark.parametrize(
    ("key", "goes"),
    [
        ("done_days", {"done/ward 3/smith.wav"}),
        ("failed_days", {"failed/letter.wav", "failed/letter.wav.error.json"}),
        ("transcripts_days", {"outbox/ward 3/smith.json", "outbox/ward 3/smith.srt"}),
        ("journal_days", set()),
    ],
)
def test_old_enough_files_are_deleted_and_recorded(
    tmp_path: Path, api: Sandbox, key: str, goes: set[str]
) -> None:
    clinic = clinic_with_a_past(tmp_path, api, days=30.01, **{key: 30})
    what = "forgotten" if key == "journal_days" else "deleted"
    expected = 2 if key == "journal_days" else len(goes)
    with running(clinic):
        wait_for(
            "retention has been through",
            lambda: [entry["what"] for entry in clinic.audit_log()].count(what) == expected,
        )
    assert left(clinic) == ALL - goes
    assert {
        f"{entry['folder']}/{entry['name']}" for entry in clinic.audit_log() if entry["what"] == "deleted"
    } == goes
    jobs = clinic.run("jobs", "--all", "--json").stdout
    assert (jobs.strip() == "[]") == (key == "journal_days")


def test_younger_files_stay_and_no_file_is_deleted_by_default(tmp_path: Path, api: Sandbox) -> None:
    days = {"done_days": 30, "failed_days": 30, "transcripts_days": 30, "journal_days": 30}
    for name, age, retention in (("young", 29.9, days), ("default", 9999.0, {})):
        clinic = clinic_with_a_past(tmp_path / name, api, days=age, **retention)
        assert clinic.once() == 0
        assert left(clinic) == ALL


@pytest.mark.parametrize(("days", "entries_left"), [(399, 2), (401, 0)])
def test_by_default_the_journal_forgets_after_400_days(
    tmp_path: Path, api: Sandbox, days: int, entries_left: int
) -> None:
    clinic = clinic_with_a_past(tmp_path, api, days=days)
    with running(clinic):
        wait_for("it has looked", lambda: len(known(clinic)) == entries_left)
    assert left(clinic) == ALL
    assert [entry["what"] for entry in clinic.audit_log()].count("forgotten") == 2 - entries_left


def known(clinic: Clinic) -> list[Any]:
    """The recordings in the journal."""
    return list(json.loads(clinic.run("jobs", "--all", "--json").stdout))


def test_a_file_that_was_changed_is_kept(tmp_path: Path, api: Sandbox) -> None:
    clinic = clinic_with_a_past(tmp_path, api, days=31, done_days=30, transcripts_days=30)
    (clinic.outbox / "ward 3" / "smith.srt").write_text("corrected by hand")
    # Kept elsewhere, so that the new file does not get its inode: it is another one, not this one changed.
    (clinic.done / "ward 3" / "smith.wav").rename(tmp_path / "replaced.wav")
    write_wav(clinic.done / "ward 3" / "smith.wav", pitch=900, seconds=0.7)
    with running(clinic):
        wait_for("both are seen", lambda: len(clinic.events("retention_kept")) == 2)
    assert left(clinic) == ALL - {"outbox/ward 3/smith.json"}
    assert "smith" not in clinic.log.read_text()


def test_deleted_words_leave_the_journal_too(tmp_path: Path, api: Sandbox) -> None:
    clinic = clinic_with_a_past(tmp_path, api, days=31, transcripts_days=30)
    transcript = clinic.transcript("ward 3/smith.json")
    words, said = transcript["text"], transcript["segments"][0]["text"].encode()
    journal = clinic.root / "state" / "journal.sqlite"
    assert said in journal.read_bytes()
    with running(clinic):
        wait_for("the transcripts are gone", lambda: clinic.files(clinic.outbox) == [])
        wait_for("they are accounted for", lambda: clinic.audit_log()[-1]["what"] == "deleted")
        files = [journal, journal.with_name("journal.sqlite-wal")]
        wait_for(
            "the words are in no file",
            lambda: not any(said in file.read_bytes() for file in files),
        )
    assert said not in journal.read_bytes()
    write_wav(clinic.inbox / "copy.wav")
    assert clinic.once() == 0
    assert clinic.transcript("copy.json")["text"] == words
    assert len(api.stats()["requests"]) == 2


def age(clinic: Clinic, days: float, condition: str = "1") -> None:
    """Let what fits `condition` have ended so many days ago."""
    ended = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="microseconds")
    with contextlib.closing(sqlite3.connect(clinic.root / "state" / "journal.sqlite")) as journal:
        journal.execute(
            f"UPDATE jobs SET updated_at = ?, ages_from = ?, remembered_from = ? WHERE {condition}",
            (ended,) * 3,
        )
        journal.commit()


def test_the_age_of_a_retried_recording_is_that_of_its_retry(tmp_path: Path, api: Sandbox) -> None:
    clinic = clinic_with_a_past(tmp_path, api, days=31, failed_days=30)
    retried = Clinic(clinic.root, api.base_url)  # the same folders, without retention
    assert retried.run("retry", "--code", "not_audio").returncode == 0
    assert retried.once() == 1
    clinic = Clinic(clinic.root, api.base_url, retention={"failed_days": 30, "transcripts_days": 30})
    with running(clinic):
        wait_for("retention has been through", lambda: clinic.audit_log()[-1]["what"] == "deleted")
    assert {"failed/letter.wav", "failed/letter.wav.error.json"} <= left(clinic)


def test_one_file_that_cannot_be_deleted_blocks_no_other(tmp_path: Path, api: Sandbox) -> None:
    clinic = clinic_with_a_past(tmp_path, api, days=31, done_days=30, failed_days=30)
    (clinic.done / "ward 3").rename(clinic.root / "moved")
    (clinic.done / "ward 3").symlink_to(clinic.root / "moved")
    with running(clinic):
        wait_for("it is said", lambda: bool(clinic.events("retention_refused")))
        wait_for("the other is gone", lambda: clinic.files(clinic.failed) == [])
    assert (clinic.root / "moved" / "smith.wav").exists()


def test_many_files_that_cannot_be_deleted_block_no_other(tmp_path: Path, api: Sandbox) -> None:
    clinic = clinic_with_a_past(tmp_path, api, days=31, done_days=30)
    (clinic.done / "moved").symlink_to(clinic.root)
    many = 200  # as many as the journal gives at once
    with contextlib.closing(sqlite3.connect(clinic.root / "state" / "journal.sqlite")) as journal:
        journal.execute("CREATE TEMP TABLE older AS SELECT * FROM jobs WHERE state = 'done'")
        for number in range(many):
            journal.execute(
                "UPDATE older SET id = ?, filed_as = ?, ages_from = ?",
                (f"older-{number}", f"moved/{number}.wav".encode(), f"2020-01-01T00:00:00.{number:06}+00:00"),
            )
            journal.execute("INSERT INTO jobs SELECT * FROM older")
        journal.commit()
    with running(clinic):
        wait_for("all are tried", lambda: len(clinic.events("retention_refused")) == many)
        wait_for("the youngest is gone", lambda: not (clinic.done / "ward 3" / "smith.wav").exists())
    assert len(clinic.events("retention_refused")) == many


def test_a_copy_of_a_deleted_job_is_still_recognised(tmp_path: Path, api: Sandbox) -> None:
    clinic = clinic_with_a_past(tmp_path, api, days=1)
    write_wav(clinic.inbox / "copy.wav")
    assert clinic.once() == 0
    age(clinic, 31, "original_id IS NULL AND state = 'done'")
    clinic = Clinic(clinic.root, api.base_url, retention={"journal_days": 30})
    with running(clinic):
        wait_for("the first is forgotten", lambda: clinic.audit_log()[-1]["what"] == "forgotten")
    write_wav(clinic.inbox / "another copy.wav")
    assert clinic.once() == 0
    assert len(api.stats()["requests"]) == 1
