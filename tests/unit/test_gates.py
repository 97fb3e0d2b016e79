"""Gates: which reasons are given, since when, and when the journal's and the stall detector's are closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from invox_watcher.errors import FoldersGoneError, JournalError, Reason
from invox_watcher.files import FolderMonitor
from invox_watcher.heartbeat import Heartbeat, StallDetector, beat
from invox_watcher.journal import Journal
from invox_watcher.logs import place, where
from invox_watcher.processing import JournalMonitor, reasons
from tests.kit.logged import captured

NETWORK = Reason("network", "The connection failed.", "Check the line.")
FULL = Reason("disk_full", "The disk is full.", "Free up space.")


@dataclass
class FixedGate:
    """A gate that says what it is told to."""

    reason: Reason | None

    def closed(self) -> Reason | None:
        return self.reason


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    with captured() as events:
        yield events


# ---- merging -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("closed", "expected"),
    [
        ([], []),
        ([None, None], []),
        ([NETWORK, None], [NETWORK]),
        ([NETWORK, FULL], [NETWORK, FULL]),
        ([FULL, None, NETWORK], [FULL, NETWORK]),
        ([NETWORK, FULL, NETWORK], [NETWORK, FULL]),
    ],
)
def test_each_code_is_given_once_in_order(closed: list[Reason | None], expected: list[Reason]) -> None:
    assert reasons(FixedGate(reason) for reason in closed) == expected


# ---- the journal's gate ------------------------------------------------------------------------------------


@dataclass
class FakeJournal:
    """A journal whose next checks fail or succeed as listed."""

    answers: list[JournalError | None] = field(default_factory=list)

    def verify_in_steps(self, _stop: threading.Event) -> None:
        self.check()

    def check(self) -> None:
        if (error := self.answers.pop(0)) is not None:
            raise error


def test_the_journal_is_closed_from_fault_to_answer(logged: list[dict[str, Any]]) -> None:
    locked = JournalError("The journal is locked.")
    journal = FakeJournal([None, locked, locked, None, None])
    monitor = JournalMonitor(cast(Journal, journal), 1)
    assert monitor.closed() is None
    seen = []
    while journal.answers:
        monitor.check()
        seen.append(monitor.closed())
    assert seen == [None, locked.reason, locked.reason, None, None]
    assert [event["event"] for event in logged] == ["storage_error", "storage_recovered"]


def test_damage_closes_the_journal_for_good(logged: list[dict[str, Any]]) -> None:
    damaged = JournalError("The journal is damaged.")
    monitor = JournalMonitor(cast(Journal, FakeJournal([None, damaged, None])), 1)
    monitor.verify(threading.Event())
    assert monitor.closed() is None
    monitor.verify(threading.Event())
    monitor.check()
    assert monitor.closed() == damaged.reason
    assert [event["error"] for event in logged] == [damaged.message]


def test_a_journal_without_an_answer_gives_no_heartbeat() -> None:
    journal, heartbeat = FakeJournal([JournalError("locked"), None]), Heartbeat("journal")
    monitor = JournalMonitor(cast(Journal, journal), 1)
    with heartbeat.beating():
        monitor.check()
        assert not heartbeat.began
        monitor.check()
        assert heartbeat.began


# ---- the folders' gate -------------------------------------------------------------------------------------


def test_a_missing_folder_closes_until_it_is_back(tmp_path: Path, logged: list[dict[str, Any]]) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    monitor = FolderMonitor({"inbox": folder})

    def check() -> str | None:
        monitor._found(monitor.unavailable())
        reason = monitor.closed()
        return reason and reason.code

    assert check() is None
    folder.rmdir()
    assert check() == check() == FoldersGoneError.code
    folder.mkdir()
    assert check() is None
    assert [event["event"] for event in logged] == ["folders_unavailable", "folders_available"]


# ---- the stall detector's gate -----------------------------------------------------------------------------


@dataclass
class Part:
    name: str
    silent_seconds: float
    place: str | None = None


@pytest.mark.parametrize(
    ("silent_seconds", "expected"),
    [
        ([0, 0], None),
        ([10, 0], None),
        ([0, 10], None),
        ([9.9, 9.9], None),
        ([10, 10], "Stalled: inbox."),
        ([10, 10, 0], None),
    ],
)
def test_a_stall_is_silence_at_two_checks(silent_seconds: list[float], expected: str | None) -> None:
    detector = StallDetector(10)
    well = [detector.check([Part("inbox", seconds), Part("journal", 0)]) for seconds in silent_seconds]
    reason = detector.closed()
    assert (reason and reason.message) == expected
    assert well[-1] is (expected is None)


def test_beats_go_to_the_heartbeat_of_the_own_thread() -> None:
    heartbeat = Heartbeat("inbox")
    beat()  # no heartbeat: nothing happens
    assert not heartbeat.began
    with heartbeat.beating():
        beat(60)
        assert heartbeat.silent_seconds == 0
    assert heartbeat.began


# ---- places in the source ----------------------------------------------------------------------------------


def test_places_are_paths_below_the_package() -> None:
    package = Path(where.__code__.co_filename).parent
    assert place(str(package / "processing" / "engine.py"), 12) == "processing/engine.py:12"
    assert place("/usr/lib/python3/site-packages/requests/api.py", 7) == "api.py:7"


def test_an_error_is_named_by_its_place_not_its_text() -> None:
    def fails() -> None:
        FolderMonitor({"inbox": Path("/does/not/exist of Mr Smith")})

    with pytest.raises(FoldersGoneError) as caught:
        fails()
    assert where(caught.value).startswith("FoldersGoneError at files/availability.py:")
