"""The audit log: what happened to each recording, one line per step, never changed afterwards.

Unlike the daemon's log it names recordings: with it an operator can account for every patient's dictation.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invox_watcher.errors import JournalError
from invox_watcher.files import fsync_folder
from invox_watcher.job import Job, State
from invox_watcher.times import rfc3339, utc_now

FILENAME = "audit.jsonl"
_LOOKS, _LOOK_SECONDS = 5, 0.01


class _Own(threading.local):
    """What one thread has appended, and not written yet."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []


class AuditLog:
    """Appends to `audit.jsonl` in the state directory. Safe for several threads, and for several processes.

    Each line is a JSON object with `at` (RFC 3339, UTC), `what`, `job`, and the fields of that step.
    A step that was killed may be logged twice; none is missing.
    """

    def __init__(self, directory: Path, *, host: str | None = None) -> None:
        """With `host`, the name of one of several hosts, each line has it.

        Raises:
            JournalError: the file can't be written.
        """
        self._host = {} if host is None else {"host": host}
        self._path = directory / FILENAME
        self._own = _Own()
        self._lock = threading.Lock()  # guards what follows
        try:
            self._descriptor = self._opened()
        except OSError as error:
            raise self._refused(error.strerror) from None

    def write(self, what: str, job_id: str, **facts: Any) -> None:
        """Append one line; it is on disk when this returns.

        Raises:
            JournalError: it can't be written; the step must then not be recorded in the journal either.
        """
        self.append(what, job_id, **facts)
        self.sync()

    def append(self, what: str, job_id: str, **facts: Any) -> None:
        """Append one line; it is on disk after the next `sync` in this thread."""
        entry = {"at": rfc3339(utc_now()), "what": what, "job": job_id} | self._host | facts
        # Lone surrogates are escaped as well.
        self._own.lines.append(json.dumps(entry, ensure_ascii=True).encode() + b"\n")

    def sync(self) -> None:
        """Let every line that this thread has appended be on disk.

        Raises:
            JournalError: it can't be written; the steps must then not be recorded in the journal either.
        """
        lines, self._own.lines = b"".join(self._own.lines), []
        if not lines:
            return
        with self._lock:
            try:
                self._follow()
                _write_whole(self._descriptor, lines)
                os.fdatasync(self._descriptor)
            except OSError as error:
                raise self._refused(error.strerror) from None

    def record_transition(self, was: State | None, job: Job, detail: Mapping[str, Any]) -> None:
        """Log the steps that a state write of the journal, which is about to be committed, stands for.

        They count once they are on disk: `sync` comes before the commit.
        """
        name = job.filed_as or job.path
        if was is None:
            self.append("received", job.id, name=job.path, bytes=job.size_bytes, format=job.format)
            self.append("claimed", job.id, name=job.path, folder="processing")
        elif "not_moved" in detail:
            self.append("unclaimed", job.id, name=job.path, folder="inbox")
        elif "duplicate_of" in detail:
            self.append("skipped", job.id, name=job.path, sha256=job.sha256, same_as=detail["duplicate_of"])
        elif was is State.UPLOADING and job.state in (State.WAITING, State.TRANSCRIBED):
            self.append(
                "uploaded", job.id, bytes=job.size_bytes, sha256=job.sha256, request_id=job.request_id
            )
        elif was is State.DELIVERED and job.state is State.CLAIMED:
            self.append("withdrawn", job.id, name=name, outputs=detail["withdrawn"])
        elif job.state is State.DELIVERED:
            self.append(
                "delivered", job.id, by=job.delivered_by, sha256=job.sha256, outputs=detail["outputs"]
            )
        elif job.state is State.DONE:
            self.append("filed", job.id, name=name, folder="done")
        elif job.state is State.FAILED:
            code = job.failure.reason.code if job.failure else None
            self.append("filed", job.id, name=name, folder="failed", code=code)
        elif job.state is State.VANISHED:
            self.append("vanished", job.id, name=job.path, was=was)

    def close(self) -> None:
        """Close the file."""
        with self._lock:  # a late writer must not write to another file under the same number
            descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _opened(self) -> int:
        """The file, created if it is missing, with its name on disk."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            if _is_torn(descriptor):
                os.write(descriptor, b"\n")
            fsync_folder(self._path.parent)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _follow(self) -> None:
        """Continue in a new file if ours was moved away or deleted, as logrotate does."""
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
            hint="Is the disk full, or has its owner changed? Nothing is processed without an audit log.",
        )


def _write_whole(descriptor: int, lines: bytes) -> None:
    if os.write(descriptor, lines) != len(lines):
        os.write(descriptor, b"\n")  # ends the line that a full disk has cut off
        raise OSError(errno.ENOSPC, "only a part of it was written")


def _is_torn(descriptor: int) -> bool:
    """Whether the last line has no end: a write was killed, unless another process is just writing it."""
    for _ in range(_LOOKS):
        size = os.fstat(descriptor).st_size
        if not size or os.pread(descriptor, 1, size - 1) == b"\n":
            return False
        time.sleep(_LOOK_SECONDS)
    return True
