"""The claim: a complete recording of the inbox becomes a job, if there is capacity for one more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from invox_watcher.errors import DiskFullError, InvoxError, JournalError, Reason, StorageError
from invox_watcher.files import Folders
from invox_watcher.inbox import Candidate, Inbox
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.plan import Plan
from invox_watcher.priority import Priority
from invox_watcher.processing.engine import Engine
from invox_watcher.processing.facts import facts_of
from invox_watcher.processing.gates import Gate, reasons
from invox_watcher.processing.pipeline import Pipeline
from invox_watcher.processing.recovery import return_stranded
from invox_watcher.profiles import Profiles
from invox_watcher.times import utc_now


class Intake:
    """Claims recordings; as a gate, it is closed while the disk or the journal refuses a claim."""

    def __init__(
        self,
        folders: Folders,
        pipeline: Pipeline,
        engine: Engine,
        inbox: Inbox,
        *,
        profiles: Profiles,
        gates: Sequence[Gate],
        journal: Gate,
        contested: Callable[[], bool] = lambda: False,
        accept: Callable[[Sequence[Job]], None] | None = None,
        stop: threading.Event,
    ) -> None:
        """`gates`: what else keeps recordings in the inbox. `journal` does so even if a claim would succeed.

        `contested`: whether another instance has begun to use one of the folders. `accept` gets what was
        claimed, by default for the engine.
        """
        self._folders = folders
        self._pipeline = pipeline
        self._engine = engine
        self._inbox = inbox
        self._profiles = profiles
        self._gates = (inbox, *gates, journal)
        self._journal = journal
        self._contested = contested
        self._accept = accept or self._add_all
        self._stop = stop
        self._taken: list[tuple[Candidate, Plan | None]] = []
        self._refused: InvoxError | None = None  # why the last claim was refused
        self._stranded: set[str] = set()  # ids of interrupted claims; only the inbox's thread uses it

    def take(self, candidate: Candidate) -> bool:
        """Accept a recording for the next `claim_taken`; False if there is no capacity.

        For the inbox's thread.
        """
        if self._stop.is_set() or self._contested() or self._pipeline.is_taken(candidate.path):
            return False
        plan = self._profiles.plan_for(candidate.path, candidate.attributes)
        priority = Priority.ROUTINE if plan is None else plan.priority
        if not self._engine.has_capacity(priority, len(self._taken)):
            return False
        if self._journal.closed() is not None:
            return False
        self._taken.append((candidate, plan))
        return True

    def claim_taken(self) -> dict[str, InvoxError]:
        """Claim what was taken, for the engine, and return what could not be claimed: path → reason.

        That stays in the inbox or returns there. What was removed or changed meanwhile is not among it: if it
        still exists, the inbox finds it again. For the inbox's thread.
        """
        taken, self._taken = self._taken, []
        claims = [(_job_from(one, plan), one.waited_seconds, one.evidence) for one, plan in taken]
        jobs = [job for job, _waited_seconds, _evidence in claims]
        try:
            return_stranded(self._stranded, self._folders)
            outcomes = self._pipeline.claim_all(claims)
        except StorageError as error:  # some could not be returned, or are still stranded
            self._inbox.has_room()
            self._stranded.update(job.id for job in jobs)
            return self._refuse({job.path: error for job in jobs})
        if outcomes.count(True) < len(outcomes):
            self._inbox.has_room()  # for what was refused because of them
        refused: dict[str, InvoxError] = {}
        claimed: list[Job] = []
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, InvoxError):
                refused[job.path] = outcome
                if isinstance(outcome, StorageError):
                    self._stranded.add(job.id)
            elif outcome:
                self._refused = None
                claimed.append(job)
        self._accept(claimed)
        return self._refuse(refused)

    def _add_all(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._engine.add(job)

    def _refuse(self, refused: dict[str, InvoxError]) -> dict[str, InvoxError]:
        for error in refused.values():
            if isinstance(error, DiskFullError | JournalError):
                self._refused = error
        return refused

    def closed(self) -> Reason | None:
        """Why the disk or the journal refused the last claim, as long as a recording waits for it."""
        status, refused = self._inbox.status, self._refused  # the inbox's thread may change it meanwhile
        waits = status.settling or status.troubled
        return refused.reason if refused is not None and waits else None

    @property
    def paused(self) -> bool:
        """Whether no recording is taken now."""
        return not self._engine.has_capacity() or bool(reasons((self, *self._gates)))


def _job_from(candidate: Candidate, plan: Plan | None) -> Job:
    return Job(
        id=new_job_id(),
        state=State.CLAIMED,
        path=candidate.path,
        received_at=utc_now(),
        plan=plan,
        **facts_of(candidate),
    )
