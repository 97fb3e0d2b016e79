"""Shows the progress of each recording: a live table, or plain lines without a terminal.

Everything shown comes from the journal, as in `invox-watcher jobs`.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from invox_watcher.demo.stage import STATE, Exhibit, drop, require_running
from invox_watcher.diagnostics import display, figures
from invox_watcher.errors import JournalError
from invox_watcher.job import FINAL, Job, State
from invox_watcher.journal import HistoryEntry, Journal
from invox_watcher.logs import printable
from invox_watcher.times import utc_now

_TICK_SECONDS = 0.2
_START_SECONDS = 20
_PLAY_SECONDS = 120
_TABLE_WIDTH = 100

Update = Callable[[Sequence[str], Sequence[Job]], None]
"""Shows the paths dropped so far and the jobs in the journal."""


def watch(
    console: Console,
    folder: Path,
    exhibits: Sequence[Exhibit],
    daemon: subprocess.Popen[bytes],
    stop: threading.Event,
) -> dict[str, Job]:
    """Copy the exhibits to the inbox, show their progress, and return their final jobs by path.

    Ends when all are done or failed, or after two minutes.

    Raises:
        DaemonEndedError: the daemon exited earlier.
        JournalError: it has created no journal, or it can't be read.
        KeyboardInterrupt: `stop` was set.
    """
    dropped: list[str] = []
    with closing(_journal_of(folder, daemon)) as journal, _view(console, journal) as update:
        ends_at = time.monotonic() + _PLAY_SECONDS
        while True:
            all_jobs = journal.jobs()
            jobs = {job.path: job for job in all_jobs if job.path in dropped}
            update(dropped, all_jobs)
            over = len(jobs) == len(exhibits) and all(job.state in FINAL for job in jobs.values())
            if over or time.monotonic() > ends_at:
                return jobs
            if len(dropped) < len(exhibits) and _its_turn(exhibits[len(dropped)], jobs):
                dropped.append(drop(folder, exhibits[len(dropped)]))
            require_running(daemon, folder)
            if stop.wait(_TICK_SECONDS):
                raise KeyboardInterrupt


def _journal_of(folder: Path, daemon: subprocess.Popen[bytes]) -> Journal:
    """The daemon's journal, as soon as it has created it."""
    ends_at = time.monotonic() + _START_SECONDS
    while True:
        try:
            return Journal(folder / STATE, create=False)
        except JournalError as error:
            if error.code != "journal_missing" or time.monotonic() > ends_at:
                raise
        require_running(daemon, folder)
        time.sleep(_TICK_SECONDS)


def _its_turn(exhibit: Exhibit, jobs: dict[str, Job]) -> bool:
    """A copy waits until the daemon knows the content of the original."""
    if exhibit.copy_of is None:
        return True
    original = jobs.get(exhibit.copy_of)
    return original is not None and original.state is not State.CLAIMED


@contextmanager
def _view(console: Console, journal: Journal) -> Iterator[Update]:
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines(console, journal).update
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda dropped, jobs: live.update(_table(console, dropped, jobs, utc_now()), refresh=True)


# ---- the table ---------------------------------------------------------------------------------------------


def _table(console: Console, dropped: Sequence[str], jobs: Sequence[Job], now: datetime) -> Table:
    by_path: dict[str, Job | None] = dict.fromkeys(dropped) | {job.path: job for job in jobs}
    table = display.plain_table()
    table.width = min(console.width, _TABLE_WIDTH)
    table.add_column("Recording", no_wrap=True, style="bold")
    table.add_column("Format", no_wrap=True)
    table.add_column("State", no_wrap=True, width=11)
    table.add_column("Upload", no_wrap=True, ratio=1)
    table.add_column("Time", no_wrap=True, justify="right", width=6)
    for path, job in by_path.items():
        if job is None:
            table.add_row(printable(path), "", Text("in inbox", "dim"))
            continue
        age = f"{display.age_seconds(job, now):.1f} s"
        row = (printable(job.format or ""), display.state(job), display.upload(job), age)
        table.add_row(printable(path), *row)
    return table


# ---- plain lines -------------------------------------------------------------------------------------------


class _Lines:
    """One line for each new entry in the history of each recording."""

    def __init__(self, console: Console, journal: Journal) -> None:
        self._console = console
        self._journal = journal
        self._began = utc_now()
        self._seen: dict[str, tuple[State, int]] = {}

    def update(self, _dropped: Sequence[str], jobs: Sequence[Job]) -> None:
        fresh: list[tuple[Job, HistoryEntry]] = []
        for job in jobs:
            state, count = self._seen.get(job.id, (None, 0))
            if state is not job.state:
                history = self._journal.history(job.id)
                fresh += [(job, moment) for moment in history[count:]]
                self._seen[job.id] = (job.state, len(history))
        for job, moment in sorted(fresh, key=lambda item: item[1].at):
            seconds = (moment.at - self._began).total_seconds()
            line = f"{seconds:6.1f} s  {printable(job.path):<26}  {moment.state:<11}  "
            self._console.print((line + _remark(job, moment.state)).rstrip())


def _remark(job: Job, state: State) -> str:
    if state is State.CLAIMED:
        return f"{printable(job.format or 'unknown')}, {figures.size(job.size_bytes)}"
    if state is State.IDENTIFIED and job.original_id is not None:
        return "same content as another recording: no upload"
    if state is State.FAILING and job.failure is not None:
        return f"{job.failure.reason.code}: no upload"
    if state is State.WAITING:
        return f"{figures.size(job.size_bytes)} uploaded"
    return ""
