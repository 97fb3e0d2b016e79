"""Delays never run away or collapse to nothing, and the breaker holds back, probes, and opens up again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invox_watcher.backoff import Backoff, Breaker
from invox_watcher.net.headers import retry_after_seconds

NOW = datetime(2026, 11, 23, 18, 0, 0, tzinfo=UTC)
BACKOFF = Backoff(base_seconds=1.0, max_seconds=300.0)
FIXED = Backoff(base_seconds=1.0, max_seconds=1.0)


# ---- backoff -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "least", "most"),
    [(0, 0.5, 1), (1, 0.5, 1), (2, 1, 2), (4, 4, 8), (9, 128, 256), (10, 150, 300), (10**9, 150, 300)],
)
def test_delays_double_up_to_the_cap_and_never_fall_below_half(
    attempt: int, least: float, most: float
) -> None:
    assert BACKOFF.delay_seconds(attempt, chance=lambda: 0.0) == least
    assert BACKOFF.delay_seconds(attempt, chance=lambda: 1.0) == most
    assert least <= BACKOFF.delay_seconds(attempt) <= most


def test_a_crowd_is_spread() -> None:
    assert len({BACKOFF.delay_seconds(3) for _ in range(100)}) > 90


# ---- Retry-After -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("86400", 300.0),
        ("9" * 400, None),
        ("nan", None),
        ("-inf", None),
        ("soon", None),
        ("", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
        ("Mon, 23 Nov 2026 18:01:00 -0000", 60.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 300.0),
        ("Fri, 31 Dec 9999 23:59:59 -2300", 300.0),
        ("Mon, 23 Nov 2026 18:00:00 +99999999999999999999", None),
    ],
)
def test_what_retry_after_asks_for(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, now=NOW, max_seconds=300) == seconds


@settings(max_examples=50)
@given(
    st.text(st.characters(codec="latin-1"), max_size=60) | st.from_regex(r"\w{3}, \d+ \w{3} \d+ [\d:]+ \S+")
)
def test_the_delay_is_bounded_for_any_retry_after(header: str) -> None:
    seconds = retry_after_seconds(header, now=NOW, max_seconds=300)
    assert seconds is None or 0 <= seconds <= 300


# ---- the breaker -----------------------------------------------------------------------------------------


def opened(*, at: float = 0.0, backoff: Backoff = FIXED) -> Breaker:
    breaker = Breaker(backoff, threshold=3)
    assert [breaker.admit(at) for _ in range(3)] == [0, 0, 0]
    assert [breaker.fault(at) for _ in range(3)] == [False, False, True]
    return breaker


def test_it_opens_after_repeated_faults_without_a_success() -> None:
    breaker = Breaker(FIXED, threshold=3)
    for now in range(10):
        assert [breaker.admit(now) for _ in range(3)] == [0, 0, 0]
        assert [breaker.fault(now), breaker.fault(now), breaker.success(now)] == [False] * 3
    assert not breaker.is_open


def test_a_fault_of_set_up_opens_it_at_once() -> None:
    breaker = Breaker(FIXED, threshold=3)
    assert breaker.admit(0) == 0
    assert breaker.fault(0, at_once=True)
    assert breaker.is_open
    assert 0.5 <= breaker.admit(0) <= 1


def test_while_open_each_delay_lets_one_probe_pass() -> None:
    breaker = opened()
    assert 0 < breaker.admit(0.1) < 1
    assert breaker.admit(2) == 0
    assert [breaker.admit(2) > 0 for _ in range(5)] == [True] * 5
    # A probe may be an upload of hours: the next one does not wait for its end.
    assert breaker.admit(4) == 0


def test_a_failed_probe_prolongs_and_a_successful_one_closes() -> None:
    breaker = opened(backoff=BACKOFF)
    waits = []
    now = 1000.0
    for _ in range(5):
        assert breaker.admit(now) == 0
        assert breaker.fault(now) is True
        waits.append(breaker.admit(now))
        now += 1000
    assert all(1 <= wait <= 300 for wait in waits)
    assert waits[4] > 4 * waits[0]
    assert breaker.admit(now) == 0
    assert breaker.success(now) is True
    assert not breaker.is_open
    assert breaker.success(now) is False


def test_a_server_that_names_a_time_is_believed() -> None:
    breaker = opened()
    assert breaker.admit(5) == 0
    breaker.fault(5, retry_after_seconds=60)
    assert breaker.admit(6) == pytest.approx(59)


def test_faults_of_calls_from_before_it_opened_change_nothing() -> None:
    breaker = opened()
    wait = breaker.admit(0.2)
    assert wait > 0
    assert [breaker.fault(0.2) for _ in range(20)] == [False] * 20
    assert breaker.admit(0.2) == wait


def test_after_an_outage_the_load_ramps_up() -> None:
    breaker = opened()
    assert breaker.admit(2) == 0
    assert breaker.success(2) is True
    admitted = []
    for second in range(2, 16):
        passed = sum(breaker.admit(second + part / 100) == 0 for part in range(100))
        admitted.append(passed)
        breaker.success(second + 0.995)
    assert admitted[0] == 1
    assert admitted == sorted(admitted)
    assert admitted[-1] == 100


def test_one_fault_after_it_closed_does_not_open_it_again() -> None:
    breaker = opened()
    assert breaker.admit(2) == 0
    breaker.success(2)
    assert breaker.admit(2) == 0
    assert breaker.fault(2) is False
    assert not breaker.is_open
