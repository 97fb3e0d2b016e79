"""Queues of jobs by priority and due time, each for a group of threads, and the clock that they go by.

The engine knows of a lane what the protocol `Lane` says. `LocalLane` is a heap in this process: due times
need not outlive it, since recovery makes every job due at once.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from typing import NamedTuple, Protocol

from invox_watcher.job import Job
from invox_watcher.priority import Priority, Turns, earliest

# So many entries of a heap that are gone are not worth a new heap.
_MOST_STALE = 64


class Clock:
    """The time by which jobs are due, and how to wait for it; a test may make hours pass in a moment."""

    def __call__(self) -> float:
        """Now, in seconds; only differences have a meaning."""
        return time.monotonic()

    def wait(self, changed: threading.Condition, seconds: float | None) -> None:
        """Wait until `changed`, which the caller holds, is notified, or that many seconds have passed."""
        changed.wait(seconds)


class Lane(Protocol):
    """Jobs for one group of threads, and when the next step of each is due. Safe for several threads."""

    @property
    def name(self) -> str:
        """What the log calls it."""

    @property
    def place(self) -> str | None:
        """Where in the program it is; None: a lane runs no code of its own."""

    @property
    def silent_seconds(self) -> float:
        """How long a job has been due although a thread is free to take it."""

    def put(self, job: Job, after_seconds: float, *, held_back: bool) -> None:
        """Add a job that is due in `after_seconds`. `held_back`: it waits only for the breaker."""

    def take(self) -> Job | None:
        """Wait for a job that is due; None once the lane is closed."""

    def may_go_on(self, job: Job) -> bool:
        """Whether the thread of `job`, which is due again, may stay with it: nothing more urgent is due."""

    def due(self) -> dict[str, float]:
        """In how many seconds each job here is due, by its id."""

    def expedite(self, request_id: str) -> bool:
        """Make the job with that request id due now; False if it is not here."""

    def release(self) -> None:
        """Make all due now that are held back."""

    def close(self) -> None:
        """Let every thread that waits in `take` go."""


class Lanes(NamedTuple):
    """The two lanes of an engine: for steps that read or send a whole recording, and for all others."""

    uploads: Lane
    polls: Lane


class _Entry(NamedTuple):
    """A job in a lane. `held_back`: it waits only for the breaker, or for the ramp after it."""

    due: float
    job: Job
    held_back: bool


class LocalLane:
    """A `Lane` in memory: of those that are due the most urgent first, then the longest due.

    One of the threads waits until the first job is due, the others until that one has gone with it: a job
    that comes wakes one thread if it is due before all others, and none otherwise.
    """

    def __init__(self, clock: Clock, name: str) -> None:
        self.name = name
        self.place: str | None = None
        self._clock = clock
        self._idle = 0  # threads in `take`
        self._entries: dict[int, _Entry] = {}
        self._by_request: dict[str, int] = {}
        # For each priority, due and key of `_entries`; some entries are gone.
        self._heaps: tuple[list[tuple[float, int]], ...] = tuple([] for _ in Priority)
        self._turns = Turns()
        self._order = itertools.count()
        self._leader: int | None = None  # the thread that waits for the first job
        self._changed = threading.Condition()
        self._closed = False

    def put(self, job: Job, after_seconds: float, *, held_back: bool) -> None:
        """Add a job that is due in `after_seconds`."""
        with self._changed:
            self._add(_Entry(self._clock() + after_seconds, job, held_back))

    def take(self) -> Job | None:
        """Wait for a job that is due; None once the lane is closed."""
        me = threading.get_ident()
        with self._changed:
            while not self._closed:
                now, first = self._clock(), self._first_due()
                number = self._turns.next([due if due is not None and due <= now else None for due in first])
                if number is not None:
                    return self._pop(number)
                wait = None
                if self._leader is None and (next_due := earliest(first)) is not None:
                    self._leader, wait = me, next_due - now
                self._idle += 1
                self._clock.wait(self._changed, wait)
                self._idle -= 1
                if self._leader == me:
                    self._leader = None
            return None

    @property
    def silent_seconds(self) -> float:
        """How long a job has been due although a thread is free to take it."""
        with self._changed:
            first = earliest(self._first_due())
            late = self._clock() - first if first is not None and self._idle else 0.0
            return max(late, 0.0)

    def may_go_on(self, job: Job) -> bool:
        """Whether the thread of `job`, which is due again, may stay with it: nothing more urgent is due."""
        with self._changed:
            more_urgent = earliest(self._first_due()[: job.priority])
            return not self._closed and (more_urgent is None or more_urgent > self._clock())

    def due(self) -> dict[str, float]:
        """In how many seconds each job here is due, by its id."""
        with self._changed:
            now = self._clock()
            return {job.id: max(due - now, 0.0) for due, job, _held_back in self._entries.values()}

    def expedite(self, request_id: str) -> bool:
        """Make the job with that request id due now; False if it is not here."""
        with self._changed:
            if (key := self._by_request.get(request_id)) is None:
                return False
            self._add(self._remove(key)._replace(due=self._clock()))
            return True

    def release(self) -> None:
        """Make all due now that are held back."""
        with self._changed:
            for key in [key for key, entry in self._entries.items() if entry.held_back]:
                self._add(self._remove(key)._replace(due=self._clock()))

    def close(self) -> None:
        """Let every thread that waits in `take` go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # ---- with the lock held ------------------------------------------------------------------------------

    def _add(self, entry: _Entry) -> None:
        key = next(self._order)
        self._entries[key] = entry
        if entry.job.request_id is not None:
            self._by_request[entry.job.request_id] = key
        heap = self._heaps[entry.job.priority]
        heapq.heappush(heap, (entry.due, key))
        if len(heap) > 2 * len(self._entries) + _MOST_STALE:
            heap[:] = [one for one in heap if one[1] in self._entries]
            heapq.heapify(heap)
        if earliest(self._first_due()) == entry.due:
            self._wake_one()

    def _pop(self, number: int) -> Job:
        job = self._remove(self._heaps[number][0][1]).job
        if self._entries and self._leader is None:
            self._wake_one()
        return job

    def _remove(self, key: int) -> _Entry:
        entry = self._entries.pop(key)
        request_id = entry.job.request_id
        if request_id is not None and self._by_request.get(request_id) == key:
            del self._by_request[request_id]
        return entry

    def _first_due(self) -> list[float | None]:
        """When the first job of each priority is due."""
        for heap in self._heaps:
            while heap and heap[0][1] not in self._entries:
                heapq.heappop(heap)
        return [heap[0][0] if heap else None for heap in self._heaps]

    def _wake_one(self) -> None:
        self._leader = None
        self._changed.notify()


def local_lanes(clock: Clock) -> Lanes:
    """The lanes of an engine whose jobs are all in this process."""
    return Lanes(LocalLane(clock, "uploads"), LocalLane(clock, "polls"))
