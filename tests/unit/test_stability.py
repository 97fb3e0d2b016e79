"""Is a file complete? The tracker on a clock that the tests set, and the lease on real files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invox_watcher.inbox.stability import Evidence, Snapshot, Stage, Tracker, Waits, Writer, writer_of

WAITS = Waits(grace_seconds=1, settle_seconds=2, unproven_seconds=5, patience_seconds=10)


def snapshot(size_bytes: int = 1) -> Snapshot:
    return Snapshot(device=1, inode=2, size_bytes=size_bytes, mtime_ns=3, ctime_ns=4)


# ---- the tracker ----


def test_a_file_settles_only_while_nothing_about_it_changes() -> None:
    tracker = Tracker(WAITS)
    assert tracker.see("a", snapshot(1), now=100)
    assert not tracker.see("a", snapshot(1), now=101.5)
    assert not tracker.settled("a", 101.9)
    assert tracker.settled("a", 102)
    assert not tracker.see("a", snapshot(2), now=102)
    assert not tracker.settled("a", 103.9)
    assert tracker.settled("a", 104)


def test_a_check_is_due_once() -> None:
    tracker = Tracker(WAITS)
    tracker.see("a", snapshot(1), now=100)
    assert tracker.next_due() == 102
    assert tracker.pop_due(101.9) is None
    assert tracker.pop_due(102) == "a"
    assert tracker.pop_due(102) is None
    tracker.settle("a", 2)
    assert tracker.next_due() == 102


def test_a_file_that_keeps_changing_is_checked_all_the_same() -> None:
    tracker = Tracker(WAITS)
    for now in range(5):
        tracker.see("a", snapshot(now), now)
    assert tracker.pop_due(2) == "a"
    assert not tracker.settled("a", 5)


@pytest.mark.parametrize("field", ["device", "inode", "size_bytes", "mtime_ns", "ctime_ns"])
def test_each_part_of_the_snapshot_counts(field: str) -> None:
    tracker = Tracker(WAITS)
    before = {"device": 1, "inode": 1, "size_bytes": 1, "mtime_ns": 1, "ctime_ns": 1}
    tracker.see("a", Snapshot(**before), now=0)
    tracker.see("a", Snapshot(**(before | {field: 0})), now=5)
    assert not tracker.settled("a", 6)


def test_patience_counts_from_change_overdue_from_sight() -> None:
    tracker = Tracker(WAITS)
    tracker.see("a", snapshot(1), now=0)
    tracker.see("a", snapshot(2), now=5)
    assert tracker.overdue("a", 10)
    assert not tracker.patient("a", 14)
    assert tracker.patient("a", 15)


def test_waiting_for_capacity_does_not_make_a_file_overdue() -> None:
    tracker = Tracker(WAITS)
    tracker.see("a", snapshot(1), now=0)
    tracker.hold("a")
    tracker.see("a", snapshot(2), now=100)
    assert not tracker.overdue("a", 101)


def test_files_without_capacity_return_in_their_order() -> None:
    tracker = Tracker(WAITS)
    for path in "abc":
        tracker.see(path, snapshot(), now=0)
        tracker.hold(path)
    tracker.forget("b")
    assert tracker.pop_queued() == "a"
    tracker.hold("a", first=True)
    assert tracker.pop_queued() == "a"
    tracker.forget("a")
    assert tracker.pop_queued() == "c"


def test_a_file_held_open_is_checked_soon_then_less_often() -> None:
    tracker = Tracker(Waits(1, 30, 60, 600))
    tracker.see("a", snapshot(), now=100)
    tracker.hold_open("a", 100)
    assert tracker.next_due() == pytest.approx(100.05)
    tracker.hold_open("a", 100.4)
    assert tracker.next_due() == pytest.approx(100.8)
    tracker.hold_open("a", 500)
    assert tracker.next_due() == 501


def test_a_file_with_an_error_waits_for_the_next_rescan() -> None:
    tracker = Tracker(WAITS)
    tracker.mark_error("unknown", now=0)
    assert tracker.count(Stage.ERROR) == 1
    assert tracker.pop_due(1000) is None
    tracker.retry_errors(1000)
    assert tracker.pop_due(1000) == "unknown"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.integers(0, 3)), max_size=60))
def test_counts_and_due_times_stay_true(steps: list[tuple[str, int, int]]) -> None:
    tracker = Tracker(Waits(0.5, 1, 2, 3))
    for now, (path, action, size) in enumerate(steps):
        if action == 0:
            tracker.see(path, snapshot(size), now)
        elif action == 1:
            tracker.forget(path)
        elif action == 2:
            tracker.pop_due(now)
        elif action == 3:
            tracker.mark_error(path, now)
        elif path in set(tracker.not_in(())):
            (lambda p: tracker.settle(p, 1), tracker.hold_unfinished, tracker.hold)[action - 4](path)
        assert sum(tracker.count(stage) for stage in Stage) == len(set(tracker.not_in(())))
        assert all(tracker.count(stage) >= 0 for stage in Stage)
    end = len(steps) + 10
    due = {path for _ in range(4) if (path := tracker.pop_due(end)) is not None}
    assert due <= set(tracker.not_in(()))
    assert tracker.next_due() is None


# How soon a file is checked again after each outcome; it was seen at 100 and last changed at 101.
AFTER = [
    ("settle", lambda tracker: tracker.settle("a", 2), Stage.SETTLING, 103),
    ("hold_unfinished", lambda tracker: tracker.hold_unfinished("a"), Stage.UNFINISHED, 111),
    ("mark_unfinished", lambda tracker: tracker.mark_unfinished("a"), Stage.UNFINISHED, 102),
    ("hold_open", lambda tracker: tracker.hold_open("a", 101), Stage.SETTLING, 102),
    ("hold", lambda tracker: tracker.hold("a"), Stage.HELD, None),
    ("mark_error", lambda tracker: tracker.mark_error("a", 101), Stage.ERROR, None),
    ("check_now", lambda tracker: tracker.check_now("a", 101), Stage.SETTLING, 101),
]


@pytest.mark.parametrize(("act", "stage", "due"), [row[1:] for row in AFTER], ids=[row[0] for row in AFTER])
def test_each_outcome_has_its_stage_and_its_next_time(
    act: Callable[[Tracker], None], stage: Stage, due: float | None
) -> None:
    tracker = Tracker(WAITS)
    tracker.see("a", snapshot(1), now=100)
    tracker.see("a", snapshot(2), now=101)
    act(tracker)
    assert {s: tracker.count(s) for s in Stage if tracker.count(s)} == {stage: 1}
    assert tracker.next_due() == due


@pytest.mark.parametrize(
    ("act", "stage"),
    [
        (lambda tracker: tracker.settle("a", 2), Stage.SETTLING),
        (lambda tracker: tracker.hold_unfinished("a"), Stage.UNFINISHED),
        (lambda tracker: tracker.hold("a"), Stage.SETTLING),
        (lambda tracker: tracker.mark_error("a", 100), Stage.SETTLING),
    ],
    ids=["settling", "unfinished", "held", "error"],
)
def test_a_change_is_checked_after_the_settle_time(act: Callable[[Tracker], None], stage: Stage) -> None:
    tracker = Tracker(WAITS)
    tracker.see("a", snapshot(1), now=100)
    act(tracker)
    assert not tracker.see("a", snapshot(2), now=101)
    assert tracker.count(stage) == 1
    assert not tracker.settled("a", 102.9)
    assert tracker.settled("a", 103)


def test_a_file_that_may_be_proven_is_checked_after_the_grace() -> None:
    tracker = Tracker(Waits(1, 30, 60, 600))
    tracker.see("a", snapshot(1), now=100)
    assert tracker.next_due() == 130
    tracker.see("a", snapshot(2), now=101, best=Evidence.PROVEN)
    assert tracker.pop_due(101.9) is None
    assert tracker.pop_due(102) == "a"


def test_an_event_without_a_change_starts_the_wait_again() -> None:
    """Closed after a long pause: its sender may chmod or rename it now."""
    tracker = Tracker(WAITS)
    tracker.see("a", snapshot(1), now=100, best=Evidence.PROVEN)
    tracker.touch("a", 107, best=Evidence.PROVEN)
    assert tracker.unchanged_seconds("a", 107.5) == 0.5
    tracker.settle("a", 1)
    assert tracker.next_due() == 108
    assert tracker.settled("a", 107.5)  # by its times, as what is reported about it goes


def test_a_file_seen_open_waits_from_then_on() -> None:
    tracker = Tracker(WAITS)
    tracker.see("a", snapshot(1), now=100)
    tracker.hold_open("a", 150)
    assert tracker.unchanged_seconds("a", 151) == 1


def test_an_event_wakes_no_file_that_is_held() -> None:
    tracker = Tracker(WAITS)
    for path, park in (("a", tracker.hold), ("b", lambda path: tracker.mark_error(path, 100))):
        tracker.see(path, snapshot(1), now=100)
        park(path)
        tracker.touch(path, 101)
    assert tracker.next_due() is None


@pytest.mark.parametrize(
    ("closed", "whole", "evidence"),
    [
        (True, True, Evidence.PROVEN),
        (True, False, Evidence.LIKELY),
        (False, True, Evidence.LIKELY),
        (False, False, Evidence.UNPROVEN),
    ],
)
def test_two_witnesses_give_the_evidence(closed: bool, whole: bool, evidence: Evidence) -> None:
    assert Evidence.of(closed=closed, whole=whole) is evidence


@pytest.mark.parametrize(
    ("configured", "waits"),
    [
        ((1, 5, 30), (1, 5, 30)),
        ((1, 0.3, 30), (1, 1, 30)),
        ((1, 60, 30), (1, 60, 60)),
        ((9, 5, 3), (9, 9, 9)),
    ],
)
def test_less_evidence_never_waits_less(
    configured: tuple[float, float, float], waits: tuple[float, float, float]
) -> None:
    made = Waits(*configured, patience_seconds=300)
    assert tuple(made.of(evidence) for evidence in Evidence) == waits


def test_the_oldest_file_is_the_one_first_seen() -> None:
    tracker = Tracker(WAITS)
    assert tracker.oldest() is None
    for now, path in enumerate("abc", start=100):
        tracker.see(path, snapshot(1), now)
    tracker.see("a", snapshot(2), now=200)
    assert (tracker.oldest(), tracker.known_since("a")) == (100, 100)
    tracker.forget("a")
    tracker.forget("a")
    assert (tracker.oldest(), set(tracker.not_in(()))) == (101, {"b", "c"})


# ---- the lease ----


def test_the_lease_tells_whether_anyone_writes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb"):
        reader = os.open(path, os.O_RDONLY)
        assert writer_of(reader) is Writer.OPEN
    assert writer_of(reader) is Writer.NONE
    with path.open("ab") as file:  # the lease was released, so opening does not block
        file.write(b"x")
    os.close(reader)


def test_without_a_lease_nothing_is_concluded() -> None:
    reader, writer = os.pipe()
    try:
        assert writer_of(reader) is Writer.UNKNOWN
    finally:
        os.close(reader)
        os.close(writer)
