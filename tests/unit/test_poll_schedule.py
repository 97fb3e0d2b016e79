"""When results are polled for: as late as processing takes, for all that is known, and no later."""

from __future__ import annotations

import functools
import heapq
import math
import random
import statistics
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invox_watcher.journal import ProcessingTime
from invox_watcher.processing.poll_schedule import first_poll_delay, next_poll_delay

first = functools.partial(first_poll_delay, first_seconds=2, max_seconds=60)
following = functools.partial(next_poll_delay, first_seconds=2, max_seconds=60)


def alike(length: float, pending: float, found: float, count: int = 24) -> list[ProcessingTime]:
    return [ProcessingTime(length, pending, found)] * count


TWENTY_SECONDS = alike(100, 19, 21)  # for 100 s of audio
MINUTES = alike(1000, 190, 210)


# ---- the first poll ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "times", "seconds"),
    [
        (None, TWENTY_SECONDS, 2),  # nothing to compare: `first_seconds`
        (0, TWENTY_SECONDS, 2),
        (100, [], 2),
        (100, TWENTY_SECONDS, 20),
        (200, TWENTY_SECONDS, 40),  # in proportion, until something else is known
        (100, TWENTY_SECONDS[:1], 20),  # one is enough
        (100, alike(100, 10, 10, 12) + alike(1000, 10, 10, 12), 10),  # the same for any length
        (1, alike(100, 0.01, 0.01), 0.1),  # never at once
        (1000, MINUTES, 200),  # they were all pending for longer than `max_seconds`
        (300, TWENTY_SECONDS, 60),
        (500, TWENTY_SECONDS, 98),  # twice the length of any that was pending, and `max_seconds`
        (36_000, alike(1, 1.5, 2), 63),  # 2 s for 1 s of audio: nobody knows what ten hours take
    ],
)
def test_the_first_poll(length: float | None, times: list[ProcessingTime], seconds: float) -> None:
    assert first(length, times) == pytest.approx(seconds)


def test_the_first_poll_is_soon_after_the_quickest_of_two_kinds() -> None:
    assert first(100, alike(100, 19, 21, 8) + alike(100, 99, 101, 16)) == pytest.approx(28)


def test_if_the_first_poll_finds_all_it_comes_earlier() -> None:
    seconds = 50.0
    for _ in range(6):
        earlier = first(100, alike(100, 0, seconds))
        assert earlier == pytest.approx(0.7 * seconds)
        seconds = earlier


@pytest.mark.parametrize(
    ("pending", "next_seconds"), [(0, 60), (30, 90)], ids=["never polled before", "polled before"]
)
def test_results_of_a_stopped_daemon_delay_nothing(pending: float, next_seconds: float) -> None:
    found_next_day = alike(100, pending, 36_000)
    assert first(100, found_next_day) == next_seconds
    assert following(40, 100, found_next_day) == 10


# ---- further polls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waited", "length", "times", "seconds"),
    [
        (20, None, TWENTY_SECONDS, 5),  # a quarter of the time waited
        (20, 100, [], 5),
        (0, 100, [], 2),
        (4000, 100, [], 60),
        (18, 100, TWENTY_SECONDS, 2),  # until they were ready
        (10, 100, TWENTY_SECONDS, 2.5),  # too early: still at most a quarter late
        (20, 100, TWENTY_SECONDS, 2),  # all are exceeded by little: a tenth
        (30, 100, TWENTY_SECONDS, 5),  # by more
        (100, 100, TWENTY_SECONDS, 25),  # by far: nothing is known any more
        (30, 100, TWENTY_SECONDS[:22] + alike(100, 999, 1001, 2), 5),  # nobody waits for rare exceptions
        (30, 100, TWENTY_SECONDS[:21] + alike(100, 999, 1001, 3), 7.5),
        (4000, 100, TWENTY_SECONDS, 60),
    ],
)
def test_further_polls(
    waited: float, length: float | None, times: list[ProcessingTime], seconds: float
) -> None:
    assert following(waited, length, times) == pytest.approx(seconds)


