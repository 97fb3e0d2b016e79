"""`jobs`: recordings as a table on a terminal, as plain lines otherwise, as JSON for scripts."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console

from invox_watcher.cli import _table, _watch
from invox_watcher.cli._common import UsageError, config_of, journal_of, json_of, local, reasons_of
from invox_watcher.diagnostics.daemon_status import DaemonStatus, query_daemon
from invox_watcher.diagnostics.holds import Holds, until
from invox_watcher.errors import ExitStatus
from invox_watcher.files import LOCK_FILE
from invox_watcher.job import ACTIVE, Job, State
from invox_watcher.journal import Journal
from invox_watcher.logs import printable
from invox_watcher.times import rfc3339, utc_now


@dataclass(frozen=True)
class Query:
    """Which recordings to list."""

    states: frozenset[State]
    since: datetime | None = None
    name: re.Pattern[str] | None = None
    limit: int | None = None
    suspect: bool = False

    def find(self, journal: Journal) -> list[Job]:
        """The recordings, oldest first."""
        in_journal = None if self.name else self.limit
        jobs = journal.jobs(self.states, since=self.since, suspect=self.suspect, limit=in_journal)
        if self.name is None:
            return jobs
        named = [job for job in jobs if self._names(job.path)]
        return named[-self.limit :] if self.limit else named

    def _names(self, path: str) -> bool:
        assert self.name is not None  # noqa: S101 - see `find`
        return any(self.name.match(text) for text in (path, path.rpartition("/")[2]))


def jobs(options: argparse.Namespace) -> ExitStatus:
    """List recordings, once or continuously."""
    query = _query(options)
    config = config_of(options, credentials=False)
    console = Console()
    terminal = console.is_terminal and not console.is_dumb_terminal
    if options.watch and not terminal:
        raise UsageError("--watch needs a terminal.", hint="In scripts, use `invox-watcher jobs --json`.")

    def status() -> DaemonStatus:
        return query_daemon(config.state.directory / LOCK_FILE, config.http.address)

    with closing(journal_of(config)) as journal:
        if options.watch:
            _watch.watch(
                console,
                journal,
                query.find,
                status,
                lambda: Holds(config, journal),
                with_ended=not _narrowed(options),
            )
            return ExitStatus.OK
        holds = Holds(config, journal)
        found = query.find(journal)
        if options.json:
            _print_json(found, journal, status, holds)
        elif found and terminal:
            current = status()
            rows = _table.shown(found, journal, current, holds)
            console.print(_table.table(rows, current, width=console.width, now=utc_now()))
        elif found:
            _print_lines(found, holds)
        elif not _narrowed(options):
            done, failed = (journal.counts().get(state, 0) for state in (State.DONE, State.FAILED))
            print(f"Nothing under way. done: {done}, failed: {failed}.")
    return ExitStatus.OK


def _query(options: argparse.Namespace) -> Query:
    if options.all and options.state:
        options.parser.error("argument --all: not allowed with a state")
    if options.watch and options.json:
        options.parser.error("argument --watch: not allowed with argument --json")
    if options.state:
        states = frozenset(State(state) for state in options.state)
    else:
        everything = options.all or options.suspect or options.since or options.name
        states = frozenset(State) if everything else ACTIVE
    return Query(states, options.since, options.name, options.limit, options.suspect)


def _narrowed(options: argparse.Namespace) -> bool:
    """Whether something other than the recordings in progress was requested."""
    return bool(options.all or options.state or options.suspect or options.since or options.name)


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
    for row in _table.shown(jobs, journal, status, holds):
        known = status.asked and row.job.state in ACTIVE
        next_seconds = status.due_seconds.get(row.job.id, 0.0) if known else None
        rate = round(row.bytes_per_second) if row.bytes_per_second else None
        rows.append(
            json_of(row.job)
            | {"held_until": rfc3339(row.held.until) if row.held else None}
            | {"upload_bytes_per_second": rate, "next_step_seconds": next_seconds}
        )
    print(json.dumps(rows, indent=2))
