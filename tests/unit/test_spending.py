"""Audio minutes per day: what counts, what exceeds a limit, and when the day ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from invox_watcher.spending import (
    OVERALL,
    Limits,
    Reservation,
    counted_seconds,
    day_of,
    end_of_day,
    exceeded,
    key_of,
)

LIMITS = Limits(10, {"one": 5})


@pytest.mark.parametrize(
    ("profile", "minutes", "spent", "expected"),
    [
        ("one", 5, {}, []),
        ("one", 1, {OVERALL: 240, "one": 240}, []),
        ("one", 1.1, {OVERALL: 240, "one": 240}, ["one"]),
        ("one", 1, {OVERALL: 600, "one": 60}, [OVERALL]),
        ("one", 5, {OVERALL: 590, "one": 290}, [OVERALL, "one"]),
        ("two", 9, {"one": 300, OVERALL: 30}, []),
        ("two", 10, {"two": 300, OVERALL: 300}, [OVERALL]),
        ("one", 6, {}, []),  # longer than a day has: as the first of one
        ("one", 6, {"one": 1, OVERALL: 1}, ["one"]),
        ("one", 5, {OVERALL: 0.0, "one": 0.0}, []),
    ],
)
def test_what_exceeds_a_limit(
    profile: str, minutes: float, spent: dict[str, float], expected: list[str]
) -> None:
    assert exceeded(Reservation("2026-11-28", profile, minutes * 60), LIMITS, spent) == expected


def test_without_limits_nothing_counts() -> None:
    assert not Limits()
    assert not Limits(None, {})
    assert Limits(by_profile_minutes={"one": 5})
    assert exceeded(Reservation("2026-11-28", "one", 9e9), Limits(), {OVERALL: 9e9}) == []


def test_a_recording_of_unknown_length_counts_by_its_size() -> None:
    assert counted_seconds(90.5, 1) == 90.5
    assert counted_seconds(0.0, 4000) == 0
    assert counted_seconds(None, 240_000) == 60


def test_the_keys_that_limit() -> None:
    assert key_of(OVERALL) == "intake.daily_minutes"
    assert key_of("one") == "daily_minutes of the profile one"


@pytest.fixture
def madrid(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("madrid")
@pytest.mark.parametrize(
    ("now", "day", "end"),
    [
        ("2026-11-28T22:59:59+00:00", "2026-11-28", "2026-11-28T23:00:00+00:00"),
        ("2026-11-28T23:00:00+00:00", "2026-11-29", "2026-11-29T23:00:00+00:00"),
        ("2026-07-01T22:30:00+00:00", "2026-07-02", "2026-07-02T22:00:00+00:00"),
        ("2026-10-25T00:30:00+00:00", "2026-10-25", "2026-10-25T23:00:00+00:00"),  # a day of 25 hours
        ("2026-03-29T00:30:00+00:00", "2026-03-29", "2026-03-29T22:00:00+00:00"),  # and one of 23
    ],
)
def test_a_day_is_one_of_local_time(now: str, day: str, end: str) -> None:
    moment = datetime.fromisoformat(now)
    assert day_of(moment) == day
    assert end_of_day(moment) == datetime.fromisoformat(end)
