"""Decides *when* to advance *which* job: due times, worker threads, the breaker, what a fault does to a job.

Jobs lie in one of two heaps by due time: those that move a recording's bytes (hash, upload) have
`upload.workers` threads, everything else has a few of its own, so that a gigabyte on a slow line never delays
a transcript. A job that waits is an entry in a heap and costs no thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from invox_watcher.errors import (
    ApiError,
    ApiRefusedError,
    ApiUnavailableError,
    DiskFullError,
    InvoxError,
    JournalError,
    RecordingChangingError,
    RecordingVanishedError,
    StaleStateError,
    StoppedError,
    StorageError,
    UploadUncertainError,
)
from invox_watcher.events import Event, log
from invox_watcher.heartbeat import Heartbeat, Monitored
from invox_watcher.job import FINAL, Job, State
from invox_watcher.journal import Journal
from invox_watcher.logs import where
from invox_watcher.processing.backoff import Backoff, Breaker
from invox_watcher.processing.lanes import Clock, Lane
from invox_watcher.processing.pipeline import Next, Pipeline

_LOOK_WORKERS = 3
_BREAKER_FAULTS = 5
_MOVES_BYTES = frozenset({State.CLAIMED, State.IDENTIFIED})
# What is only to be filed is never given up: its transcript, or its reason, is already safe.
NEVER_GIVE_UP = frozenset({State.DELIVERED, State.FAILING})
# What may have been paid for is not given up because of a disk.
_PAID_FOR = frozenset({State.UPLOADING, State.WAITING, State.TRANSCRIBED})


# Faults that say something about the API, not about the recording.
API_FAULTS = (ApiUnavailableError, ApiRefusedError, UploadUncertainError)

# Faults that may mean no more than that a share is away; OSError where a file is closed only then.
_FILES_ARE_MISSING = (StorageError, RecordingVanishedError, OSError)
_MISSED_SECONDS = 1.0
_SET_UP_TRIES = 4  # a fault of the set-up is waited for as after so many attempts


@dataclass(frozen=True)
class Health:
    """What stands in the way of work right now; None where nothing does."""

    api: InvoxError | None
    storage: InvoxError | None


class Engine:
    """Keeps every job under way moving. Give it jobs with `add`; `has_capacity` says if it takes more."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        journal: Journal,
        upload_workers: int,
        max_in_flight: int,
        max_attempts: int,
        backoff: Backoff,
        unavailable: Callable[[], InvoxError | None],
        on_room: Callable[[], None],
        on_crash: Callable[[], None],
        clock: Clock,
    ) -> None:
        """`unavailable` looks whether the folders are there, and says what is wrong if they are not.

        `on_room` is called whenever there may be room for a new job, `on_crash` when a thread dies.
        """
        self._pipeline = pipeline
        self._journal = journal
        self._max_in_flight = max_in_flight
        self._max_attempts = max_attempts
        self._backoff = backoff
        self._unavailable = unavailable
        self._on_room = on_room
        self._on_crash = on_crash
        self._clock = clock
        self._upload_lane, self._poll_lane = Lane(clock, "uploads"), Lane(clock, "looks")
        self._lock = threading.Lock()  # guards what follows
        # An outage must be seen as one before it has cost a single recording all its attempts.
        self._breaker = Breaker(backoff, threshold=min(_BREAKER_FAULTS, max_attempts))
        self._in_flight: set[str] = set()
        self._missed: set[str] = set()  # jobs whose recording was missing at the last step
        self._expedited: set[str] = set()  # requests whose webhook came in the middle of a step
        self._api_fault: InvoxError | None = None
        self._storage_faults: dict[str, InvoxError] = {}  # by job
        self._done = self._failed = 0
        workers = [
            (lane, Heartbeat(f"{name}-{number}"))
            for lane, name, count in (
                (self._upload_lane, "upload", upload_workers),
                (self._poll_lane, "look", _LOOK_WORKERS),
            )
            for number in range(1, count + 1)
        ]
        self.parts: Sequence[Monitored] = [
            self._upload_lane,
            self._poll_lane,
            *(pulse for _lane, pulse in workers),
        ]
        self._threads = [
            threading.Thread(target=self._work, args=(lane, pulse), name=pulse.name, daemon=True)
            for lane, pulse in workers
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Take no further step and wait for those under way; the caller has aborted their HTTP exchanges.

        False where one has not ended in that time.
        """
        self._upload_lane.close()
        self._poll_lane.close()
        give_up = time.monotonic() + timeout_seconds
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(give_up - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def add(self, job: Job) -> None:
        """Take care of `job` from now on."""
        with self._lock:
            self._in_flight.add(job.id)
        self._put(Next(job))

    def expedite(self, request_id: str) -> None:
        """A webhook came for that request: look at its job now, or as soon as its step under way is over."""
        with self._lock:
            self._expedited.add(request_id)
        if self._poll_lane.expedite(request_id):
            with self._lock:
                self._expedited.discard(request_id)

    @property
    def has_capacity(self) -> bool:
        """Whether a new recording may be taken: few enough under way, the disk writes, the API lets us in."""
        with self._lock:
            refused = isinstance(self._api_fault, ApiRefusedError) and self._breaker.is_open
            # With nothing under way the next recording is the probe, of the API and of the disk.
            held_back = bool(self._in_flight) and (refused or bool(self._storage_faults))
            return len(self._in_flight) < self._max_in_flight and not held_back

    @property
    def in_flight(self) -> int:
        """How many jobs are under way."""
        with self._lock:
            return len(self._in_flight)

    @property
    def done(self) -> int:
        """How many recordings have their transcript since the start."""
        with self._lock:
            return self._done

    @property
    def failed(self) -> int:
        """How many jobs ended in failed/ or vanished since the start."""
        with self._lock:
            return self._failed

    def due(self) -> dict[str, float]:
        """In how many seconds the next step of each job is due; without those whose step is under way."""
        return self._upload_lane.due() | self._poll_lane.due()

    @property
    def health(self) -> Health:
        """What stands in the way of work right now."""
        with self._lock:
            storage = next(iter(self._storage_faults.values()), None)
            return Health(self._api_fault if self._breaker.is_open else None, storage)

    # ---- the threads -------------------------------------------------------------------------------------

    def _work(self, lane: Lane, pulse: Heartbeat) -> None:
        try:
            while (job := lane.take()) is not None:
                with pulse.beating():
                    self._turn(job)
        except BaseException as error:  # noqa: BLE001
            # Never a living process with a dead worker: say so, and let the daemon end.
            log.error(Event.THREAD_DIED, thread=threading.current_thread().name, error=where(error))
            self._on_crash()

    def _turn(self, job: Job) -> None:
        """One step of one job, then its next due time."""
        asks = _asks_api(job)
        if asks and (wait := self._admit()) > 0:
            self._put(Next(job, wait), held_back=True)
            return
        try:
            following = self._pipeline.advance(job)
        except Exception as error:  # noqa: BLE001 - a defect in one step must not take the others down
            if asks:
                self._report(error)
            after_fault = self._after(job, error)
            if after_fault is not None:
                self._put(after_fault)
        else:
            if asks and following.asked_api:
                self._report(None)
            self._storage_works(job)
            with self._lock:
                self._missed.discard(job.id)
            self._put(following)

    def _put(self, following: Next, *, held_back: bool = False) -> None:
        job = following.job
        if job.state in FINAL:
            self._storage_works(job)
            with self._lock:
                self._expedited.discard(job.request_id or "")
                self._in_flight.discard(job.id)
                self._done += job.state is State.DONE
                self._failed += job.state is not State.DONE
            self._on_room()
        else:
            lane = (
                self._upload_lane
                if job.state in _MOVES_BYTES and job.original_id is None
                else self._poll_lane
            )
            lane.put(job, following.after_seconds, held_back=held_back)
            # Only now, so that a webhook finds the job either here or there.
            with self._lock:
                expedited = job.request_id in self._expedited
                self._expedited.discard(job.request_id or "")
            if expedited and job.request_id is not None:
                lane.expedite(job.request_id)

    # ---- the breaker -------------------------------------------------------------------------------------

    def _admit(self) -> float:
        with self._lock:
            return self._breaker.admit(self._clock())

    def _report(self, error: Exception | None) -> None:
        """Tell the breaker how a step that asks the API ended."""
        with self._lock:
            if error is not None and error is self._api_fault:
                return  # one purchase of a token, for which several jobs waited
            if isinstance(error, API_FAULTS):
                refused = isinstance(error, ApiRefusedError)
                opened = self._breaker.fault(
                    self._clock(),
                    retry_after_seconds=getattr(error, "retry_after_seconds", None),
                    at_once=refused,
                )
                self._api_fault = error
                if opened:
                    event = Event.API_REFUSED if refused else Event.BREAKER_OPENED
                    log.error(event, code=error.code, error=error.message, hint=error.hint)
                return
            if error is not None and not isinstance(error, ApiError):
                return  # says nothing about the API
            closed = self._breaker.success(self._clock())
            self._api_fault = None
        if closed:
            log.info(Event.BREAKER_CLOSED)
            # Now, while the breaker still lets them through one by one, and not in a crowd minutes later.
            self._upload_lane.release()
            self._poll_lane.release()
            self._on_room()

    # ---- after a fault -----------------------------------------------------------------------------------

    def _after(self, job: Job, error: Exception) -> Next | None:
        """What becomes of `job` after its step raised `error`. None: the daemon is stopping."""
        if isinstance(error, StoppedError):
            return None
        try:
            current = self._journal.get(job.id) or job
            if isinstance(error, StaleStateError):
                log.warning(Event.STEP_STALE, job=job.id, state=job.state, found=current.state)
                return Next(current)
            if isinstance(error, DiskFullError | JournalError):
                return self._storage_refused(current, error)
            if isinstance(error, _FILES_ARE_MISSING) and (gone := self._unavailable()) is not None:
                return self._storage_refused(current, gone)
            if isinstance(error, RecordingVanishedError):
                return self._vanish(current)
            if isinstance(error, API_FAULTS):
                self._storage_works(current)  # it had come past it
            if isinstance(error, (*API_FAULTS, RecordingChangingError, StorageError)):
                return self._try_again(current, error)
            if isinstance(error, InvoxError):
                return self._pipeline.fail(current, error)
            log.error(Event.STEP_CRASHED, job=job.id, state=job.state, error=where(error))
            return self._try_again(
                current, InvoxError(f"A fault in the daemon: {where(error)}", code="internal")
            )
        except (StorageError, JournalError) as second:
            return self._storage_refused(job, second)

    def _vanish(self, job: Job) -> Next:
        """Believe it the second time: a share may have gone at the step and be back when `gone` looked."""
        with self._lock:
            certain = job.id in self._missed
            self._missed ^= {job.id}
        return self._pipeline.vanish(job) if certain else Next(job, _MISSED_SECONDS)

    def _try_again(self, job: Job, error: InvoxError) -> Next:
        """Come back later. While the breaker is open, or if the set-up is wrong, no attempt is spent.

        One that may have been paid for is spent all the same.
        """
        of_set_up = _is_of_set_up(job, error)
        with self._lock:
            spent = not (self._breaker.is_open or of_set_up) or isinstance(error, UploadUncertainError)
        attempts = job.attempts + spent
        must_end = job.state in NEVER_GIVE_UP or (job.state in _PAID_FOR and isinstance(error, StorageError))
        if spent and attempts >= self._max_attempts and not must_end:
            return self._pipeline.fail(job, error)
        if spent:
            job = self._journal.update(job, attempts=attempts)
        asked = getattr(error, "retry_after_seconds", None) or 0.0
        tries = max(attempts, _SET_UP_TRIES if of_set_up else 1)
        delay = max(self._backoff.delay_seconds(tries), asked)
        log.info(
            Event.STEP_RETRY, job=job.id, state=job.state, code=error.code, error=error.message,
            attempt=attempts, after_seconds=round(delay, 1),
        )  # fmt: skip
        return Next(job, delay)

    def _storage_refused(self, job: Job, error: InvoxError) -> Next:
        with self._lock:
            first = not self._storage_faults
            self._storage_faults[job.id] = error
        if first:
            log.error(Event.STORAGE_ERROR, job=job.id, code=error.code, error=error.message, hint=error.hint)
        return Next(job, self._backoff.delay_seconds(3))

    def _storage_works(self, job: Job) -> None:
        with self._lock:
            if self._storage_faults.pop(job.id, None) is None or self._storage_faults:
                return
        log.info(Event.STORAGE_RECOVERED)
        self._on_room()


def _is_of_set_up(job: Job, error: InvoxError) -> bool:
    """Whether the fault is no recording's: before the upload the API hears of nothing but its type."""
    return isinstance(error, ApiRefusedError) or (
        job.state is State.IDENTIFIED and error.code == "api_protocol"
    )


def _asks_api(job: Job) -> bool:
    """Whether the next step of `job` talks to the API."""
    if job.state is State.IDENTIFIED:
        return job.original_id is None and job.request_id is None
    return job.state in (State.UPLOADING, State.WAITING)
