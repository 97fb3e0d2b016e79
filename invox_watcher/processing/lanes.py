"""Queues of jobs by priority and due time, each for a group of threads, and the clock that they go by."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from invox_watcher.job import Job
from invox_watcher.priority import Priority, Turns, earliest


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
    """Jobs for one group of threads: of those that are due the most urgent first, then the longest due."""

    place = None

    def __init__(self, clock: Clock, name: str) -> None:
        self.name = name
        self._clock = clock
        self._idle = 0  # threads in `take`
        self._heaps: tuple[list[_Entry], ...] = tuple([] for _ in Priority)
        self._turns = Turns()
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, job: Job, after_seconds: float, *, held_back: bool) -> None:
        """Add a job that is due in `after_seconds`."""
        with self._changed:
            due = self._clock() + after_seconds
            heapq.heappush(self._heaps[job.priority], _Entry(due, next(self._order), job, held_back))
            self._changed.notify()

    def take(self) -> Job | None:
        """Wait for a job that is due; None once the lane is closed."""
        with self._changed:
            while not self._closed:
                now, first = self._clock(), [heap[0].due if heap else None for heap in self._heaps]
                number = self._turns.next([due if due is not None and due <= now else None for due in first])
                if number is not None:
                    return heapq.heappop(self._heaps[number]).job
                next_due = earliest(first)
                wait = None if next_due is None else next_due - now
                self._idle += 1
                self._clock.wait(self._changed, wait)
                self._idle -= 1
            return None

    @property
    def silent_seconds(self) -> float:
        """How long a job has been due although a thread is free to take it."""
        with self._changed:
            first = earliest(heap[0].due for heap in self._heaps if heap)
            late = self._clock() - first if first is not None and self._idle else 0.0
            return max(late, 0.0)

    def due(self) -> dict[str, float]:
        """In how many seconds each job here is due, by its id."""
        with self._changed:
            now = self._clock()
            return {entry.job.id: max(entry.due - now, 0.0) for entry in self._entries()}

    def expedite(self, request_id: str) -> bool:
        """Make the job with that request id due now; False if it is not here."""
        with self._changed:
            for heap in self._heaps:
                for place, entry in enumerate(heap):
                    if entry.job.request_id == request_id:
                        heap[place] = entry._replace(due=self._clock())
                        heapq.heapify(heap)
                        self._changed.notify()
                        return True
        return False

    def release(self) -> None:
        """Make all due now that are held back."""
        with self._changed:
            now = self._clock()
            for heap in self._heaps:
                heap[:] = [entry._replace(due=now) if entry.held_back else entry for entry in heap]
                heapq.heapify(heap)
            self._changed.notify_all()

    def _entries(self) -> Iterator[_Entry]:
        return itertools.chain(*self._heaps)

    def close(self) -> None:
        """Let every thread that waits in `take` go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