def test_very_many_are_polled_at_one_rate_together() -> None:
    assert following(20, jobs=500) == 5
    assert following(20, jobs=1000) == 20
    assert following(4000, jobs=1000) == 60
    assert following(4000, jobs=10_500) == 400


_SECONDS = st.floats(0.01, 1e6)
_TIMES = st.lists(
    st.builds(
        lambda length, found, pending: ProcessingTime(length, found * pending, found),
        _SECONDS, _SECONDS, st.sampled_from([0.0, 0.5, 1.0]),
    ),
    max_size=24,
)  # fmt: skip


@given(_SECONDS, _SECONDS, st.floats(0.0, 1e6), _SECONDS, _TIMES)
def test_delays_stay_within_a_quarter_and_the_cap(
    first_seconds: float, cap: float, waited: float, length: float, times: list[ProcessingTime]
) -> None:
    delay = next_poll_delay(waited, length, times, first_seconds=first_seconds, max_seconds=cap)
    assert 0 < delay <= cap
    assert delay <= max(waited / 4, 0.1 if times else first_seconds)
    delay = first_poll_delay(length, times, first_seconds=first_seconds, max_seconds=cap)
    assert 0 < delay <= cap + 2 * max((time.pending_seconds for time in times), default=0)


# ---- both, over many recordings ----------------------------------------------------------------------------

Share = Callable[[random.Random, float], float]


def around(share: float, spread: float = 0.3) -> Share:
    return lambda chance, _length: share * chance.uniform(1 - spread, 1 + spread)


def polled(share: Share, count: int) -> tuple[list[int], list[float]]:
    """Polls, and by what part of its time each was late: 10 to 300 s of audio, one a second."""
    chance = random.Random(13)
    lengths = [chance.uniform(10, 300) for _ in range(count)]
    takes = [length * share(chance, length) for length in lengths]
    times: deque[ProcessingTime] = deque(maxlen=24)
    polls, late, pending = [0] * count, [0.0] * count, [0.0] * count
    due = [(float(number), -1, number) for number in range(count)]
    while due:
        now, polled_for, number = heapq.heappop(due)
        waited = now - number
        if polled_for < 0:
            heapq.heappush(due, (now + first(lengths[number], list(times)), number, number))
            continue
        polls[number] += 1
        if waited < takes[number]:
            pending[number] = waited
            delay = following(waited, lengths[number], list(times))
            heapq.heappush(due, (now + delay, number, number))
        else:
            late[number] = waited / takes[number] - 1
            times.append(ProcessingTime(lengths[number], pending[number], waited))
    return polls, late


@pytest.mark.parametrize(
    ("share", "most_polls", "most_late"),
    [
        (around(0.2), 2, 0.11),
        (around(0.2, spread=0), 2, 0.06),
        (lambda chance, _length: 0.2 * math.exp(chance.gauss(0, 0.3)), 2, 0.16),
        (lambda chance, length: (10 + 0.1 * length) / length * chance.uniform(0.85, 1.15), 2, 0.13),
        (lambda chance, _length: 0.2 if chance.random() < 0.9 else 1.0, 2, 0.11),
        (lambda chance, _length: 0.2 if chance.random() < 0.5 else 1.0, 6, 0.16),
    ],
    ids=["uniform", "constant", "lognormal", "with a fixed part", "exceptions", "two kinds"],
)
def test_few_polls_find_results_soon(share: Share, most_polls: int, most_late: float) -> None:
    polls, late = polled(share, 600)
    for some in (slice(120), slice(300, None)):  # beginning with nothing known, and afterwards
        assert statistics.median(polls[some]) <= most_polls
        assert statistics.median(late[some]) <= most_late


def test_it_adapts_to_an_api_that_changes() -> None:
    drawn = 0

    def changing(chance: random.Random, _length: float) -> float:
        nonlocal drawn
        drawn += 1
        return (0.2 if drawn <= 200 else 0.05 if drawn <= 500 else 0.4) * chance.uniform(0.9, 1.1)

    polls, late = polled(changing, 800)
    assert statistics.median(late[350:500]) < 0.2
    assert statistics.median(late[650:]) < 0.12
    assert statistics.mean(polls) < 3
