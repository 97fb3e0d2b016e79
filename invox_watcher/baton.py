"""Which of the threads that take steps continues: one at a time, unless it waits for a disk or a network.

Python hands its own lock over at each system call, however short, to whichever thread could run: with several
of them, one recording costs two hundred changes of thread. Here a thread keeps the baton until it waits for
something that takes long.

The baton is advice: a thread that does not get it within a moment continues without. So a system call that
hangs, as on a share whose server is gone, stops no other thread.

Since they run in turn, these threads share one CPU as well: to wake one on another, which may be asleep,
costs more than many a step.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

_PATIENCE_SECONDS = 0.005  # Python's own switch interval

_baton = threading.Lock()


class _Own(threading.local):
    takes_part = False  # whether this thread is between the beginning and the end of its work
    waits = 0  # blocks of `waiting` that it is in
    has_it = False
    shares_cpu = False


_own = _Own()


class _Running:
    """The thread works while the block runs. Blocks are not nested."""

    def __enter__(self) -> None:
        _own.takes_part = True
        _own.has_it = _baton.acquire(timeout=_PATIENCE_SECONDS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _own.takes_part = False
        _pass_on()


class _Waiting:
    """The thread waits for a disk, a network or another thread while the block runs; others may continue."""

    def __enter__(self) -> None:
        _own.waits += 1
        _pass_on()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _own.waits -= 1
        if _own.takes_part and not _own.waits:
            _own.has_it = _baton.acquire(timeout=_PATIENCE_SECONDS)


def _pass_on() -> None:
    if _own.has_it:
        _own.has_it = False
        _baton.release()


running, waiting = _Running(), _Waiting()


def share_cpu() -> None:
    """Keep this thread on the CPU of all threads of this process that call this, if the system allows it.

    Not for the main thread.
    """
    _own.shares_cpu = True
    with suppress(OSError):  # our unit forbids it
        cpus = sorted(_cpus())
        os.sched_setaffinity(0, {cpus[os.getpid() % len(cpus)]})


@contextmanager
def on_any_cpu() -> Iterator[None]:
    """For the start of a process, which would have to stay on this thread's CPU."""
    if not _own.shares_cpu:
        yield
        return
    with suppress(OSError):
        os.sched_setaffinity(0, _cpus())
    try:
        yield
    finally:
        share_cpu()


def _cpus() -> set[int]:
    """Where this process may run: those of its main thread, also if someone has changed them (taskset)."""
    return os.sched_getaffinity(os.getpid())
