"""The page's process, as the daemon's child: started with it, started again if it ends, and ended with it.

The child reads a pipe that only this process can write to: however the daemon ends, that pipe does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import invox_watcher
from invox_watcher.backoff import Backoff
from invox_watcher.config import Config
from invox_watcher.errors import Reason
from invox_watcher.events import Event, log
from invox_watcher.onsets import Problem
from invox_watcher.times import utc_now

_STOP_SECONDS = 4.0
_BACKOFF = Backoff(1, 60)
_STEADY_SECONDS = 60.0  # one that has run for so long is started again at once
_UP_SECONDS = 15.0  # one that can't listen has ended by then
_DOWN = "page_down"
_SEE_LOG = "The reason is in the log: page_failed. It is started again until it stays."
_SEE_MACHINE = "Check this machine's memory and limits. It is tried again until it works."
# They are the daemon's own.
_NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY")


class PageProcess:
    """The page of one configuration. Started once, stopped once."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._stop = threading.Event()
        self._lock = threading.Lock()  # guards what follows
        self._child: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._down: Problem | None = None
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)

    def start(self) -> None:
        """Start it, in a thread that starts it again whenever it ends."""
        self._thread.start()

    def problem(self) -> Problem | None:
        """Why there is no page, and since when; None if there is."""
        with self._lock:
            child, is_new = self._child, time.monotonic() - self._began < _UP_SECONDS
            if self._down is not None and child is not None and child.poll() is None and not is_new:
                self._down = None
            return self._down

    def reopen_log(self) -> None:
        """Have it reopen its log."""
        with self._lock:
            if self._child is not None and self._child.poll() is None:
                self._child.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End it; returns when it has ended."""
        self._stop.set()
        with self._lock:
            child = self._child
        if child is not None:
            _end(child)
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                status = self._run_once()
            except OSError as error:
                status = None
                says, hint = f"The page's process can't be started: {error.strerror}.", _SEE_MACHINE
            else:
                says, hint = f"The page's process ended with status {status}.", _SEE_LOG
            if self._stop.is_set():
                return
            self._note(says, hint)
            failures = 1 if time.monotonic() - began > _STEADY_SECONDS else failures + 1
            delay = _BACKOFF.delay_seconds(failures)
            if status is None:
                log.error(Event.PAGE_FAILED, code=_DOWN, error=says, hint=hint)
            else:
                log.error(Event.PAGE_ENDED, exit_status=status, after_seconds=round(delay, 1))
            self._stop.wait(delay)

    def _run_once(self) -> int | None:
        """Its exit status, negative for a signal; None if it is no longer wanted.

        Raises:
            OSError: it can't be started.
        """
        with self._lock:
            if self._stop.is_set():
                return None
            child = self._child = _started(self.config.source, self.config.logging.file)
            self._began = time.monotonic()
        return child.wait()

    def _note(self, says: str, hint: str) -> None:
        with self._lock:
            since = utc_now() if self._down is None else self._down.since
            self._down = Problem("page", Reason(_DOWN, says, hint), since)


def _started(source: Path, log_file: Path | None) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    environment["PYTHONPATH"] = str(Path(invox_watcher.__file__).parent.parent)
    return subprocess.Popen(  # noqa: S603 - our own module
        [
            sys.executable,
            "-P",
            "-m",
            "invox_watcher.page",
            str(source),
            *([str(log_file)] if log_file else []),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment,
        cwd="/",
        start_new_session=True,  # Ctrl-C is for the daemon
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        if child.stdin is not None:
            child.stdin.close()
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
