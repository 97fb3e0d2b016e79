"""Which of the threads that take steps continues: one at a time, unless it waits for a disk or a network.

Python hands its own lock over at each system call, however short, to whichever thread could run: with several
of them, one recording costs two hundred changes of thread. Here a thread keeps the baton until it waits for
something that takes long.

The baton is advice: a thread that does not get it within a moment continues without. So a system call that
hangs, as on a share whose server is gone, stops no other thread.
"""

from __future__ import annotations

import threading
from types import TracebackType

_PATIENCE_SECONDS = 0.005  # Python's own switch interval

_baton = threading.Lock()


class _Own(threading.local):
    takes_part = False  # whether this thread is between the beginning and the end of its work
    waits = 0  # blocks of `waiting` that it is in
    has_it = False


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
