"""Deletes what is finished once it is old enough: recordings, transcripts and the journal's memory of them.

Only what the journal knows as its own, and only as it was filed or delivered: a file that was changed since
stays. Off unless the configuration says otherwise; every deletion is in the audit log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from invox_watcher.errors import FoldersGoneError, InvoxError, JournalError, StorageError
from invox_watcher.events import Event, log
from invox_watcher.files import Deletion, Folders
from invox_watcher.job import Job, State
from invox_watcher.journal import AuditLog, Finished
from invox_watcher.recording import FileIdentity
from invox_watcher.times import utc_now

_EVERY_SECONDS = 3600.0


@dataclass(frozen=True)
class Ages:
    """After how many days what is deleted; None for never. See config.example.yaml, `retention`."""

    done_days: int | None
    failed_days: int | None
    transcripts_days: int | None
    journal_days: int | None

    def __bool__(self) -> bool:
        return any(days is not None for days in vars(self).values())


class Retention:
    """Looks once an hour for what is old enough; `run` is a thread's work."""

    def __init__(
        self,
        ages: Ages,
        finished: Finished,
        folders: Folders,
        audit: AuditLog,
        gone: Callable[[], InvoxError | None],
    ) -> None:
        """`gone` looks whether the folders are there, and says what is wrong if they are not."""
        self._ages = ages
        self._finished = finished
        self._folders = folders
        self._audit = audit
        self._gone = gone

    def run(self, stop: threading.Event) -> None:
        """Delete what is due, now and every hour, until `stop` is set."""
        while not stop.is_set():
            try:
                self._sweep(stop)
            except (StorageError, JournalError) as error:
                log.error(Event.RETENTION_REFUSED, code=error.code, error=error.message, hint=error.hint)
            stop.wait(_EVERY_SECONDS)

    def _sweep(self, stop: threading.Event) -> None:
        ages, finished = self._ages, self._finished
        self._each(
            ages.done_days,
            partial(finished.kept, "recording", State.DONE),
            lambda job: self._delete_recording(job, self._folders.done),
            stop,
        )
        self._each(
            ages.failed_days,
            partial(finished.kept, "recording", State.FAILED),
            lambda job: self._delete_recording(job, self._folders.failed),
            stop,
        )
        self._each(
            ages.transcripts_days,
            partial(finished.kept, "transcripts", State.DONE),
            self._delete_transcripts,
            stop,
        )
        self._each(ages.journal_days, finished.old, self._forget, stop)

    def _each(
        self,
        days: int | None,
        due: Callable[[datetime, Collection[str]], list[Job]],
        delete: Callable[[Job], None],
        stop: threading.Event,
    ) -> None:
        """`delete` every job that is `due`, batch by batch: one that is deleted is due no more."""
        refused: set[str] = set()
        while days is not None:
            jobs = due(utc_now() - timedelta(days=days), refused)
            for job in jobs:
                if stop.is_set():
                    return
                try:
                    delete(job)
                except FoldersGoneError:
                    raise
                except StorageError as error:  # it is tried again in an hour; the others must not wait for it
                    refused.add(job.id)
                    log.error(Event.RETENTION_REFUSED, code=error.code, error=error.message, hint=error.hint)
            if not jobs:
                return

    def _delete_recording(self, job: Job, root: Path) -> None:
        seen = job.identity
        self._delete(job, root, job.filed_as or job.path, seen)
        if root == self._folders.failed:
            self._delete_outputs(job, root)
        self._finished.mark_deleted(job, "recording")

    def _delete_transcripts(self, job: Job) -> None:
        self._delete_outputs(job, self._folders.outbox)
        self._finished.mark_deleted(job, "transcripts")

    def _delete_outputs(self, job: Job, root: Path) -> None:
        for path, sha256 in self._finished.outputs(job.id).items():
            self._delete(job, root, path, sha256)

    def _delete(self, job: Job, root: Path, path: str, unchanged: FileIdentity | str) -> None:
        def account() -> None:
            self._audit.write("deleted", job.id, folder=root.name, name=path)

        became = self._folders.delete(root, path, unchanged, account)
        if became is Deletion.GONE and (gone := self._gone()) is not None:
            raise gone  # its share is: then it says nothing that the file is not there
        if became is Deletion.CHANGED:
            log.warning(Event.RETENTION_KEPT, job=job.id, folder=root.name, name=path)

    def _forget(self, job: Job) -> None:
        self._audit.write("forgotten", job.id, name=job.path, sha256=job.sha256)
        self._finished.forget(job)
