"""The wall clock, a steady one, and times as people and scripts read them."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """The wall clock, for records; never compared with file times and never used for waiting."""
    return datetime.now(UTC)


def since_boot() -> float:
    """Seconds by a clock that can't be set, and that counts suspended time as well; see clock_gettime(2)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def seconds_since(moment: datetime) -> float:
    """How long ago that was by the wall clock; 0 if the clock has been set back since."""
    return max((utc_now() - moment).total_seconds(), 0.0)


def rfc3339(moment: datetime) -> str:
    """An aware time as RFC 3339 in UTC with milliseconds: `2026-11-23T18:50:56.123Z`."""
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)  # it nearly always is
    return utc.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
