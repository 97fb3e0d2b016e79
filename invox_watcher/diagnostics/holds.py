"""Which recordings are held until the next day, because the daily minutes are used up, by the journal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from invox_watcher.budget import Held, held
from invox_watcher.config import Config
from invox_watcher.job import Job, State
from invox_watcher.journal import Journal
from invox_watcher.layout import limits_of
from invox_watcher.spending import day_of
from invox_watcher.times import utc_now


class Holds:
    """What is held as of now."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self._limits, self._now = limits_of(config), utc_now()
        self._spent = journal.spent(day_of(self._now)) if self._limits else {}
        self._journal = journal

    def of(self, job: Job) -> Held | None:
        """Until when `job` is held, and why; None if it is not."""
        if not self._limits or job.state is not State.IDENTIFIED or not job.asks_api or job.mime_type is None:
            return None
        return held(job, self._limits, self._spent, self._now)

    def all(self) -> Sequence[Held]:
        """Every recording that is held."""
        if not self._limits:
            return ()
        return [found for job in self._journal.jobs([State.IDENTIFIED]) if (found := self.of(job))]

    def summary(self) -> str:
        """How many are held, until when and why, as a sentence; empty if none is."""
        found = self.all()
        if not found:
            return ""
        keys = sorted({key for one in found for key in one.keys})
        count = "1 recording is" if len(found) == 1 else f"{len(found)} recordings are"
        return f"{count} held until {until(found[0])}: the daily minutes are used up ({', '.join(keys)})."


def until(found: Held) -> str:
    """The time as a person reads it: `2026-11-29 00:00`."""
    local: datetime = found.until.astimezone()
    return f"{local:%Y-%m-%d %H:%M}"
