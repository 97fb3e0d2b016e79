"""The daemon with a clock that stands still while any worker works and else leaps to what is due next.

`python -m tests.faults.fast_clock --config FILE`; each line on its standard input is a time in seconds up to
which the clock may run, and is written back once the clock is there and nothing more is due.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path

from invox_watcher.config.loading import load
from invox_watcher.daemon.process import Process
from invox_watcher.processing.lanes import Clock
from invox_watcher.processing.workers import poll_workers_for

_PAUSE_SECONDS = 0.004


class LeapingClock(Clock):
    """Begins at zero and stays there until it may run."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._now = 0.0
        self._waiting: dict[threading.Condition, list[float]] = {}
        self._waits = 0

    def __call__(self) -> float:
        return self._now

    def wait(self, changed: threading.Condition, seconds: float | None) -> None:
        due = float("inf") if seconds is None else self._now + seconds
        with self._lock:
            self._waits += 1
            self._waiting.setdefault(changed, []).append(due)
        changed.wait()
        with self._lock:
            self._waiting[changed].remove(due)

    def run_until(self, limit: float) -> None:
        """Leap from due time to due time; returns at `limit`, with every worker waiting for later."""
        while True:
            due = self._next_due()
            if due is not None:
                self._now = max(self._now, min(due, limit))
                if due > limit:
                    return
                for changed in list(self._waiting):
                    with changed:
                        changed.notify_all()
            time.sleep(_PAUSE_SECONDS)

    def _next_due(self) -> float | None:
        """When the first waiting worker is due; None unless all have been waiting for a while."""
        with self._lock:
            seen = self._waits
        time.sleep(_PAUSE_SECONDS)
        with self._lock:
            dues = [due for waiting in self._waiting.values() for due in waiting]
            return min(dues) if len(dues) == self._workers and self._waits == seen else None


def main() -> int:
    """Run until a signal comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    config = load(parser.parse_args().config)
    workers = config.upload.workers
    clock = LeapingClock(workers + poll_workers_for(workers))

    def obey() -> None:
        for line in sys.stdin:
            clock.run_until(float(line))
            print(line, end="", flush=True)

    process = Process(lambda: config, clock=clock)
    threading.Thread(target=obey, daemon=True).start()
    return process.run()


if __name__ == "__main__":
    sys.exit(main())
