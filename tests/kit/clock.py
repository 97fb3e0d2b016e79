"""A clock that a test sets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ManualClock:
    """Called, it returns `now`, in seconds since a moment that means nothing."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now
