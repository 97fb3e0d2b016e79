"""What a host of several is built with besides."""

from __future__ import annotations

import threading
from collections.abc import Callable

from invox_watcher.assembly.common import Common
from invox_watcher.assembly.delivery import commands_of
from invox_watcher.config import Config
from invox_watcher.files import Folders, instance_of
from invox_watcher.journal import Journal
from invox_watcher.layout import host_of
from invox_watcher.processing import RETENTION_DUTY, Lease, Member, Membership, Tasks, target_duty


def member_of(config: Config, journal: Journal, folders: Folders, *, on_fenced: Callable[[], None]) -> Member:
    """This host as one of those that share the journal."""
    from invox_watcher.journal import queue  # noqa: PLC0415 - one host alone has no such extra

    assert journal.fleet is not None  # noqa: S101 - there is a database
    limit_seconds, address = config.state.takeover_seconds, config.http.address
    membership = Membership(
        name=host_of(config) or "",
        instance=instance_of(config.state.directory),
        address="" if address is None else f"{address[0]}:{address[1]}",
        limit_seconds=limit_seconds,
        uploads=config.upload.workers,
    )
    names = [*commands_of(config), *config.targets]
    return Member(
        membership,
        journal,
        journal.fleet,
        folders,
        Lease(limit_seconds),
        tasks=Tasks(queue.install, queue.place, queue.send_wake),
        duties=[*map(target_duty, names), RETENTION_DUTY],
        on_fenced=on_fenced,
    )


def fleet_threads_of(common: Common) -> dict[str, Callable[[threading.Event], None]]:
    """What a host of several does besides, by the name of the thread that does it."""
    member, fleet = common.member, common.journal.fleet
    if member is None or fleet is None:
        return {}
    from invox_watcher.journal.queue import Calls, Queue  # noqa: PLC0415 - see above

    calls = Calls(member.has_room, member.take, member.expedite)
    limit_seconds = common.config.state.takeover_seconds
    queue = Queue(fleet.conninfo, member.name, calls, limit_seconds=limit_seconds)
    return {
        "fleet": member.run,
        "fleet-watch": member.watch,
        "fleet-queue": queue.run,
        "fleet-sweep": member.sweep,
    }
