"""Signs of life: a thread that must not stall has a `Heartbeat`, and calls `beat` whenever it makes progress.

`beat` is for the calling thread, wherever in its work it is: code that reads blocks or sends bytes need not
know for whom it does so. In a thread that has no heartbeat it does nothing.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from invox_watcher.errors import Reason
from invox_watcher.events import Event, log
from invox_watcher.logs import is_ours, place

# How long a part may be silent if no service manager sets a limit: longer than the journal, a name server or
# a slow disk may take to answer.
PATIENCE_SECONDS = 120.0


class Monitored(Protocol):
    """Something that must not stall."""

    @property
    def name(self) -> str:
        """What the log calls it."""

    @property
    def silent_seconds(self) -> float:
        """For how long it has made no progress, beyond what it had announced; 0 if it has nothing to do."""

    @property
    def place(self) -> str | None:
        """Where in the program it is now, None if that is not known."""


class Heartbeat:
    """The heartbeat of one thread: silent only while `beating` without a `beat`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.began = False  # whether it ever beat
        self._next_by: float | None = None  # monotonic; None at rest
        self._thread_id: int | None = None

    @contextmanager
    def beating(self) -> Iterator[None]:
        """While the block runs, the calling thread is working, and its `beat` is for this heartbeat."""
        _own.heartbeat = self
        self._thread_id = threading.get_ident()
        self._next_by = time.monotonic()
        try:
            yield
        finally:
            _own.heartbeat = None
            self._next_by = None

    def beat(self, seconds: float) -> None:
        """It made progress; the next beat may take `seconds` longer than usual."""
        self._next_by = time.monotonic() + seconds
        self.began = True

    @property
    def silent_seconds(self) -> float:
        next_by = self._next_by
        return 0.0 if next_by is None else max(time.monotonic() - next_by, 0.0)

    @property
    def place(self) -> str | None:
        """The innermost line of this package that the thread is in: `processing/engine.py:312`."""
        frame = sys._current_frames().get(self._thread_id or 0)
        while frame is not None:
            file = frame.f_code.co_filename
            if is_ours(file) and file != __file__:
                return place(file, frame.f_lineno)
            frame = frame.f_back
        return None


class _Own(threading.local):
    heartbeat: Heartbeat | None = None


_own = _Own()


def beat(seconds: float = 0.0) -> None:
    """The calling thread makes progress; until it beats again, `seconds` more than usual may pass.

    For a wait that has a limit of its own: an exchange over HTTP may take until its deadline.
    """
    if (heartbeat := _own.heartbeat) is not None:
        heartbeat.beat(seconds)


class StallDetector:
    """Checks the parts now and then; logs once which of them stalled, and once when it has recovered."""

    def __init__(self, patience_seconds: float) -> None:
        self.patience_seconds = patience_seconds
        self._suspected: set[str] = set()
        self._stalled: set[str] = set()

    def check(self, parts: Iterable[Monitored]) -> bool:
        """Whether all of them make progress."""
        silent = {part.name: part for part in parts if part.silent_seconds >= self.patience_seconds}
        # Twice in a row: after a pause of the whole machine everything is silent for a moment.
        stalled = silent.keys() & self._suspected
        for name in sorted(stalled - self._stalled):
            part = silent[name]
            log.error(
                Event.STALLED, part=name, silent_seconds=round(part.silent_seconds, 1), where=part.place
            )
        for name in sorted(self._stalled - stalled):
            log.info(Event.STALL_RESOLVED, part=name)
        self._suspected, self._stalled = set(silent), stalled
        return not stalled

    def closed(self) -> Reason | None:
        """Which parts stalled by the last `check`; None if all make progress. From any thread."""
        if not (stalled := sorted(self._stalled)):
            return None
        return Reason(
            "stalled",
            f"Stalled: {', '.join(stalled)}.",
            "Restart the daemon, and report it with the `stalled` lines of the log.",
        )
