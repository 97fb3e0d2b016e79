"""Recordings, or what targets are owed, as a table on a terminal: for `jobs` and `jobs --watch`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from invox_watcher.cli._common import reasons_of
from invox_watcher.cli._rows import Shown
from invox_watcher.diagnostics import display, figures
from invox_watcher.diagnostics.daemon_status import DaemonStatus
from invox_watcher.diagnostics.holds import until
from invox_watcher.job import ACTIVE, FINAL, Job, State
from invox_watcher.journal import QueuedDelivery
from invox_watcher.logs import printable

# Below this width, sizes and uploads are left out.
_ROOMY = 110
_GAP = 2  # between columns
_LEAST_NAME = 12
_UPLOAD_COLUMNS, _NEXT_COLUMNS = 20, 20
_SOON_SECONDS = 0.5
_ENDED = (State.DONE, State.FAILED, State.VANISHED)


def table(rows: Iterable[Shown], status: DaemonStatus, *, width: int | None, now: datetime) -> Table:
    """One line per recording, no wider than `width` columns; None: as wide as the names need.

    If it is narrow, size and upload are left out. Names lose their beginning, never their end.
    """
    shown = list(rows)
    roomy = width is None or width >= _ROOMY
    columns = [_column("Id", [Text(row.job.id.rpartition("-")[2]) for row in shown])]
    columns.append(_column("State", [display.state(row.job) for row in shown], least=11 if roomy else 0))
    columns.append(_column("Received", [Text(_received(row.job, roomy=roomy)) for row in shown]))
    if roomy or not any(row.job.state in FINAL for row in shown):
        columns.append(_column("Age", [Text(_age(row.job, now)) for row in shown], right=True))
    if any(row.job.state in FINAL for row in shown):
        columns.append(_column("Took", [Text(_took(row.job, roomy=roomy)) for row in shown], right=True))
    after: list[_Column] = []
    if roomy:
        sizes = [Text(figures.size(row.job.size_bytes)) for row in shown]
        after.append(_column("Size", sizes, right=True, least=6))
        after.append(_Column("Upload", [_upload(row) for row in shown], _UPLOAD_COLUMNS))
    upcoming = _column("Next", [Text(_next(row, status, roomy=roomy), overflow="ellipsis") for row in shown])
    names = [printable(row.job.path) for row in shown]
    room = max(map(cell_len, [*names, "Recording"]))
    if width is not None:
        left = width - sum(one.width + _GAP for one in [*columns, *after])
        most = max(left - _GAP - room, _NEXT_COLUMNS)
        upcoming = replace(upcoming, width=min(upcoming.width, most))
        room = max(min(room, left - _GAP - upcoming.width), _LEAST_NAME)
    recordings = [Text(display.cut_at_start(name, room), "bold") for name in names]
    return _assembled([*columns, _Column("Recording", recordings, room), *after, upcoming])


def owed_table(
    deliveries: Sequence[QueuedDelivery], recordings: Mapping[str, str], *, width: int | None, now: datetime
) -> Table:
    """One line per delivery, no wider than `width` columns; `recordings`: the paths of the jobs."""
    columns = [
        _column("Id", [Text(one.job_id.rpartition("-")[2]) for one in deliveries]),
        _column("Target", [Text(printable(one.target)) for one in deliveries]),
        _column("State", [Text(one.state, display.DELIVERY_STYLES[one.state]) for one in deliveries]),
        _column("Age", [Text(_owed_for(one, now)) for one in deliveries], right=True),
        _column("Tried", [Text(str(one.attempts)) for one in deliveries], right=True),
    ]
    names = [printable(recordings.get(one.job_id, "")) for one in deliveries]
    reasons = [Text(one.fault.reason.code if one.fault else "", overflow="ellipsis") for one in deliveries]
    why, room = _column("Why", reasons), max(map(cell_len, [*names, "Recording"]))
    if width is not None:
        left = width - sum(one.width + _GAP for one in columns) - _GAP
        why = replace(why, width=max(min(why.width, left - min(room, _LEAST_NAME)), 3))
        room = max(min(room, left - why.width), _LEAST_NAME)
    cells = [Text(display.cut_at_start(name, room), "bold") for name in names]
    return _assembled([*columns, _Column("Recording", cells, room), why])


def _owed_for(delivery: QueuedDelivery, now: datetime) -> str:
    if delivery.queued_at is None:
        return ""
    return figures.in_one_unit(max((now - delivery.queued_at).total_seconds(), 0.0))


@dataclass(frozen=True)
class _Column:
    heading: str
    cells: Sequence[RenderableType]
    width: int
    right: bool = False


def _column(heading: str, cells: Sequence[Text], *, right: bool = False, least: int = 0) -> _Column:
    """A column as wide as its widest cell."""
    return _Column(heading, cells, max([cell_len(heading), least, *(cell.cell_len for cell in cells)]), right)


def _assembled(columns: Sequence[_Column]) -> Table:
    made = display.plain_table()
    made.width = sum(column.width + _GAP for column in columns) - _GAP
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        made.add_column(column.heading, no_wrap=True, justify=justify, width=column.width)
    for cells in zip(*(column.cells for column in columns), strict=True):
        made.add_row(*cells)
    return made


def _received(job: Job, *, roomy: bool) -> str:
    """When it was received, in the reader's time zone."""
    return f"{job.received_at.astimezone():{'%Y-%m-%d %H:%M:%S' if roomy else '%m-%d %H:%M'}}"


