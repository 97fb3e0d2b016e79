"""Who looked at what: lines of the audit log, which the daemon writes to as well."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from invox_watcher.errors import JournalError
from invox_watcher.journal import AuditLog


class Record:
    """The audit log of the state directory, opened when it is needed. Safe for several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._log: AuditLog | None = None

    def write(self, what: str, job_id: str, *, viewer: str, address: str, **facts: Any) -> None:
        """Record what a viewer looked at or did, and from which address; it is on disk when this returns.

        Raises:
            JournalError: it can't be written.
        """
        with self._lock:
            log = self._log = self._log or AuditLog(self._directory)
        try:
            log.write(what, job_id, viewer=viewer, address=address, **facts)
        except JournalError:
            self.close()  # opened again next time: the state directory may be another one then
            raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            log, self._log = self._log, None
        if log is not None:
            with suppress(OSError):
                log.close()
