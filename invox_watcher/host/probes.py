"""Probes of a disk that may hang: each in a thread of its own, waited for as long as its caller likes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from invox_watcher.errors import InvoxError

T = TypeVar("T")


class Probe(Generic[T]):
    """One question to a disk, asked in a thread of its own: a disk that hangs delays no other work."""

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        self.name = name
        self.answer: T | None = None  # to the last `wait`
        self._ask = ask
        self._asked: Future[T | None] | None = None

    def begin(self) -> None:
        """Ask, unless the last question has no answer yet."""
        if self._asked is None or self._asked.done():
            self._asked = Future()
            threading.Thread(
                target=self._run, args=(self._asked,), name=f"probe-{self.name}", daemon=True
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
        except BaseException as error:  # `wait` raises it in the thread that waits
            asked.set_exception(error)
            raise
