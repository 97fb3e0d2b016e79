"""Formats recordings for a terminal: the cells of a live table.

For `demo` and `jobs`, which show different columns of the same data.
"""

from __future__ import annotations

from datetime import datetime

from rich.cells import cell_len
from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from invox_watcher.diagnostics.figures import size
from invox_watcher.job import FINAL, Job, State
from invox_watcher.journal import DeliveryState

_STYLES = {State.DONE: "green", State.FAILED: "red", State.FAILING: "red", State.VANISHED: "red"}


# How the state of a delivery is shown.
DELIVERY_STYLES = {
    DeliveryState.DUE: "cyan",
    DeliveryState.UNCERTAIN: "yellow",
    DeliveryState.SENT: "green",
    DeliveryState.FAILED: "red",
    DeliveryState.CANCELLED: "dim",
}


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
