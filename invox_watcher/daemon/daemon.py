"""Wiring: builds the parts that one configuration names, starts and stops their threads, knows how they do.

Inbox, journal and server have one thread each, the engine has its workers; if any of them dies, the daemon
stops and ends non-zero, for whoever supervises it to see. What the process has once, such as its signals, is
`process`'s.
"""

from __future__ import annotations

import ctypes
import os
import resource
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from invox_watcher import logs
from invox_watcher.assembly import api_of, claim_folders, client_of, inbox_of, move_in, named_folders
from invox_watcher.config import Config
from invox_watcher.delivery import Commands, Hooks
from invox_watcher.errors import DiskFullError, ExitStatus, InvoxError, JournalError, StorageError
from invox_watcher.events import Event, log
from invox_watcher.files import APART_HINT, FolderMonitor, names_key
from invox_watcher.heartbeat import Heartbeat, Monitored, StallDetector, beat
from invox_watcher.host import Locks
from invox_watcher.inbox import Candidate
from invox_watcher.invox import Credentials, Receiver
from invox_watcher.job import Failure, Job, State, new_job_id
from invox_watcher.journal import AuditLog, Journal
from invox_watcher.logs import where
from invox_watcher.processing import (
    Backoff,
    Clock,
    Engine,
    Pipeline,
    PollingPolicy,
    ProcessingOptions,
    recover,
    return_stranded,
)
from invox_watcher.retention import Ages, Retention
from invox_watcher.times import utc_now
from invox_watcher.web import Counters, Gauges, IntakeSnapshot, Server, create_app, exposition

# systemd sends SIGKILL after 90 s by default; a person at a terminal waits less long.
_STOP_SECONDS = 4.0
_JOURNAL_CHECK_SECONDS = 10.0
_PR_SET_DUMPABLE = 4  # <linux/prctl.h>


@dataclass(frozen=True)
class Tally:
    """How many recordings are under way, and how many have ended since the start, by how they did."""

    under_way: int
    done: int
    failed: int


