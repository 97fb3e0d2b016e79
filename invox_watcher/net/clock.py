"""The clock of a server, as far as its replies tell: is this machine's right?"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from invox_watcher.times import since_boot

# Beyond any delay of a reply, and what request signatures allow for.
_TOLERANCE_SECONDS = 300.0


def _wall_clock() -> float:
    return time.time()


class RemoteClock:
    """Compares this machine's clock with the `Date` of a server's replies (RFC 9110 §6.6.1).

    Each reply's time is remembered by the steady clock, so that a jump of this machine's clock is noticed at
    once, before another reply comes.
    """

    def __init__(
        self, *, now: Callable[[], float] = _wall_clock, steady: Callable[[], float] = since_boot
    ) -> None:
        self._now, self._steady = now, steady
        self._offset: float | None = None  # of the server's clock to the steady one
        self._heard: str | None = None  # what it was calculated from

    def heard(self, date: str | None) -> None:
        """A reply has this `Date` header; one that has none, or nonsense, says nothing new."""
        if date == self._heard:  # of several replies within a second the first is the closest
            return
        try:
            there = parsedate_to_datetime(date or "")
            seconds = (there if there.tzinfo else there.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return
        self._offset, self._heard = seconds - self._steady(), date

    @property
    def ahead_seconds(self) -> float | None:
        """How far this machine's clock is ahead of the server's now; None if the server has not said."""
        return None if self._offset is None else self._now() - self._steady() - self._offset

    @property
    def confirms(self) -> bool | None:
        """Whether both clocks agree to within five minutes; None if the server has not said."""
        ahead = self.ahead_seconds
        return None if ahead is None else abs(ahead) <= _TOLERANCE_SECONDS
