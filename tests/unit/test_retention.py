"""Retention mistrusts the clock: while it may be wrong nothing is deleted, and no wrong time counts."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest

from invox_watcher.errors import ApiUnavailableError
from invox_watcher.events import Event
from invox_watcher.files import Folders, prepare_folders
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal import AuditLog, Journal
from invox_watcher.journal.finished import UNCONFIRMED_CLOCK
from invox_watcher.recording import FileIdentity
from invox_watcher.retention import Ages, Retention, clock_fault

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAYS = timedelta(days=1)
YEAR_2001 = datetime(2001, 1, 1, tzinfo=UTC)


@dataclasses.dataclass
class Witness:
    """An API that says, or that says once it is asked, how wrong this machine's clock is."""

    ahead_seconds: float | None = None
    says_when_asked: float | None = None
    is_down: bool = False
    asked: int = 0

    @property
    def clock_ahead_seconds(self) -> float | None:
        return self.ahead_seconds

    @property
    def confirms_clock(self) -> bool | None:
        return None if self.ahead_seconds is None else abs(self.ahead_seconds) <= 300

    def authenticate(self) -> None:
        self.asked += 1
        if self.is_down:
            raise ApiUnavailableError("down")
        self.ahead_seconds = self.says_when_asked


@pytest.mark.parametrize(
    ("witness", "code", "asked"),
    [
        (Witness(0.5), None, 0),
        (Witness(-299), None, 0),
        (Witness(400 * 86_400.0), "clock_wrong", 0),
        (Witness(-25 * 365 * 86_400.0), "clock_wrong", 0),
        (Witness(None, says_when_asked=1), None, 1),
        (Witness(None, says_when_asked=7200), "clock_wrong", 1),
        (Witness(None, is_down=True), "clock_unconfirmed", 1),
        (Witness(None), "clock_unconfirmed", 1),
    ],
)
def test_the_clock_is_right_only_if_the_api_says_so(witness: Witness, code: str | None, asked: int) -> None:
    fault = clock_fault(witness)
    assert (fault and fault.code) == code
    assert witness.asked == asked


# ---- what is old, by the journal ---------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    (tmp_path / "state").mkdir()
    opened = Journal(tmp_path / "state")
    yield opened
    opened.close()


def ended(journal: Journal, name: str, at: datetime, *, confirmed: bool = True) -> Job:
    """A job that ended then, by this machine's clock."""
    with mock.patch("invox_watcher.journal.journal.utc_now", return_value=at):
        job = Job(new_job_id(), State.DELIVERED, name, FileIdentity(1, 1, 1, 1), received_at=at)
        journal.add(job)
        return journal.move(job, State.DONE, filed_as=name, detail={} if confirmed else UNCONFIRMED_CLOCK)


@pytest.mark.parametrize(
    ("history", "old"),
    [
        # (days before now, whether the clock was confirmed) of a, b, c, in the order in which they ended
        ([(31, True)], "a"),
        ([(29, True)], ""),
        ([(9000, True), (40, True), (1, True)], "ab"),  # of a release that did not ask, or true
        ([(9000, False)], ""),  # and what if it was today?
        ([(9000, False), (1, True)], ""),  # it may have been yesterday
        ([(9000, False), (31, True)], "ab"),  # it was before b
        ([(9000, False), (8999, False), (31, True)], "abc"),
        ([(9000, False), (31, False), (1, True)], ""),
        ([(31, True), (9000, False)], "a"),  # b ended after a, and that is all that is known
        ([(-400, False), (31, True)], "b"),  # a seems to end in the future
    ],
)
def test_an_age_counts_from_a_time_that_was_confirmed(
    journal: Journal, history: list[tuple[int, bool]], old: str
) -> None:
    for name, (days, confirmed) in zip("abc", history, strict=False):
        ended(journal, name, NOW - days * DAYS, confirmed=confirmed)
    before = NOW - 30 * DAYS
    assert {job.path for job in journal.finished.kept("recording", State.DONE, before)} == set(old)
    assert {job.path for job in journal.finished.kept("transcripts", State.DONE, before)} == set(old)
    assert {job.path for job in journal.finished.old(before)} == set(old)


# ---- what is deleted ---------------------------------------------------------------------------------------


