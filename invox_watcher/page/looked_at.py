"""Which transcripts someone has read: by the audit log, which has a line of each time one was shown."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from invox_watcher.journal import AUDIT_FILENAME

# What stands for that someone has read it.
WORDS_SEEN = "words_seen"
_LOOKS = (WORDS_SEEN, "document_downloaded")
_MARKS = tuple(f'"{what}"'.encode() for what in _LOOKS)
# Of a log that was never rotated, the latest part: months, in a large hospital.
_MOST_BYTES = 32 << 20


class LookedAt:
    """The ids of the jobs whose words were shown; reads what is new. Safe for several threads."""

    def __init__(self, directory: Path) -> None:
        """`directory` is the state directory."""
        self._path = directory / AUDIT_FILENAME
        self._lock = threading.Lock()  # guards what follows
        self._ids: set[str] = set()
        self._file: tuple[int, int] | None = None
        self._read = 0

    def __call__(self, job_ids: Iterable[str]) -> set[str]:
        """Those of the jobs whose transcripts someone has read; as far as known, if the log can't be read."""
        with self._lock:
            with suppress(OSError):
                self._read_on()
            return self._ids.intersection(job_ids)

    def _read_on(self) -> None:
        with self._path.open("rb") as log:
            status = os.fstat(log.fileno())
            file = (status.st_dev, status.st_ino)
            if file != self._file or status.st_size < self._read:  # rotated; what was read counts
                self._file, self._read = file, max(status.st_size - _MOST_BYTES, 0)
            if status.st_size == self._read:
                return
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break  # it is being written
                self._read += len(line)
                if any(mark in line for mark in _MARKS):
                    self._note(line)

    def _note(self, line: bytes) -> None:
        with suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            if entry["what"] in _LOOKS:
                self._ids.add(entry["job"])