class Daemon:
    """All that works by one configuration. Started once, stopped once."""

    def __init__(
        self,
        config: Config,
        *,
        locks: Locks,
        meter: Counters,
        patience_seconds: float,
        on_crash: Callable[[], None],
        clock: Clock | None = None,
    ) -> None:
        """Check and lock the folders, open the journal, listen.

        `meter` hears the events. `patience_seconds`: how long a part may stand still. `on_crash` is called
        when a thread dies.

        Raises:
            FolderError, JournalError: the configuration names something that can't be used.
        """
        self._stop = threading.Event()
        self._blocked: InvoxError | None = None
        self._held_up_by: InvoxError | None = None  # what ended `run --once` early
        self._journal_fault: InvoxError | None = None
        self._stranded: set[str] = set()  # claims that broke off; only the inbox's thread uses it
        self._crash = on_crash
        self._stall_detector = StallDetector(patience_seconds)
        self._journal_check_seconds = min(_JOURNAL_CHECK_SECONDS, patience_seconds / 4)
        os.umask(0o077)
        _keep_memory_private()
        self._folders = claim_folders(config, locks)
        logs.hash_names_with(names_key(config.state.directory))
        self._presence = FolderMonitor(named_folders(self._folders))
        self._inbox_pulse, self._journal_pulse = Heartbeat("inbox"), Heartbeat("journal")
        self._threads = [
            threading.Thread(target=self._supervised, args=(target, pulse), name=pulse.name, daemon=True)
            for target, pulse in (
                (self._watch, self._inbox_pulse),
                (self._check_journal, self._journal_pulse),
                (lambda: self._presence.watch(self._stop), Heartbeat("folders")),
            )
        ]
        with ExitStack() as opened:
            audit = AuditLog(config.state.directory)
            opened.callback(audit.close)
            commands = Commands(**config.hooks.model_dump())
            self._journal = Journal(
                config.state.directory, hooks_after=commands.states, on_transition=audit.record_transition
            )
            opened.callback(self._journal.close)
            move_in(config, self._folders, self._presence, self._journal)
            self._threads += self._housekeeping(config, commands, audit)
            self._client = client_of(config)
            opened.callback(self._client.close)
            self._engine = self._build_engine(config, clock or Clock())
            self._inbox = inbox_of(config, self._folders)
            self._server = self._build_server(config, meter)
            self._to_close = opened.pop_all()

    def _housekeeping(self, config: Config, commands: Commands, audit: AuditLog) -> list[threading.Thread]:
        """The threads for what the configuration wants done with finished recordings."""
        finished, folders = self._journal.finished, self._folders
        finished.cancel_hooks(commands.states)
        ages = Ages(**config.retention.model_dump())
        filed = {State.DONE: folders.done, State.FAILED: folders.failed}
        wanted: list[tuple[bool, str, Callable[[threading.Event], None]]] = [
            (bool(commands.states), "hooks", Hooks(commands, finished, filed, folders.outbox).run),
            (
                bool(ages),
                "retention",
                Retention(ages, finished, folders, audit, self._presence.unavailable).run,
            ),
        ]
        return [
            threading.Thread(
                target=self._supervised,
                args=(partial(run, self._stop), Heartbeat(name)),
                name=name,
                daemon=True,
            )
            for needed, name, run in wanted
            if needed
        ]

    def _build_engine(self, config: Config, clock: Clock) -> Engine:
        pipeline = self._pipeline = Pipeline(
            folders=self._folders,
            journal=self._journal,
            api=api_of(config, self._client),
            rules=ProcessingOptions(
                on_duplicate=config.intake.on_duplicate,
                mime_types=config.api.mime_types,
                formats=config.outputs.formats,
                speaker_names=config.outputs.speaker_names,
                asking=PollingPolicy(
                    first_seconds=config.polling.first_seconds,
                    max_seconds=config.polling.max_seconds,
                    deadline_seconds=config.polling.deadline_seconds,
                    unknown_seconds=config.polling.unknown_seconds,
                    callback_url=config.webhook.public_url if config.webhook.enabled else None,
                    confirm=config.webhook.confirm,
                ),
            ),
            stop=self._stop,
            clock=clock,
        )
        return Engine(
            pipeline=pipeline,
            journal=self._journal,
            upload_workers=config.upload.workers,
            max_in_flight=config.intake.max_in_flight,
            max_attempts=config.retry.max_attempts,
            backoff=Backoff(config.retry.base_seconds, config.retry.max_seconds),
            unavailable=self._presence.unavailable,
            on_room=lambda: self._inbox.wake(),  # noqa: PLW0108 - the inbox is built after the engine
            on_crash=self._crash,
            clock=clock,
        )

    def _build_receiver(self, config: Config) -> Receiver | None:
        secret = config.credentials.app_secret
        if not config.webhook.enabled or secret is None:
            return None
        credentials = Credentials(
            app_id=config.credentials.app_id.get_secret_value(),
            api_key=config.credentials.api_key.get_secret_value(),
            app_secret=secret.get_secret_value(),
        )
        return Receiver(credentials, record=self._journal.record_notice, wake=self._engine.expedite)

    def _build_server(self, config: Config, meter: Counters) -> Server | None:
        if config.http.address is None:
            return None
        gauges = Gauges(
            standing=self._standing,
            under_way=self._journal.active,
            folders=named_folders(self._folders) | {"state": config.state.directory},
        )
        app = create_app(
            problems=self.problems,
            due=self._engine.due,
            exposition=exposition(meter, gauges),
            on_webhook=meter.webhook,
            receiver=self._build_receiver(config),
        )
        return Server(app, *config.http.address, on_crash=self._crash)

    # ---- running -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Go on with what was under way, and watch.

        Raises:
            InvoxError: folders or journal can't be used. Then `stop` is called all the same.
        """
        if apart := self._folders.apart():
            log.warning(Event.FOLDERS_APART, folders=apart, hint=APART_HINT)
        jobs = recover(self._journal, self._folders)
        self._engine.start()
        for job in jobs:
            self._engine.add(job)
        if self._server:
            self._server.start()
        for thread in self._threads:
            thread.start()

    def _watch(self) -> None:
        self._inbox.run(self._take, self._stop)

    def _check_journal(self) -> None:
        """Ask the journal now and then: only one that answers can be relied on to take the next recording."""
        while not self._stop.is_set():
            before, self._journal_fault = self._journal_fault, self._fault_of_journal()
            if (fault := self._journal_fault) is None:
                beat()
            if fault is not None and before is None:
                log.error(Event.STORAGE_ERROR, code=fault.code, error=fault.message, hint=fault.hint)
            elif fault is None and before is not None:
                log.info(Event.STORAGE_RECOVERED)
            self._stop.wait(self._journal_check_seconds)

    def _fault_of_journal(self) -> JournalError | None:
        try:
            self._journal.check()
        except JournalError as error:
            return error
        return None

    def _take(self, candidate: Candidate) -> bool:
        if self._stop.is_set() or not self._engine.has_capacity:
            return False
        return_stranded(self._stranded, self._folders)
        job = _job_from(candidate)
        try:
            claimed = self._pipeline.claim(job, candidate.waited_seconds)
        except (StorageError, JournalError) as error:
            if isinstance(error, StorageError):
                self._stranded.add(job.id)
            if isinstance(error, DiskFullError | JournalError):
                self._blocked = error
            raise  # to the inbox, which says so and offers the recording again at the next rescan
        if not claimed:
            return True  # gone or changed meanwhile: if it is still there, the next look finds it
        self._blocked = None
        self._engine.add(job)
        return True

    @property
    def drained(self) -> bool:
        """Whether nothing is left to do, or something keeps us from doing it."""
        status = self._inbox.status  # before the engine's: what was taken in between is then counted there
        health = self._engine.health
        self._held_up_by = self._held_up_by or self._blocked or health.api or health.storage
        if self._held_up_by is not None:
            return True
        settled = status.scans and not status.settling and not status.refused_now
        return bool(settled) and not self._engine.in_flight

    @property
    def exit_status(self) -> ExitStatus:
        """How it went once it is `drained`: OK, SOME_FAILED, UNAVAILABLE, PERMISSION or TRY_LATER."""
        if self._held_up_by is not None:
            return self._held_up_by.exit_status
        if self._engine.failed:
            return ExitStatus.SOME_FAILED
        status = self._inbox.status
        left = status.unfinished or status.troubled or not status.available
        return ExitStatus.TRY_LATER if left else ExitStatus.OK

    # ---- how it does -------------------------------------------------------------------------------------

    @property
    def watches(self) -> bool:
        """Whether the watch stands, or the inbox was seen not to be there."""
        return self._inbox_pulse.began

    @property
    def tally(self) -> Tally:
        """How many recordings are under way, and how many have ended."""
        return Tally(self._engine.in_flight, self._engine.done, self._engine.failed)

    @property
    def api_is_away(self) -> bool:
        """Whether nothing is sent to the API for now, because it does not answer or refuses us."""
        return self._engine.health.api is not None

    def check_progress(self) -> bool:
        """Look whether every part gets on, and log which doesn't. To be called every few seconds."""
        parts: list[Monitored] = [self._journal_pulse]
        if self._presence.problem is None:  # who waits for a share that hangs would wait after a restart too
            parts += [self._inbox_pulse, *self._engine.parts]
        return self._stall_detector.check(parts)

    def problems(self) -> dict[str, str]:
        """What keeps a recording from going through right now: code → sentence. Empty where nothing does."""
        health = self._engine.health
        errors = (health.api, health.storage, self._journal_fault, self._presence.problem)
        found = {error.code: error.message for error in errors if error is not None}
        status, blocked = self._inbox.status, self._blocked
        if blocked is not None and (status.settling or status.troubled):  # it still waits in the inbox
            found[blocked.code] = blocked.message
        if not status.available:
            found["inbox_unavailable"] = "The inbox can't be read."
        return self._stall_detector.problems() | found

    def _standing(self) -> IntakeSnapshot:
        status = self._inbox.status
        in_the_way = self._presence.problem or self._journal_fault
        takes = self._engine.has_capacity and status.available and in_the_way is None
        return IntakeSnapshot(self.problems(), self.api_is_away, takes, status)

    # ---- stopping ----------------------------------------------------------------------------------------

    def _supervised(self, target: Callable[[], None], pulse: Heartbeat) -> None:
        try:
            with pulse.beating():
                target()
        except Exception as error:  # noqa: BLE001 - whatever it was, a dead thread ends the daemon
            place = f"{type(error).__name__}: {error}" if isinstance(error, InvoxError) else where(error)
            log.error(Event.THREAD_DIED, thread=threading.current_thread().name, error=place)
            self._crash()

    def stop(self, timeout_seconds: float = _STOP_SECONDS) -> bool:
        """Stop everything. What is under way goes on after the next start.

        False where a thread has not ended within about `timeout_seconds`: it may still do something.
        """
        self._stop.set()
        self._inbox.wake()
        self._client.abort_all()
        ended = self._engine.stop(timeout_seconds)
        give_up = time.monotonic() + timeout_seconds
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(give_up - time.monotonic(), 0))
        if self._server:
            self._server.stop()
        self._to_close.close()
        return ended and not any(thread.is_alive() for thread in self._threads)


def _keep_memory_private() -> None:
    """Leave no core dump, and let no other process of this user look into this one: it holds credentials."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The limit is not looked at where cores are piped to a program, see core(5); this is, see prctl(2).
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0))


def _job_from(candidate: Candidate) -> Job:
    refused = candidate.refusal
    failure = Failure(State.CLAIMED, refused, retry_can_help=False) if refused else None
    return Job(
        id=new_job_id(),
        state=State.CLAIMED,
        path=candidate.path,
        identity=candidate.identity,
        received_at=utc_now(),
        format=candidate.format,
        mime_type=candidate.mime_type,
        duration_seconds=candidate.duration_seconds,
        refusal=failure,
    )
