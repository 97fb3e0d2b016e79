"""The threads of an engine: each takes jobs from its lane, one after the other, until the lane is closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from invox_watcher.baton import running, share_cpu
from invox_watcher.events import Event, log
from invox_watcher.heartbeat import Heartbeat
from invox_watcher.job import Job
from invox_watcher.logs import where
from invox_watcher.processing.lanes import Lane, Lanes

# Of the threads for all that moves no bytes: as many as upload, so that neither kind keeps the other waiting.
_FEWEST_POLL_WORKERS, _MOST_POLL_WORKERS = 3, 16


def poll_workers_for(upload_workers: int) -> int:
    """How many threads take all other steps, if that many upload."""
    return min(max(upload_workers, _FEWEST_POLL_WORKERS), _MOST_POLL_WORKERS)


class Workers:
    """`upload_workers` threads for the lane of uploads, and `poll_workers_for` those for the other.

    `take_steps` gets each job, and the lane that it was in; `on_crash` is called if a thread dies.
    """

    def __init__(
        self,
        lanes: Lanes,
        upload_workers: int,
        take_steps: Callable[[Job, Lane], None],
        on_crash: Callable[[], None],
    ) -> None:
        self._lanes = lanes
        self._take_steps = take_steps
        self._on_crash = on_crash
        self.heartbeats: list[Heartbeat] = []
        self._threads: list[threading.Thread] = []
        for lane, name, count in (
            (lanes.uploads, "upload", upload_workers),
            (lanes.polls, "poll", poll_workers_for(upload_workers)),
        ):
            for number in range(1, count + 1):
                self._add(lane, Heartbeat(f"{name}-{number}"))

    def _add(self, lane: Lane, heartbeat: Heartbeat) -> None:
        self.heartbeats.append(heartbeat)
        self._threads.append(
            threading.Thread(target=self._work, args=(lane, heartbeat), name=heartbeat.name, daemon=True)
        )

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Take no further job and wait for the threads. False if one has not ended in that time."""
        for lane in self._lanes:
            lane.close()
        give_up = time.monotonic() + timeout_seconds
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(give_up - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, lane: Lane, heartbeat: Heartbeat) -> None:
        share_cpu()
        try:
            while (job := lane.take()) is not None:
                with heartbeat.beating(), running:
                    self._take_steps(job, lane)
        except BaseException as error:  # noqa: BLE001
            # Never a living process with a dead worker: log it, and let the daemon end.
            log.error(Event.THREAD_DIED, thread=threading.current_thread().name, error=where(error))
            self._on_crash()
