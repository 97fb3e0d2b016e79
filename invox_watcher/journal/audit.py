"""The audit log of custody: what became of each recording, one line a step, never changed afterwards.

Unlike the daemon's log it names recordings, for it is what an account of a patient's words is made from.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invox_watcher.errors import JournalError
from invox_watcher.files import fsync_folder
from invox_watcher.job import Job, State
from invox_watcher.times import rfc3339, utc_now

FILENAME = "audit.jsonl"


class AuditLog:
    """Appends to `audit.jsonl` in the state directory. Safe for several threads.

    Each line is a JSON object with `at` (RFC 3339, UTC), `what`, `job`, and the facts of that step.
    A step that a kill interrupted may be written twice; none is missing.
    """

    def __init__(self, directory: Path) -> None:
        """Raises JournalError where the file can't be written."""
        self._path = directory / FILENAME
        self._lock = threading.Lock()
        try:
            self._descriptor = self._opened()
        except OSError as error:
            raise self._refused(error.strerror) from None

    def write(self, what: str, job_id: str, **facts: Any) -> None:
        """Append one line, on disk when this returns.

        Raises:
            JournalError: it can't be written; then the step must not count as taken.
        """
        entry = {"at": rfc3339(utc_now()), "what": what, "job": job_id} | facts
        line = json.dumps(entry, ensure_ascii=True).encode() + b"\n"  # lone surrogates are escaped as well
        with self._lock:
            try:
                self._follow()
                written = os.write(self._descriptor, line)
                if written == len(line):
                    os.fdatasync(self._descriptor)
                    return
                os.write(self._descriptor, b"\n")  # ends what a full disk has cut off
            except OSError as error:
                raise self._refused(error.strerror) from None
        raise self._refused("it took only a part of a line")

    def record_transition(self, was: State | None, job: Job, detail: Mapping[str, Any]) -> None:
        """What the journal is about to say of `job`, as the steps of custody that it stands for."""
        name = job.filed_as or job.path
        if was is None:
            self.write("received", job.id, name=job.path, bytes=job.size_bytes, format=job.format)
            self.write("claimed", job.id, name=job.path, folder="processing")
        elif was is State.UPLOADING and job.state in (State.WAITING, State.TRANSCRIBED):
            self.write("uploaded", job.id, bytes=job.size_bytes, sha256=job.sha256, request_id=job.request_id)
        elif job.state is State.DELIVERED:
            self.write("delivered", job.id, by=job.delivered_by, sha256=job.sha256, outputs=detail["outputs"])
        elif job.state is State.DONE:
            self.write("filed", job.id, name=name, folder="done")
        elif job.state is State.FAILED:
            code = job.failure.reason.code if job.failure else None
            self.write("filed", job.id, name=name, folder="failed", code=code)
        elif job.state is State.VANISHED:
            self.write("vanished", job.id, name=job.path, was=was)

    def close(self) -> None:
        """Close the file."""
        with self._lock:  # a late writer must not find another file under the same number
            descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _opened(self) -> int:
        """The file, made where it is missing, its name on disk."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":  # the end of a killed attempt
                os.write(descriptor, b"\n")
            fsync_folder(self._path.parent)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _follow(self) -> None:
        """Go on in a new file where ours was moved away or deleted: nobody would look for a line in that."""
        ours = os.fstat(self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(ours, os.stat(self._path, follow_symlinks=False)):
                return
        old, self._descriptor = self._descriptor, self._opened()
        os.close(old)

    def _refused(self, reason: str | None) -> JournalError:
        return JournalError(
            f"The audit log {self._path} can't be written: {reason}",
            code="audit_log",
            hint="Is the disk full, or has its owner changed? No step is taken that can't be accounted for.",
        )
