"""The daemon as a process: signals, log, reload, service manager, exit status.

The main thread only waits, and every few seconds checks whether all parts make progress. SIGTERM and SIGINT
end it, the second one at once. On SIGHUP it reopens its log and reloads its configuration; if the new one
can't be used, it keeps the one it has.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from invox_watcher import logs, version
from invox_watcher.assembly import Parts, assemble, claim_folders, release_others, require_no_other_journal
from invox_watcher.config import Config
from invox_watcher.daemon.daemon import Daemon
from invox_watcher.daemon.readiness import Readiness
from invox_watcher.errors import ExitStatus, FolderError, InvoxError, Reason
from invox_watcher.events import Event, log
from invox_watcher.files import names_key
from invox_watcher.heartbeat import PATIENCE_SECONDS
from invox_watcher.host import Locks, Notifier, keep_memory_private, mount_of
from invox_watcher.layout import host_of
from invox_watcher.logs import where
from invox_watcher.onsets import Problem
from invox_watcher.processing import Clock
from invox_watcher.times import utc_now

if TYPE_CHECKING:
    from invox_watcher.daemon.page import PageProcess
    from invox_watcher.web import Counters, Server

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Between two looks at all parts, while recordings are under way and while none is. Signals, and threads that
# died, wake the main thread.
_CHECK_SECONDS, _IDLE_CHECK_SECONDS = 1.0, 5.0
_DRAINED_CHECK_SECONDS = 0.1
_READY_CHECK_SECONDS = 0.02
# A new part must not meet an old one that still works, and a name server may keep a thread for a while.
_RELOAD_STOP_SECONDS = 25.0
_PASSED_ON = (*_SIGNALS, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4  # <linux/prctl.h>


class Process:
    """This process as a daemon. `load` gives the configuration as it is now."""

    def __init__(self, load: Callable[[], Config], *, clock: Clock | None = None) -> None:
        """Build what the configuration names; no recording is taken or sent before `run`.

        Raises:
            InvoxError: the configuration is wrong, or names something that can't be used.
        """
        # Held back until `run` handles them. Not in the threads that `run` starts, whose children, the
        # operator's commands, would inherit that.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        os.umask(0o077)
        keep_memory_private()
        _keep_capabilities_private()
        # What wakes the main thread: an event's lock is not to be taken in a signal handler.
        self._awake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._signals = 0
        self._reload_asked = False
        self._crashed = False
        self._ready = False
        self._ended_before = (0, 0)  # done and failed by earlier configurations
        self._refused: Problem | None = None  # why the configuration on disk is not the one in use
        self._load, self._clock = load, clock or Clock()
        self._counters: Counters | None = None
        self._page: PageProcess | None = None
        self._notifier = Notifier()
        self._locks = Locks()
        self._config = load()
        configure_log(self._config)
        self._daemon = self._build(self._config)
        self._release_others()

    def _build(self, config: Config) -> Daemon:
        folders = claim_folders(config, self._locks)
        logs.hash_names_with(names_key(config.state.directory))
        patience_seconds = self._notifier.watchdog_seconds or PATIENCE_SECONDS
        parts = assemble(
            config,
            folders,
            self._locks,
            patience_seconds=patience_seconds,
            on_crash=self._crash,
            clock=self._clock,
        )
        readiness = Readiness(parts, config.source, refused=lambda: self._refused, page=lambda: self._page)
        try:
            server = self._server_of(parts, readiness)
        except BaseException:
            parts.close()
            raise
        return Daemon(parts, readiness, server, on_crash=self._crash)

    def _server_of(self, parts: Parts, readiness: Readiness) -> Server | None:
        if parts.address is None:
            return None
        # Without a server, none of the libraries that it needs is loaded.
        from invox_watcher.daemon.serving import server_of  # noqa: PLC0415
        from invox_watcher.web import Counters  # noqa: PLC0415

        if self._counters is None:
            self._counters = Counters()
            log.subscribe(self._counters.record)
        return server_of(parts, parts.address, readiness, self._counters, on_crash=self._crash)

    def run(self, *, once: bool = False, on_ready: Callable[[], None] = lambda: None) -> ExitStatus:
        """Work until a signal comes; with `once`, until the inbox is empty and nothing is under way.

        `on_ready` is called when the inbox is watched, and again after each reload. Returns the exit status:
        OK after a signal; with `once` also SOME_FAILED, UNAVAILABLE, PERMISSION or TRY_LATER; SOFTWARE if a
        thread died.

        Raises:
            InvoxError: folders or journal can't be used.
        """
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if once else self._on_hangup)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        threading.excepthook = log_internal_error
        log.info(Event.STARTED, version=version(), pid=os.getpid(), once=once)
        try:
            self._daemon.start()
            if once:
                self._drain()
            else:
                self._serve(on_ready)
        finally:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            self._shut_down()
        if self._crashed:
            return ExitStatus.SOFTWARE
        return ExitStatus.OK if self._signals else self._daemon.exit_status

    def summary(self) -> str:
        """How many recordings this run has ended, and how many are left, as a sentence."""
        tally, left = self._daemon.tally, self._daemon.left
        counts = [f"{tally.done:,} done", f"{tally.failed:,} failed"]
        counts += [f"{tally.under_way:,} under way"] * bool(tally.under_way)
        counts += [f"{left:,} left in the inbox (invox-watcher explain FILE says why)"] * bool(left)
        return f"{', '.join(counts)}."

    def _serve(self, on_ready: Callable[[], None]) -> None:
        self._keep_page()
        while not self._must_end:
            if self._reload_asked and self._ready:
                self._reload_asked = False
                self._reload()
            self._report()
            if not self._ready and self._daemon.watches:
                self._ready = True
                self._daemon.readiness.save()
                self._notifier.ready()
                on_ready()
            self._wait(self._check_seconds() if self._ready else _READY_CHECK_SECONDS)

    def _check_seconds(self) -> float:
        return _CHECK_SECONDS if self._daemon.tally.under_way else _IDLE_CHECK_SECONDS

    def _drain(self) -> None:
        self._report()  # also if nothing is to be done: what the process before has left half-written goes
        while not self._must_end and not self._daemon.drained:
            self._wait(_DRAINED_CHECK_SECONDS)
            self._report()

    @property
    def _must_end(self) -> bool:
        return self._crashed or self._signals > 0

    def _wait(self, seconds: float) -> None:
        # A watchdog with a short timeout must be fed more often.
        watchdog_seconds = self._notifier.watchdog_seconds or PATIENCE_SECONDS
        with suppress(queue.Empty):
            self._awake.get(timeout=min(seconds, watchdog_seconds / 4))

    def _report(self) -> None:
        """Send the service manager the status, and feed its watchdog if every part makes progress."""
        if self._daemon.check_progress():
            self._notifier.feed()
        self._notifier.status(self._status())
        self._daemon.readiness.save()

    def _status(self) -> str:
        tally, (done, failed) = self._daemon.tally, self._ended_before
        held = f" ({tally.held:,} of them held until tomorrow)" if tally.held else ""
        counts = (
            f"{tally.under_way:,} under way{held}, {done + tally.done:,} done, "
            f"{failed + tally.failed:,} failed since start"
        )
        readiness = self._daemon.readiness
        problems = readiness.problems()
        if not problems:
            return f"Watching {self._config.folders.inbox}: {counts}"
        since, today = readiness.since.astimezone(), datetime.now().astimezone().date()
        time = f"{since:%H:%M}" if since.date() == today else f"{since:%Y-%m-%d %H:%M}"
        what = "API unavailable" if readiness.api_is_unavailable else "Not ready"
        sentences = " ".join(problem.reason.message for problem in problems)
        return f"{what} since {time}: {sentences} Retrying: {counts}"

    # ---- signals -----------------------------------------------------------------------------------------

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(
                128 + number
            )  # the second signal: at once. What was under way is resumed after the restart.
        self._awake.put(None)

    def _on_hangup(self, _number: int, _frame: FrameType | None) -> None:
        self._reload_asked = True
        self._awake.put(None)

    def _crash(self) -> None:
        self._crashed = True
        self._awake.put(None)

    # ---- reloading ---------------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Use the configuration as it is now; if it can't be used, keep the one we have."""
        log.info(Event.RELOADING)
        self._notifier.reloading()
        self._ready = False
        try:
            configure_log(self._config)  # reopened, however the rest ends
            config = self._load()
            # What can be found wrong beforehand must interrupt nothing.
            require_no_other_journal(self._config, config)
            claim_folders(config, self._locks)
            configure_log(config)
            self._exchange_for(config)
        except InvoxError as error:
            self._release_others()
            self._refused = _refusal(error, self._refused)
            log.error(Event.RELOAD_REFUSED, code=error.code, error=error.message, hint=error.hint)
            with suppress(InvoxError):
                configure_log(self._config)
        else:
            self._refused = None
            self._release_others()
            log.info(Event.RELOADED)
        self._keep_page()

    def _keep_page(self) -> None:
        """Have the page of this configuration, if it has one: another one is replaced."""
        if self._page is not None and self._page.config == self._config:
            self._page.reopen_log()
            return
        self._stop_page()
        if self._config.page.listen is not None:
            from invox_watcher.daemon.page import PageProcess  # noqa: PLC0415 - as for the server

            self._page = PageProcess(self._config)
            self._page.start()

    def _stop_page(self) -> None:
        if self._page is not None:
            self._page.stop()
            self._page = None

    def _release_others(self) -> None:
        try:
            release_others(self._config, self._locks)
        except InvoxError as error:  # their marks stay until the next start or reload
            log.error(Event.STORAGE_ERROR, code=error.code, error=error.message, hint=error.hint)

    def _exchange_for(self, config: Config) -> None:
        if not self._daemon.stop(_RELOAD_STOP_SECONDS):
            self._crash()
            raise InvoxError(
                f"A thread did not end within {_RELOAD_STOP_SECONDS:g} s: the daemon exits.",
                code="reload_stuck",
                hint="Start it again: it then uses the new configuration.",
            )
        tally, (done, failed) = self._daemon.tally, self._ended_before
        self._ended_before = done + tally.done, failed + tally.failed
        try:
            require_no_other_journal(self._config, config)  # nothing is taken any more
            self._daemon = self._started(config)
        except InvoxError:
            self._go_back()
            raise
        self._config = config

    def _go_back(self) -> None:
        try:
            self._daemon = self._started(self._config)
        except InvoxError as error:
            log.error(Event.RELOAD_FAILED, code=error.code, error=error.message, hint=error.hint)
            self._crash()

    def _started(self, config: Config) -> Daemon:
        daemon = self._build(config)
        try:
            daemon.start()
        except InvoxError:
            daemon.stop()
            raise
        return daemon

    # ---- stopping ----------------------------------------------------------------------------------------

    def _shut_down(self) -> None:
        log.info(Event.STOPPING)
        self._notifier.stopping()
        self._stop_page()
        self._daemon.stop()
        self._locks.close()
        log.info(Event.STOPPED)


