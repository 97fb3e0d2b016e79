"""An event for handlers of signals."""

from __future__ import annotations

import contextlib
import queue
import threading


class SignalEvent(threading.Event):
    """An event that a signal handler may set, and that is never cleared.

    `threading.Event` takes a lock to wait and to be set: a handler that interrupts a wait just then would
    wait for its own thread forever. Putting something into a `SimpleQueue` is reentrant.
    """

    def __init__(self) -> None:
        super().__init__()
        self._came = False
        self._waking: queue.SimpleQueue[None] = queue.SimpleQueue()

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._came

    def set(self) -> None:
        """Set it: from a handler or from any thread."""
        self._came = True
        self._waking.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for `timeout` seconds; return whether it is set."""
        if not self._came:
            with contextlib.suppress(queue.Empty):
                self._waking.get(timeout=timeout)
                self._waking.put(None)  # for the next thread that waits
        return self._came
