"""Signs of life: who must not stand still has a `Pulse`, and its thread calls `beat` whenever it gets on.

`beat` is for the calling thread, wherever in its work it is: code that reads blocks or sends bytes need not
know for whom it does so. In a thread that has no pulse it does nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from invox_watcher.events import Event, log

# How long a part may be silent where no service manager says: longer than the journal, a name server or a
# slow disk may take to answer.
PATIENCE_SECONDS = 120.0


class Monitored(Protocol):
    """Something that must not stand still."""

    @property
    def name(self) -> str:
        """What the log calls it."""

    @property
    def silent_seconds(self) -> float:
        """For how long it has not got on, beyond what it had announced; 0 where it has nothing to do."""

    @property
    def place(self) -> str | None:
        """Where in the program it stands now, None where that is not known."""


class Heartbeat:
    """The pulse of a thread: silent only while `beating` without a `beat`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.began = False  # whether it ever beat
        self._next_by: float | None = None  # monotonic; None at rest
        self._thread_id: int | None = None

    @contextmanager
    def beating(self) -> Iterator[None]:
        """For the time of the block the calling thread works, and `beat` is for this pulse."""
        _own.pulse = self
        self._thread_id = threading.get_ident()
        self._next_by = time.monotonic()
        try:
            yield
        finally:
            _own.pulse = None
            self._next_by = None

    def beat(self, seconds: float) -> None:
        """It got on; the next beat may take `seconds` longer than usual."""
        self._next_by = time.monotonic() + seconds
        self.began = True

    @property
    def silent_seconds(self) -> float:
        next_by = self._next_by
        return 0.0 if next_by is None else max(time.monotonic() - next_by, 0.0)

    @property
    def place(self) -> str | None:
        """The innermost line of ours that the thread is in: `store.py:312`."""
        frame = sys._current_frames().get(self._thread_id or 0)
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(_PACKAGE) and file != __file__:
                return f"{file.removeprefix(_PACKAGE)}:{frame.f_lineno}"
            frame = frame.f_back
        return None


_PACKAGE = os.path.dirname(__file__) + os.sep


class _Own(threading.local):
    pulse: Heartbeat | None = None


_own = _Own()


def beat(seconds: float = 0.0) -> None:
    """The calling thread gets on; until it beats again, `seconds` more than usual may pass.

    For a wait that has a limit of its own: an exchange over HTTP may take until its deadline.
    """
    if (pulse := _own.pulse) is not None:
        pulse.beat(seconds)


class StallDetector:
    """Looks at the parts now and then; says once which one stalls, and when it gets on again."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._suspected: set[str] = set()
        self._stalled: set[str] = set()

    def check(self, parts: Iterable[Monitored]) -> bool:
        """Whether all of them get on."""
        silent = {part.name: part for part in parts if part.silent_seconds >= self._patience_seconds}
        # Twice in a row: after a pause of the whole machine everything looks silent for a moment.
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

    def problems(self) -> dict[str, str]:
        """What stalls, as a code and a sentence; empty where nothing does. From any thread."""
        stalled = sorted(self._stalled)
        return {"stalled": f"The daemon does not get on: {', '.join(stalled)}."} if stalled else {}
