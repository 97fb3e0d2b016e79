"""`jobs`: recordings as a table on a terminal, as plain lines otherwise, as JSON for scripts."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from invox_watcher.cli import _rows
from invox_watcher.cli._common import UsageError, config_of, journal_of, json_of, local, reasons_of
from invox_watcher.diagnostics.attention import count_open_failures, open_failures
from invox_watcher.diagnostics.daemon_status import DaemonStatus, query_daemon
from invox_watcher.diagnostics.holds import Holds, until
from invox_watcher.errors import ExitStatus
from invox_watcher.files import Folders
from invox_watcher.job import ACTIVE, Job, State
from invox_watcher.journal import Journal
from invox_watcher.layout import folders_of
from invox_watcher.logs import printable
from invox_watcher.times import rfc3339, utc_now

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Query:
    """Which recordings to list."""

    states: frozenset[State]
    failed: bool = False  # also those that are still in failed/, and were not retried
    since: datetime | None = None
    until: datetime | None = None
    name: re.Pattern[str] | None = None
    limit: int | None = None
    suspect: bool = False

    def find(self, journal: Journal, folders: Folders) -> list[Job]:
        """The recordings, oldest first."""
        in_journal = None if self.name else self.limit
        jobs = journal.jobs(
            self.states, since=self.since, until=self.until, suspect=self.suspect, limit=in_journal
        )
        if self.failed:
            failed = islice(filter(self._selects, open_failures(journal, folders)), in_journal)
            jobs = sorted({job.id: job for job in [*jobs, *failed]}.values(), key=lambda job: job.id)
        if self.name is not None:
            jobs = [job for job in jobs if self._names(job.path)]
        return jobs[-self.limit :] if self.limit else jobs

    def _selects(self, job: Job) -> bool:
        """Whether a failed job was received at that time, and is suspect if that is asked for."""
        return (
            (self.since is None or job.received_at >= self.since)
            and (self.until is None or job.received_at < self.until)
            and (not self.suspect or bool(job.suspect))
        )

    def _names(self, path: str) -> bool:
        assert self.name is not None  # noqa: S101 - see `find`
        return any(self.name.match(text) for text in (path, path.rpartition("/")[2]))


def jobs(options: argparse.Namespace) -> ExitStatus:
    """List recordings, once or continuously."""
    query = _query(options)
    if options.owed:
        from invox_watcher.cli._deliveries import list_owed  # noqa: PLC0415 - loads what knows the targets

        return list_owed(options, _terminal())
    config = config_of(options, credentials=False)
    folders = folders_of(config)
    console = _terminal()
    if options.watch and console is None:
        raise UsageError("--watch needs a terminal.", hint="In scripts, use `invox-watcher jobs --json`.")

    def status() -> DaemonStatus:
        return query_daemon(config.state.directory)

    with closing(journal_of(config)) as journal:
        if options.watch and console is not None:
            from invox_watcher.cli import _watch  # noqa: PLC0415 - as in `_terminal`

            find, holds_now = partial(query.find, folders=folders), partial(Holds, config, journal)
            with_ended = not _narrowed(options)
            view = _watch.View(console, journal, find, status, holds_now, with_ended=with_ended)
            _watch.watch(console, view)
            return ExitStatus.OK
        holds = Holds(config, journal)
        found = query.find(journal, folders)
        if options.json:
            _print_json(found, journal, status, holds)
        elif found and console is not None:
            current = status()
            rows = _rows.shown(found, journal, current, holds)
            _print_table(rows, current, console, wide=options.wide)
        elif found:
            _print_lines(found, holds)
        elif not _narrowed(options):
            done = journal.counts().get(State.DONE, 0)
            failed = count_open_failures(journal, folders)
            print(f"Nothing under way. done: {done}, failed: {failed}.")
    return ExitStatus.OK


def _query(options: argparse.Namespace) -> Query:
    if options.all and (options.state or options.failed):
        options.parser.error("argument --all: not allowed with a state")
    if options.watch and options.json:
        options.parser.error("argument --watch: not allowed with argument --json")
    if options.watch and options.wide:
        options.parser.error("argument --watch: not allowed with argument --wide")
    if options.owed and (_narrowed(options) or options.watch):
        options.parser.error("argument --owed: not allowed with other choices")
    if options.state or options.failed:
        states = frozenset(State(state) for state in options.state)
    else:
        states = frozenset(State) if _narrowed(options) else ACTIVE
    return Query(
        states,
        failed=options.failed,
        since=options.since,
        until=options.until,
        name=options.name,
        limit=options.limit,
        suspect=options.suspect,
    )


def _narrowed(options: argparse.Namespace) -> bool:
    """Whether something other than the recordings in progress was requested."""
    chosen = (options.all, options.state, options.failed, options.suspect)
    return any((*chosen, options.since, options.until, options.name))


def _terminal() -> Console | None:
    """The terminal that standard output is; None if it is none, or one that can only print lines."""
    if not sys.stdout.isatty():
        return None
    from rich.console import Console  # noqa: PLC0415 - scripts should not have to wait for it

    console = Console()
    return console if console.is_terminal and not console.is_dumb_terminal else None


def _print_table(rows: Sequence[_rows.Shown], status: DaemonStatus, console: Console, *, wide: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 - as in `_terminal`

    from invox_watcher.cli import _table  # noqa: PLC0415 - as in `_terminal`

    table = _table.table(rows, status, width=None if wide else console.width, now=utc_now())
    whole = Console(width=table.width) if wide else console
    whole.print(table)


def _print_lines(jobs: Sequence[Job], holds: Holds) -> None:
    for job in jobs:
        codes = [job.failure.reason.code] if job.failure else reasons_of(job)
        if (held := holds.of(job)) is not None:
            codes = [f"held until {until(held)}"]
        line = f"{job.id}  {job.state:<11}  {local(job.received_at)}  {printable(job.path)}"
        print("  ".join(filter(None, (line, ", ".join(codes)))))


def _print_json(
    jobs: Sequence[Job], journal: Journal, query: Callable[[], DaemonStatus], holds: Holds
) -> None:
    """Each job, with what only the running daemon knows about it; null if unknown."""
    status = query() if any(job.state in ACTIVE for job in jobs) else DaemonStatus(None)
    rows: list[dict[str, Any]] = []
    for row in _rows.shown(jobs, journal, status, holds):
        known = status.asked and row.job.state in ACTIVE
        next_seconds = status.due_seconds.get(row.job.id, 0.0) if known else None
        rate = round(row.bytes_per_second) if row.bytes_per_second else None
        rows.append(
            json_of(row.job)
            | {"held_until": rfc3339(row.held.until) if row.held else None}
            | {"upload_bytes_per_second": rate, "next_step_seconds": next_seconds}
        )
    print(json.dumps(rows, indent=2))
