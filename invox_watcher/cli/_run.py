"""`run`, `start`, `stop`: the daemon, in the foreground or not; and `check` before it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from invox_watcher.cli._common import UsageError, config_file, config_of, loader_of, state_directory_of
from invox_watcher.cli._identity import act_as_owner, for_its_owner, require_owner
from invox_watcher.errors import ExitStatus
from invox_watcher.logs import printable

if TYPE_CHECKING:
    from invox_watcher.diagnostics.check import Finding


def run(options: argparse.Namespace) -> ExitStatus:
    """Watch the inbox, in the foreground."""
    if options.dry_run:
        from invox_watcher.cli._dry_run import dry_run  # noqa: PLC0415 - as below

        if not options.once:
            raise UsageError("--dry-run needs --once.")
        return dry_run(config_of(options, credentials=False))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])  # until there is a process that can reload
    # Takes a while, in which a SIGHUP may come.
    from invox_watcher.daemon.process import Process, leave_first_process  # noqa: PLC0415

    leave_first_process()
    load = for_its_owner(loader_of(options), "run --once" if options.once else "run")
    process = Process(load)
    ending = process.run(once=options.once)
    if options.once and sys.stderr.isatty():
        print(process.summary(), file=sys.stderr)
    return ending


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


def check(options: argparse.Namespace) -> int:
    """Try everything that a run needs."""
    from invox_watcher.diagnostics import check as checks  # noqa: PLC0415 - see `run`

    if options.trial is not None:
        from invox_watcher.cli._transcribe import try_one  # noqa: PLC0415 - see `run`

        return try_one(config_of(options, folders=False), options.trial)
    config = config_of(options)
    require_owner(config)
    act_as_owner(config)
    findings = checks.findings(config, config_file(options))
    if options.json:
        found = list(findings)
        print(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2))
        return _ending(found)
    found = []
    for finding in findings:
        found.append(finding)
        _print_finding(finding)
    return _ending(found)


def _ending(found: Sequence[Finding]) -> ExitStatus:
    return next((finding.status for finding in found if finding.status), ExitStatus.OK)


def _print_finding(finding: Finding) -> None:
    """At once: the next check may take a while."""
    says = finding.problem or finding.seen
    # What is wrong with a key begins with that key: `folders.inbox: …` of the check `folders`.
    named = says.partition(": ")[0].startswith(finding.check)
    line = says if named else ": ".join(filter(None, (finding.check, says)))
    print(f"{finding.level:<7}  {printable(line)}", flush=True)
    if finding.hint:
        print(f"         {printable(finding.hint)}", flush=True)
