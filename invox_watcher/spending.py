"""Audio minutes per day: what an upload counts, on which day, and until when it is held if they are used up.

A day is one of this machine's local time. A recording may go if it fits into what is left; one that is
longer than a whole day's minutes may go if it is the first of its day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta

OVERALL = ""  # the profile under which all recordings are counted
# Of a recording of unknown length: 32 kbit/s, as phones and browsers record speech.
ESTIMATED_BYTES_PER_SECOND = 4000


@dataclass(frozen=True)
class Reservation:
    """The part of a day's minutes that one upload takes."""

    day: str  # 2026-11-28
    profile: str
    seconds: float


@dataclass(frozen=True)
class Limits:
    """The daily minutes in the configuration; None for no limit."""

    overall_minutes: float | None = None
    by_profile_minutes: Mapping[str, float] | None = None

    def __bool__(self) -> bool:
        return self.overall_minutes is not None or bool(self.by_profile_minutes)

    def applying_to(self, profile: str) -> dict[str, float]:
        """The limits, in seconds, of a recording with that profile, by the profile under which it counts."""
        minutes = {OVERALL: self.overall_minutes, profile: (self.by_profile_minutes or {}).get(profile)}
        return {name: limit * 60 for name, limit in minutes.items() if limit is not None}


def day_of(now: datetime) -> str:
    """The local day."""
    return now.astimezone().date().isoformat()


def end_of_day(now: datetime) -> datetime:
    """The next local midnight."""
    tomorrow = now.astimezone().date() + timedelta(days=1)
    return datetime.combine(tomorrow, time.min).astimezone()


def counted_seconds(duration_seconds: float | None, size_bytes: int) -> float:
    """What a recording counts: its length, or an estimate by the size of what is uploaded."""
    if duration_seconds is not None:
        return duration_seconds
    return size_bytes / ESTIMATED_BYTES_PER_SECOND


def exceeded(wanted: Reservation, limits: Limits, spent: Mapping[str, float]) -> Sequence[str]:
    """Under which profiles there is no room for `wanted`; empty if it may go.

    `spent`: the seconds of its day so far, by profile.
    """
    return [
        name
        for name, limit in limits.applying_to(wanted.profile).items()
        if (used := spent.get(name, 0.0)) > 0 and used + wanted.seconds > limit
    ]


def key_of(profile: str) -> str:
    """The key of the configuration that limits what counts under `profile`."""
    return "intake.daily_minutes" if profile == OVERALL else f"daily_minutes of the profile {profile}"
