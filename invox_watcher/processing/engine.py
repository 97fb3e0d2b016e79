"""Decides *when* to advance *which* job: due times, the breaker, and what follows an error.

There are two lanes, in each the most urgent of what is due goes first: jobs that move a recording's bytes
(hash, upload) have `upload.workers` threads, all others have about as many of their own (`Workers`), so that
a gigabyte on a slow line never delays a transcript. A job that waits is an entry in a lane and costs no
thread; one whose next step is due at once, in the same lane, stays with its thread unless a more urgent one
is due.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from invox_watcher.backoff import Backoff, Breaker
from invox_watcher.budget import Held
from invox_watcher.errors import (
    ApiError,
    ApiRefusedError,
    InvoxError,
    JournalError,
    StorageError,
    TemplateError,
)
from invox_watcher.events import Event, log
from invox_watcher.heartbeat import Monitored, beat
from invox_watcher.job import Fault, Job, State
from invox_watcher.journal import Journal
from invox_watcher.logs import where
from invox_watcher.priority import Priority
from invox_watcher.processing.api_health import ApiHealth
from invox_watcher.processing.context import Next
from invox_watcher.processing.faults import (
    Action,
    Circumstances,
    Verdict,
    is_kept,
    is_of_set_up,
    judge,
    rule_for,
)
from invox_watcher.processing.gates import FaultGate, Gate
from invox_watcher.processing.lanes import Clock, Lane, Lanes
from invox_watcher.processing.local_faults import LocalFaults
from invox_watcher.processing.pipeline import Pipeline
from invox_watcher.processing.workers import Workers
from invox_watcher.times import rfc3339, utc_now

_BREAKER_FAULTS = 5
_CHECK_AGAIN_SECONDS = 1.0
_HELD_LIKE_ATTEMPT = 3  # how long a job is held that the disk refused: as after so many attempts
_SET_UP_LIKE_ATTEMPT = 4  # the same for a fault of the set-up
_URGENT_SHARE = 4  # of `max_in_flight`: so many urgent recordings may come on top of it
# So often in vain, and it is reported that a recording cannot be written or filed.
_FILING_ATTEMPTS = 3


class Engine:
    """Keeps every job under way moving. Give it jobs with `add`, if it `has_capacity`."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        journal: Journal,
        lanes: Lanes,
        upload_workers: int,
        max_in_flight: int,
        max_attempts: int,
        backoff: Backoff,
        unavailable: Callable[[], InvoxError | None],
        on_room: Callable[[], None],
        on_crash: Callable[[], None],
        clock: Clock,
        elsewhere: Callable[[], int] = lambda: 0,
    ) -> None:
        """`unavailable` checks whether the folders are there, and returns what is wrong if they are not.

        `on_room` is called whenever there may be capacity for a new job, `on_crash` when a thread dies.
        `elsewhere`: how many jobs are under way at other hosts, which count for `max_in_flight`, too.
        """
        self._pipeline = pipeline
        self._journal = journal
        self._upload_workers = upload_workers
        self._max_in_flight = max_in_flight
        self._max_attempts = max_attempts
        self._backoff = backoff
        self._unavailable = unavailable
        self._on_room = on_room
        self._elsewhere = elsewhere
        self._upload_lane, self._poll_lane = lanes
        # An outage must be seen as one before it has cost a single recording all its attempts.
        self._api = ApiHealth(Breaker(backoff, threshold=min(_BREAKER_FAULTS, max_attempts)), clock)
        self._faults = LocalFaults()
        self._lock = threading.Lock()  # guards what follows
        self._in_flight: set[str] = set()
        self._held: dict[str, Held] = {}  # jobs that wait for another day; not counted as under way
        self._held_until: dict[str, datetime] = {}  # what was logged of them
        self._missing: set[str] = set()  # jobs whose recording was missing at the last step
        self._expedited: set[str] = set()  # requests whose webhook came in the middle of a step
        self._done = self._failed = 0
        self.api_gate: Gate = FaultGate(lambda: self._api.fault)
        self.storage_gate: Gate = FaultGate(lambda: self._faults.storage)
        self.template_gate: Gate = FaultGate(lambda: self._faults.template)
        self._workers = Workers(lanes, upload_workers, self._take_steps, on_crash)
        self.parts: Sequence[Monitored] = [*lanes, *self._workers.heartbeats]

    def start(self) -> None:
        """Start the threads."""
        self._workers.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Take no further step and wait for those under way; the caller has aborted their HTTP exchanges.

        False if one has not ended in that time.
        """
        return self._workers.stop(timeout_seconds)

    def add(self, job: Job) -> None:
        """Take care of `job` from now on."""
        with self._lock:
            self._in_flight.add(job.id)
        self._schedule(Next(job))

    def expedite(self, request_id: str) -> None:
        """A webhook came for that request: poll for its job now, or as soon as its step under way is over."""
        with self._lock:
            self._expedited.add(request_id)
        if self._poll_lane.expedite(request_id):
            with self._lock:
                self._expedited.discard(request_id)

    def cares_for(self, job_id: str) -> bool:
        """Whether that job is under way here."""
        with self._lock:
            return job_id in self._in_flight

    def hear_outage(self, error: ApiError) -> None:
        """Another host gets no answer from the API."""
        if self._api.hear_outage(error) is not None:
            log.error(Event.BREAKER_OPENED, code=error.code, error=error.message, hint=error.hint)

    def hear_recovery(self) -> None:
        """Another host gets answers from the API again."""
        if self._api.hear_recovery():
            self._upload_lane.release()
            self._poll_lane.release()

    # ---- for others to see -------------------------------------------------------------------------------

    def has_capacity(self, priority: Priority = Priority.ROUTINE, accepted: int = 0) -> bool:
        """Whether one more recording may be taken: by their number, and unless disk or API refuse.

        What is more urgent than routine does not wait for routine recordings to end: there is extra room.
        `accepted`: how many more than those under way were taken.
        """
        refused = isinstance(self._api.fault, ApiRefusedError)
        with self._lock:
            taken = len(self._in_flight) - len(self._held) + accepted
            # With nothing under way the next recording is the probe, of the API and of the disk.
            held_back = taken > 0 and (refused or self._faults.refuse_new)
            extra = 0 if priority is Priority.ROUTINE else max(self._max_in_flight // _URGENT_SHARE, 1)
            return taken + self._elsewhere() < self._max_in_flight + extra and not held_back

    @property
    def has_room_for_upload(self) -> bool:
        """Whether fewer recordings wait to be read or sent, first or again, than threads can do that.

        Those that are held for another day wait for no thread.
        """
        return len(self._upload_lane.due()) - self.held < self._upload_workers

    @property
    def in_flight(self) -> int:
        """How many jobs are under way."""
        with self._lock:
            return len(self._in_flight)

    @property
    def held(self) -> int:
        """How many of them wait for another day, because the daily minutes are used up."""
        with self._lock:
            return len(self._held)

    @property
    def waiting_for_template(self) -> int:
        """How many of them have their transcript, and wait until their document can be made."""
        return self._faults.waiting_for_template

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
    def api_is_unavailable(self) -> bool:
        """Whether the API refuses our calls or does not answer, so that only probes are sent for now."""
        return self._api.fault is not None

    @property
    def api_fault(self) -> ApiError | None:
        """Why only probes are sent for now."""
        return self._api.fault

    @property
    def api_has_answered(self) -> bool:
        """Whether any call was answered since the start."""
        return self._api.has_answered

    @property
    def blocking_fault(self) -> InvoxError | None:
        """The error that keeps a gate closed, the API's first; None if both are open."""
        return self._api.fault or self._faults.storage

    # ---- the steps -------------------------------------------------------------------------------------

    def _take_steps(self, job: Job, lane: Lane) -> None:
        """Steps of one job, as long as the next one is due at once, in the same lane, and it is its turn."""
        following = self._take_step(job)
        while following is not None:
            job = following.job
            if job.state.is_final:
                self._finish(job)
                return
            if following.after_seconds > 0 or self._lane_of(job) is not lane or not lane.may_go_on(job):
                self._schedule(following)
                return
            beat()
            following = self._take_step(job)

    def _take_step(self, job: Job) -> Next | None:
        """One step of one job; None if there is nothing to follow, or it is scheduled already."""
        if self._held:
            with self._lock:
                self._held.pop(job.id, None)
        if job.asks_api and (wait := self._api.delay()) > 0:
            self._schedule(Next(job, wait), held_back=True)
            return None
        try:
            following = self._pipeline.advance(job)
        except Exception as error:  # noqa: BLE001 - a bug in one step must not take the others down
            if job.asks_api:
                self._record_api_error(job, error)
            return self._after_error(job, error)
        if job.asks_api and following.asked_api:
            self._record_api_success(job)
        self._record_storage_success(job)
        self._faults.end_template(job)
        if self._missing:
            with self._lock:
                self._missing.discard(job.id)
        return following

    def _lane_of(self, job: Job) -> Lane:
        moves_bytes = job.state.moves_bytes and job.original_id is None
        return self._upload_lane if moves_bytes else self._poll_lane

    def _schedule(self, following: Next, *, held_back: bool = False) -> None:
        job, lane = following.job, self._lane_of(following.job)
        self._note_held(job, following.held)
        lane.put(job, following.after_seconds, held_back=held_back)
        # Only now, so that a webhook finds the job either here or there.
        with self._lock:
            expedited = job.request_id in self._expedited
            self._expedited.discard(job.request_id or "")
        if expedited and job.request_id is not None:
            lane.expedite(job.request_id)

    def _note_held(self, job: Job, held: Held | None) -> None:
        with self._lock:
            if held is None:
                self._held_until.pop(job.id, None)
                return
            self._held[job.id] = held
            logged, self._held_until[job.id] = self._held_until.get(job.id), held.until
        if logged != held.until:
            log.info(Event.UPLOAD_HELD, job=job.id, until=rfc3339(held.until), limits=list(held.keys))
        self._on_room()

    def _finish(self, job: Job) -> None:
        with self._lock:
            self._done += job.state is State.DONE
            self._failed += job.state is not State.DONE
        self._release(job)

    def _release(self, job: Job) -> None:
        """The job has ended, or is another host's."""
        self._record_storage_success(job)
        self._faults.end_template(job)
        with self._lock:
            self._expedited.discard(job.request_id or "")
            self._in_flight.discard(job.id)
        self._api.forget(job.id)
        self._on_room()

    # ---- the breaker -------------------------------------------------------------------------------------

    def _record_api_error(self, job: Job, error: Exception) -> None:
        """A step that asks the API has failed."""
        if not isinstance(error, ApiError):
            return  # says nothing about the API
        if not rule_for(error).blames_api:
            self._record_api_success(job)  # it has answered
            return
        outage = self._api.failed(job.id, error)
        if outage is None:
            return
        if outage.is_news:
            event = Event.API_REFUSED if isinstance(error, ApiRefusedError) else Event.BREAKER_OPENED
            log.error(event, code=error.code, error=error.message, hint=error.hint)
        else:
            log.error(
                Event.BREAKER_STILL_OPEN, code=error.code, error=error.message, hint=error.hint,
                since=rfc3339(outage.since), seconds=round(outage.seconds), probes=outage.probes,
            )  # fmt: skip

    def _record_api_success(self, job: Job) -> None:
        outage = self._api.succeeded(job.id)
        if outage is not None:
            log.info(
                Event.BREAKER_CLOSED, since=rfc3339(outage.since), seconds=round(outage.seconds),
                probes=outage.probes,
            )  # fmt: skip
            # Now, while the breaker still lets them through one by one, and not in a crowd minutes later.
            self._upload_lane.release()
            self._poll_lane.release()
            self._on_room()

    # ---- after an error ----------------------------------------------------------------------------------

    def _after_error(self, job: Job, error: Exception) -> Next | None:
        """What follows for `job` after its step raised `error`. None: the daemon stops, or it is not ours."""
        rule = rule_for(error)
        if rule.action is Action.STOP:
            return None
        try:
            current = self._journal.get(job.id) or job
            verdict = judge(error, current, self._circumstances(job, error))
            if rule.blames_api:
                self._record_storage_success(current)  # the step got past its files
            if rule.action is Action.GO_ON:
                if current.host != self._journal.host:
                    self._release(job)
                    return None
                log.warning(Event.STEP_STALE, job=job.id, state=job.state, found=current.state)
            elif not isinstance(error, InvoxError) and verdict.action is not Action.HOLD:
                log.error(Event.STEP_CRASHED, job=job.id, state=job.state, error=where(error))
            return self._apply(verdict, current)
        except (StorageError, JournalError) as second:
            return self._hold(job, second)

    def _circumstances(self, job: Job, error: Exception) -> Circumstances:
        folders_fault = self._unavailable() if rule_for(error).blames_files else None
        with self._lock:
            return Circumstances(
                max_attempts=self._max_attempts,
                folders_fault=folders_fault,
                api_is_unavailable=self._api.fault is not None,
                recording_is_at_fault=self._api.blames(job.id),
                was_missing=job.id in self._missing,
            )

    def _apply(self, verdict: Verdict, job: Job) -> Next | None:
        match verdict.action:
            case Action.STOP:
                return None
            case Action.GO_ON:
                return Next(job)
            case Action.HOLD:
                return self._hold(job, verdict.error)
            case Action.CHECK_AGAIN:  # a share may have been unavailable at the step, and be back by now
                with self._lock:
                    self._missing.add(job.id)
                return Next(job, _CHECK_AGAIN_SECONDS)
            case Action.VANISH:
                with self._lock:
                    self._missing.discard(job.id)
                return self._pipeline.vanish(job)
            case Action.FAIL:
                return self._pipeline.fail(job, verdict.error)
            case Action.RETRY:
                return self._retry(job, verdict)

    def _retry(self, job: Job, verdict: Verdict) -> Next:
        error, before = verdict.error, job.last_fault
        known = before is not None and before.reason.code == error.code
        is_news = not known
        if isinstance(error, TemplateError):  # one problem of a template comes after the other
            is_news = before is None or before.reason != error.reason
            self._faults.note_template(job, error)
        elif isinstance(error, StorageError) and is_kept(job) and verdict.attempts >= _FILING_ATTEMPTS:
            self._faults.note_filing(job, error)
        if verdict.attempts != job.attempts or is_news:
            since = before.since if before is not None and known else utc_now()
            fault = Fault(error.reason, since)
            job = self._journal.update(job, attempts=verdict.attempts, last_fault=fault)
        retry_after = getattr(error, "retry_after_seconds", None) or 0.0
        attempts = max(job.attempts, _SET_UP_LIKE_ATTEMPT if is_of_set_up(error, job) else 1)
        delay = max(self._backoff.delay_seconds(attempts), retry_after)
        log.info(
            Event.STEP_RETRY, job=job.id, state=job.state, code=error.code, error=error.message,
            attempt=job.attempts, after_seconds=round(delay, 1),
        )  # fmt: skip
        return Next(job, delay)

    def _hold(self, job: Job, error: InvoxError) -> Next:
        self._faults.note_storage(job, error)
        return Next(job, self._backoff.delay_seconds(_HELD_LIKE_ATTEMPT))

    def _record_storage_success(self, job: Job) -> None:
        if self._faults.end_storage(job):
            self._on_room()
