"""Answers that all browsers share, and questions to disks that may hang, each asked once and not for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from invox_watcher.errors import InvoxError, StorageError

_T = TypeVar("_T")

_PATIENCE_SECONDS = 5.0
_MOST_LATE = 4
# What took long to find out is found out less often.
_TIMES_AS_LONG = 10
_LONGEST_SECONDS = 60.0
_SLOW_SECONDS = 1.0


class Patience:
    """Waits a few seconds for an answer. If several are late, no further question is asked."""

    def __init__(self, seconds: float = _PATIENCE_SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._late: list[Future[object]] = []

    def ask(self, question: Callable[[], _T]) -> _T:
        """The answer.

        Raises:
            StorageError: there is none in time: a disk hangs, or a share.
            Exception: what `question` raises.
        """
        with self._lock:
            self._late = [one for one in self._late if not one.done()]
            if len(self._late) >= _MOST_LATE:
                raise _silence()
        asked: Future[_T] = Future()
        threading.Thread(target=_answer, args=(asked, question), name="page-question", daemon=True).start()
        try:
            return asked.result(self._seconds)
        except TimeoutError:
            if asked.done():  # it was the answer that raised this
                raise
            with self._lock:
                self._late.append(asked)  # type: ignore[arg-type]
            raise _silence() from None


def _answer(asked: Future[_T], question: Callable[[], _T]) -> None:
    try:
        asked.set_result(question())
    except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
        asked.set_exception(error)


def _silence() -> StorageError:
    return StorageError(
        "A folder, or the disk that it is on, does not answer.",
        code="not_answering",
        hint="Is a network share unavailable? The page shows it again once it answers.",
    )


class Shared(Generic[_T]):
    """An answer that is found out again only after a while, by one thread; errors are shared like answers.

    If finding it out takes long, no one waits for that again: the last answer is given until the next.
    """

    def __init__(self, question: Callable[[], _T], *, seconds: float = 1.0) -> None:
        """`seconds`: how old an answer may be; if finding it out takes long, older."""
        self._question = question
        self._seconds = seconds
        self._asking = threading.Lock()
        self._answer: _T | None = None
        self._error: InvoxError | None = None
        self._good_until = 0.0
        self._forgotten = 0
        self._is_slow = False

    def get(self) -> _T:
        """The answer. Raises InvoxError, as the question does."""
        if time.monotonic() < self._good_until:
            pass
        elif self._is_slow:
            if self._asking.acquire(blocking=False):
                threading.Thread(target=self._ask_meanwhile, name="page-question", daemon=True).start()
        else:
            with self._asking:
                if time.monotonic() >= self._good_until:
                    self._ask()
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self._answer  # type: ignore[return-value]

    def forget(self) -> None:
        """Something was changed: find it out again."""
        self._forgotten += 1
        self._good_until = 0.0
        self._is_slow = False

    def _ask_meanwhile(self) -> None:
        try:
            self._ask()
        finally:
            self._asking.release()

    def _ask(self) -> None:
        forgotten, began = self._forgotten, time.monotonic()
        answer, error = None, None
        try:
            answer = self._question()
        except InvoxError as raised:
            error = raised
        took = time.monotonic() - began
        self._answer, self._error = answer, error
        if self._forgotten == forgotten:
            good = max(self._seconds, min(took * _TIMES_AS_LONG, _LONGEST_SECONDS))
            self._good_until = time.monotonic() + good
            self._is_slow = took > _SLOW_SECONDS and error is None
