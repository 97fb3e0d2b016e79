"""Since when a gate is closed: without a break, whatever its code, and over a restart in the same outage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from invox_watcher.errors import Reason
from invox_watcher.onsets import Onsets, Problem

NETWORK = Reason("network", "The connection failed.", "Check the line.")
TIMEOUT = Reason("timeout", "No answer.", "Wait.")
FULL = Reason("disk_full", "The disk is full.", "Free up space.")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Day:
    """A day whose minutes pass when the test says so."""

    def __init__(self, *, starts: int = 0) -> None:
        self.minute = starts

    def now(self) -> datetime:
        return at(self.minute)

    def clock(self) -> float:
        return self.minute * 60.0


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def onsets(day: Day, noted: dict[str, datetime] | None = None) -> Onsets:
    return Onsets(noted or {}, now=day.now, clock=day.clock)


def test_each_gate_has_its_own_since_and_the_whole_has_one() -> None:
    day = Day()
    known = onsets(day)
    assert (known.update({}), known.changed) == ([], NOON)
    day.minute = 1
    assert known.update({"api": NETWORK}) == [Problem("api", NETWORK, at(1))]
    day.minute = 2
    assert known.update({"api": TIMEOUT, "storage": FULL}) == [
        Problem("api", TIMEOUT, at(1)),
        Problem("storage", FULL, at(2)),
    ]
    day.minute = 3
    assert known.update({"storage": FULL}) == [Problem("storage", FULL, at(2))]
    assert known.changed == at(1)  # not ready without a break
    day.minute = 4
    assert (known.update({}), known.changed) == ([], at(4))
    day.minute = 5
    assert known.update({"storage": FULL}) == [Problem("storage", FULL, at(5))]


def test_one_code_of_two_gates_is_one_problem_since_the_first() -> None:
    day = Day()
    known = onsets(day)
    known.update({"claims": FULL})
    day.minute = 1
    assert known.update({"storage": FULL, "claims": FULL}) == [Problem("claims", FULL, NOON)]


def test_an_outage_that_outlasts_a_restart_began_before_it() -> None:
    day = Day(starts=60)
    known = onsets(day, {"api": NOON})
    assert known.update({}) == []  # the breaker is not open yet
    assert known.known == {"api": NOON}  # for a second restart
    day.minute = 62
    assert known.update({"api": NETWORK}) == [Problem("api", NETWORK, NOON)]
    assert known.changed == NOON
    day.minute = 63
    known.update({})
    assert known.known == {}
    day.minute = 64
    assert known.update({"api": NETWORK}) == [Problem("api", NETWORK, at(64))]


def test_what_worked_since_the_restart_begins_a_new_outage() -> None:
    day = Day(starts=60)
    known = onsets(day, {"api": NOON, "storage": NOON})
    known.update({}, proven=["api"])
    day.minute = 61
    assert known.update({"api": NETWORK}) == [Problem("api", NETWORK, at(61))]
    day.minute = 71
    assert known.update({"storage": FULL}) == [Problem("storage", FULL, at(71))]  # too long after the start


def test_a_time_from_the_future_counts_as_now() -> None:
    assert onsets(Day(), {"api": at(90)}).update({"api": NETWORK}) == [Problem("api", NETWORK, NOON)]
