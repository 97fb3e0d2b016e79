"""For how long this host may act for the fleet after its last heartbeat in the database.

The other hosts take over what it has once its heartbeat is missing for `limit_seconds` by the clock of the
database. Before that, by its own clock, it stops: it takes no step, and ends the upload that it is sending. A
host that was only paused finds its lease expired before it does anything else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from invox_watcher.errors import JournalError
from invox_watcher.job import Job
from invox_watcher.processing.lanes import Lane
from invox_watcher.times import since_boot

# Of the limit: what is left is for clocks that run at different speeds, and for what is under way.
_VALID_SHARE = 0.6
_AGAIN_SECONDS = 0.2


class Lease:
    """Safe for several threads. It begins with the first renewal."""

    def __init__(self, limit_seconds: float, *, clock: Callable[[], float] = since_boot) -> None:
        self._valid_seconds = limit_seconds * _VALID_SHARE
        self._clock = clock
        self._until = float("-inf")

    def now(self) -> float:
        """To be asked for before the database is, for `renew`."""
        return self._clock()

    def renew(self, asked_at: float) -> None:
        """A heartbeat reached the database after `asked_at`."""
        self._until = asked_at + self._valid_seconds

    def revoke(self) -> None:
        """Another host has taken over what this one had."""
        self._until = float("-inf")

    @property
    def is_valid(self) -> bool:
        """Whether no other host can have taken over what this one has."""
        return self._clock() < self._until

    def require(self) -> None:
        """Raise JournalError unless it is valid."""
        if not self.is_valid:
            raise JournalError(
                "No heartbeat of this host has reached the database for too long.",
                code="lease_expired",
                hint="Processing resumes automatically, unless other hosts have taken over its recordings.",
            )


class Slots(Protocol):
    """So many at once, of all hosts."""

    def take(self, key: str) -> bool:
        """Take one for `key`; False if there is none now, or that is not known."""

    def free(self, key: str) -> None:
        """Give the one of `key` back."""


class _Thread(threading.local):
    job_id: str | None = None  # that it has taken last


class LeasedLane:
    """A lane from which no job is taken while the lease has expired, or others have all slots.

    A job has its slot until its thread comes for the next one.
    """

    def __init__(self, lane: Lane, lease: Lease, slots: Slots | None = None) -> None:
        self._lane = lane
        self._lease = lease
        self._slots = slots
        self._thread = _Thread()
        self._closed = threading.Event()

    @property
    def name(self) -> str:
        return self._lane.name

    @property
    def place(self) -> str | None:
        return self._lane.place

    @property
    def silent_seconds(self) -> float:
        return self._lane.silent_seconds if self._lease.is_valid else 0.0

    def put(self, job: Job, after_seconds: float, *, held_back: bool) -> None:
        self._lane.put(job, after_seconds, held_back=held_back)

    def take(self) -> Job | None:
        if self._slots is not None and self._thread.job_id is not None:
            self._slots.free(self._thread.job_id)
            self._thread.job_id = None
        while (job := self._lane.take()) is not None:
            if self._lease.is_valid and (self._slots is None or self._slots.take(job.id)):
                self._thread.job_id = job.id
                return job
            self._lane.put(job, _AGAIN_SECONDS, held_back=False)
            self._closed.wait(_AGAIN_SECONDS)  # no other job here could be taken either
        return None

    def may_go_on(self, job: Job) -> bool:
        return self._lease.is_valid and self._lane.may_go_on(job)

    def due(self) -> dict[str, float]:
        return self._lane.due()

    def expedite(self, request_id: str) -> bool:
        return self._lane.expedite(request_id)

    def release(self) -> None:
        self._lane.release()

    def close(self) -> None:
        self._lane.close()
        self._closed.set()
