"""FAULTS.md 68: a clock that is, or was, wrong by years makes no recording old."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.acceptance.test_retention import ALL, age, clinic_with_a_past, left
from tests.faults.daemons import Daemons, Fate
from tests.kit.clinic import Clinic, sandbox
from tests.kit.daemon_server import problems
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

DAY = 86_400.0
TO_2001 = -25 * 365 * DAY
THIRTY_DAYS = {"done_days": 30, "failed_days": 30, "transcripts_days": 30, "journal_days": 30}


@pytest.fixture(scope="module")
def daemons() -> Iterator[Daemons]:
    made = Daemons()
    yield made
    made.close()


def with_retention(clinic: Clinic, base_url: str) -> Clinic:
    return Clinic(clinic.root, base_url, retention=THIRTY_DAYS, http={"listen": "127.0.0.1:0"})


@pytest.mark.parametrize(
    "wrong_by", [400 * DAY, 31 * DAY, 10_000 * DAY], ids=["400 days", "a month", "decades"]
)
def test_68_by_a_clock_far_ahead_nothing_is_deleted(
    tmp_path: Path, api: Sandbox, daemons: Daemons, wrong_by: float
) -> None:
    clinic = with_retention(clinic_with_a_past(tmp_path, api, days=0), api.base_url)
    daemon = daemons.start(clinic, "run", fate=Fate(stepped_seconds=wrong_by))
    wait_for("it says so", lambda: bool(clinic.events("retention_paused")), seconds=60)
    assert [event["code"] for event in clinic.events("retention_paused")] == ["clock_wrong"]
    assert problems(clinic) == {}
    assert daemon.end(signal.SIGTERM) == 0
    assert left(clinic) == ALL
    assert len(clinic.run("jobs", "--all", "--json").stdout) > 100


def test_68_what_was_filed_in_2001_is_not_old(tmp_path: Path, api: Sandbox, daemons: Daemons) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    write_wav(clinic.inbox / "old.wav")
    assert clinic.once() == 0
    age(clinic, 31)
    write_wav(clinic.inbox / "smith.wav", pitch=500)
    (clinic.inbox / "letter.wav").write_text("Dear Mrs Miller")  # fails before the API was asked for anything
    assert daemons.run(clinic, "run", "--once", fate=Fate(stepped_seconds=TO_2001)) == 1
    assert clinic.run("jobs", "--all", "--json").stdout.count('"updated_at": "2001') == 2
    write_wav(clinic.inbox / "today.wav", pitch=600)
    assert clinic.once() == 0
    clinic = with_retention(clinic, api.base_url)
    daemon = daemons.start(clinic, "run")
    wait_for("what is old is gone", lambda: "old.wav" not in clinic.files(clinic.done), seconds=60)
    wait_for("its transcripts, too", lambda: "old.srt" not in clinic.files(clinic.outbox))
    wait_for("it is forgotten", lambda: "old.wav" not in clinic.run("jobs", "--all", "--json").stdout)
    assert daemon.end(signal.SIGTERM) == 0
    assert clinic.files(clinic.done) == ["smith.wav", "today.wav"]
    assert clinic.files(clinic.failed) == ["letter.wav", "letter.wav.error.json"]
    assert len(clinic.files(clinic.outbox)) == 4
    assert clinic.run("jobs", "--all", "--json").stdout.count('"id"') == 3


def test_68_nothing_is_deleted_before_the_api_has_answered(tmp_path: Path, daemons: Daemons) -> None:
    with sandbox(tmp_path / "api") as api:
        clinic = with_retention(clinic_with_a_past(tmp_path, api, days=31), api.base_url)
    daemon = daemons.start(clinic, "run")
    wait_for("it says so", lambda: bool(clinic.events("retention_paused")), seconds=60)
    assert [event["code"] for event in clinic.events("retention_paused")] == ["clock_unconfirmed"]
    assert daemon.end(signal.SIGTERM) == 0
    assert left(clinic) == ALL
    with sandbox(tmp_path / "api", port=int(api.base_url.rpartition(":")[2])):
        daemon = daemons.start(clinic, "run")
        wait_for("all is gone", lambda: left(clinic) == set(), seconds=60)
        assert daemon.end(signal.SIGTERM) == 0


def test_68_a_host_that_was_off_for_400_days_deletes(tmp_path: Path, api: Sandbox, daemons: Daemons) -> None:
    clinic = with_retention(clinic_with_a_past(tmp_path, api, days=400), api.base_url)
    daemon = daemons.start(clinic, "run")
    wait_for("all is gone", lambda: left(clinic) == set(), seconds=60)
    assert daemon.end(signal.SIGTERM) == 0
    assert clinic.events("retention_paused") == []
