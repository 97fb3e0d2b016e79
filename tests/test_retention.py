"""Retention: what is old enough goes, with an audit entry each; what somebody has changed stays."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.support import Clinic, running, wait_for, write_wav
from tests.test_custody import entries


def clinic_with_a_past(tmp_path: Path, api: Sandbox, days: float, **retention: Any) -> Clinic:
    """One done and one failed recording which ended so many days ago."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, retention=retention)
    write_wav(clinic.inbox / "ward 3" / "smith.wav")
    (clinic.inbox / "letter.wav").write_text("Dear Mrs Miller")
    assert clinic.once() == 1
    ended = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="microseconds")
    with contextlib.closing(sqlite3.connect(clinic.root / "state" / "journal.sqlite")) as journal:
        journal.execute("UPDATE jobs SET updated_at = ?", (ended,))
        journal.commit()
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
def test_what_is_old_enough_goes_and_is_accounted_for(
    tmp_path: Path, api: Sandbox, key: str, goes: set[str]
) -> None:
    clinic = clinic_with_a_past(tmp_path, api, days=30.01, **{key: 30})
    what = "forgotten" if key == "journal_days" else "deleted"
    expected = 2 if key == "journal_days" else len(goes)
    with running(clinic):
        wait_for(
            "retention has been through",
            lambda: [entry["what"] for entry in entries(clinic)].count(what) == expected,
        )
    assert left(clinic) == ALL - goes
    assert {
        f"{entry['folder']}/{entry['name']}" for entry in entries(clinic) if entry["what"] == "deleted"
    } == goes
    jobs = clinic.run("jobs", "--all", "--json").stdout
    assert (jobs.strip() == "[]") == (key == "journal_days")


def test_what_is_younger_stays_and_nothing_goes_by_default(tmp_path: Path, api: Sandbox) -> None:
    days = {"done_days": 30, "failed_days": 30, "transcripts_days": 30, "journal_days": 30}
    for name, age, retention in (("young", 29.9, days), ("default", 9999.0, {})):
        clinic = clinic_with_a_past(tmp_path / name, api, days=age, **retention)
        assert clinic.once() == 0
        assert left(clinic) == ALL


def test_what_somebody_changed_stays(tmp_path: Path, api: Sandbox) -> None:
    clinic = clinic_with_a_past(tmp_path, api, days=31, done_days=30, transcripts_days=30)
    (clinic.outbox / "ward 3" / "smith.srt").write_text("corrected by hand")
    (clinic.done / "ward 3" / "smith.wav").unlink()
    write_wav(clinic.done / "ward 3" / "smith.wav", pitch=900, seconds=0.7)
    with running(clinic):
        wait_for("both are seen", lambda: len(clinic.events("retention_kept")) == 2)
    assert left(clinic) == ALL - {"outbox/ward 3/smith.json"}
    assert "smith" not in clinic.log.read_text()


def test_words_that_were_deleted_are_not_in_the_journal_and_a_copy_is_sent_again(
    tmp_path: Path, api: Sandbox
) -> None:
    clinic = clinic_with_a_past(tmp_path, api, days=31, transcripts_days=30)
    words = clinic.transcript("ward 3/smith.json")["text"]
    journal = clinic.root / "state" / "journal.sqlite"
    assert words.split()[0].encode() in journal.read_bytes()
    with running(clinic):
        wait_for("the transcripts are gone", lambda: clinic.files(clinic.outbox) == [])
        wait_for("they are accounted for", lambda: entries(clinic)[-1]["what"] == "deleted")
    assert words.encode() not in journal.read_bytes()
    write_wav(clinic.inbox / "copy.wav")
    assert clinic.once() == 0
    assert clinic.transcript("copy.json")["text"] == words
    assert len(api.stats()["requests"]) == 2
