"""From the configuration to finished parts: one function for each, and `assemble` for all of a daemon's.

`check` and other commands use single parts. Nothing else in the package takes the configuration apart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from invox_watcher.backoff import Backoff
from invox_watcher.config import PACE_KEYS, Config, TargetSection
from invox_watcher.coverage import Decode, Listener
from invox_watcher.delivery import Command, Dispatcher, Orders, Pace, Target, target_of_kind
from invox_watcher.errors import FolderError
from invox_watcher.files import (
    LOCK_FILE,
    FolderMonitor,
    Folders,
    Occupancy,
    check_mounted,
    check_state_directory,
    instance_of,
    left_behind,
    prepare_state,
    read_unfinished,
    unusable,
    write_unfinished,
)
from invox_watcher.formats.decoder import Decoder
from invox_watcher.heartbeat import StallDetector
from invox_watcher.host import Locks
from invox_watcher.inbox import Evidence, Inbox, Notes, Waits
from invox_watcher.invox import ApiCall, ApiOptions, Credentials, InvoxApi, Receiver, TokenRequest
from invox_watcher.job import Job, State
from invox_watcher.journal import AuditLog, Journal, Receipt
from invox_watcher.layout import (
    database_of,
    fleet_of,
    folders_of,
    host_of,
    limits_of,
    named_folders,
    occupancy_of,
)
from invox_watcher.plan import DEFAULT, Plan
from invox_watcher.priority import Priority
from invox_watcher.processing import (
    RETENTION_DUTY,
    Claiming,
    Clock,
    Conditions,
    Engine,
    Intake,
    JournalFirst,
    JournalMonitor,
    Lease,
    Member,
    Membership,
    Pipeline,
    PollingPolicy,
    ProcessingOptions,
    Profile,
    Profiles,
    Rechecks,
    Single,
    Tasks,
    local_lanes,
    recover,
    shipment_of,
    target_duty,
)
from invox_watcher.retention import Ages, Retention
from invox_watcher.times import rfc3339, utc_now

if TYPE_CHECKING:
    from invox_watcher.net import HttpClient

_JOURNAL_CHECK_SECONDS = 10.0
# The targets that are commands of the section `hooks`.
ON_DONE, ON_FAILED = "hooks.on_done", "hooks.on_failed"
_COMMAND_DEADLINE = timedelta(days=7)  # of one that the daemon was stopped in, again and again


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
    stop = threading.Event()
    with ExitStack() as opened:
        audit = AuditLog(config.state.directory, host=host_of(config))
        opened.callback(audit.close)
        journal = journal_of(config, audit)
        opened.callback(journal.close)
        occupancy = occupancy_of(config, locks)
        folder_monitor = folder_monitor_of(config, folders, journal, occupancy)
        journal_monitor = JournalMonitor(journal, min(_JOURNAL_CHECK_SECONDS, patience_seconds / 4))
        client = client_of(config)
        opened.callback(client.close)
        member = None if journal.fleet is None else member_of(config, journal, folders, on_fenced=on_crash)
        profiles = profiles_of(config)
        inbox = inbox_of(config, folders, occupancy, profiles)
        rechecks = Rechecks(folders, journal.finished, audit, waits_of(config))
        api = api_of(config, client, before_block=None if member is None else member.lease.require)
        claiming = None if member is None else JournalFirst(folders, journal, stop)
        pipeline = pipeline_of(
            config, folders, journal, api, member,
            stop=stop, clock=clock, on_filed=rechecks.add, claiming=claiming,
        )  # fmt: skip
        engine = engine_of(
            config, pipeline, journal, folder_monitor, member,
            on_room=inbox.has_room, on_crash=on_crash, clock=clock,
        )  # fmt: skip
        dispatchers = dispatchers_of(config, folders, journal, member)
        return Parts(
            stop=stop,
            folders=folders,
            journal=journal,
            client=client,
            inbox=inbox,
            intake=Intake(
                folders,
                pipeline,
                engine,
                inbox,
                profiles=profiles,
                gates=[folder_monitor],
                journal=journal_monitor,
                contested=folder_monitor.is_contested,
                accept=None if member is None else member.accept,
                stop=stop,
            ),
            engine=engine,
            folder_monitor=folder_monitor,
            journal_monitor=journal_monitor,
            stall_detector=StallDetector(patience_seconds),
            dispatchers=dispatchers,
            housekeeping={
                "rechecks": rechecks.run,
                **orders_of(config, journal, dispatchers),
                "journal-check": journal_monitor.verify,
                **housekeeping_of(
                    config, folders, journal, audit, member, folder_monitor=folder_monitor, api=api
                ),
                **({} if member is None else fleet_threads_of(config, journal, member)),
            },
            receiver=receiver_of(config, journal, wake=engine.expedite if member is None else member.wake),
            address=config.http.address,
            state=config.state.directory,
            disks=named_folders(folders) | {"state": config.state.directory},
            unowned=(lambda: 0) if member is None else member.unowned,
            resume=partial(recover, journal, folders)
            if member is None
            else partial(member.join, engine, inbox),
            leave=(lambda _in_order: None) if member is None else member.leave,
            close=opened.pop_all().close,
        )


# ---- folders and state directory ---------------------------------------------------------------------------


def locked_by(config: Config) -> list[Path]:
    """What a daemon with this configuration locks for itself alone."""
    directory = config.state.directory
    return [directory / LOCK_FILE, directory, *named_folders(folders_of(config)).values()]


def claim_folders(config: Config, locks: Locks) -> Folders:
    """The folders and the state directory, created if they are missing, locked by `locks`, and marked.

    Raises:
        FolderError, JournalError, StorageError: one can't be used, or another instance uses it, or one inside
            or around it.
    """
    folders, directory = folders_of(config), config.state.directory
    check_state_directory(directory, locks)
    prepare_state(directory, folders.inbox)
    try:
        locks.hold(directory / LOCK_FILE)
    except OSError as error:
        raise unusable(directory, error) from None
    check_mounted(directory, named_folders(folders).values())
    occupancy = occupancy_of(config, locks, joined_fleet(config))
    occupancy.check()  # before anything is created in, or around, a folder of another instance
    folders.prepare()
    occupancy.claim()
    return folders


def joined_fleet(config: Config) -> str | None:
    """What identifies the fleet whose journal this host uses; None if it is alone.

    Raises:
        JournalError: its database does not answer.
    """
    database = database_of(config)
    if database is None:
        return None
    with closing(Journal(config.state.directory, server=database)) as journal:
        assert journal.fleet is not None  # noqa: S101 - there is a server
        return fleet_of(config, journal.fleet.identity())


def release_others(config: Config, locks: Locks) -> None:
    """Release the folders that only another configuration names: their locks and their marks.

    Raises:
        StorageError: a mark can't be written.
    """
    try:
        occupancy_of(config, locks).release_others()
    finally:
        locks.keep(locked_by(config))


def folder_monitor_of(
    config: Config, folders: Folders, journal: Journal, occupancy: Occupancy
) -> FolderMonitor:
    """The monitor of these folders; the state directory records that the daemon uses them.

    Raises:
        FolderError: recordings under way are elsewhere, or the state directory can't be written.
        FoldersGoneError: a folder is unavailable.
    """
    monitor = FolderMonitor(named_folders(folders), contested=occupancy.contested)
    directory = config.state.directory
    under_way = [job.id for job in journal.active()]
    left = left_behind(directory, folders.processing, under_way)
    if left is not None:
        raise FolderError(
            f"folders.processing: recordings under way are in {left}, not in {folders.processing}",
            hint=f"Run with the previous folders until these are done, or move everything that is in {left}.",
        )
    try:
        monitor.remember(directory)
    except OSError as error:
        raise unusable(directory, error) from None
    return monitor


def journal_of(config: Config, audit: AuditLog) -> Journal:
    """The journal in the state directory; it names the targets of each job that has ended.

    Raises:
        JournalError: it can't be used.
    """
    return Journal(
        config.state.directory,
        server=database_of(config),
        targets_of=partial(targets_after, config),
        on_transition=audit.record_transition,
        before_commit=audit.sync,
    )


def waits_of(config: Config) -> Waits:
    """For how long files must be unchanged."""
    watch = config.watch
    return Waits(watch.grace_seconds, watch.settle_seconds, watch.unproven_seconds, watch.patience_seconds)


def inbox_of(config: Config, folders: Folders, occupancy: Occupancy, profiles: Profiles) -> Inbox:
    """The watched inbox that the configuration describes."""
    directory = config.state.directory
    return Inbox(
        folders.inbox,
        **config.watch.model_dump(),
        max_size_bytes=config.intake.max_size_mib << 20,
        accepted_mime_types=config.api.mime_types,
        with_attributes=bool(profiles),
        priority_of=profiles.priority_of if profiles.differ_in_priority else None,
        user_of=occupancy.user_of,
        notes=Notes(partial(read_unfinished, directory), partial(write_unfinished, directory)),
    )


# ---- the API -----------------------------------------------------------------------------------------------


def client_of(config: Config) -> HttpClient:
    """The HTTP client that the configuration describes."""
    # requests takes a while to load, and most commands make no call.
    from invox_watcher.net import HttpClient  # noqa: PLC0415

    return HttpClient(
        connect_timeout_seconds=config.api.connect_timeout_seconds,
        ca_bundle=str(config.api.ca_bundle) if config.api.ca_bundle else None,
        proxy=config.api.proxy,
    )


def api_of(
    config: Config,
    client: HttpClient,
    *,
    on_call: Callable[[ApiCall], None] | None = None,
    before_block: Callable[[], None] | None = None,
) -> InvoxApi:
    """The API client that the configuration describes; see `InvoxApi` for what is called."""
    token = config.api.token
    options = ApiOptions(
        base_url=config.api.base_url,
        version=config.api.version,
        headers=config.api.headers,
        token=TokenRequest(
            url=token.url,
            method=token.method,
            headers=token.headers,
            form=token.form,
            json=token.json_body,
            field=token.field,
            lifetime_seconds=token.lifetime_seconds,
        ),
        presign_path=config.api.presign_path,
        presign_fields=config.api.presign_fields,
        status_path=config.api.status_path,
        upload_headers=config.upload.headers,
        read_timeout_seconds=config.api.read_timeout_seconds,
        retry_max_seconds=config.retry.max_seconds,
    )
    return InvoxApi(
        client,
        options,
        app_id=config.credentials.app_id.get_secret_value(),
        api_key=config.credentials.api_key.get_secret_value(),
        on_call=on_call,
        before_block=before_block,
    )


def receiver_of(config: Config, journal: Journal, *, wake: Callable[[str], None]) -> Receiver | None:
    """The receiver of webhooks; None if there are to be none. `wake` expedites the job of a request."""
    secret = config.credentials.app_secret
    if not config.webhook.enabled or secret is None:
        return None
    credentials = Credentials(
        app_id=config.credentials.app_id.get_secret_value(),
        api_key=config.credentials.api_key.get_secret_value(),
        app_secret=secret.get_secret_value(),
    )
    return Receiver(credentials, record=journal.record_notice, wake=wake)


# ---- processing --------------------------------------------------------------------------------------------


def pipeline_of(
    config: Config,
    folders: Folders,
    journal: Journal,
    api: InvoxApi,
    member: Member | None,
    *,
    stop: threading.Event,
    clock: Clock,
    on_filed: Callable[[Job, Evidence], None],
    claiming: Claiming | None = None,
) -> Pipeline:
    """The steps of a recording, as the configuration wants them."""
    return Pipeline(
        folders=folders,
        journal=journal,
        api=api,
        options=ProcessingOptions(
            on_duplicate=config.intake.on_duplicate,
            on_truncated=config.intake.on_truncated,
            max_size_bytes=config.intake.max_size_mib << 20,
            mime_types=config.api.mime_types,
            formats=config.outputs.formats,
            speaker_names=config.outputs.speaker_names,
            docx_template=config.outputs.template,
            polling=polling_policy_of(config),
            limits=limits_of(config),
            quiet_seconds=waits_of(config).of(Evidence.UNPROVEN),
        ),
        decoder=decoder_of(config),
        stop=stop,
        clock=clock,
        listener=Listener(folders.processing, _as_wav(decoder_of(config))),
        claiming=claiming,
        may_file_first=lambda: member is None or member.lease.is_valid,
        waiting=(lambda: 0) if member is None else member.waiting,
        on_filed=on_filed,
    )


def profiles_of(config: Config) -> Profiles:
    """The profiles, each with the plan for its recordings: what it leaves open is as for all."""
    outputs = config.outputs
    profiles = []
    for section in config.profiles:
        conditions, sets = Conditions(**section.match.model_dump()), section.settings
        plan = Plan(
            profile=section.name,
            formats=outputs.formats if sets.formats is None else sets.formats,
            speaker_names=outputs.speaker_names if sets.speaker_names is None else sets.speaker_names,
            attributes=sets.attributes,
            priority=Priority[sets.priority.upper()],
            template=outputs.template if sets.template is None else str(sets.template),
            targets=sets.targets,
            presign_fields=sets.presign_fields,
        )
        profiles.append(Profile(conditions, plan))
    default = Plan(DEFAULT, outputs.formats, outputs.speaker_names, template=outputs.template)
    return Profiles(profiles, default)


def target_names_of(config: Config) -> frozenset[str]:
    """The configured targets: what receives transcripts besides the outbox."""
    return frozenset(config.targets)


def _as_wav(decoder: Decoder) -> Decode | None:
    """What makes a recording that can be listened to of any other; None without the extra."""
    if not decoder.is_installed:
        return None

    def decode(source: BinaryIO, target: BinaryIO, stop: threading.Event) -> None:
        decoder.decode(source, target, "wav", stop)

    return decode


def decoder_of(config: Config) -> Decoder:
    """The decoder of what the API does not take; whether it is installed is another question."""
    return Decoder(
        passwords_file=config.intake.ds2_passwords_file, most_output_bytes=config.intake.max_size_mib << 20
    )


def polling_policy_of(config: Config) -> PollingPolicy:
    """How results are polled for, or arrive by webhook."""
    return PollingPolicy(
        **config.polling.model_dump(),
        callback_url=config.webhook.public_url if config.webhook.enabled else None,
        confirm=config.webhook.confirm,
    )


def engine_of(
    config: Config,
    pipeline: Pipeline,
    journal: Journal,
    folder_monitor: FolderMonitor,
    member: Member | None,
    *,
    on_room: Callable[[], None],
    on_crash: Callable[[], None],
    clock: Clock,
) -> Engine:
    """The engine, with its threads not yet started; `member`: this host, if it is one of several."""
    lanes = local_lanes(clock)
    return Engine(
        pipeline=pipeline,
        journal=journal,
        lanes=lanes if member is None else member.lanes(lanes),
        upload_workers=config.upload.workers,
        max_in_flight=config.intake.max_in_flight,
        max_attempts=config.retry.max_attempts,
        backoff=Backoff(config.retry.base_seconds, config.retry.max_seconds),
        unavailable=folder_monitor.unavailable,
        on_room=on_room,
        on_crash=on_crash,
        clock=clock,
        elsewhere=(lambda: 0) if member is None else member.elsewhere,
    )


def single_of(
    config: Config,
    client: HttpClient,
    *,
    stop: threading.Event,
    on_request: Callable[[str], None],
    on_call: Callable[[ApiCall], None] | None = None,
) -> Single:
    """What one recording needs that is transcribed without folders and journal."""
    return Single(
        api=api_of(config, client, on_call=on_call),
        polling=polling_policy_of(config),
        backoff=Backoff(config.retry.base_seconds, config.retry.max_seconds),
        stop=stop,
        on_request=on_request,
    )


# ---- targets -----------------------------------------------------------------------------------------------


def targets_of(config: Config) -> dict[str, Target]:
    """The configured targets by name; nothing is connected yet."""
    return {name: target_of(section) for name, section in config.targets.items()}


def target_of(section: TargetSection) -> Target:
    """The target that one section of `targets` describes."""
    keys = type(section).model_fields.keys() - PACE_KEYS - {"kind"}
    return target_of_kind(section.kind, {key: getattr(section, key) for key in keys})


# ---- what is finished --------------------------------------------------------------------------------------


def commands_of(config: Config) -> dict[str, Sequence[str]]:
    """The operator's commands, by the names of their targets."""
    commands = {ON_DONE: config.hooks.on_done, ON_FAILED: config.hooks.on_failed}
    return {name: command for name, command in commands.items() if command}


