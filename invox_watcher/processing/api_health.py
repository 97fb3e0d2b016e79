"""Is the API unavailable, or is one recording at fault? Only the calls of all jobs together can show it.

An outage never counts against a recording, however often the daemon restarts in it: a failed call spends an
attempt only if calls for other recordings have succeeded since that recording's last failure. An unreadable
reply counts against its recording, unless different recordings get such replies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from invox_watcher.backoff import Breaker
from invox_watcher.errors import ApiError, ApiRefusedError, ApiUnavailableError
from invox_watcher.times import utc_now

_UNREADABLE = "api_protocol"
_DIFFERENT_JOBS = 2
# An outage is reported again after a minute, then each time that it has lasted twice as long, then hourly.
_FIRST_REMINDER_SECONDS = 60.0
_MAX_REMINDER_SECONDS = 3600.0


@dataclass(frozen=True)
class Outage:
    """For how long nothing but probes has been sent."""

    since: datetime
    seconds: float
    probes: int  # that have failed
    is_news: bool  # it has just begun, or has a cause that it did not have before


class _Reports:
    """Decides when an outage is reported: not at every probe. Times are those of the caller's clock."""

    def __init__(self, now: float) -> None:
        self._since, self._began = utc_now(), now
        self._probes = 0
        self._codes: set[str] = set()
        self._next_seconds = _FIRST_REMINDER_SECONDS

    def after_fault(self, code: str, now: float) -> Outage | None:
        """What to report of the outage after its first fault, or a failed probe; None for nothing."""
        self._probes += bool(self._codes)
        is_news = code not in self._codes
        self._codes.add(code)
        lasted = now - self._began
        if lasted >= self._next_seconds:
            self._next_seconds = lasted + min(lasted, _MAX_REMINDER_SECONDS)
        elif not is_news:
            return None
        return self.so_far(now, is_news=is_news)

    def so_far(self, now: float, *, is_news: bool = False) -> Outage:
        """The outage as it is now."""
        return Outage(self._since, now - self._began, self._probes, is_news)


class ApiHealth:
    """Keeps track of every call that a job makes. Safe to use from several threads."""

    def __init__(self, breaker: Breaker, clock: Callable[[], float]) -> None:
        self._breaker = breaker
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows
        self._fault: ApiError | None = None
        self._outage: _Reports | None = None  # None while the breaker is closed
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

    def failed(self, job_id: str, error: ApiError) -> Outage | None:
        """A call for this job failed and blames the API; return the outage if it is to be logged."""
        with self._lock:
            unreadable = isinstance(error, ApiUnavailableError) and error.code == _UNREADABLE
            blamed = unreadable or self._successes > self._failed_at.get(job_id, self._successes)
            self._failed_at[job_id] = self._successes
            outage = None
            if unreadable:
                self._unreadable.add(job_id)
            # One failed purchase of a token, for which several jobs waited, is one fault.
            counts = error is not self._fault
            if counts and not (unreadable and len(self._unreadable) < _DIFFERENT_JOBS):
                now = self._clock()
                opened = self._breaker.fault(
                    now,
                    retry_after_seconds=getattr(error, "retry_after_seconds", None),
                    at_once=isinstance(error, ApiRefusedError),
                )
                self._fault = error
                if opened:
                    self._outage = self._outage or _Reports(now)
                    outage = self._outage.after_fault(error.code, now)
            if blamed and not self._breaker.is_open:
                self._at_fault.add(job_id)
            else:
                self._at_fault.discard(job_id)
            return outage

    def succeeded(self, job_id: str) -> Outage | None:
        """A call for this job was answered; return the outage that this has ended."""
        with self._lock:
            self._successes += 1
            self._failed_at.pop(job_id, None)
            self._at_fault.discard(job_id)
            self._unreadable.clear()
            self._fault = None
            now = self._clock()
            self._breaker.success(now)
            ended, self._outage = self._outage, None
            return ended.so_far(now) if ended else None

    def hear_outage(self, error: ApiError) -> Outage | None:
        """Another host gets no answer: the next call is a probe. The outage, if that was not known here."""
        with self._lock:
            if self._breaker.is_open:
                return None
            now = self._clock()
            self._breaker.fault(now, at_once=True)
            self._fault, self._outage = error, _Reports(now)
            return self._outage.after_fault(error.code, now)

    def hear_recovery(self) -> bool:
        """Another host gets answers again: probe now. Whether calls are being held back here."""
        with self._lock:
            if self._breaker.is_open:
                self._breaker.hasten(self._clock())
            return self._breaker.is_open

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
