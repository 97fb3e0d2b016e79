"""`jobs --watch`: the table, updated every second, with totals and the daemon's problems, until Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import FrameType

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from invox_watcher.cli import _rows, _table
from invox_watcher.diagnostics.daemon_status import DaemonStatus
from invox_watcher.diagnostics.holds import Holds
from invox_watcher.errors import JournalError
from invox_watcher.host import SignalEvent
from invox_watcher.job import ACTIVE, FINAL, Job, State
from invox_watcher.journal import Journal
from invox_watcher.times import utc_now

_EVERY_SECONDS = 1.0
# The table's heading, the two lines below the table, the count of hidden rows, and the cursor's line.
_OTHER_LINES = 6


def watch(console: Console, view: View) -> None:
    """Show `view` until Ctrl-C or SIGTERM."""
    stop = SignalEvent()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():  # the second signal: stop at once
            signal.default_int_handler(number, frame)
        stop.set()  # an exception could get lost in a library's callback

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while not stop.is_set():
            live.update(view.now(), refresh=True)
            stop.wait(_EVERY_SECONDS)


class View:
    """What `find` finds now; keeps what was found last, to be shown if the journal can't be read."""

    def __init__(
        self,
        console: Console,
        journal: Journal,
        find: Callable[[Journal], Sequence[Job]],
        query: Callable[[], DaemonStatus],
        holds: Callable[[], Holds],
        *,
        with_ended: bool,
    ) -> None:
        """`with_ended`: also what has ended since this was made."""
        self._console = console
        self._journal = journal
        self._find = find
        self._query = query
        self._holds = holds
        self._with_ended = with_ended
        self._began = utc_now()
        self._before = {job.id for job in journal.jobs(ACTIVE)}
        self._rows: list[_rows.Shown] = []
        self._counts: Mapping[State, int] = {}

    def now(self) -> Group:
        """The table, the totals, and the daemon's status."""
        status = self._query()
        standing = _table.standing(status)
        try:
            jobs = [*self._find(self._journal), *self._ended()]
            self._rows = _rows.shown(jobs, self._journal, status, self._holds())
            self._counts = self._journal.counts()
        except JournalError as error:
            standing = Text(error.message, "red")
        room = max(self._console.height - _OTHER_LINES, 1)
        rows, left_out = self._rows[:room], len(self._rows[room:])
        return Group(
            _table.table(rows, status, width=self._console.width, now=utc_now()),
            Text(f"… and {left_out} more" if left_out else "", "dim"),
            Text(_table.totals(self._counts, self._rows)),
            standing,
        )

    def _ended(self) -> list[Job]:
        """The jobs that ended since the start, the latest first."""
        if not self._with_ended:
            return []
        came = self._journal.jobs(FINAL, since=self._began, limit=self._console.height)
        there = (self._journal.get(job_id) for job_id in sorted(self._before))
        ended = {job.id: job for job in [*came, *there] if job is not None and job.state in FINAL}
        return sorted(ended.values(), key=lambda job: job.updated_at, reverse=True)