def _refusal(error: InvoxError, before: Problem | None) -> Problem:
    why = error.message.splitlines()[0].rstrip(".")
    reason = Reason(
        "configuration_refused",
        f"The configuration on disk is refused, and the previous one is in use: {why}.",
        error.hint or "`invox-watcher check` says what is wrong. Reload the daemon afterwards.",
    )
    return Problem("configuration", reason, utc_now() if before is None else before.since)


def configure_log(config: Config) -> None:
    """Log as `config` says; a log file is reopened.

    Raises:
        FolderError: the log file can't be written. Then the log stays as it was.
    """
    logging = config.logging
    try:
        logs.configure(
            format=logging.format,
            level=logging.level,
            filenames=logging.filenames,
            file=logging.file,
            needed_device=_local_device_of(config.state.directory),
        )
    except OSError as error:
        raise log_file_refused(logging.file, error) from None
    log.name_host(host_of(config))


def _local_device_of(directory: Path) -> int | None:
    """The disk that it is on, or will be on once it is made; None if that is a network share."""
    try:
        real = directory.resolve()
        there = next(path for path in (real, *real.parents) if path.exists())
        return None if mount_of(str(there)).remote else there.stat().st_dev
    except OSError:
        return None


def log_file_refused(file: Path | None, error: OSError) -> FolderError:
    """The error to raise if the log's file can't be opened."""
    return FolderError(
        f"logging.file: can't write {file}: {error.strerror}",
        code="log_file",
        hint="Its folder must exist, and the daemon's user must be allowed to write there.",
    )


