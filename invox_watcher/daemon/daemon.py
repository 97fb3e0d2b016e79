"""The daemon: starts and stops the finished parts of one configuration, and knows whether they make progress.

Inbox, journal and server have one thread each, the engine has its workers; if any of them dies, the daemon
stops and exits non-zero, so that its service manager sees it. What the process has once, such as its signals,
belongs to `process`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from invox_watcher.assembly import Parts
from invox_watcher.daemon.readiness import Readiness
from invox_watcher.errors import ExitStatus, FencedError, InvoxError
from invox_watcher.events import Event, log
from invox_watcher.files import APART_HINT, folders_apart
from invox_watcher.heartbeat import Heartbeat, Monitored
from invox_watcher.logs import where

if TYPE_CHECKING:
    from invox_watcher.web import Server

# systemd sends SIGKILL after 90 s by default; a person at a terminal waits less long.
_STOP_SECONDS = 4.0


@dataclass(frozen=True)
class Tally:
    """How many recordings are under way, and how many have ended since the start, by how they did."""

    under_way: int
    held: int  # of those under way: until another day
    done: int
    failed: int


class Daemon:
    """All that works by one configuration. Started once, stopped once."""

    def __init__(
        self, parts: Parts, readiness: Readiness, server: Server | None, *, on_crash: Callable[[], None]
    ) -> None:
        """`readiness` asks the gates of `parts`. `on_crash` is called when a thread dies."""
        self._parts = parts
        self._server = server
        self._crash = on_crash
        self._gave_up: ExitStatus | None = None
        self.readiness = readiness
        stop = parts.stop
        work: Mapping[str, Callable[[], None]] = {
            "inbox": partial(parts.inbox.run, parts.intake, stop),
            "journal": partial(parts.journal_monitor.watch, stop),
            "folders": partial(parts.folder_monitor.watch, stop),
            **{name: partial(run, stop) for name, run in parts.housekeeping.items()},
            **{f"target {one.name}": partial(one.run, stop) for one in parts.dispatchers},
        }
        self._heartbeats = {name: Heartbeat(name) for name in work}
        self._threads = [
            threading.Thread(
                target=self._supervised, args=(run, self._heartbeats[name]), name=name, daemon=True
            )
            for name, run in work.items()
        ]

    # ---- running -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Resume what was under way, and watch.

        Raises:
            InvoxError: folders or journal can't be used. `stop` must be called all the same.
        """
        parts = self._parts
        if apart := folders_apart(parts.folders):
            log.warning(Event.FOLDERS_APART, folders=apart, hint=APART_HINT)
        jobs = parts.resume()
        parts.engine.start()
        for job in jobs:
            parts.engine.add(job)
        if self._server:
            self._server.start()
        for thread in self._threads:
            thread.start()

    def _supervised(self, run: Callable[[], None], heartbeat: Heartbeat) -> None:
        try:
            with heartbeat.beating():
                run()
        except FencedError as error:  # no error of ours, whichever thread's write it is that finds out
            log.error(Event.FENCED, error=error.message, hint=error.hint)
            self._crash()
        except Exception as error:  # noqa: BLE001 - whatever it was, a dead thread ends the daemon
            place = f"{type(error).__name__}: {error}" if isinstance(error, InvoxError) else where(error)
            log.error(Event.THREAD_DIED, thread=threading.current_thread().name, error=place)
            self._crash()

    # ---- status ------------------------------------------------------------------------------------------

    @property
    def watches(self) -> bool:
        """Whether the inbox is watched, or was found to be unavailable."""
        return self._heartbeats["inbox"].began

    @property
    def tally(self) -> Tally:
        """How many recordings are under way, and how many have ended."""
        engine = self._parts.engine
        return Tally(engine.in_flight, engine.held, engine.done, engine.failed)

    @property
    def left(self) -> int:
        """How many files in the inbox were not accepted."""
        status = self._parts.inbox.status
        return status.settling + status.unfinished + status.refused_now + status.troubled

    def check_progress(self) -> bool:
        """Whether every part makes progress; logs those that stalled. To be called every few seconds."""
        parts: list[Monitored] = [self._heartbeats["journal"]]
        # A restart would not help a thread that waits for a share that hangs.
        if self._parts.folder_monitor.closed() is None:
            parts += [self._heartbeats["inbox"], *self._parts.engine.parts]
        return self._parts.stall_detector.check(parts)

    @property
    def drained(self) -> bool:
        """Whether nothing is left to do, or something keeps it from being done."""
        status = self._parts.inbox.status  # before the engine's: what was taken in between is counted there
        self._gave_up = self._gave_up or self.readiness.verdict()
        if self._gave_up is not None:
            return True
        settled = status.scans and not status.settling and not status.refused_now
        engine = self._parts.engine
        waits = self._parts.unowned() > 0
        return bool(settled) and not waits and engine.in_flight == engine.held + engine.waiting_for_template

    @property
    def exit_status(self) -> ExitStatus:
        """How it went once it is `drained`: OK, SOME_FAILED, UNAVAILABLE, PERMISSION or TRY_LATER."""
        if self._gave_up is not None:
            return self._gave_up
        if self._parts.engine.failed:
            return ExitStatus.SOME_FAILED
        status = self._parts.inbox.status
        held = self._parts.engine.held or self._parts.engine.waiting_for_template
        left = status.unfinished or status.troubled or not status.available or held
        return ExitStatus.TRY_LATER if left else ExitStatus.OK

    # ---- stopping ----------------------------------------------------------------------------------------

    def stop(self, timeout_seconds: float = _STOP_SECONDS) -> bool:
        """Stop everything. What is under way is resumed after the next start.

        False if a thread has not ended within about `timeout_seconds`: it may still do something.
        """
        parts = self._parts
        self.readiness.save()  # what has closed a gate since the last time, for what is started next
        parts.stop.set()
        parts.inbox.wake()
        parts.client.abort_all()
        for dispatcher in parts.dispatchers:
            dispatcher.wake()
        ended = parts.engine.stop(timeout_seconds)
        give_up = time.monotonic() + timeout_seconds
        self._join(give_up - timeout_seconds / 2)
        for dispatcher in parts.dispatchers:  # a delivery under way could end; else it is made again
            dispatcher.abort()
        self._join(give_up)
        if self._server:
            self._server.stop()
        ended = ended and not any(thread.is_alive() for thread in self._threads)
        parts.leave(ended)
        parts.close()
        return ended

    def _join(self, give_up: float) -> None:
        """Wait for the threads to end, until that time."""
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(give_up - time.monotonic(), 0))
