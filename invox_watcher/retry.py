"""Delay and deadline arithmetic, pure: how long until the next try, the next look, the next probe.

No function here reads a clock or sleeps; times are seconds of the caller's monotonic clock.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# A second look every quarter of the time already waited keeps a job's answer at most 25 % late.
_LOOK_FRACTION = 0.25
_CLOSED_LIMIT = 1 << 16


@dataclass(frozen=True)
class Backoff:
    """Exponential delays with a cap and equal jitter: between half and the whole of min(cap, base × 2ⁿ)."""

    base_seconds: float
    max_seconds: float

    def delay_seconds(self, attempt: int, *, chance: Callable[[], float] = random.random) -> float:
        """The delay before try `attempt` + 1, for `attempt` ≥ 1. The floor keeps a crowd from spinning."""
        ceiling = min(self.max_seconds, self.base_seconds * 2.0 ** min(max(attempt, 1) - 1, 60))
        return ceiling * (0.5 + 0.5 * chance())


def retry_after_seconds(header: str | None, *, now: datetime, max_seconds: float) -> float | None:
    """What a `Retry-After` header asks for (RFC 9110 §10.2.3: seconds or a date), clamped to 0…max_seconds.

    None where there is no header or it can't be read: the caller's own backoff then holds.
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            when = parsedate_to_datetime(header)
        except (ValueError, OverflowError):
            return None
        seconds = ((when if when.tzinfo else when.replace(tzinfo=UTC)) - now).total_seconds()
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), max_seconds)


def first_look_seconds(
    duration_seconds: float | None, ratio: float | None, *, first_seconds: float, max_seconds: float
) -> float:
    """When to ask first: the recording's length × the learned ratio, or `first_seconds` where unknown.

    Never later than `max_seconds`, the cap between any two looks: a look too early costs one small request,
    and the ratio of short recordings is mostly the fixed cost of each.
    """
    if duration_seconds is None or ratio is None:
        return min(first_seconds, max_seconds)
    return min(max(duration_seconds * ratio, 0.1), max_seconds)


def next_look_seconds(waited_seconds: float, *, first_seconds: float, max_seconds: float) -> float:
    """How long until the next look at a result that has been pending for `waited_seconds`."""
    return min(max(waited_seconds * _LOOK_FRACTION, min(first_seconds, max_seconds)), max_seconds)


@dataclass
class Breaker:
    """Stops calls to an API that is ill: open after repeated faults, one probe at a time, then a ramp.

    `admit` says how long a call has to wait (0: go now, and report back by `success`, `fault` or `release`).
    Not thread-safe: its owner holds a lock.
    """

    backoff: Backoff
    threshold: int = 5
    opened: int = 0  # how often in a row it has opened; 0 while closed
    _faults: int = field(default=0, init=False)
    _retry_at: float = field(default=0.0, init=False)
    _limit: int = field(default=_CLOSED_LIMIT, init=False)
    _running: int = field(default=0, init=False)

    @property
    def is_open(self) -> bool:
        """Whether calls are being held back, the probe aside."""
        return self.opened > 0

    def admit(self, now: float) -> float:
        """Seconds to wait before asking again; 0 means that the call may start now."""
        if self.is_open and now < self._retry_at:
            return self._retry_at - now
        if self._running >= (1 if self.is_open else self._limit):
            return self.backoff.base_seconds
        self._running += 1
        return 0.0

    def success(self) -> bool:
        """A call came back well. True where this closed the breaker; the limit then doubles per success."""
        self.release()
        closed = self.is_open
        self._faults = self.opened = 0
        self._limit = 1 if closed else min(self._limit * 2, _CLOSED_LIMIT)
        return closed

    def fault(self, now: float, *, retry_after_seconds: float | None = None, at_once: bool = False) -> bool:
        """A call failed. True where this opened the breaker, or opened it again after a failed probe.

        `at_once` opens it without counting: a fault of set-up will not go away by itself.
        """
        self.release()
        self._faults += 1
        was_open = self.is_open
        if was_open and now < self._retry_at:  # a call from before it opened
            return False
        if not (was_open or at_once or self._faults >= self.threshold):
            return False
        self.opened += 1
        delay = self.backoff.delay_seconds(self.opened)
        self._retry_at = now + max(delay, retry_after_seconds or 0.0)
        return True

    def release(self) -> None:
        """The call ended without saying anything about the API's health."""
        self._running = max(self._running - 1, 0)