def log_internal_error(raised: threading.ExceptHookArgs) -> None:
    """What ended a thread, also one of a library: Python would print the exception with its text."""
    if raised.exc_value is not None and raised.thread is not None:
        log.error(Event.INTERNAL_ERROR, thread=raised.thread.name, error=where(raised.exc_value))


def leave_first_process() -> None:
    """In process 1, that of a container, continue in a child; to be called before any thread is started.

    Process 1 then only reaps processes and passes on signals, and exits as the child does. The kernel makes
    it the parent of all whose own parent has ended, and they stay as zombies until it waits for them. If the
    daemon did so itself, it would take the exit status from the thread that waits for a command.
    """
    if os.getpid() != 1:
        return
    keep_memory_private()
    awaited = {*_PASSED_ON, signal.SIGCHLD}
    # Blocked, they wait for `sigwait`; without a handler, process 1 would not even get them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    child = os.fork()
    if child == 0:
        os.setsid()  # Ctrl-C is for process 1: the child would get it twice
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        number = signal.sigwait(awaited)
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(child, number)
        elif (status := _reap(child)) is not None:
            os._exit(status if status >= 0 else 128 - status)


def _reap(child: int) -> int | None:
    """Reap all that have ended; the exit status of `child` if it is one of them, negative for a signal."""
    ended = None
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] == child:
                ended = os.waitstatus_to_exitcode(found[1])
    return ended


def _keep_capabilities_private() -> None:
    """Pass no capability on to hooks: CAP_LEASE, which the unit grants, is for the inbox."""
    arguments = (_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    ctypes.CDLL(None).prctl(*(ctypes.c_ulong(argument) for argument in arguments))