def _age(job: Job, now: datetime) -> str:
    return figures.in_one_unit(max((now - job.received_at).total_seconds(), 0.0))


def _took(job: Job, *, roomy: bool) -> str:
    if job.state not in FINAL:
        return ""
    return (figures.duration if roomy else figures.in_one_unit)(display.age_seconds(job, job.updated_at))


def totals(counts: Mapping[State, int], rows: Iterable[Shown]) -> str:
    """`3 under way (1 uploading, 2 waiting; 1.2 MB/s), 340 done, 2 failed, 0 vanished`."""
    under_way = {state: counts[state] for state in State if state in ACTIVE and counts.get(state)}
    parts = ", ".join(f"{count} {state}" for state, count in under_way.items())
    rate = sum(row.bytes_per_second or 0.0 for row in rows)
    inside = "; ".join(part for part in (parts, f"{figures.size(rate)}/s" if rate else "") if part)
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
        sentences = " ".join(problem.reason.message for problem in status.problems)
        return Text(printable(f"Not ready: {sentences}"), "yellow")
    return Text("The daemon is ready.", "green")


def _upload(row: Shown) -> RenderableType:
    job = row.job
    return display.upload(job, _progress(row)) if job.state.has_upload else ""


def _progress(row: Shown) -> str:
    rate = f" {figures.size(row.bytes_per_second)}/s" if row.bytes_per_second else ""
    return f"{100 * row.job.uploaded_bytes // max(row.job.size_bytes, 1)} %{rate}"


def _next(row: Shown, status: DaemonStatus, *, roomy: bool) -> str:
    """When the recording's next step is due, or why there is none; unless `roomy`, with its upload."""
    job = row.job
    if row.held is not None:
        return f"held until {until(row.held)}"
    if not roomy and job.state is State.UPLOADING:
        return _progress(row)
    if job.state in FINAL:
        return job.failure.reason.code if job.failure else ", ".join(reasons_of(job))
    failing = f"{job.failure.reason.code}, " if job.failure else ""
    if job.last_fault is not None:
        failing = f"{job.last_fault.reason.code}, "
    again = f"try {job.attempts + 1} " if job.attempts else ""
    if status.daemon is None:
        return f"{failing}stopped"
    if not status.asked:
        return f"{failing}{again}?".strip()
    left = status.due_seconds.get(job.id, 0.0)
    when = f"in {figures.duration(left)}" if left > _SOON_SECONDS else "now"
    return f"{failing}{again}{when}"
