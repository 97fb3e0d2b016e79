"""What Prometheus reads: what the daemon has done, counted from its events, and how things stand right now.

Names and units follow https://prometheus.io/docs/practices/naming/. No label can hold a name or an id: except
for HTTP statuses, all values of labels are written in the code.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from invox_watcher.errors import InvoxError

T = TypeVar("T")


class Probe(Generic[T]):
    """One question to a disk, asked in a thread of its own: one that hangs holds up nobody."""

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        self.name = name
        self.answer: T | None = None  # to the last `wait`
        self._ask = ask
        self._asked: Future[T | None] | None = None

    def begin(self) -> None:
        """Ask, unless the last time still waits for its answer."""
        if self._asked is None or self._asked.done():
            self._asked = Future()
            threading.Thread(
                target=self._run, args=(self._asked,), name=f"look-{self.name}", daemon=True
            ).start()

    def wait(self, give_up: float) -> None:
        """Wait until that moment, on the monotonic clock, for the answer."""
        assert self._asked is not None  # noqa: S101 - `begin` comes first
        try:
            self.answer = self._asked.result(max(give_up - time.monotonic(), 0))
        except TimeoutError:
            self.answer = None

    def _run(self, asked: Future[T | None]) -> None:
        try:
            asked.set_result(self._ask())
        except (OSError, InvoxError):
            asked.set_result(None)
        except BaseException as error:  # whoever waits must hear of it, whatever it is
            asked.set_exception(error)
            raise
