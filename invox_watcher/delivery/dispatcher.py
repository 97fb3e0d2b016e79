"""Sends what is owed to one target, at that target's own pace.

A target that does not take deliveries is tried again with growing delays, and holds up no other; what it is
owed stays in the journal. Deliveries arrive at least once: after a kill, or if no answer came, one is sent
again, with the same key.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from invox_watcher.backoff import Backoff, Breaker
from invox_watcher.errors import (
    DeliveryUncertainError,
    InvoxError,
    JournalError,
    Reason,
    TargetUnavailableError,
    UnsendableError,
)
from invox_watcher.events import Event, log
from invox_watcher.job import Fault, Job
from invox_watcher.journal import Journal, QueuedDelivery, Receipt
from invox_watcher.logs import where
from invox_watcher.times import seconds_since, utc_now

_POLL_SECONDS = 1.0
# What was never attempted may be tried although another delivery has failed; not more often than this, and
# only so many: if none of them is taken, it is the target that takes nothing.
_FRESH_SECONDS, _FRESH_MOST = 15.0, 3
_REMINDER_SECONDS = 3600.0
# How long a connection is kept for the next delivery.
_IDLE_SECONDS = 30.0

Send = Callable[[Job, threading.Event], Receipt | None]


class Connection(Protocol):
    """What a target keeps open."""

    def abort(self) -> None:
        """End a delivery in progress at once. From any thread."""

    def close(self) -> None:
        """Close the connection that is kept for the next delivery."""


@dataclass(frozen=True)
class Pace:
    """How hard a target is tried."""

    backoff: Backoff
    deadline: timedelta  # what was not taken although the target was tried for longer than this fails
    ordered: bool = False  # nothing overtakes what was done before it
    min_interval_seconds: float = 0.0  # from the start of one delivery to that of the next


@dataclass(frozen=True)
class TargetHealth:
    """Whether a target takes deliveries."""

    unavailable: Reason | None = None
    since: datetime | None = None
    failed_attempts: int = 0  # since then


class Dispatcher:
    """The deliveries to one target; `run` is the body of a thread."""

    def __init__(
        self,
        name: str,
        send: Send,
        journal: Journal,
        pace: Pace,
        *,
        connection: Connection | None = None,
        on_duty: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`send` delivers a job and returns the receipt, or None if the event was set before.

        It raises a TargetError for what the target did not take, and any other InvoxError for what can't be
        sent at all. `on_duty`: whether this host, of several, is the one that delivers. `clock` gives
        seconds, of which only differences have a meaning.
        """
        self.name = name
        self._send = send
        self._journal = journal
        self._pace = pace
        self._connection = connection
        self._on_duty = on_duty
        self._clock = clock
        self._breaker = Breaker(pace.backoff, threshold=1)
        self._health = TargetHealth()
        self._woken = threading.Event()
        self._unrecorded: Callable[[], bool] | None = None  # because the journal could not be written
        self._not_before = 0.0
        self._failed_at: float | None = None
        self._fresh_left = _FRESH_MOST
        self._idle_since: float | None = None
        self._reminded_at = 0.0

    @property
    def health(self) -> TargetHealth:
        """Whether the target takes deliveries, by the last attempt. From any thread."""
        return self._health

    def wake(self) -> None:
        """There may be something new. From any thread."""
        self._woken.set()

    def abort(self) -> None:
        """Interrupt a delivery that is under way; it is made again after the next start. From any thread."""
        self.wake()
        if self._connection is not None:
            self._connection.abort()

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set."""
        while not stop.is_set():
            wait_seconds = _POLL_SECONDS
            with contextlib.suppress(JournalError):  # the journal's own check reports it
                wait_seconds = self.step(stop)
            if wait_seconds:
                self._woken.wait(min(wait_seconds, _POLL_SECONDS))
                self._woken.clear()
        if self._connection is not None:
            self._connection.close()

    def step(self, stop: threading.Event) -> float:
        """Attempt one delivery, if one may be attempted now; return how many seconds to wait before the next.

        Raises JournalError.
        """
        if self._unrecorded is not None:
            self._unrecorded()
            self._unrecorded = None
        if not self._on_duty():
            self._close_if_idle(self._clock())
            return _POLL_SECONDS
        delivery = self._journal.deliveries.next(self.name, ordered=self._pace.ordered)
        now = self._clock()
        if delivery is None:
            self._close_if_idle(now)
            return _POLL_SECONDS
        self._idle_since = None
        wait_seconds = self._not_before - now
        if wait_seconds <= 0:
            if self._is_fresh(delivery, now):
                self._fresh_left -= 1
            else:
                wait_seconds = self._breaker.admit(now)
        if wait_seconds > 0:
            return wait_seconds
        self._not_before = now + self._pace.min_interval_seconds
        self._attempt(delivery, now, stop)
        return 0.0

    def _close_if_idle(self, now: float) -> None:
        if self._idle_since is None:
            self._idle_since = now
        elif self._connection is not None and now - self._idle_since >= _IDLE_SECONDS:
            self._connection.close()
            self._idle_since = now

    def _is_fresh(self, delivery: QueuedDelivery, now: float) -> bool:
        """Whether it may tell if the target is unavailable, or another delivery alone was not taken."""
        if not self._fresh_left or not self._breaker.is_open or delivery.attempts:
            return False
        return now - (self._not_before - self._pace.min_interval_seconds) >= _FRESH_SECONDS

    def _attempt(self, delivery: QueuedDelivery, began: float, stop: threading.Event) -> None:
        deliveries = self._journal.deliveries
        try:
            receipt = self._send(self._job_of(delivery), stop)
        except JournalError:
            raise
        except (TargetUnavailableError, DeliveryUncertainError) as error:
            if not (stop.is_set() and isinstance(error, TargetUnavailableError)):  # else it was aborted
                self._postpone(delivery, began, error)
        except InvoxError as error:
            self._fail(delivery, error, getattr(error, "receipt", None))
        except Exception as error:  # noqa: BLE001 - a bug in one kind of target must stop nothing else
            log.error(Event.INTERNAL_ERROR, thread=f"target {self.name}", error=where(error))
            crashed = TargetUnavailableError("The delivery crashed.", code="internal_error")
            self._postpone(delivery, began, crashed)
        else:
            if receipt is None:  # the daemon stops
                return
            self._available()
            self._record(lambda: deliveries.sent(delivery, receipt))
            log.info(
                Event.DELIVERY_SENT, job=delivery.job_id, target=self.name, attempts=delivery.attempts + 1
            )

    def _job_of(self, delivery: QueuedDelivery) -> Job:
        job = self._journal.get(delivery.job_id)
        if job is None:
            raise UnsendableError(
                "The journal has no such recording any more.",
                code="forgotten",
                hint="Its entry was deleted while this was owed.",
            )
        return job

    def _postpone(
        self,
        delivery: QueuedDelivery,
        began: float,
        error: TargetUnavailableError | DeliveryUncertainError,
    ) -> None:
        """The target is tried again later, with this delivery or another."""
        after = error.retry_after_seconds if isinstance(error, TargetUnavailableError) else None
        self._breaker.fault(self._clock(), retry_after_seconds=after)
        if after:  # it asked for patience
            self._fresh_left = 0
        tried = self._tried_seconds(began)
        fault = Fault(error.reason, self._unavailable(error))
        uncertain, deliveries = isinstance(error, DeliveryUncertainError), self._journal.deliveries
        self._record(lambda: deliveries.postpone(delivery, fault, uncertain=uncertain, tried_seconds=tried))
        for overdue in deliveries.overdue(self.name, self._pace.deadline.total_seconds()):
            deliveries.expire(overdue)
            self._report_failed(overdue, overdue.attempts, overdue.fault or fault)

    def _tried_seconds(self, began: float) -> float:
        """How long the target was tried since its last failed attempt, up to the end of this one.

        By the clock of waiting: the wall clock may jump by years, and the host may have been off.
        """
        waited = 0.0 if self._failed_at is None else began - self._failed_at
        self._failed_at = self._clock()
        return min(waited, self._pace.backoff.max_seconds) + self._failed_at - began

    def _fail(self, delivery: QueuedDelivery, error: InvoxError, receipt: Receipt | None) -> None:
        """This delivery is not to be had by the target, which takes others."""
        if not isinstance(error, UnsendableError):
            self._available()
        fault = Fault(error.reason, utc_now())
        self._record(lambda: self._journal.deliveries.fail(delivery, fault, receipt))
        self._report_failed(delivery, delivery.attempts + 1, fault)

    def _report_failed(self, delivery: QueuedDelivery, attempts: int, fault: Fault) -> None:
        log.error(
            Event.DELIVERY_FAILED, job=delivery.job_id, target=self.name, attempts=attempts,
            code=fault.reason.code, error=fault.reason.message, hint=fault.reason.hint,
        )  # fmt: skip

    def _record(self, write: Callable[[], bool]) -> None:
        """Write the outcome; if the journal can't be written, before anything else is sent."""
        self._unrecorded = write
        write()
        self._unrecorded = None

    # ---- health ------------------------------------------------------------------------------------------

    def _available(self) -> None:
        was, self._health = self._health, TargetHealth()
        self._fresh_left = _FRESH_MOST
        self._breaker.success(self._clock())
        if was.since is not None:
            seconds = round(seconds_since(was.since), 1)
            log.info(
                Event.TARGET_AVAILABLE, target=self.name, seconds=seconds, failed_attempts=was.failed_attempts
            )

    def _unavailable(self, error: InvoxError) -> datetime:
        """Note and log it, and once an hour again; return since when."""
        was, reason, now = self._health, error.reason, self._clock()
        since = was.since or utc_now()
        self._health = TargetHealth(reason, since, was.failed_attempts + 1)
        is_known = was.unavailable is not None and was.unavailable.code == reason.code
        if not is_known or now - self._reminded_at >= _REMINDER_SECONDS:
            self._reminded_at = now
            log.warning(
                Event.TARGET_UNAVAILABLE, target=self.name, code=reason.code, error=reason.message,
                hint=reason.hint, failed_attempts=self._health.failed_attempts,
                seconds=round(seconds_since(since), 1),
            )  # fmt: skip
        return since
