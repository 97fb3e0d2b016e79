"""Why a recording under way waits: its next step and when, its last fault, and which gate is closed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from invox_watcher.diagnostics.daemon_status import DaemonStatus
from invox_watcher.diagnostics.figures import duration
from invox_watcher.job import Fault, Job, State
from invox_watcher.onsets import Problem
from invox_watcher.times import rfc3339, utc_now

_STEPS = {
    State.CLAIMED: "read the recording, and look for an earlier one with the same content",
    State.IDENTIFIED: "get an upload address from the API, and upload",
    State.UPLOADING: "ask the API whether it has the upload",
    State.WAITING: "ask the API for the result",
    State.TRANSCRIBED: "write the transcript to outbox/",
    State.DELIVERED: "move the recording to done/",
    State.FAILING: "move the recording to failed/",
}
# Gates that keep a recording that is under way; the others keep those in the inbox.
_GATES = ("parts", "storage", "journal", "folders")
_SOON_SECONDS = 0.5


@dataclass(frozen=True)
class Prospect:
    """What is ahead of a recording under way."""

    step: str  # what is done next, in words
    due_seconds: float | None  # in how many seconds; 0 if it is being done now, None if that is not known
    unknown_because: str  # why it is not known, as a clause
    held_by: Sequence[Problem]  # closed gates
    attempts: int  # that its present state has spent
    max_attempts: int
    last_fault: Fault | None

    @property
    def when(self) -> str:
        """When the step is due: `now`, or in how many seconds and at which time; or why that is not known."""
        if self.due_seconds is None:
            return self.unknown_because
        if self.due_seconds <= _SOON_SECONDS:
            return "now"
        at = (utc_now() + timedelta(seconds=self.due_seconds)).astimezone()
        return f"in {duration(self.due_seconds)}, at {at:%H:%M:%S}"

    def lines(self) -> Iterator[tuple[str, str]]:
        """Name and text of what there is to say."""
        yield "next_step", f"{self.step}: {self.when}"
        if self.attempts or self.last_fault is not None:
            left = " (an outage costs none)" if self.attempts == 0 else ""
            yield "attempts", f"{self.attempts} of {self.max_attempts} failed{left}"
        held_by = {problem.reason.code for problem in self.held_by}
        if (fault := self.last_fault) is not None and fault.reason.code not in held_by:
            yield "last_error", f"{fault.reason.code}, since {_local(fault.since)}: {fault.reason.message}"
            if fault.reason.hint:
                yield "", fault.reason.hint
        for problem in self.held_by:
            reason = problem.reason
            yield "held_up_by", f"{reason.code}, since {_local(problem.since)}: {reason.message}"
            if reason.hint:
                yield "", reason.hint

    def as_json(self) -> dict[str, Any]:
        """The same for scripts."""
        fault = self.last_fault
        return {
            "next_step": self.step,
            "next_step_seconds": self.due_seconds,
            "attempts": self.attempts,
            "max_attempts": self.max_attempts,
            "last_error": None if fault is None else vars(fault.reason) | {"since": rfc3339(fault.since)},
            "held_up_by": [vars(one.reason) | {"since": rfc3339(one.since)} for one in self.held_by],
        }


def prospect_of(job: Job, status: DaemonStatus, *, max_attempts: int) -> Prospect | None:
    """What is ahead of `job`; None if it has ended."""
    if job.state.is_final:
        return None
    due = status.due_seconds.get(job.id, 0.0) if status.asked else None
    because = f"unknown: {status.unreachable_because}"
    if status.daemon is None:
        because = "when a daemon is started; none is running"
    gates = (*_GATES, "api") if job.asks_api else _GATES
    return Prospect(
        step=_step(job, is_under_way=due is not None and job.id not in status.due_seconds),
        due_seconds=due,
        unknown_because=because,
        held_by=[problem for problem in status.problems or () if problem.gate in gates],
        attempts=job.attempts,
        max_attempts=max_attempts,
        last_fault=job.last_fault,
    )


def _step(job: Job, *, is_under_way: bool) -> str:
    if job.state is State.IDENTIFIED and job.original_id is not None:
        return f"take over the transcript of job {job.original_id}, which has the same content"
    if job.state is State.UPLOADING and is_under_way:
        return f"upload, {100 * job.uploaded_bytes // max(job.upload.size_bytes, 1)} % are sent"
    return _STEPS[job.state]


def _local(moment: Any) -> str:
    return str(moment.astimezone().isoformat(sep=" ", timespec="seconds"))
