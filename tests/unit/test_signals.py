"""`SignalEvent`: a handler may set it wherever it interrupts the thread that waits for it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

import pytest

from invox_watcher.host import SignalEvent


def test_a_handler_may_set_it_between_any_two_steps_of_a_wait() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    seen, step = [], 0
    try:
        while not seen or seen[-1]:
            step += 1
            seen.append(_wait_interrupted_at(step))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert step > 10  # the last one came after the wait


def _wait_interrupted_at(step: int) -> bool:
    """Whether the wait ended with the event set, the signal having come before its step of that number."""
    event, left = SignalEvent(), step
    signal.signal(signal.SIGUSR1, lambda _number, _frame: event.set())

    def trace(frame: FrameType, what: str, _argument: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        if what == "opcode":
            left -= 1
            if left == 0:
                signal.raise_signal(signal.SIGUSR1)
        return trace

    sys.settrace(trace)
    try:
        event.wait(0)
    finally:
        sys.settrace(None)
    return event.is_set()


def test_it_wakes_every_thread_that_waits_and_those_that_come_later() -> None:
    event, woken = SignalEvent(), []
    threads = [threading.Thread(target=lambda: woken.append(event.wait(30))) for _ in range(3)]
    for thread in threads:
        thread.start()
    event.set()
    event.set()
    for thread in threads:
        thread.join(30)
    assert woken == [True] * 3
    assert event.wait()


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_it_is_waited_for_no_longer_than_asked(seconds: float) -> None:
    event, began = SignalEvent(), time.monotonic()
    assert not event.wait(seconds)
    assert not event.is_set()
    assert time.monotonic() - began >= seconds
