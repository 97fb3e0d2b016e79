"""This host as one of several that share the inbox, the journal and the account.

A job is one host's, which takes all its steps, by its own lanes; or no host's, and then in a queue of the
database, from which a host takes it that can begin with it soon. So what is handed over is never in the
middle of a step, and what a host knows of a job, such as for how long it was polled, stays valid.

Every host beats. One that is silent for too long is taken over by the host that notices first; what it had
goes to the queue. By then it has stopped by itself: see `lease`. If it was only paused, its writes are
refused, and it ends with an error, to be started again.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from invox_watcher.errors import ApiUnavailableError, FencedError, JournalError, StaleStateError, StorageError
from invox_watcher.events import Event, log
from invox_watcher.files import Folders
from invox_watcher.heartbeat import beat
from invox_watcher.inbox import Inbox
from invox_watcher.job import ACTIVE, Job, State
from invox_watcher.journal import Journal
from invox_watcher.priority import Priority
from invox_watcher.processing.engine import Engine
from invox_watcher.processing.lanes import Lanes
from invox_watcher.processing.lease import Lease, LeasedLane

if TYPE_CHECKING:
    from invox_watcher.journal import Fleet, Host, Place
    from invox_watcher.journal.queue import Install, Send

# Twelve beats may be lost before a host is silent for too long; but once a second is often enough.
_BEATS_PER_LIMIT, _LONGEST_BEAT_SECONDS = 12, 1.0
_DUTY_ROUNDS = 5  # so many beats from one attempt to get the duties of a host that is gone to the next


RETENTION_DUTY, SWEEP_DUTY = "retention", "sweep"
_UPLOADS, _API = "uploads", "api"  # names that the hosts share


def target_duty(name: str) -> str:
    """The duty to deliver to the target of that name."""
    return f"target {name}"


@dataclass(frozen=True)
class Tasks:
    """What adds to the queue, on a connection with a transaction, and makes the queue if it is missing."""

    install: Install
    place: Place
    send_wake: Send


@dataclass(frozen=True)
class Membership:
    """What a host says about itself when it joins."""

    name: str
    instance: str  # of its state directory
    address: str  # of its web server, for people
    limit_seconds: float  # for so long a host may be silent
    uploads: int  # of all hosts at once


class Member:
    """One host; `run`, `watch` and `sweep` are bodies of threads. The rest may be called from any thread."""

    def __init__(
        self,
        membership: Membership,
        journal: Journal,
        fleet: Fleet,
        folders: Folders,
        lease: Lease,
        *,
        tasks: Tasks,
        duties: Iterable[str],
        on_fenced: Callable[[], None],
    ) -> None:
        """`duties` are what one host alone does for all.

        `on_fenced` is called once another host has taken over what this one had.
        """
        self._membership = membership
        self._journal = journal
        self._fleet = fleet
        self._folders = folders
        self.lease = lease
        self._tasks = tasks
        self._duties = (*duties, SWEEP_DUTY)
        self._on_fenced = on_fenced
        self._held: frozenset[str] = frozenset()  # of the duties
        self._is_alone = False  # the only host that is running
        self._told_outage = False
        self._heard_at: datetime | None = None  # of the last news about the API
        self._unplaced: list[Job] = []  # of hosts that were taken over
        self._slots: set[str] = set()  # that this host has
        self._unfreed: deque[str] = deque()  # and those that are to be given back
        self._elsewhere = self._unowned = self._waiting = 0
        self._rounds = 0
        self._engine: Engine | None = None
        self._inbox: Inbox | None = None

    # ---- for the other parts -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What this host is called."""
        return self._membership.name

    def lanes(self, lanes: Lanes) -> Lanes:
        """The lanes of the engine of this host: as these, as long as it may work."""
        slots = _UploadSlots(self)
        return Lanes(LeasedLane(lanes.uploads, self.lease, slots), LeasedLane(lanes.polls, self.lease))

    def elsewhere(self) -> int:
        """How many jobs were under way at other hosts, or in the queue, at the last beat."""
        return self._elsewhere

    def unowned(self) -> int:
        """How many jobs were in the queue at the last beat, with those that this host has added since."""
        return self._unowned

    def waiting(self) -> int:
        """How many jobs of all hosts waited for a result at the last beat."""
        return self._waiting

    def on_duty(self, name: str) -> bool:
        """Whether this host is the one that does what has that name."""
        return name in self._held and self.lease.is_valid

    def has_room(self) -> bool:
        """Whether this host can begin soon with one more job: as a probe, if the API does not answer here."""
        engine = self._engine
        if engine is None or not self.lease.is_valid or not engine.has_room_for_upload:
            return False
        return engine.api_fault is None or engine.in_flight == 0

    def accept(self, jobs: Sequence[Job]) -> None:
        """Take care of jobs that this host has claimed; what it can't begin with soon, any host may.

        What is urgent stays: here it goes next.
        """
        assert self._engine is not None  # noqa: S101 - see `join`
        surplus = []
        for job in jobs:
            if job.priority is not Priority.ROUTINE or self.has_room():
                self._engine.add(job)
            else:
                surplus.append(job)
        try:
            self._unowned += len(surplus)
            self._fleet.give(surplus, self._tasks.place)
        except JournalError:  # then they are still this host's
            for job in surplus:
                self._engine.add(job)

    def wake(self, request_id: str) -> None:
        """A webhook for that request came here: poll for its job now, at whichever host that is."""
        host: str | None = self.name
        with suppress(JournalError):  # the next poll finds the webhook all the same
            host = self._fleet.host_of_request(request_id) or self.name
            if host != self.name:
                self._fleet.also(partial(self._tasks.send_wake, host=host, request_id=request_id))
        if host == self.name:
            self.expedite(request_id)

    def take_upload_slot(self, key: str) -> bool:
        """Whether one more recording may be read or sent, of all hosts; `key` names what for."""
        if self._is_alone:
            return True
        with suppress(JournalError):
            if self._fleet.take_slot(_UPLOADS, key, self._membership.uploads):
                self._slots.add(key)
                return True
        return False

    def free_upload_slot(self, key: str) -> None:
        """That has ended."""
        if key in self._slots:
            self._slots.discard(key)
            self._unfreed.append(key)
        with suppress(JournalError, IndexError):  # what can't be given back now is so with the next one
            while True:
                one = self._unfreed.popleft()
                try:
                    self._fleet.shared.free_slot(_UPLOADS, one)
                except JournalError:
                    self._unfreed.append(one)
                    raise

    # ---- for the queue -----------------------------------------------------------------------------------

    def take(self, job_id: str) -> None:
        """Take care of a job of the queue, if no host has it yet.

        Raises:
            JournalError: the database does not answer.
        """
        job = self._fleet.take(job_id)
        if job is None:  # another host was quicker, or an earlier attempt of this one, which was interrupted
            job = self._journal.get(job_id)
        if job is not None and job.host == self.name:
            self._resume(job)

    def expedite(self, request_id: str) -> None:
        """A webhook for a request of this host came, here or elsewhere."""
        if self._engine is not None:
            self._engine.expedite(request_id)

    # ---- start and stop ----------------------------------------------------------------------------------

    def join(self, engine: Engine, inbox: Inbox) -> list[Job]:
        """Be a host of the fleet from now on; return the jobs that it had before, to be resumed.

        Raises:
            JournalError: the database does not answer, or another host has the same name.
            StorageError: the folders can't be used.
        """
        self._engine, self._inbox = engine, inbox
        asked_at, member = self.lease.now(), self._membership
        jobs = self._fleet.join(
            member.name,
            instance=member.instance,
            address=member.address,
            limit_seconds=member.limit_seconds,
            install=self._tasks.install,
        )
        self.lease.renew(asked_at)
        heard = self._fleet.shared.known(_API)
        self._heard_at = None if heard is None else heard.at  # this host finds out by itself
        log.info(Event.HOST_JOINED, incarnation=self._fleet.incarnation, jobs=len(jobs))
        return [job for job in jobs if not self._was_not_claimed(job)]

    def leave(self, in_order: bool) -> None:
        """This host stops. What it has is the others', if it stops `in_order`, with no step under way.

        Else they take it over, as of one that died; so too if the database does not answer.
        """
        with suppress(JournalError, StaleStateError):
            if in_order:
                self._fleet.leave(self._tasks.place)

    # ---- while it runs -----------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Beat, and nothing else that may take long, until `stop` is set, or this host was taken over."""
        while not stop.is_set():
            asked_at = self.lease.now()
            try:
                self._fleet.beat()
                self.lease.renew(asked_at)
            except FencedError as error:
                self.lease.revoke()
                log.error(Event.FENCED, error=error.message, hint=error.hint)
                self._on_fenced()
                return
            except JournalError:
                pass  # its monitor reports it
            beat()
            stop.wait(self._every_seconds)

    def watch(self, stop: threading.Event) -> None:
        """Watch the others, and take over those that are silent; get duties, and share what is learned."""
        while not stop.is_set():
            with suppress(JournalError, FencedError):  # `run` finds out
                if self.lease.is_valid:
                    self._look_around()
            beat()
            stop.wait(self._every_seconds)

    @property
    def _every_seconds(self) -> float:
        return min(self._membership.limit_seconds / _BEATS_PER_LIMIT, _LONGEST_BEAT_SECONDS)

    def _look_around(self) -> None:
        hosts = self._fleet.hosts()
        self._is_alone = not any(host.is_alive and host.name != self.name for host in hosts)
        for host in self._fleet.silent(self._membership.limit_seconds):
            jobs = self._fleet.take_over(host)
            if jobs is None:
                continue
            log.warning(
                Event.HOST_TAKEN_OVER, lost=host.name, incarnation=host.incarnation,
                jobs=len(jobs),
            )  # fmt: skip
            self._unplaced += jobs
        if self._unplaced:
            self._fleet.give(self._unplaced, self._tasks.place)
            self._unplaced = []
        if self._rounds % _DUTY_ROUNDS == 0:
            self._held = frozenset(filter(self._holds, self._duties))
        self._rounds += 1
        self._share_health()
        self._refresh(hosts)

    def sweep(self, stop: threading.Event) -> None:
        """Again and again, the body of a thread: find what no host takes care of; twice in a row is certain.

        A recording in processing/ without a job returns to the inbox: a host that was paused in its claim may
        have moved it after the job was undone. A job of this host that it lost sight of, because the database
        did not answer in the moment that it got it, is resumed.
        """
        folders: set[str] = set()
        jobs: set[str] = set()
        while not stop.wait(self._membership.limit_seconds):
            try:
                jobs = self._sweep_jobs(jobs)
                folders = self._sweep_folders(folders) if self.on_duty(SWEEP_DUTY) else set()
            except (StorageError, JournalError):
                folders, jobs = set(), set()  # others report it

    def _sweep_folders(self, before: set[str]) -> set[str]:
        found = set(self._folders.processing_ids())  # first: another one may be claimed meanwhile
        found -= {job.id for job in self._journal.active()}
        for job_id in sorted(found & before):
            for path in self._folders.unclaim(job_id):
                log.warning(Event.RETURNED, job=job_id, recording=path)
        return found

    def _sweep_jobs(self, before: set[str]) -> set[str]:
        assert self._engine is not None  # noqa: S101 - see `join`
        found = {job.id: job for job in self._fleet.jobs_of(self.name) if not self._engine.cares_for(job.id)}
        for job_id in found.keys() & before:
            self._resume(found[job_id])
        return set(found)

    def _holds(self, duty: str) -> bool:
        return self._fleet.hold(duty)

    def _share_health(self) -> None:
        """Tell the others when the API stops or starts to answer here, and hear it of them.

        What they say opens the breaker here for a moment, until a probe of this host's own; or it makes the
        next probe due.
        """
        assert self._engine is not None  # noqa: S101 - see `join`
        shared, fault = self._fleet.shared, self._engine.api_fault
        is_out = isinstance(fault, ApiUnavailableError)
        if is_out is not self._told_outage:
            told = json.dumps(vars(fault.reason)) if fault is not None and is_out else ""
            shared.tell(_API, told, self.name)
            self._told_outage = is_out
        heard = shared.known(_API)
        if heard is None or heard.host == self.name or heard.at == self._heard_at:
            return
        self._heard_at = heard.at
        if heard.value:
            said = json.loads(heard.value)
            message = f"At the host {heard.host}: {said['message']}"
            self._engine.hear_outage(ApiUnavailableError(message, code=said["code"], hint=said["hint"]))
        else:
            self._engine.hear_recovery()

    def _refresh(self, hosts: Sequence[Host]) -> None:
        assert self._engine is not None and self._inbox is not None  # noqa: S101, PT018 - see `join`
        counts = self._journal.counts()
        self._waiting = counts.get(State.WAITING, 0)
        under_way = sum(counts.get(state, 0) for state in ACTIVE)
        self._elsewhere = max(under_way - self._engine.in_flight, 0)
        self._unowned = max(under_way - sum(host.jobs for host in hosts), 0)
        if self._inbox.status.refused_now and self._engine.has_capacity():
            self._inbox.has_room()

    def _resume(self, job: Job) -> None:
        """Take care of a job of this host, unless that is done already."""
        if self._engine is None or job.state.is_final or self._engine.cares_for(job.id):
            return
        if not self._was_not_claimed(job):
            self._engine.add(job)

    # ---- claims ------------------------------------------------------------------------------------------

    def _was_not_claimed(self, job: Job) -> bool:
        """Whether the host that had `job` ended before it could move the recording, which is in the inbox.

        Then the job is undone: any host claims the recording again.
        """
        try:
            if job.state is not State.CLAIMED or not self._folders.is_unclaimed(
                job.id, job.path, job.identity
            ):
                return False
        except StorageError:  # its step finds out
            return False
        self._journal.withdraw_all([job])
        with suppress(StorageError):
            self._folders.unclaim(job.id)  # its folder may be there already
        log.warning(Event.RETURNED, job=job.id, recording=job.path)
        return True


@dataclass(frozen=True)
class _UploadSlots:
    member: Member

    def take(self, key: str) -> bool:
        return self.member.take_upload_slot(key)

    def free(self, key: str) -> None:
        self.member.free_upload_slot(key)
