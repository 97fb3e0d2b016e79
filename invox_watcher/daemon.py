"""Wiring: builds the parts from the configuration, supervises their threads, stops them on a signal.

The main thread only waits. The inbox has one thread, the engine has its workers, the server has one; if any
of them dies, the daemon stops and ends non-zero, for whoever supervises it to see.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import queue
import resource
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from invox_watcher.api import InvoxApi
from invox_watcher.config import Config
from invox_watcher.engine import Clock, Engine
from invox_watcher.errors import (
    DiskFullError,
    ExitStatus,
    FolderError,
    InvoxError,
    JournalError,
    StorageError,
)
from invox_watcher.events import Event, log, where
from invox_watcher.exchange import HttpClient
from invox_watcher.files import APART_HINT, Folders, make_root
from invox_watcher.inbox import Candidate, Inbox
from invox_watcher.inbox.mounts import mount_of
from invox_watcher.job import Failure, Job, State, new_job_id, utc_now
from invox_watcher.pipeline import Pipeline, Rules
from invox_watcher.presence import Presence, check_mounted
from invox_watcher.recovery import recover, return_stranded
from invox_watcher.results import Asking
from invox_watcher.retry import Backoff
from invox_watcher.server import Server, create_app
from invox_watcher.store import Journal
from invox_watcher.webhook import Credentials, Receiver

# systemd sends SIGKILL after 90 s by default; a person at a terminal waits less long.
_STOP_SECONDS = 4.0
_DRAINED_CHECK_SECONDS = 0.1
_LOST_SIGNAL_SECONDS = 0.5
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PR_SET_DUMPABLE = 4  # <linux/prctl.h>


def folders_of(config: Config) -> Folders:
    """The folders that the configuration names."""
    return Folders(
        inbox=config.folders.inbox,
        processing=config.folders.processing,
        outbox=config.folders.outbox,
        done=config.folders.done,
        failed=config.folders.failed,
        directory_mode=config.folders.directory_mode,
    )


def named_folders(folders: Folders) -> dict[str, Path]:
    """The five folders by name."""
    return {name: getattr(folders, name) for name in ("inbox", "processing", "outbox", "done", "failed")}


def prepare_state(config: Config) -> Path:
    """The state directory, made where it is missing.

    Raises:
        FolderError: it can't be made or written, or lies inside the inbox or on a network share.
    """
    directory = config.state.directory
    if directory.resolve().is_relative_to(config.folders.inbox.resolve()):
        raise FolderError(
            f"state.directory: {directory} lies inside the inbox",
            hint="Put it elsewhere, by default /var/lib/invox-watcher.",
        )
    try:
        make_root(directory, 0o700)
        os.close(os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _unusable(directory, error) from None
    mount = mount_of(os.path.realpath(directory))
    if mount.remote:
        raise FolderError(
            f"state.directory: {directory} lies on {mount.type}, where the journal's locks may not hold",
            hint="Put it on a local disk, by default /var/lib/invox-watcher. The folders may lie on a share.",
        )
    return directory


def api_of(config: Config, client: HttpClient) -> InvoxApi:
    """The API client that the configuration describes."""
    return InvoxApi(
        client,
        base_url=config.api.base_url,
        version=config.api.version,
        token_path=config.api.token_path,
        presign_path=config.api.presign_path,
        status_path=config.api.status_path,
        app_id=config.credentials.app_id.get_secret_value(),
        api_key=config.credentials.api_key.get_secret_value(),
        read_timeout_seconds=config.api.read_timeout_seconds,
        retry_max_seconds=config.retry.max_seconds,
    )


def client_of(config: Config) -> HttpClient:
    """The HTTP client that the configuration describes."""
    return HttpClient(
        connect_timeout_seconds=config.api.connect_timeout_seconds,
        ca_bundle=str(config.api.ca_bundle) if config.api.ca_bundle else None,
        proxy=config.api.proxy,
    )


@dataclass
class _Ending:
    """How the run ended, as far as it is known."""

    crashed: bool = False
    blocked: InvoxError | None = None


class Daemon:
    """One daemon on one state directory."""

    def __init__(self, config: Config, *, clock: Clock | None = None) -> None:
        """Lock the state directory, open the journal, check the folders.

        Raises:
            FolderError, JournalError: the configuration names something that can't be used.
        """
        # Held back until `run`, and for good in every thread that is started before: a signal that the kernel
        # hands to another thread than the main one would not wake it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._stop = threading.Event()
        # What wakes the main thread. Not the event itself: its lock is not to be taken in a signal handler.
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._signals = 0
        self._ending = _Ending()
        self._stranded: set[str] = set()  # claims that broke off; only the inbox's thread uses it
        os.umask(0o077)
        _keep_memory_private()
        self._folders = folders_of(config)
        self._locks = [_lock(prepare_state(config) / "lock", config.state.directory)]
        check_mounted(config.state.directory, named_folders(self._folders).values())
        self._folders.prepare()
        self._presence = _presence_of(config, self._folders)
        # Also where the recordings are: two journals over the same folders would each take the other's.
        self._locks.append(_lock(self._folders.processing, self._folders.processing))
        self._journal = Journal(config.state.directory)
        self._client = client_of(config)
        self._engine = self._build_engine(config, clock or Clock())
        self._inbox = _build_inbox(config, self._folders)
        address = config.http.address
        app = create_app(problems=self.problems, receiver=self._build_receiver(config))
        self._server = Server(app, *address, on_crash=self._crash) if address else None

    def _build_engine(self, config: Config, clock: Clock) -> Engine:
        pipeline = self._pipeline = Pipeline(
            folders=self._folders,
            journal=self._journal,
            api=api_of(config, self._client),
            rules=Rules(
                on_duplicate=config.intake.on_duplicate,
                formats=config.outputs.formats,
                speaker_names=config.outputs.speaker_names,
                asking=Asking(
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
            gone=self._presence.gone,
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
        return Receiver(credentials, keep=self._journal.keep, wake=self._engine.hasten)

    # ---- running -----------------------------------------------------------------------------------------

    def run(self, *, once: bool = False) -> ExitStatus:
        """Work until a signal comes; with `once`, until the inbox is empty and nothing is under way.

        Returns the exit status: OK after a signal; with `once` also SOME_FAILED, UNAVAILABLE, PERMISSION or
        TRY_LATER; SOFTWARE where a thread died.
        """
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        threading.excepthook = _log_defect
        log.info(Event.STARTED, pid=os.getpid(), once=once)
        if apart := self._folders.apart():
            log.warning(Event.FOLDERS_APART, folders=apart, hint=APART_HINT)
        jobs = recover(self._journal, self._folders)
        self._engine.start()
        for job in jobs:
            self._engine.add(job)
        if self._server:
            self._server.start()
        watcher = threading.Thread(target=self._supervised, args=(self._watch,), name="inbox", daemon=True)
        watcher.start()
        look_after = (lambda: self._presence.watch(self._stop),)
        threading.Thread(target=self._supervised, args=look_after, name="folders", daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        try:
            if once:
                self._drain()
            else:
                while not self._asked_within(_LOST_SIGNAL_SECONDS):
                    pass  # a signal in the instant before a wait begins does not end that wait
        finally:
            self._shut_down(watcher)
        if self._signals and not self._ending.crashed:
            return ExitStatus.OK
        return self._exit_status()

    def _watch(self) -> None:
        self._inbox.run(self._take, self._stop)

    def _take(self, candidate: Candidate) -> bool:
        if self._stop.is_set() or not self._engine.room:
            return False
        return_stranded(self._stranded, self._folders)
        job = _job_from(candidate)
        try:
            claimed = self._pipeline.claim(job)
        except (StorageError, JournalError) as error:
            if isinstance(error, StorageError):
                self._stranded.add(job.id)
            if isinstance(error, DiskFullError | JournalError):
                self._ending.blocked = error
            raise  # to the inbox, which says so and offers the recording again at the next rescan
        if not claimed:
            return True  # gone or changed meanwhile: if it is still there, the next look finds it
        self._ending.blocked = None
        self._engine.add(job)
        return True

    def _drain(self) -> None:
        """Wait until nothing is left to do, or something keeps us from doing it."""
        while not self._asked_within(_DRAINED_CHECK_SECONDS):
            status = (
                self._inbox.status
            )  # before the engine's: what was taken in between is then counted there
            health = self._engine.health
            self._ending.blocked = self._ending.blocked or health.api or health.storage
            if self._ending.blocked is not None:
                return
            if status.scans and not status.settling and not status.refused_now and not self._engine.in_flight:
                return

    def _asked_within(self, seconds: float) -> bool:
        with contextlib.suppress(queue.Empty):
            self._asked.get(timeout=seconds)
            return True
        return False

    def _exit_status(self) -> ExitStatus:
        if self._ending.crashed:
            return ExitStatus.SOFTWARE
        if self._ending.blocked is not None:
            return self._ending.blocked.exit_status
        if self._engine.failed:
            return ExitStatus.SOME_FAILED
        status = self._inbox.status
        left = status.unfinished or status.troubled or not status.available
        return ExitStatus.TRY_LATER if left else ExitStatus.OK

    def problems(self) -> dict[str, str]:
        """What keeps a recording from going through right now: code → sentence. Empty where nothing does."""
        health = self._engine.health
        errors = (health.api, health.storage, self._presence.problem)
        found = {error.code: error.message for error in errors if error is not None}
        status, blocked = self._inbox.status, self._ending.blocked
        if blocked is not None and (status.settling or status.troubled):  # it still waits in the inbox
            found[blocked.code] = blocked.message
        if not status.available:
            found["inbox_gone"] = "The inbox can't be read."
        return found

    # ---- stopping ----------------------------------------------------------------------------------------

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(128 + number)  # asked twice: at once. Whatever was under way goes on after the restart.
        self._asked.put(None)

    def _crash(self) -> None:
        self._ending.crashed = True
        self._asked.put(None)

    def _supervised(self, target: Callable[[], None]) -> None:
        try:
            target()
        except Exception as error:  # noqa: BLE001 - whatever it was, a dead thread ends the daemon
            place = f"{type(error).__name__}: {error}" if isinstance(error, InvoxError) else repr(type(error))
            log.error(Event.THREAD_DIED, thread=threading.current_thread().name, error=place)
            self._crash()

    def _shut_down(self, watcher: threading.Thread) -> None:
        log.info(Event.STOPPING)
        self._stop.set()
        self._inbox.wake()
        self._client.abort_all()
        self._engine.stop(_STOP_SECONDS)
        watcher.join(_STOP_SECONDS)
        if self._server:
            self._server.stop()
        self._client.close()
        self._journal.close()
        for lock in self._locks:
            os.close(lock)
        log.info(Event.STOPPED)


def _keep_memory_private() -> None:
    """Leave no core dump, and let no other process of this user look into this one: it holds credentials."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The limit is not looked at where cores are piped to a program, see core(5); this is, see prctl(2).
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0))


