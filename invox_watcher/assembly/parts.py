"""All parts of a daemon: `assemble`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from invox_watcher.assembly.api import api_of, client_of, receiver_of
from invox_watcher.assembly.common import Common
from invox_watcher.assembly.delivery import dispatchers_of, orders_of
from invox_watcher.assembly.fleet import fleet_threads_of, member_of
from invox_watcher.assembly.processing import engine_of, pipeline_of
from invox_watcher.assembly.storage import folder_monitor_of, inbox_of, journal_of, waits_of
from invox_watcher.config import Config
from invox_watcher.delivery import Dispatcher
from invox_watcher.files import FolderMonitor, Folders
from invox_watcher.heartbeat import StallDetector
from invox_watcher.host import Locks
from invox_watcher.inbox import Inbox
from invox_watcher.invox import InvoxApi, Receiver
from invox_watcher.job import Job
from invox_watcher.journal import AuditLog, Journal
from invox_watcher.layout import host_of, occupancy_of, profiles_of
from invox_watcher.processing import (
    RETENTION_DUTY,
    Clock,
    Engine,
    Intake,
    JournalMonitor,
    Pipeline,
    Rechecks,
    recover,
)
from invox_watcher.profiles import Profiles
from invox_watcher.retention import Ages, Retention

if TYPE_CHECKING:
    from invox_watcher.net import HttpClient

_JOURNAL_CHECK_SECONDS = 10.0


@dataclass(frozen=True)
class Parts:
    """What a daemon consists of, built and not yet started. `close` releases what they hold open."""

    stop: threading.Event  # set to end whatever runs in a thread
    folders: Folders
    journal: Journal
    client: HttpClient
    inbox: Inbox
    intake: Intake
    engine: Engine
    folder_monitor: FolderMonitor
    journal_monitor: JournalMonitor
    stall_detector: StallDetector
    dispatchers: Sequence[Dispatcher]  # one for each target
    housekeeping: Mapping[str, Callable[[threading.Event], None]]  # for a thread each, by its name
    receiver: Receiver | None  # of webhooks
    address: tuple[str, int] | None  # where to listen
    state: Path  # the state directory
    disks: Mapping[str, Path]  # the folders whose disks are measured, by name
    unowned: Callable[[], int]  # how many jobs wait for any host of several
    resume: Callable[[], Sequence[Job]]  # make ready, and return the jobs that are under way
    leave: Callable[[bool], None]  # after the stop; whether no step is under way any more
    close: Callable[[], None]


def assemble(
    config: Config,
    folders: Folders,
    locks: Locks,
    *,
    patience_seconds: float,
    on_crash: Callable[[], None],
    clock: Clock,
) -> Parts:
    """All parts that one configuration describes, with `folders` that `claim_folders` has claimed by `locks`.

    `patience_seconds`: how long a part may make no progress. `on_crash` is called when a thread of the engine
    dies.

    Raises:
        FolderError, JournalError: the configuration names something that can't be used.
    """
    with ExitStack() as opened:
        audit = opened.enter_context(closing(AuditLog(config.state.directory, host=host_of(config))))
        journal = opened.enter_context(closing(journal_of(config, audit)))
        occupancy = occupancy_of(config, locks)
        common = Common(
            config=config,
            folders=folders,
            occupancy=occupancy,
            folder_monitor=folder_monitor_of(config, folders, journal, occupancy),
            audit=audit,
            journal=journal,
            client=opened.enter_context(closing(client_of(config))),
            member=None if journal.fleet is None else member_of(config, journal, folders, on_fenced=on_crash),
            stop=threading.Event(),
            clock=clock,
        )
        return _parts_of(common, opened, patience_seconds=patience_seconds, on_crash=on_crash)


def _parts_of(
    common: Common, opened: ExitStack, *, patience_seconds: float, on_crash: Callable[[], None]
) -> Parts:
    """The parts, which close what was `opened` for them."""
    config, folders, journal, member = common.config, common.folders, common.journal, common.member
    journal_monitor = JournalMonitor(journal, min(_JOURNAL_CHECK_SECONDS, patience_seconds / 4))
    profiles = profiles_of(config)
    inbox = inbox_of(config, folders, common.occupancy, profiles)
    rechecks = Rechecks(folders, journal.finished, common.audit, waits_of(config))
    api = api_of(config, common.client, before_block=None if member is None else member.lease.require)
    pipeline = pipeline_of(common, api, on_filed=rechecks.add)
    engine = engine_of(common, pipeline, on_room=inbox.has_room, on_crash=on_crash)
    dispatchers = dispatchers_of(common)
    return Parts(
        stop=common.stop,
        folders=folders,
        journal=journal,
        client=common.client,
        inbox=inbox,
        intake=_intake_of(
            common, pipeline, engine, inbox, profiles=profiles, journal_monitor=journal_monitor
        ),
        engine=engine,
        folder_monitor=common.folder_monitor,
        journal_monitor=journal_monitor,
        stall_detector=StallDetector(patience_seconds),
        dispatchers=dispatchers,
        housekeeping={
            "rechecks": rechecks.run,
            **orders_of(common, dispatchers),
            "journal-check": journal_monitor.verify,
            **_retention_of(common, api),
            **fleet_threads_of(common),
        },
        receiver=receiver_of(config, journal, wake=engine.expedite if member is None else member.wake),
        address=config.http.address,
        state=config.state.directory,
        disks=folders.by_name() | {"state": config.state.directory},
        unowned=(lambda: 0) if member is None else member.unowned,
        resume=partial(recover, journal, folders) if member is None else partial(member.join, engine, inbox),
        leave=(lambda _in_order: None) if member is None else member.leave,
        close=opened.pop_all().close,
    )


def _intake_of(
    common: Common,
    pipeline: Pipeline,
    engine: Engine,
    inbox: Inbox,
    *,
    profiles: Profiles,
    journal_monitor: JournalMonitor,
) -> Intake:
    """What claims the recordings that the inbox offers."""
    return Intake(
        common.folders,
        pipeline,
        engine,
        inbox,
        profiles=profiles,
        gates=[common.folder_monitor],
        journal=journal_monitor,
        contested=common.folder_monitor.is_contested,
        accept=None if common.member is None else common.member.accept,
        stop=common.stop,
    )


def _retention_of(common: Common, api: InvoxApi) -> dict[str, Callable[[threading.Event], None]]:
    """What deletes finished recordings, by the name of its thread; nothing if all are kept."""
    ages = Ages(**common.config.retention.ages)
    if not ages:
        return {}
    retention = Retention(
        ages,
        common.journal.finished,
        common.folders,
        common.audit,
        unavailable=common.folder_monitor.unavailable,
        witness=api,
        on_duty=common.duty(RETENTION_DUTY),
    )
    return {"retention": retention.run}
