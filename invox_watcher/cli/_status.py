"""`status`: is it ready, if not why and since when, what waits, and what needs a person."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invox_watcher import version
from invox_watcher.cli._common import config_file, config_of, local, state_directory_of, why_not_used
from invox_watcher.cli._streams import complain
from invox_watcher.cli._text import print_indented
from invox_watcher.config import Config
from invox_watcher.diagnostics.attention import count_open_failures
from invox_watcher.diagnostics.daemon_status import DaemonStatus, InboxCounts, query_daemon
from invox_watcher.diagnostics.figures import duration
from invox_watcher.diagnostics.holds import Holds
from invox_watcher.diagnostics.inbox_list import count_files
from invox_watcher.errors import ConfigurationError, ExitStatus, JournalError
from invox_watcher.host import Holder, Probe
from invox_watcher.job import Job, State
from invox_watcher.journal import Journal, TargetBacklog
from invox_watcher.layout import database_of, folders_of, host_of
from invox_watcher.times import rfc3339, seconds_since

if TYPE_CHECKING:
    from invox_watcher.journal import Host

_INDENT = 15
_UNKNOWN = "unknown: the journal can't be read"
_DISK_SECONDS = 2.0  # for a disk that may hang


@dataclass(frozen=True)
class _Recordings:
    """What journal and folders have, without the daemon; None is what could not be found out in time."""

    counts: Mapping[State, int] | None  # None, as the next, if the journal can't be read
    active: Mapping[State, int] | None
    oldest_since: datetime | None
    failed: int | None  # that are still in failed/ and were not retried
    in_inbox: int | None  # files
    backlogs: Mapping[str, TargetBacklog]  # of targets
    held: str  # how many the daily minutes hold, and until when; empty if they hold none
    hosts: Sequence[Host]  # of the fleet; empty if this host is alone
    own_name: str | None  # of this host; None if it is alone


def status(options: argparse.Namespace) -> ExitStatus:
    """Print the status of the daemon; whether it is running and ready is the exit status."""
    directory = state_directory_of(options)
    config = None
    with suppress(ConfigurationError):  # which was printed
        config = config_of(options, credentials=False)
    daemon = query_daemon(directory)
    found = _recordings(directory, config, daemon)
    if options.json:
        print(json.dumps(_as_json(daemon, found, config_file(options)), indent=2))
    else:
        _print(daemon, found, config_file(options))
    if daemon.daemon is None:
        return ExitStatus.NOT_RUNNING
    return ExitStatus.OK if daemon.is_ready else ExitStatus.NOT_READY


def _recordings(directory: Path, config: Config | None, daemon: DaemonStatus) -> _Recordings:
    """`config` is None if it is invalid; then it is not known where the folders are."""
    counts: Mapping[State, int] | None = {}
    active: Sequence[Job] | None = ()
    failed = in_inbox = None
    backlogs: Mapping[str, TargetBacklog] = {}
    held = ""
    hosts: Sequence[Host] = ()
    own_name = None if config is None else host_of(config)
    if config is not None and daemon.inbox is None:
        in_inbox = _asked("inbox", partial(count_files, config))
    try:
        server = None if config is None else database_of(config)
        with closing(Journal(directory, create=False, server=server)) as journal:
            if config is not None and (error := why_not_used(journal, config)) is not None:
                complain(error, "the counts are out of date. ")
            counts, active = journal.counts(), journal.active()
            backlogs = journal.deliveries.backlogs()
            hosts = () if journal.fleet is None else journal.fleet.hosts()
            held = "" if config is None else Holds(config, journal).summary()
            if config is not None:
                failed = _asked("failed", lambda: count_open_failures(journal, folders_of(config)))
    except JournalError as error:
        if error.code == "journal_missing":  # not yet
            failed = 0
        else:
            complain(error)
            counts = active = failed = None
    oldest = min((job.received_at for job in active or ()), default=None)
    under_way = None if active is None else Counter(job.state for job in active)
    return _Recordings(counts, under_way, oldest, failed, in_inbox, backlogs, held, hosts, own_name)


def _asked(name: str, ask: Callable[[], int]) -> int | None:
    """The answer of a disk that may hang."""
    probe = Probe(name, ask)
    probe.begin()
    probe.wait(time.monotonic() + _DISK_SECONDS)
    return probe.answer


def _as_json(daemon: DaemonStatus, found: _Recordings, file: Path) -> dict[str, Any]:
    holder, inbox = daemon.daemon, daemon.inbox
    return {
        "running": holder is not None,
        "pid": None if holder is None else holder.pid,
        "since": None if holder is None or holder.since is None else rfc3339(holder.since),
        "ready": None if holder is None or daemon.problems is None else daemon.is_ready,
        "ready_since": _time(daemon.since) if daemon.is_ready else None,
        "not_ready_since": _time(daemon.since) if daemon.problems else None,
        "problems": [vars(one.reason) | {"since": rfc3339(one.since)} for one in daemon.problems or ()],
        "warnings": [vars(one.reason) | {"since": rfc3339(one.since)} for one in daemon.warnings],
        "not_asked_because": daemon.unreachable_because or None,
        "version": daemon.version,
        "configuration": daemon.configuration or str(file),
        "address": _address(daemon),
        "inbox": None if inbox is None else _inbox_as_json(inbox),
        "jobs": None
        if found.counts is None
        else {str(state): count for state, count in found.counts.items()},
        "under_way_oldest_since": _time(found.oldest_since),
        "failed_and_not_retried": found.failed,
        "targets": {name: _target_as_json(name, daemon, found) for name in _target_names(daemon, found)},
        **({"hosts": {host.name: _host_as_json(host) for host in found.hosts}} if found.hosts else {}),
    }


def _host_as_json(host: Host) -> dict[str, Any]:
    return {
        "state": host.state,
        "under_way": host.jobs,
        "version": host.release,
        "address": host.address or None,
        "last_heard_seconds": round(host.silent_seconds, 1),
    }


def _inbox_as_json(inbox: InboxCounts) -> dict[str, Any]:
    oldest = _time(inbox.oldest_since)
    return {**inbox.stages, "oldest_since": oldest, "available": inbox.available}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def _address(daemon: DaemonStatus) -> str | None:
    if daemon.address is None:
        return None
    host, port = daemon.address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# ---- for a person ------------------------------------------------------------------------------------------


def _print(daemon: DaemonStatus, found: _Recordings, file: Path) -> None:
    print(_headline(daemon))
    for name, problems in (("problem", daemon.problems or ()), ("warning", daemon.warnings)):
        for problem in problems:
            reason = problem.reason
            _line(name, f"{reason.code}, since {_ago(problem.since)}: {reason.message}")
            if reason.hint:
                _line("", reason.hint)
    if daemon.daemon is not None:
        _line("process", _process(daemon.daemon))
    if daemon.version is not None:
        other = f" (this command is {version()}: restart the daemon)"
        _line("version", f"{daemon.version}{other if daemon.version != version() else ''}")
    _line("configuration", daemon.configuration or str(file))
    if daemon.daemon is not None:
        _line("address", _address(daemon) or "none (http.listen)")
    _line("inbox", _inbox(daemon, found))
    _line("under way", _under_way(found))
    if found.held:
        _line("held", found.held)
    _line("done", _UNKNOWN if found.counts is None else str(found.counts.get(State.DONE, 0)))
    _line("failed", _failed(found))
    for name in _target_names(daemon, found):
        _line(f"to {name}", _target(name, daemon, found))
    for number, host in enumerate(found.hosts):
        is_dead = host.name == found.own_name and daemon.daemon is None
        _line("" if number else "hosts", f"{host.name}: {_host(host, is_dead=is_dead)}")


def _host(host: Host, *, is_dead: bool) -> str:
    """`running, 12 under way, version 1.2.3`, or since when it is not; `is_dead`: we know that it is not."""
    if host.is_alive and is_dead:
        return f"not running; the others, if any, take over {host.jobs} under way"
    if host.is_alive:
        return f"running, {host.jobs} under way, version {host.release}"
    ago = duration(host.silent_seconds)
    return f"stopped {ago} ago" if host.state == "left" else f"taken over; its last heartbeat was {ago} ago"


def _target_names(daemon: DaemonStatus, found: _Recordings) -> list[str]:
    return sorted({*(daemon.targets or ()), *found.backlogs})


def _target_as_json(name: str, daemon: DaemonStatus, found: _Recordings) -> dict[str, Any]:
    backlog, fault = found.backlogs.get(name, TargetBacklog()), (daemon.targets or {}).get(name)
    return {
        "owed": backlog.owed,
        "uncertain": backlog.uncertain,
        "failed": backlog.failed,
        "oldest_since": _time(backlog.oldest_at),
        "unavailable": None if fault is None else vars(fault.reason) | {"since": rfc3339(fault.since)},
    }


def _target(name: str, daemon: DaemonStatus, found: _Recordings) -> str:
    """`5 owed, the oldest for 2 h 05 min, 1 failed: invox-watcher jobs --owed. No connection …`."""
    backlog, fault = found.backlogs.get(name, TargetBacklog()), (daemon.targets or {}).get(name)
    age = (
        "" if backlog.oldest_at is None else f", the oldest for {duration(seconds_since(backlog.oldest_at))}"
    )
    parts = [f"{backlog.owed} owed{age}"] if backlog.owed else []
    parts += [f"{backlog.failed} failed"] if backlog.failed else []
    says = f"{', '.join(parts)}: invox-watcher jobs --owed" if parts else "nothing is owed"
    if fault is not None:
        says += f". Not taken since {_ago(fault.since)}: {fault.reason.message}"
    return says


def _line(name: str, text: str) -> None:
    print_indented(name, text, indent=_INDENT)


def _headline(daemon: DaemonStatus) -> str:
    if daemon.daemon is None:
        return "invox-watcher is not running."
    if daemon.problems is None:
        return f"invox-watcher is running. Whether it is ready is unknown: {daemon.unreachable_because}."
    if daemon.problems and daemon.since is not None:
        return f"invox-watcher is running, but not ready since {_ago(daemon.since)}."
    return "invox-watcher is running, and ready."


def _process(holder: Holder) -> str:
    if holder.pid is None or holder.since is None:
        return "not visible from here (another container?)"
    return f"pid {holder.pid}, since {_ago(holder.since)}"


def _ago(moment: datetime) -> str:
    return f"{local(moment)} ({duration(seconds_since(moment))})"


def _inbox(daemon: DaemonStatus, found: _Recordings) -> str:
    if daemon.inbox is None:
        if found.in_inbox is None:
            return "does not answer, or can't be read"
        return f"{found.in_inbox} files: invox-watcher inbox" if found.in_inbox else "nothing is waiting"
    if not daemon.inbox.available:
        return "can't be read"
    waiting = {stage: count for stage, count in daemon.inbox.stages.items() if count}
    if not waiting:
        return "nothing is waiting"
    return f"{_counted(waiting, daemon.inbox.oldest_since)}: invox-watcher inbox"


def _under_way(found: _Recordings) -> str:
    if found.active is None:
        return _UNKNOWN
    if not found.active:
        return "0"
    states = {str(state): found.active[state] for state in State if found.active.get(state)}
    return f"{_counted(states, found.oldest_since)}: invox-watcher jobs"


def _counted(parts: Mapping[str, int], oldest: datetime | None) -> str:
    """`3 (1 settling, 2 unfinished), the oldest for 2 h 05 min`."""
    inside: Sequence[str] = [f"{count} {name}" for name, count in parts.items()]
    age = "" if oldest is None else f", the oldest for {duration(seconds_since(oldest))}"
    return f"{sum(parts.values())} ({', '.join(inside)}){age}"


def _failed(found: _Recordings) -> str:
    if found.failed is None:
        return "unknown: the configuration, the journal or the failed folder can't be read"
    if not found.failed:
        return "none in the failed folder"
    return f"{found.failed} in the failed folder: invox-watcher jobs --failed"
