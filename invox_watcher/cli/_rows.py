"""Recordings with what is known beside the journal, for `jobs` in each of its forms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from invox_watcher.budget import Held
from invox_watcher.diagnostics.daemon_status import DaemonStatus
from invox_watcher.diagnostics.holds import Holds
from invox_watcher.diagnostics.timeline import upload_began
from invox_watcher.job import Job, State
from invox_watcher.journal import Journal


@dataclass(frozen=True)
class Shown:
    """A recording to show; `bytes_per_second` of an upload in progress, None if unknown.

    `held`: until another day, because of the daily minutes.
    """

    job: Job
    bytes_per_second: float | None
    held: Held | None = None


def shown(jobs: Iterable[Job], journal: Journal, status: DaemonStatus, holds: Holds) -> list[Shown]:
    """The jobs with the average rate of each upload since it began."""
    return [Shown(job, _rate(job, journal) if status.daemon else None, holds.of(job)) for job in jobs]


def _rate(job: Job, journal: Journal) -> float | None:
    if job.state is not State.UPLOADING or not job.uploaded_bytes:
        return None
    began = upload_began(journal.history(job.id))
    seconds = (job.updated_at - began).total_seconds() if began else 0.0
    return job.uploaded_bytes / seconds if seconds > 0 else None