@dataclasses.dataclass
class House:
    """A finished recording of 2001, and a retention of thirty days."""

    folders: Folders
    journal: Journal
    witness: Witness
    retention: Retention
    logged: list[tuple[Event, str]]

    def sweep(self) -> None:
        """As at the start, and at every hour."""
        with (
            mock.patch("invox_watcher.retention.log.warning", self._log),
            mock.patch("invox_watcher.retention.utc_now", return_value=NOW),
        ):
            self.retention._sweep(threading.Event())

    def _log(self, event: Event, **fields: str) -> None:
        self.logged.append((event, fields["code"]))

    @property
    def kept(self) -> bool:
        return (self.folders.done / "smith.wav").exists()


@pytest.fixture
def house(tmp_path: Path, journal: Journal) -> Iterator[House]:
    folders = Folders(*(tmp_path / name for name in ("inbox", "processing", "outbox", "done", "failed")))
    prepare_folders(folders)
    (folders.done / "smith.wav").write_bytes(b"RIFF")
    job = ended(journal, "smith.wav", YEAR_2001)
    identity = FileIdentity.of((folders.done / "smith.wav").stat())
    with sqlite3.connect(tmp_path / "state" / "journal.sqlite") as database:
        sizes = (identity.size_bytes, str(identity.mtime_ns), job.id)
        database.execute("UPDATE jobs SET size_bytes = ?, mtime_ns = ? WHERE id = ?", sizes)
    database.close()
    audit = AuditLog(tmp_path / "state")
    witness = Witness()
    retention = Retention(
        Ages(30, 30, 30, 30), journal.finished, folders, audit, unavailable=lambda: None, witness=witness
    )
    yield House(folders, journal, witness, retention, [])
    audit.close()


def test_old_recordings_go_if_the_clock_is_right(house: House) -> None:
    house.witness.ahead_seconds = 2.0
    house.sweep()
    assert not house.kept
    assert house.logged == []
    assert house.journal.jobs() == []


@pytest.mark.parametrize(
    ("witness", "code"),
    [
        (Witness(400 * 86_400.0), "clock_wrong"),
        (Witness(-400 * 86_400.0), "clock_wrong"),
        (Witness(None, is_down=True), "clock_unconfirmed"),
        (Witness(None), "clock_unconfirmed"),
    ],
)
def test_nothing_goes_while_it_may_be_wrong(house: House, witness: Witness, code: str) -> None:
    house.retention._witness = witness
    for _hour in range(3):
        house.sweep()
    assert house.kept
    assert [job.path for job in house.journal.jobs()] == ["smith.wav"]
    assert house.logged == [(Event.RETENTION_PAUSED, code)]  # once, not every hour
    witness.ahead_seconds = 0.0
    house.sweep()
    assert not house.kept


def test_each_reason_is_logged_and_one_that_comes_back_again(house: House) -> None:
    for ahead in (None, 7200.0, 7201.0, None):
        house.witness.ahead_seconds = ahead
        house.sweep()
    assert [code for _event, code in house.logged] == [
        "clock_unconfirmed",
        "clock_wrong",
        "clock_unconfirmed",
    ]


def test_what_seemed_old_by_a_clock_that_was_set_since_is_kept(house: House) -> None:
    """It was far ahead when it was read, and right when the API was asked."""
    house.witness.ahead_seconds = 0.0
    wrong, right = YEAR_2001 + 31 * DAYS, YEAR_2001 + 1 * DAYS
    with mock.patch("invox_watcher.retention.utc_now", side_effect=[wrong, *[right] * 20]):
        house.retention._sweep(threading.Event())
    assert house.kept
    assert [job.path for job in house.journal.jobs()] == ["smith.wav"]


def test_the_api_is_not_asked_for_nothing(house: House) -> None:
    (house.folders.done / "smith.wav").unlink()
    with mock.patch("invox_watcher.retention.utc_now", return_value=YEAR_2001 + 29 * DAYS):
        house.retention._sweep(threading.Event())
    assert house.witness.asked == 0


def test_the_mark_in_the_history_is_as_written(journal: Journal) -> None:
    job = ended(journal, "a", NOW, confirmed=False)
    assert [dict(entry.detail) for entry in journal.history(job.id)][-1] == UNCONFIRMED_CLOCK
    assert json.dumps(UNCONFIRMED_CLOCK) == '{"clock": "unconfirmed"}'
