"""Is this machine's clock right? By the Date of a server's replies, and by a clock that nobody can set."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from invox_watcher.net import RemoteClock

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = 86_400.0


class Machine:
    """A machine whose wall clock and steady clock a test sets."""

    def __init__(self) -> None:
        self.wall = NOON.timestamp()
        self.steady = 1_000.0
        self.clock = RemoteClock(now=lambda: self.wall, steady=lambda: self.steady)

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.mark.parametrize(
    ("wrong_by", "confirms"),
    [
        (0, True), (299, True), (-299, True), (301, False), (-301, False),
        (400 * DAY, False), (-25 * 365 * DAY, False),
    ],
)  # fmt: skip
def test_a_reply_confirms_a_clock_that_is_right(wrong_by: float, confirms: bool) -> None:
    machine = Machine()
    machine.wall += wrong_by
    machine.clock.heard(format_datetime(NOON, usegmt=True))
    assert machine.clock.confirms is confirms
    assert machine.clock.ahead_seconds == pytest.approx(wrong_by)


@pytest.mark.parametrize("jump", [400 * DAY, -400 * DAY, 3600, -3600])
def test_a_jump_shows_before_another_reply(jump: float) -> None:
    machine = Machine()
    machine.clock.heard(format_datetime(NOON, usegmt=True))
    machine.pass_time(30 * DAY)
    assert machine.clock.confirms
    machine.wall += jump
    assert machine.clock.confirms is False
    machine.wall -= jump  # and back again
    assert machine.clock.confirms


def test_a_suspended_machine_agrees_when_it_wakes() -> None:
    machine = Machine()
    machine.clock.heard(format_datetime(NOON, usegmt=True))
    machine.pass_time(400 * DAY)  # the steady clock counts it
    assert machine.clock.confirms


@pytest.mark.parametrize("date", [None, "", "yesterday", "Mon, 99 Foo 2026 12:00:00 GMT", "0", "\udcff"])
def test_a_reply_without_a_date_says_nothing(date: str | None) -> None:
    machine = Machine()
    machine.clock.heard(date)
    assert machine.clock.confirms is None
    assert machine.clock.ahead_seconds is None
    machine.clock.heard(format_datetime(NOON, usegmt=True))
    machine.clock.heard(date)
    assert machine.clock.confirms


def test_a_date_without_a_zone_is_utc() -> None:
    machine = Machine()
    machine.clock.heard("Mon, 23 Nov 2026 12:00:00 -0000")
    assert machine.clock.ahead_seconds == 0
