"""The daemon in a time of its own, in which days pass fast.

`python -m bench.fast_days SPEED run --config FILE`. Whatever is recorded and compared as a date runs at
SPEED from the start of the process, and retention, which is hourly, as often as that. What is waited for,
from timeouts to polls, takes as long as ever.
"""

from __future__ import annotations

import datetime
import sys
import time

import invox_watcher.job
import invox_watcher.retention
import invox_watcher.times
from invox_watcher.cli import main


def fast(speed: float) -> type[datetime.datetime]:
    """`datetime` with another `now`."""
    began = time.time()

    class Fast(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return datetime.datetime.fromtimestamp(began + (time.time() - began) * speed, tz)

    return Fast


if __name__ == "__main__":
    speed = float(sys.argv[1])
    for module in (invox_watcher.times, invox_watcher.job):
        module.datetime = fast(speed)  # type: ignore[attr-defined]
    invox_watcher.retention._EVERY_SECONDS /= speed
    sys.exit(main(sys.argv[2:]))
