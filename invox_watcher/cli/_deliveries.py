"""What targets are owed: `jobs --owed` lists it, `retry --target` sends it again, `forget` gives it up."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from invox_watcher.assembly import commands_of, target_names_of
from invox_watcher.cli._common import UsageError, config_of, job_called, journal_of, local
from invox_watcher.cli._identity import act_as_owner
from invox_watcher.config import Config
from invox_watcher.delivery import GIVE_UP
from invox_watcher.diagnostics.retrying import order_again, why_not_sendable
from invox_watcher.errors import ExitStatus
from invox_watcher.files import LOCK_FILE, place_order
from invox_watcher.host import holder_of
from invox_watcher.journal import DeliveryState, Journal, QueuedDelivery
from invox_watcher.layout import host_of
from invox_watcher.logs import printable
from invox_watcher.times import rfc3339, utc_now

if TYPE_CHECKING:
    from rich.console import Console

_MOST = 10_000


def list_owed(options: argparse.Namespace, console: Console | None) -> ExitStatus:
    """Print what has not arrived at its target, and what has failed for good; `console` is the terminal."""
    config = config_of(options, credentials=False)
    with closing(journal_of(config)) as journal:
        queue, limit = journal.deliveries, options.limit or _MOST
        found = [*queue.owed(limit=limit), *queue.failed(limit=limit)][:limit]
        names = {one.job_id: job.path for one in found if (job := journal.get(one.job_id)) is not None}
    if options.json:
        rows = [dataclasses.asdict(one) | {"recording": names.get(one.job_id)} for one in found]
        print(json.dumps(rows, indent=2, default=rfc3339))
        return ExitStatus.OK
    if found and console is not None:
        from invox_watcher.cli import _table  # noqa: PLC0415 - scripts should not have to wait for it

        width = None if options.wide else console.width
        console.print(_table.owed_table(found, names, width=width, now=utc_now()))
    else:
        for one in found:
            _print(one, names.get(one.job_id, ""))
    if not found:
        print("Nothing is owed to any target.")
    for name in sorted({one.target for one in found if _is_owed(one)} - _known(config)):
        print(
            f"{printable(name)} is no longer in the configuration: add it again, or give up what it is owed "
            f"by `invox-watcher forget {printable(name)}`."
        )
    return ExitStatus.OK


def _known(config: Config) -> frozenset[str]:
    """All that is delivered to by this configuration; the commands of `hooks` too."""
    return target_names_of(config) | commands_of(config).keys()


def _is_owed(delivery: QueuedDelivery) -> bool:
    return delivery.state in (DeliveryState.DUE, DeliveryState.UNCERTAIN)


def _print(delivery: QueuedDelivery, recording: str) -> None:
    since = "" if delivery.queued_at is None else local(delivery.queued_at)
    why = "" if delivery.fault is None else f"  {delivery.fault.reason.code}"
    print(
        f"{delivery.job_id}  {printable(delivery.target)}  {delivery.state:<9}  {since}  "
        f"{printable(recording)}  {delivery.attempts} attempts{why}"
    )


def send_again(options: argparse.Namespace) -> ExitStatus:
    """Ask the daemon to send the chosen recordings to a target once more."""
    config, target = config_of(options, credentials=False), options.target
    if target not in _known(config):
        known = ", ".join(sorted(_known(config))) or "none"
        raise UsageError(f"No target is called {printable(target)}.", hint=f"In the configuration: {known}.")
    with closing(journal_of(config, to_act=True)) as journal:
        jobs = _chosen(options, journal, config)
    if not jobs:
        print(f"Nothing failed for {target}.")
        return ExitStatus.OK
    act_as_owner(config)
    order_again(config.state.directory, jobs, target)
    for job in jobs:
        print(f"{job}: will be sent to {target}")
    _remind(config)
    return ExitStatus.OK


def _chosen(options: argparse.Namespace, journal: Journal, config: Config) -> Sequence[str]:
    """The ids of the jobs: those given, or all whose delivery to the target failed for good."""
    target, code = options.target, options.code
    if not options.id:
        failed = [one for one in journal.deliveries.failed(limit=_MOST) if one.target == target]
        return [one.job_id for one in failed if code is None or (one.fault and one.fault.reason.code == code)]
    jobs = {job.id: job for job in (job_called(text, journal, config) for text in options.id)}
    for job in jobs.values():
        if (why := why_not_sendable(job, target)) is not None:
            raise UsageError(why, hint="Nothing was sent.")
    return list(jobs)


def forget(options: argparse.Namespace) -> ExitStatus:
    """Ask the daemon to give up everything that a target is owed, or was refused."""
    config, target = config_of(options, credentials=False), options.target
    with closing(journal_of(config, to_act=True)) as journal:
        backlog = journal.deliveries.backlogs().get(target)
    if backlog is None:
        print(f"Nothing is owed to {printable(target)}.")
        return ExitStatus.OK
    act_as_owner(config)
    place_order(config.state.directory, {"do": GIVE_UP, "target": target})
    count = backlog.owed + backlog.failed
    what = "1 delivery" if count == 1 else f"{count} deliveries"
    print(f"To be given up: {what} to {printable(target)}. The transcripts stay.")
    _remind(config)
    return ExitStatus.OK


def _remind(config: Config) -> None:
    if holder_of(config.state.directory / LOCK_FILE) is None:
        host = host_of(config)
        print(
            "No daemon is running: this happens when it is started."
            if host is None
            else f"No daemon is running on this host, {host}: this happens when it is started there. To have "
            "it done now, give the same command on a host that runs; `invox-watcher status` names them."
        )
