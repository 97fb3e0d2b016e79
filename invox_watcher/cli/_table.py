"""Recordings as a table on a terminal, for `jobs` and `jobs --watch`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from invox_watcher.cli._common import reasons_of
from invox_watcher.diagnostics import display
from invox_watcher.diagnostics.daemon_status import DaemonStatus
from invox_watcher.diagnostics.holds import Holds, until
from invox_watcher.diagnostics.timeline import upload_began
from invox_watcher.job import ACTIVE, FINAL, Job, State
from invox_watcher.journal import Journal
from invox_watcher.logs import printable
from invox_watcher.processing import Held

# Below this width the upload is shown as numbers only.
_WIDE = 110
_SOON_SECONDS = 0.5
_ENDED = (State.DONE, State.FAILED, State.VANISHED)


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


def table(rows: Iterable[Shown], status: DaemonStatus, *, width: int, now: datetime) -> Table:
    """One line per recording, no wider than `width` columns."""
    wide = width >= _WIDE
    made = display.plain_table()
    made.width = width
    made.add_column("Id", no_wrap=True, min_width=12)
    made.add_column("State", no_wrap=True, min_width=11)
    made.add_column("Age", no_wrap=True, justify="right", min_width=6)
    made.add_column("Recording", no_wrap=True, ratio=2, style="bold")
    made.add_column("Size", no_wrap=True, justify="right", min_width=6)
    made.add_column("Upload", no_wrap=True, ratio=2 if wide else None, min_width=6)
    made.add_column("Next", no_wrap=True, ratio=1)
    for row in rows:
        job = row.job
        made.add_row(
            Text(job.id.rpartition("-")[2]),
            display.state(job),
            display.duration(display.age_seconds(job, now)),
            Text(printable(job.path), overflow="ellipsis"),
            display.size(job.size_bytes),
            _upload(row, wide=wide),
            Text(_next(row, status), overflow="ellipsis"),
        )
    return made


def totals(counts: Mapping[State, int], rows: Iterable[Shown]) -> str:
    """`3 under way (1 uploading, 2 waiting; 1.2 MB/s), 340 done, 2 failed, 0 vanished`."""
    under_way = {state: counts[state] for state in State if state in ACTIVE and counts.get(state)}
    parts = ", ".join(f"{count} {state}" for state, count in under_way.items())
    rate = sum(row.bytes_per_second or 0.0 for row in rows)
    inside = "; ".join(part for part in (parts, f"{display.size(rate)}/s" if rate else "") if part)
    ended = ", ".join(f"{counts.get(state, 0)} {state}" for state in _ENDED)
    return f"{sum(under_way.values())} under way{f' ({inside})' if inside else ''}, {ended}"


def standing(status: DaemonStatus) -> Text:
    """Whether a daemon is running, and what is wrong with it."""
    if status.daemon is None:
        return Text("No daemon is running: recordings wait until one is started.", "red")
    if not status.asked:
        return Text(
            f"The daemon is running; {status.unreachable_because}, so the next steps are unknown.", "yellow"
        )
    if status.problems:
        return Text(printable(f"Not ready: {' '.join(status.problems.values())}"), "yellow")
    return Text("The daemon is ready.", "green")


def _upload(row: Shown, *, wide: bool) -> RenderableType:
    job = row.job
    if not job.state.has_upload:
        return ""
    percent = f"{100 * job.uploaded_bytes // max(job.size_bytes, 1)} %"
    rate = f" {display.size(row.bytes_per_second)}/s" if row.bytes_per_second else ""
    if wide or job.original_id is not None:
        return display.upload(job, percent + rate)
    return Text(percent + rate)


def _next(row: Shown, status: DaemonStatus) -> str:
    """When the recording's next step is due, or why there is none."""
    job = row.job
    if row.held is not None:
        return f"held until {until(row.held)}"
    if job.state in FINAL:
        return job.failure.reason.code if job.failure else ", ".join(reasons_of(job))
    failing = f"{job.failure.reason.code}, " if job.failure else ""
    again = f"try {job.attempts + 1} " if job.attempts else ""
    if status.daemon is None:
        return f"{failing}stopped"
    if not status.asked:
        return f"{failing}{again}?".strip()
    left = status.due_seconds.get(job.id, 0.0)
    when = f"in {display.duration(left)}" if left > _SOON_SECONDS else "now"
    return f"{failing}{again}{when}"
