"""The journal, read while the daemon writes: opened again after it was replaced, converted, or locked."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from invox_watcher.errors import InvoxError, JournalError
from invox_watcher.journal import FILENAME, Journal

# Of a program that has it locked. The daemon's own writes delay no reader.
_BUSY_SECONDS = 1.0
# Not everyone waits for that, one after the other.
_AGAIN_SECONDS = 1.0


class JournalReader:
    """The journal in a state directory. Safe for several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()  # guards what follows
        self._journal: Journal | None = None
        self._opened: tuple[int, int, int] | None = None  # its device, inode, and version
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
            self._journal = Journal(self._directory, create=False, busy_seconds=_BUSY_SECONDS)
            self._times_opened += 1
            self._opened = self._identity(self._journal)
        return self._journal

    def _identity(self, journal: Journal) -> tuple[int, int, int] | None:
        """Which file it is by now under that name, and the version of its tables."""
        try:
            status = os.stat(self._directory / FILENAME)
        except OSError:
            return None
        return status.st_dev, status.st_ino, journal.changes()[1]

    def _discard(self) -> None:
        journal, self._journal, self._opened = self._journal, None, None
        if journal is not None:
            journal.close()
