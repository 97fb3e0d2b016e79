"""Delay and deadline arithmetic, pure: how long until the next attempt, and the next probe.

No function here reads a clock or sleeps; times are seconds of the caller's monotonic clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

_NO_SPACING_SECONDS = 0.001


@dataclass(frozen=True)
class Backoff:
    """Exponential delays with a cap and equal jitter: between half and the whole of min(cap, base × 2ⁿ)."""

    base_seconds: float
    max_seconds: float

    def delay_seconds(self, attempt: int, *, chance: Callable[[], float] = random.random) -> float:
        """The delay after `attempt` failed attempts. The floor keeps many jobs from spinning."""
        ceiling = min(self.max_seconds, self.base_seconds * 2.0 ** min(max(attempt, 1) - 1, 60))
        return ceiling * (0.5 + 0.5 * chance())


@dataclass
class Breaker:
    """Stops calls to a failing API: open after repeated faults, then one probe at a time, then a ramp.

    `admit` returns how long a call has to wait (0: it may start now); `success` and `fault` report its end.
    A call may take hours (an upload), so nothing waits for one to end: while open, each delay lets one probe
    pass, and after the first success calls are let through at a rate that doubles with each further one.
    Not thread-safe: its owner holds a lock.
    """

    backoff: Backoff
    threshold: int
    _opened: int = field(default=0, init=False)  # how often in a row; 0 while closed
    _faults: int = field(default=0, init=False)
    _probing: bool = field(default=False, init=False)
    _next_at: float = field(default=0.0, init=False)
    _spacing: float = field(default=0.0, init=False)

    @property
    def is_open(self) -> bool:
        """Whether calls are being held back, the probe aside."""
        return self._opened > 0

    def admit(self, now: float) -> float:
        """Seconds to wait before asking again; 0 means that the call may start now."""
        if now < self._next_at:
            return self._next_at - now
        if self.is_open:
            self._probing = True
            self._next_at = now + self.backoff.delay_seconds(self._opened)
        else:
            self._next_at = now + self._spacing
        return 0.0

    def hasten(self, now: float) -> None:
        """There is reason to hope: the next probe, or call, may start now."""
        self._next_at = min(self._next_at, now)

    def success(self, now: float) -> bool:
        """A call succeeded. True if this closed the breaker."""
        closed = self.is_open
        self._opened = self._faults = 0
        if closed:
            self._spacing, self._next_at = self.backoff.base_seconds, now
        else:
            self._spacing = self._spacing / 2 if self._spacing > _NO_SPACING_SECONDS else 0.0
        return closed

    def fault(self, now: float, *, retry_after_seconds: float | None = None, at_once: bool = False) -> bool:
        """A call failed. True if this opened the breaker, or reopened it after a failed probe.

        `at_once` opens it without counting: a wrong configuration does not fix itself.
        """
        self._faults += 1
        if self.is_open and not self._probing:  # a call from before it opened
            return False
        if not (self.is_open or at_once or self._faults >= self.threshold):
            return False
        self._opened += 1
        self._probing = False
        self._next_at = now + max(self.backoff.delay_seconds(self._opened), retry_after_seconds or 0.0)
        return True
