"""The daemon as a process: signals, log, reloading, what the service manager hears, the exit status.

The main thread only waits, and now and then looks whether everything gets on. SIGTERM and SIGINT end it, the
second one at once. Upon SIGHUP it opens its log anew and goes on by the configuration as it is now; where
that can't be used, by the one it has.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import FrameType

from invox_watcher import events, logs
from invox_watcher.assembly import claim_folders, locked_by
from invox_watcher.config import Config
from invox_watcher.daemon.daemon import Daemon
from invox_watcher.errors import ExitStatus, FolderError, InvoxError
from invox_watcher.events import Event, log
from invox_watcher.heartbeat import PATIENCE_SECONDS
from invox_watcher.host import Locks, Notifier
from invox_watcher.logs import where
from invox_watcher.processing import Clock
from invox_watcher.web import Counters

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK_SECONDS = 1.0
_DRAINED_CHECK_SECONDS = 0.1
_READY_CHECK_SECONDS = 0.02
# A new part must not meet an old one that still works, and a name server may keep a thread for a while.
_RELOAD_STOP_SECONDS = 25.0


class Process:
    """This process as a daemon. `load` gives the configuration as it is now."""

    def __init__(self, load: Callable[[], Config], *, clock: Clock | None = None) -> None:
        """Build what the configuration names; nothing is taken or sent before `run`.

        Raises:
            InvoxError: the configuration is wrong, or names something that can't be used.
        """
        # Held back until there is somebody in `run` to hear them. Not in the threads that `run` starts, whose
        # children, the operator's commands, would inherit that.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        # What wakes the main thread: an event's lock is not to be taken in a signal handler.
        self._awake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._signals = 0
        self._reload_asked = False
        self._crashed = False
        self._ready = False
        self._troubled_since: datetime | None = None
        self._ended_before = (0, 0)  # done and failed by earlier configurations
        self._load, self._clock = load, clock
        self._meter = Counters()
        events.subscribe(self._meter.record)
        self._service = Notifier()
        self._locks = Locks()
        self._config = load()
        configure_log(self._config)
        self._daemon = self._build(self._config)

    def _build(self, config: Config) -> Daemon:
        return Daemon(
            config,
            locks=self._locks,
            meter=self._meter,
            patience_seconds=self._service.watchdog_seconds or PATIENCE_SECONDS,
            on_crash=self._crash,
            clock=self._clock,
        )

    def run(self, *, once: bool = False, on_ready: Callable[[], None] = lambda: None) -> ExitStatus:
        """Work until a signal comes; with `once`, until the inbox is empty and nothing is under way.

        `on_ready` is called when the watch stands, and again after each reload. Returns the exit status: OK
        after a signal; with `once` also SOME_FAILED, UNAVAILABLE, PERMISSION or TRY_LATER; SOFTWARE where a
        thread died.

        Raises:
            InvoxError: folders or journal can't be used.
        """
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if once else self._on_hangup)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        threading.excepthook = _log_defect
        log.info(Event.STARTED, pid=os.getpid(), once=once)
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

    def _serve(self, on_ready: Callable[[], None]) -> None:
        while not self._must_end:
            if self._reload_asked and self._ready:
                self._reload_asked = False
                self._reload()
            self._look_after()
            if not self._ready and self._daemon.watches:
                self._ready = True
                self._service.ready()
                on_ready()
            self._wait(_LOOK_SECONDS if self._ready else _READY_CHECK_SECONDS)

    def _drain(self) -> None:
        while not self._must_end and not self._daemon.drained:
            self._look_after()
            self._wait(_DRAINED_CHECK_SECONDS)

    @property
    def _must_end(self) -> bool:
        return self._crashed or self._signals > 0

    def _wait(self, seconds: float) -> None:
        # A short-tempered watchdog wants to be fed more often.
        watchdog_seconds = self._service.watchdog_seconds or PATIENCE_SECONDS
        with suppress(queue.Empty):
            self._awake.get(timeout=min(seconds, watchdog_seconds / 4))

    def _look_after(self) -> None:
        """Tell the service manager how it goes; the watchdog only if every part gets on."""
        if self._daemon.check_progress():
            self._service.feed()
        self._service.status(self._status())

    def _status(self) -> str:
        tally, (done, failed) = self._daemon.tally, self._ended_before
        counts = (
            f"{tally.under_way:,} under way, {done + tally.done:,} done, {failed + tally.failed:,} failed"
            " since start"
        )
        problems = self._daemon.problems()
        if not problems:
            self._troubled_since = None
            return f"Watching {self._config.folders.inbox}: {counts}"
        now = datetime.now().astimezone()
        since = self._troubled_since = self._troubled_since or now
        time = f"{since:%H:%M}" if since.date() == now.date() else f"{since:%Y-%m-%d %H:%M}"
        what = "API unavailable" if self._daemon.api_is_away else "Not ready"
        return f"{what} since {time}: {' '.join(problems.values())} Trying again: {counts}"

    # ---- signals -----------------------------------------------------------------------------------------

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(128 + number)  # asked twice: at once. Whatever was under way goes on after the restart.
        self._awake.put(None)

    def _on_hangup(self, _number: int, _frame: FrameType | None) -> None:
        self._reload_asked = True
        self._awake.put(None)

    def _crash(self) -> None:
        self._crashed = True
        self._awake.put(None)

    # ---- reloading ---------------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Go on by the configuration as it is now; where it can't be used, by the one we have."""
        log.info(Event.RELOADING)
        self._service.reloading()
        self._ready = False
        try:
            configure_log(self._config)  # opened anew, whatever comes of the rest
            config = self._load()
            # What can be seen to be wrong beforehand interrupts nothing.
            claim_folders(config, self._locks)
            configure_log(config)
            self._exchange_for(config)
        except InvoxError as error:
            log.error(Event.RELOAD_REFUSED, code=error.code, error=error.message, hint=error.hint)
            with suppress(InvoxError):
                configure_log(self._config)
        else:
            log.info(Event.RELOADED)
        finally:
            self._locks.keep(locked_by(self._config))

    def _exchange_for(self, config: Config) -> None:
        if not self._daemon.stop(_RELOAD_STOP_SECONDS):
            self._crash()
            raise InvoxError(
                f"A thread has not ended within {_RELOAD_STOP_SECONDS:g} s: the daemon ends.",
                code="reload_stuck",
                hint="Start it again: that is as good as a reload.",
            )
        tally, (done, failed) = self._daemon.tally, self._ended_before
        self._ended_before = done + tally.done, failed + tally.failed
        try:
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
        self._service.stopping()
        self._daemon.stop()
        self._locks.close()
        log.info(Event.STOPPED)


def configure_log(config: Config) -> None:
    """Log as `config` says; a log file is opened anew.

    Raises:
        FolderError: the log file can't be written. Then the log goes on as it was.
    """
    logging = config.logging
    try:
        logs.configure(
            format=logging.format, level=logging.level, filenames=logging.filenames, file=logging.file
        )
    except OSError as error:
        raise log_file_refused(logging.file, error) from None


def log_file_refused(file: Path | None, error: OSError) -> FolderError:
    """The error to raise where the log's file can't be opened."""
    return FolderError(
        f"logging.file: can't write {file}: {error.strerror}",
        code="log_file",
        hint="Its folder has to exist, and the daemon's user has to be allowed to write in it.",
    )


def _log_defect(raised: threading.ExceptHookArgs) -> None:
    """Of a thread of a library too, whose exception Python would print with its text."""
    if raised.exc_value is not None and raised.thread is not None:
        log.error(Event.INTERNAL_ERROR, thread=raised.thread.name, error=where(raised.exc_value))
