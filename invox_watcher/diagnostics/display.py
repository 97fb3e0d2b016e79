"""Formats recordings for a terminal: the cells of a live table, sizes and durations.

For `demo` and `jobs`, which show different columns of the same data.
"""

from __future__ import annotations

from datetime import datetime

from rich.cells import cell_len
from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from invox_watcher.job import FINAL, Job, State

_STYLES = {State.DONE: "green", State.FAILED: "red", State.FAILING: "red", State.VANISHED: "red"}


def plain_table() -> Table:
    """A table without lines, as narrow as its content."""
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)


def state(job: Job) -> Text:
    """The recording's state, coloured."""
    return Text(job.state, _STYLES.get(job.state, "cyan"))


def upload(job: Job, beside: str | None = None) -> RenderableType:
    """How much of the recording was sent: a bar and, next to it, the number or `beside`.

    A text if nothing will be sent, empty if nothing has been sent yet.
    """
    if job.state in (State.FAILING, State.FAILED):
        return Text(f"none: {job.failure.reason.code if job.failure else ''}", "red")
    if job.original_id is not None:
        return Text("none: a copy", "green")
    if not job.state.has_upload:
        return ""
    beside = size(job.uploaded_bytes) if beside is None else beside
    cell = Table.grid(expand=True, padding=(0, 1, 0, 0))
    cell.add_column(ratio=1)
    cell.add_column(no_wrap=True, justify="right", width=max(6, len(beside)))
    cell.add_row(ProgressBar(total=job.size_bytes, completed=job.uploaded_bytes), beside)
    return cell


def size(size_bytes: float) -> str:
    """`15 B`, `812 kB`, `1.2 MB`: powers of ten, as network rates are given."""
    if 0 < size_bytes < 1000:
        return f"{size_bytes:.0f} B"
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 999_500 else f"{size_bytes / 1000:.0f} kB"


def duration(seconds: float) -> str:
    """`0.4 s`, `42 s`, `3 min 20 s`, `2 h 05 min`, `4 d 3 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def in_one_unit(seconds: float) -> str:
    """`42 s`, `3 min`, `2 h`, `4 d`: at most six columns."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds) // size} {unit}"
    return duration(seconds)


def age_seconds(job: Job, now: datetime) -> float:
    """The time since it was claimed; for a finished one, how long it took."""
    end = job.updated_at if job.state in FINAL else now
    return max((end - job.received_at).total_seconds(), 0.0)


def cut_at_start(text: str, width: int) -> str:
    """`text`, or as much of its end as fits into `width` columns, after an ellipsis."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        text = text[1:]
    return f"…{text}"
