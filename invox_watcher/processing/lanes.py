"""Queues of jobs by due time, each for its own group of threads, and the clock that they go by."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from typing import NamedTuple

from invox_watcher.job import Job


class Clock:
    """The time by which jobs are due, and how to wait for it; a test may make hours pass in a moment."""

    def __call__(self) -> float:
        """Now, in seconds; only differences have a meaning."""
        return time.monotonic()

    def wait(self, changed: threading.Condition, seconds: float | None) -> None:
        """Wait until `changed`, which the caller holds, is notified, or that many seconds have passed."""
        changed.wait(seconds)


class _Entry(NamedTuple):
    """A job in a lane. `held_back`: it waits only for the breaker, or for the ramp after it."""

    due: float
    order: int
    job: Job
    held_back: bool


class Lane:
    """Jobs by due time for one group of threads."""

    place = None

    def __init__(self, clock: Clock, name: str) -> None:
        self.name = name
        self._clock = clock
        self._idle = 0  # threads in `take`
        self._heap: list[_Entry] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, job: Job, after_seconds: float, *, held_back: bool) -> None:
        """Add a job that is due in `after_seconds`."""
        with self._changed:
            due = self._clock() + after_seconds
            heapq.heappush(self._heap, _Entry(due, next(self._order), job, held_back))
            self._changed.notify()

    def take(self) -> Job | None:
        """Wait for a job that is due; None once the lane is closed."""
        with self._changed:
            while not self._closed:
                wait = self._heap[0].due - self._clock() if self._heap else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._heap).job
                self._idle += 1
                self._clock.wait(self._changed, wait)
                self._idle -= 1
            return None

    @property
    def silent_seconds(self) -> float:
        """How long a job has been due although a thread is free to take it."""
        with self._changed:
            late = self._clock() - self._heap[0].due if self._heap and self._idle else 0.0
            return max(late, 0.0)

    def due(self) -> dict[str, float]:
        """In how many seconds each job here is due, by its id."""
        with self._changed:
            now = self._clock()
            return {job.id: max(due - now, 0.0) for due, _order, job, _held_back in self._heap}

    def expedite(self, request_id: str) -> bool:
        """Make the job with that request id due now; False if it is not here."""
        with self._changed:
            for place, entry in enumerate(self._heap):
                if entry.job.request_id == request_id:
                    self._heap[place] = entry._replace(due=self._clock())
                    heapq.heapify(self._heap)
                    self._changed.notify()
                    return True
        return False

    def release(self) -> None:
        """Make all due now that are held back."""
        with self._changed:
            now = self._clock()
            self._heap = [entry._replace(due=now) if entry.held_back else entry for entry in self._heap]
            heapq.heapify(self._heap)
            self._changed.notify_all()

    def close(self) -> None:
        """Let every thread that waits in `take` go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