def _log_defect(raised: threading.ExceptHookArgs) -> None:
    """Of a thread of a library too, whose exception Python would print with its text."""
    if raised.exc_value is not None and raised.thread is not None:
        log.error(Event.DEFECT, thread=raised.thread.name, error=where(raised.exc_value))


def _presence_of(config: Config, folders: Folders) -> Presence:
    presence = Presence(named_folders(folders))
    try:
        presence.remember(config.state.directory)
    except OSError as error:
        raise _unusable(config.state.directory, error) from None
    return presence


def _build_inbox(config: Config, folders: Folders) -> Inbox:
    watch = config.watch
    return Inbox(
        folders.inbox,
        mode=watch.mode,
        recursive=watch.recursive,
        settle_seconds=watch.settle_seconds,
        rescan_seconds=watch.rescan_seconds,
        polling_seconds=watch.polling_seconds,
        patience_seconds=watch.patience_seconds,
        ignore=watch.ignore,
        max_size_bytes=config.intake.max_size_mib << 20,
        accepted_mime_types=config.api.mime_types,
    )


def _job_from(candidate: Candidate) -> Job:
    refused = candidate.refusal
    failure = (
        Failure(State.CLAIMED, refused.code, refused.message, refused.hint, retryable=False)
        if refused
        else None
    )
    return Job(
        id=new_job_id(),
        state=State.CLAIMED,
        path=candidate.path,
        size_bytes=candidate.size_bytes,
        device=candidate.device,
        inode=candidate.inode,
        mtime_ns=candidate.mtime_ns,
        received_at=utc_now(),
        format=candidate.format,
        mime_type=candidate.mime_type,
        duration_seconds=candidate.duration_seconds,
        refusal=failure,
    )


def _lock(path: Path, directory: Path) -> int:
    """Hold `path`, a file or folder, for this process alone; the kernel lets go however it ends."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(directory, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise JournalError(
            f"Another daemon is running on {directory}.",
            code="already_running",
            hint="Stop it first, or give this one a state.directory and folders of its own.",
        ) from None
    return descriptor


def _unusable(directory: Path, error: OSError) -> FolderError:
    return FolderError(
        f"state.directory: can't write in {directory}: {error.strerror}",
        hint=f"Create it and give it to the daemon's user: install -d -m 700 -o USER {directory}",
    )
