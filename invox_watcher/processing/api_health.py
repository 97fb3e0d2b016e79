"""Is the API unavailable, or is one recording at fault? Only the calls of all jobs together can show it.

An outage never counts against a recording, however often the daemon restarts in it: a failed call spends an
attempt only if calls for other recordings have succeeded since that recording's last failure. An unreadable
reply counts against its recording, unless different recordings get such replies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from invox_watcher.errors import ApiError, ApiRefusedError, ApiUnavailableError
from invox_watcher.processing.backoff import Breaker

_UNREADABLE = "api_protocol"
_DIFFERENT_JOBS = 2


class ApiHealth:
    """Keeps track of every call that a job makes. Safe to use from several threads."""

    def __init__(self, breaker: Breaker, clock: Callable[[], float]) -> None:
        self._breaker = breaker
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows
        self._fault: ApiError | None = None
        self._successes = 0
        self._failed_at: dict[str, int] = {}  # how many calls had succeeded at a job's last failure
        self._at_fault: set[str] = set()  # jobs that are to blame for their last failure
        self._unreadable: set[str] = set()  # jobs with unreadable replies, since the last good call

    @property
    def fault(self) -> ApiError | None:
        """Why nothing but probes is sent; None if calls go out."""
        with self._lock:
            return self._fault if self._breaker.is_open else None

    @property
    def has_answered(self) -> bool:
        """Whether any call was answered."""
        with self._lock:
            return self._successes > 0

    def delay(self) -> float:
        """How many seconds the next call has to wait; 0 if it may go out now."""
        with self._lock:
            return self._breaker.admit(self._clock())

    def failed(self, job_id: str, error: ApiError) -> bool:
        """A call for this job failed with an error that blames the API. True if that opened the breaker."""
        with self._lock:
            unreadable = isinstance(error, ApiUnavailableError) and error.code == _UNREADABLE
            blamed = unreadable or self._successes > self._failed_at.get(job_id, self._successes)
            self._failed_at[job_id] = self._successes
            opened = False
            if unreadable:
                self._unreadable.add(job_id)
            # One failed purchase of a token, for which several jobs waited, is one fault.
            counts = error is not self._fault
            if counts and not (unreadable and len(self._unreadable) < _DIFFERENT_JOBS):
                opened = self._breaker.fault(
                    self._clock(),
                    retry_after_seconds=getattr(error, "retry_after_seconds", None),
                    at_once=isinstance(error, ApiRefusedError),
                )
                self._fault = error
            if blamed and not self._breaker.is_open:
                self._at_fault.add(job_id)
            else:
                self._at_fault.discard(job_id)
            return opened

    def succeeded(self, job_id: str) -> bool:
        """A call for this job was answered. True if that closed the breaker."""
        with self._lock:
            self._successes += 1
            self._failed_at.pop(job_id, None)
            self._at_fault.discard(job_id)
            self._unreadable.clear()
            self._fault = None
            return self._breaker.success(self._clock())

    def blames(self, job_id: str) -> bool:
        """Whether the recording of this job, and not the API, is to blame for its last failure."""
        with self._lock:
            return job_id in self._at_fault

    def forget(self, job_id: str) -> None:
        """This job makes no more calls."""
        with self._lock:
            self._failed_at.pop(job_id, None)
            self._at_fault.discard(job_id)
            self._unreadable.discard(job_id)
