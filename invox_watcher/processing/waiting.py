"""How long a job has waited for its result: columns of its row, counted by the monotonic clock.

Within one run of the daemon the wall clock may jump as it likes and changes nothing. A restart is bridged by
the wall clock, forwards only, and only for a job whose upload is complete: while the fate of an upload is
uncertain, or the API denies the request, only time in which it was polled counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from invox_watcher.job import Job, State
from invox_watcher.times import seconds_since, utc_now


@dataclass(frozen=True)
class Waiting:
    """How long a job has waited, as of a poll."""

    polled_at: datetime
    waited_seconds: float
    denied_seconds: float
    polled_seconds: float  # since the first poll in this run of the daemon

    @property
    def columns(self) -> dict[str, Any]:
        """What is written into the job's row if it keeps waiting."""
        return {
            "polled_at": self.polled_at,
            "waited_seconds": self.waited_seconds,
            "denied_seconds": self.denied_seconds,
        }


@dataclass
class _Count:
    """One request in this run, by the monotonic clock: `waited` seconds had passed at `waited_from`."""

    request_id: str | None
    first_poll_at: float | None = None
    waited_from: float | None = None
    waited: float = 0.0
    denied_from: float | None = None
    denied: float = 0.0


class WaitingTimes:
    """Counts for all jobs. One that is forgotten continues from its columns, as after a restart."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counts: dict[str, _Count] = {}

    @property
    def jobs(self) -> int:
        """How many are counted for."""
        return len(self._counts)

    def start(self, job: Job) -> None:
        """The API has the recording: wait from now on."""
        self._counts[job.id] = _Count(job.request_id, waited_from=self._clock())

    def begin_poll(self, job: Job) -> None:
        """The API is about to be asked. From the first time on, the wall clock doesn't matter."""
        count, now = self._count(job), self._clock()
        if count.first_poll_at is None:
            count.first_poll_at = now
        if count.waited_from is None and job.state is State.WAITING:
            since = job.polled_at or job.uploaded_at
            count.waited = job.waited_seconds + (seconds_since(since) if since else 0.0)
            count.waited_from = now

    def end_poll(self, job: Job, *, denied: bool = False) -> Waiting:
        """The API has answered; `denied`: that it knows no such request."""
        count, now = self._count(job), self._clock()
        if count.waited_from is None:  # an upload of unknown fate: counted from the first answer
            count.waited, count.waited_from = job.waited_seconds, now
        if not denied:
            count.denied, count.denied_from = 0.0, None
        elif count.denied_from is None:
            count.denied, count.denied_from = job.denied_seconds, now
        first_poll_at = now if count.first_poll_at is None else count.first_poll_at
        return Waiting(
            polled_at=utc_now(),
            waited_seconds=count.waited + now - count.waited_from,
            denied_seconds=count.denied + (0.0 if count.denied_from is None else now - count.denied_from),
            polled_seconds=now - first_poll_at,
        )

    def forget(self, job: Job) -> None:
        """Its result is no longer waited for."""
        self._counts.pop(job.id, None)

    def _count(self, job: Job) -> _Count:
        count = self._counts.get(job.id)
        if count is None or count.request_id != job.request_id:
            count = self._counts[job.id] = _Count(job.request_id)
        return count
