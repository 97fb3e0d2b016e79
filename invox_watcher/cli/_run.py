"""`run`, `start`, `stop`, `status`: the daemon, in the foreground or not; and `check` before it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
from contextlib import closing, suppress

from invox_watcher.cli._common import config_file, config_of, loader_of, local, state_directory_of
from invox_watcher.cli._identity import act_as_owner, for_its_owner, require_owner
from invox_watcher.diagnostics.holds import Holds
from invox_watcher.errors import ExitStatus, InvoxError
from invox_watcher.job import ACTIVE, State
from invox_watcher.journal import Journal
from invox_watcher.logs import printable
from invox_watcher.times import rfc3339


def run(options: argparse.Namespace) -> ExitStatus:
    """Watch the inbox, in the foreground."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])  # until there is a process that can reload
    # Takes a while, in which a SIGHUP may come.
    from invox_watcher.daemon.process import Process, leave_first_process  # noqa: PLC0415

    leave_first_process()
    load = for_its_owner(loader_of(options), "run --once" if options.once else "run")
    return Process(load).run(once=options.once)


def start(options: argparse.Namespace) -> ExitStatus:
    """Start a daemon that detaches itself."""
    from invox_watcher.daemon import background  # noqa: PLC0415 - see `run`

    holder = background.start(for_its_owner(loader_of(options), "start"))
    print(f"invox-watcher is running{f', pid {holder.pid}' if holder else ''}.")
    return ExitStatus.OK


def stop(options: argparse.Namespace) -> ExitStatus:
    """Stop the daemon, however it was started."""
    from invox_watcher.daemon import control  # noqa: PLC0415 - see `run`

    holder = control.stop(state_directory_of(options))
    print("invox-watcher was not running." if holder is None else "invox-watcher has stopped.")
    return ExitStatus.OK


def status(options: argparse.Namespace) -> ExitStatus:
    """Say whether a daemon is running, and what is in its journal."""
    from invox_watcher.daemon import control  # noqa: PLC0415 - see `run`

    standing = control.status(state_directory_of(options))
    daemon, jobs = standing.daemon, {str(state): count for state, count in standing.jobs.items()}
    ending = ExitStatus.NOT_RUNNING if daemon is None else ExitStatus.OK
    if options.json:
        pid, since = (daemon.pid, daemon.since) if daemon else (None, None)
        known = {"running": daemon is not None, "pid": pid, "since": rfc3339(since) if since else None}
        print(json.dumps(known | {"jobs": jobs}, indent=2))
        return ending
    if daemon is None:
        print("invox-watcher is not running.")
    elif daemon.pid is None or daemon.since is None:
        print("invox-watcher is running but not visible from here (another container?), or is just starting.")
    else:
        print(f"invox-watcher is running, pid {daemon.pid}, since {local(daemon.since)}.")
    if jobs:
        under_way = sum(standing.jobs.get(state, 0) for state in ACTIVE)
        ended = ", ".join(f"{standing.jobs.get(state, 0)} {state}" for state in (State.DONE, State.FAILED))
        print(f"In its journal: {under_way} under way, {ended}.")
        with suppress(InvoxError):  # the configuration has errors, or the journal is locked for now
            config = config_of(options, credentials=False)
            with closing(Journal(config.state.directory, create=False)) as journal:
                if summary := Holds(config, journal).summary():
                    print(summary)
    return ending


def check(options: argparse.Namespace) -> int:
    """Try everything that a run needs."""
    from invox_watcher.diagnostics import check as checks  # noqa: PLC0415 - see `run`

    if options.trial is not None:
        from invox_watcher.cli._transcribe import try_one  # noqa: PLC0415 - see `run`

        return try_one(config_of(options, folders=False), options.trial)
    config = config_of(options)
    require_owner(config)
    act_as_owner(config)
    found = checks.findings(config, config_file(options))
    ending = next((finding.status for finding in found if finding.status), ExitStatus.OK)
    if options.json:
        rows = [dataclasses.asdict(finding) for finding in found]
        print(json.dumps(rows, indent=2))
        return ending
    for finding in found:
        says = finding.problem or finding.seen
        # What is wrong with a key begins with that key: `folders.inbox: …` of the check `folders`.
        named = says.partition(": ")[0].startswith(finding.check)
        line = says if named else ": ".join(filter(None, (finding.check, says)))
        print(f"{finding.level:<7}  {printable(line)}")
        if finding.hint:
            print(f"         {printable(finding.hint)}")
    return ending