def targets_after(config: Config, job: Job) -> list[str]:
    """The names of the targets to which `job`, which has ended, is delivered: those of its plan, or all."""
    command = ON_DONE if job.state is State.DONE else ON_FAILED
    commands = [command] if command in commands_of(config) else []
    if job.state is not State.DONE:
        return commands
    return [*commands, *(config.targets if job.plan is None else job.plan.targets)]


def dispatchers_of(
    config: Config, folders: Folders, journal: Journal, member: Member | None
) -> list[Dispatcher]:
    """What sends to each target; of several hosts, one alone."""
    # A command that is no longer configured is not owed to anybody.
    journal.deliveries.give_up_unless("hooks.", commands_of(config))
    pace = Pace(Backoff(config.retry.base_seconds, config.retry.max_seconds), _COMMAND_DEADLINE)
    commands = [
        Dispatcher(
            name,
            command_of(config, command, folders, journal).run,
            journal,
            pace,
            on_duty=_duty_of(member, target_duty(name)),
        )
        for name, command in commands_of(config).items()
    ]
    return [*commands, *(_dispatcher_of(config, name, journal, member) for name in config.targets)]


def _dispatcher_of(config: Config, name: str, journal: Journal, member: Member | None) -> Dispatcher:
    section = config.targets[name]
    target = target_of(section)

    def send(job: Job, _stop: threading.Event) -> Receipt:
        outputs, plan = config.outputs, job.plan
        names = outputs.speaker_names if plan is None else plan.speaker_names
        template = outputs.template if plan is None else plan.template
        shipment = shipment_of(job, name, target.formats, journal.reply(job.id), names, template=template)
        return Receipt(rfc3339(utc_now()), target.send(shipment))

    pace = Pace(
        Backoff(config.retry.base_seconds, section.retry_max_seconds),
        timedelta(days=section.deadline_days),
        ordered=section.ordered,
        min_interval_seconds=60 / section.max_per_minute if section.max_per_minute else 0.0,
    )
    on_duty = _duty_of(member, target_duty(name))
    return Dispatcher(name, send, journal, pace, connection=target, on_duty=on_duty)


