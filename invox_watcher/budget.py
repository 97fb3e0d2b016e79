"""May a recording be uploaded today? By the audio minutes of the day; nothing is failed because of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from invox_watcher.job import Job
from invox_watcher.plan import DEFAULT
from invox_watcher.spending import (
    Limits,
    Reservation,
    counted_seconds,
    day_of,
    end_of_day,
    exceeded,
    key_of,
)


@dataclass(frozen=True)
class Held:
    """A recording that is not uploaded before `until`, because of these keys of the configuration."""

    until: datetime
    keys: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why, as a clause: `the daily minutes are used up (intake.daily_minutes)`."""
        return f"the daily minutes are used up ({', '.join(self.keys)})"


def reservation_for(job: Job, now: datetime) -> Reservation | None:
    """What the upload of `job` takes of today's minutes; None if an earlier one of unknown fate has them."""
    today = day_of(now)
    if job.reservation is not None and job.reservation.day == today:
        return None
    profile = DEFAULT if job.plan is None else job.plan.profile
    return Reservation(today, profile, counted_seconds(job.duration_seconds, job.upload.size_bytes))


def held(job: Job, limits: Limits, spent: Mapping[str, float], now: datetime) -> Held | None:
    """Until when `job`, which is next to be uploaded, is held; None if it may go.

    `spent`: the seconds of this day, by profile.
    """
    wanted = reservation_for(job, now)
    return None if wanted is None else held_back(wanted, limits, spent, now)


def held_back(wanted: Reservation, limits: Limits, spent: Mapping[str, float], now: datetime) -> Held | None:
    """Until when an upload is held that takes `wanted`; None if it may go."""
    names = exceeded(wanted, limits, spent)
    return Held(end_of_day(now), tuple(map(key_of, names))) if names else None
