"""The daemon's HTTP server, built from its parts."""

from __future__ import annotations

from collections.abc import Callable

from invox_watcher.assembly import Parts
from invox_watcher.daemon.readiness import Readiness
from invox_watcher.diagnostics.attention import count_open_failures
from invox_watcher.web import Answers, Counters, Gauges, Server, create_app, exposition


def server_of(
    parts: Parts,
    address: tuple[str, int],
    readiness: Readiness,
    counters: Counters,
    *,
    on_crash: Callable[[], None],
) -> Server:
    """The server, bound to its address and not yet started.

    Raises:
        FolderError: the address can't be listened on.
    """
    counters.begin_targets(one.name for one in parts.dispatchers)
    fleet = parts.journal.fleet
    gauges = Gauges(
        snapshot=readiness.snapshot,
        under_way=parts.journal.active,
        backlogs=parts.journal.deliveries.backlogs,
        failed=lambda: count_open_failures(parts.journal, parts.folders),
        folders=parts.disks,
        hosts=(lambda: ()) if fleet is None else fleet.hosts,
    )
    answers = Answers(
        problems=lambda: {one.reason.code: one.reason.message for one in readiness.problems()},
        warnings=lambda: {one.reason.code: one.reason.message for one in readiness.warnings()},
        unavailable_targets=lambda: {
            name: health.unavailable.message
            for name, health in readiness.targets.items()
            if health.unavailable is not None
        },
        due=parts.engine.due,
        status=readiness.report,
        waiting=readiness.waiting,
        exposition=exposition(counters, gauges),
    )
    app = create_app(answers, parts.receiver, counters.webhook)
    return Server(app, *address, on_crash=on_crash)