def orders_of(
    config: Config, journal: Journal, dispatchers: Sequence[Dispatcher]
) -> dict[str, Callable[[threading.Event], None]]:
    """What carries out orders about deliveries; nothing if there can be none."""
    if not dispatchers and not journal.deliveries.backlogs():
        return {}

    def wake() -> None:
        for dispatcher in dispatchers:
            dispatcher.wake()

    return {"orders": Orders(config.state.directory, journal.deliveries, wake=wake).run}


def command_of(config: Config, command: Sequence[str], folders: Folders, journal: Journal) -> Command:
    """One of the operator's commands."""
    return Command(
        command,
        config.hooks.timeout_seconds,
        folders={State.DONE: folders.done, State.FAILED: folders.failed},
        transcripts=lambda job: [folders.outbox / path for path in journal.finished.outputs(job.id)],
    )


def housekeeping_of(
    config: Config,
    folders: Folders,
    journal: Journal,
    audit: AuditLog,
    member: Member | None,
    *,
    folder_monitor: FolderMonitor,
    api: InvoxApi,
) -> dict[str, Callable[[threading.Event], None]]:
    """What the configuration wants done with finished recordings, by the name of the thread that does it."""
    ages = Ages(**config.retention.ages)
    if not ages:
        return {}
    retention = Retention(
        ages,
        journal.finished,
        folders,
        audit,
        unavailable=folder_monitor.unavailable,
        witness=api,
        on_duty=_duty_of(member, RETENTION_DUTY),
    )
    return {"retention": retention.run}


# ---- several hosts -----------------------------------------------------------------------------------------


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


def fleet_threads_of(
    config: Config, journal: Journal, member: Member
) -> dict[str, Callable[[threading.Event], None]]:
    """What a host of several does besides, by the name of the thread that does it."""
    from invox_watcher.journal.queue import Calls, Queue  # noqa: PLC0415 - see above

    assert journal.fleet is not None  # noqa: S101 - there is a database
    calls = Calls(member.has_room, member.take, member.expedite)
    queue = Queue(journal.fleet.conninfo, member.name, calls, limit_seconds=config.state.takeover_seconds)
    return {
        "fleet": member.run,
        "fleet-watch": member.watch,
        "fleet-queue": queue.run,
        "fleet-sweep": member.sweep,
    }


def _duty_of(member: Member | None, name: str) -> Callable[[], bool]:
    return (lambda: True) if member is None else partial(member.on_duty, name)
