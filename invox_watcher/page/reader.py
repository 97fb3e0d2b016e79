"""The journal, read while the daemon writes: opened again after it was replaced, converted, or locked."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from invox_watcher.errors import InvoxError, JournalError
from invox_watcher.journal import FILENAME, Journal

# Of a program that has it locked. The daemon's own writes delay no reader.
BUSY_SECONDS = 1.0
# Not everyone waits for that, one after the other.
_AGAIN_SECONDS = 1.0


class JournalReader:
    """The journal of one daemon. Safe for several threads."""

    def __init__(self, directory: Path, open_journal: Callable[[], Journal]) -> None:
        """`directory` is the state directory; `open_journal` opens the journal to be read."""
        self._file = directory / FILENAME
        self._open_journal = open_journal
        self._lock = threading.Lock()  # guards what follows
        self._journal: Journal | None = None
        self._opened: object = None  # what `_identity` said when it was opened
        self._times_opened = 0
        self._error: InvoxError | None = None
        self._closed_until = 0.0

    def journal(self) -> Journal:
        """The journal, opened again if that is needed.

        Raises:
            JournalError, NotPermittedError: it can't be read now.
        """
        with self._lock:
            if self._error is not None and time.monotonic() < self._closed_until:
                raise self._error.with_traceback(None)
            try:
                journal = self._current()
            except InvoxError as error:
                self._error, self._closed_until = error, time.monotonic() + _AGAIN_SECONDS
                raise
            self._error = None
            return journal

    def changes(self) -> tuple[object, ...]:
        """What is other once something was written to the journal."""
        try:
            journal = self.journal()
            return self._times_opened, *journal.changes()
        except InvoxError as error:
            return (error.code,)

    def unreadable_because(self) -> str:
        """Why the journal can't be read now, as a sentence; empty if it can."""
        try:
            journal = self.journal()
            journal.changes()
        except InvoxError as error:
            return error.message
        return ""

    def close(self) -> None:
        """Close it; it is opened again if it is asked again."""
        with self._lock:
            self._discard()

    def _current(self) -> Journal:
        if self._journal is not None:
            try:
                is_same = self._opened == self._identity(self._journal)
            except JournalError:
                self._discard()
                raise
            if not is_same:
                self._discard()
        if self._journal is None:
            self._journal = self._open_journal()
            self._times_opened += 1
            self._opened = self._identity(self._journal)
        return self._journal

    def _identity(self, journal: Journal) -> object:
        """Which file has its name by now, if any, and the version of its tables."""
        file = None
        with suppress(OSError):
            status = os.stat(self._file)
            file = (status.st_dev, status.st_ino)
        return file, journal.changes()[1]

    def _discard(self) -> None:
        journal, self._journal, self._opened = self._journal, None, None
        if journal is not None:
            journal.close()
