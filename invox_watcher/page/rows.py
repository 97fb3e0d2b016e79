"""What the journal knows of a recording as what the page shows of it; for one viewer, nothing of others'."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from invox_watcher.budget import Held
from invox_watcher.diagnostics.daemon_status import DaemonStatus
from invox_watcher.diagnostics.holds import until
from invox_watcher.diagnostics.prospect import prospect_of
from invox_watcher.errors import Reason
from invox_watcher.job import Failure, Job, State
from invox_watcher.outputs import DOUBTS
from invox_watcher.page.model import Need, Row, Sight, Trouble, UnderWay
from invox_watcher.priority import Priority

_JOB_ID = re.compile(r"\b\d{8}t\d{6}-[0-9a-f]{12}\b")
_AS_A_JOB = re.compile(rf",? (?:as )?job {_JOB_ID.pattern}")


def profile_of(job: Job) -> str:
    """Its profile; empty if there were no profiles when it was taken."""
    return "" if job.plan is None else job.plan.profile


def may_see(sight: Sight, job: Job) -> bool:
    """Whether the recording is in the sight. One without a profile is in no limited sight."""
    return sight.profiles is None or (job.plan is not None and sight.covers(job.plan.profile))


def row_of(job: Job, sight: Sight) -> Row:
    """The recording in a list."""
    plan, reason = job.plan, None
    if job.failure is not None:
        reason = job.failure.reason
    elif job.last_fault is not None and not job.state.is_final:
        reason = job.last_fault.reason
    return Row(
        id=job.id,
        name=job.path,
        profile=profile_of(job),
        author="" if plan is None else plan.attributes.get("author", ""),
        state=job.state,
        received_at=job.received_at,
        updated_at=job.updated_at,
        duration_seconds=job.duration_seconds,
        suspect=bool(job.suspect),
        urgent=job.priority is not Priority.ROUTINE,
        reason=None if reason is None else discreet(reason, sight),
    )


def discreet(reason: Reason, sight: Sight) -> Reason:
    """The reason, for a limited sight without the ids of other recordings: they may be outside of it."""
    if sight.profiles is None:
        return reason
    return replace(reason, message=_AS_A_JOB.sub("", reason.message), hint=_AS_A_JOB.sub("", reason.hint))


def failure_of(job: Job, sight: Sight) -> Need | None:
    """Why it failed, and what to do; None if it did not."""
    failure: Failure | None = job.failure
    if failure is None or not job.state.is_given_up:
        return None
    reason = discreet(failure.reason, sight)
    return Need(row_of(job, sight), reason, failure.retry_can_help, job.updated_at)


def doubt_about(job: Job, sight: Sight) -> Need:
    """That its transcript may not be what was said."""
    kinds = list(dict.fromkeys(one.reason for one in job.suspect or ()))
    says = "; ".join(DOUBTS[kind] for kind in kinds)
    hint = "Listen to the places that are marked, and compare them with the transcript."
    reason = Reason(str(kinds[0]), f"{says[:1].upper()}{says[1:]}.", hint)
    at = job.completed_at or job.updated_at
    return Need(row_of(job, sight), reason, retry_can_help=False, at=at)


def under_way(
    job: Job, status: DaemonStatus, held: Held | None, sight: Sight, *, max_attempts: int
) -> UnderWay | None:
    """What is ahead of it; None if it has ended."""
    ahead = prospect_of(job, status, max_attempts=max_attempts)
    if ahead is None:
        return None
    step = ahead.step
    if sight.profiles is not None and _JOB_ID.search(step):
        step = "take over the transcript of an earlier recording, which has the same content"
    troubles = [Trouble(problem.reason, problem.since) for problem in ahead.held_by]
    if held is not None:
        hint = "It is uploaded after that, or once the limit is raised and the daemon has reloaded it."
        says = f"It is held until {until(held)}: {held.reason}."
        troubles.append(Trouble(Reason("daily_minutes", says, hint), since=None))
    return UnderWay(row_of(job, sight), step, ahead.due_seconds, _sent(job, status), tuple(troubles))


def _sent(job: Job, status: DaemonStatus) -> float | None:
    """How much of the upload that runs is sent, from 0 to 1."""
    if job.state is not State.UPLOADING or status.daemon is None:
        return None
    if status.asked and job.id in status.due_seconds:
        return None  # it waits for another attempt
    return min(job.uploaded_bytes / max(job.upload.size_bytes, 1), 1.0)


def visible(ids: Iterable[str | None], sight: Sight, get: Callable[[str], Job | None]) -> frozenset[str]:
    """Those of the jobs with these ids that exist and are in the sight."""
    found = (get(job_id) for job_id in ids if job_id is not None)
    return frozenset(job.id for job in found if job is not None and may_see(sight, job))
