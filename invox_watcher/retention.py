"""Deletes what is finished once it is old enough: recordings, transcripts and their entries in the journal.

Only files that the journal knows, and only if they are as they were filed or delivered: a file that was
changed since is kept. Only while the API confirms this machine's clock, since by a wrong one everything could
look old. By default only journal entries are deleted; every deletion is in the audit log.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

from invox_watcher.errors import FoldersGoneError, InvoxError, JournalError, Reason, StorageError
from invox_watcher.events import Event, log
from invox_watcher.files import Deletion, Folders, delete_unchanged
from invox_watcher.job import Job, State
from invox_watcher.journal import AuditLog, Finished
from invox_watcher.recording import FileIdentity
from invox_watcher.times import utc_now

_EVERY_SECONDS = 3600.0
# A few milliseconds of the journal's time, and then twice as much for all others.
_FORGOTTEN_AT_ONCE = 10
_PAUSE_FACTOR = 2.0
# Beyond what it takes to ask the API for the time.
_LONGEST_QUESTION = timedelta(minutes=10)


@dataclass(frozen=True)
class Ages:
    """After how many days each is deleted; None for never. See config.example.yaml, `retention`."""

    done_days: int | None
    failed_days: int | None
    transcripts_days: int | None
    journal_days: int | None

    def __bool__(self) -> bool:
        return any(days is not None for days in vars(self).values())


class ClockWitness(Protocol):
    """Another clock to compare this machine's with: the API's."""

    @property
    def clock_ahead_seconds(self) -> float | None:
        """How far this machine's clock is ahead; None if that is not known."""

    @property
    def confirms_clock(self) -> bool | None:
        """Whether this machine's clock is right; None if that is not known."""

    def authenticate(self) -> None:
        """Ask for a token, whose reply tells the time. Raises InvoxError."""


def clock_fault(witness: ClockWitness) -> Reason | None:
    """Why nothing may be deleted by this machine's clock; None if it is right."""
    if witness.confirms_clock is None:
        with contextlib.suppress(InvoxError):  # no recording has come since the start
            witness.authenticate()
    confirmed, ahead_seconds = witness.confirms_clock, witness.clock_ahead_seconds
    if confirmed:
        return None
    if ahead_seconds is None:
        return Reason(
            "clock_unconfirmed",
            "Nothing is deleted: no reply of the API has said yet what time it is.",
            "Retention continues automatically. If it does not, see `invox-watcher check`.",
        )
    direction = "ahead of" if ahead_seconds > 0 else "behind"
    return Reason(
        "clock_wrong",
        f"Nothing is deleted: this machine's clock is {abs(ahead_seconds) / 60:,.0f} minutes {direction} the "
        "API's.",
        "Set it by NTP. Retention continues automatically.",
    )


class Retention:
    """Checks once an hour what is old enough; `run` is the body of a thread."""

    def __init__(
        self,
        ages: Ages,
        finished: Finished,
        folders: Folders,
        audit: AuditLog,
        *,
        unavailable: Callable[[], InvoxError | None],
        witness: ClockWitness,
        on_duty: Callable[[], bool] = lambda: True,
    ) -> None:
        """`unavailable` checks the folders and returns why one of them can't be reached, if so. `witness` is
        asked whether the clock is right before anything is deleted. `on_duty`: whether this host, of several,
        is the one that deletes.
        """
        self._ages = ages
        self._finished = finished
        self._folders = folders
        self._audit = audit
        self._unavailable = unavailable
        self._witness = witness
        self._on_duty = on_duty
        self._paused: Reason | None = None

    def run(self, stop: threading.Event) -> None:
        """Delete what is due, now and every hour, until `stop` is set."""
        while not stop.is_set():
            try:
                if self._on_duty():
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
        self._forget_old(ages.journal_days, stop)
        finished.erase_deleted()  # what another program's reading prevented before, or prevents for an hour

    def _each(
        self,
        days: int | None,
        due: Callable[[datetime, Collection[str]], list[Job]],
        delete: Callable[[Job], None],
        stop: threading.Event,
    ) -> None:
        """`delete` every job that is `due`, batch by batch; a job that is deleted is no longer due."""
        refused: set[str] = set()
        while days is not None:
            jobs = self._old(days, lambda before: due(before, refused))
            if not jobs:
                return
            for job in jobs:
                if stop.is_set():
                    return
                try:
                    delete(job)
                except FoldersGoneError:
                    raise
                except StorageError as error:  # retried in an hour; the others must not wait
                    refused.add(job.id)
                    log.error(Event.RETENTION_REFUSED, code=error.code, error=error.message, hint=error.hint)
            self._finished.erase_deleted()

    def _forget_old(self, days: int | None, stop: threading.Event) -> None:
        """Delete old entries, few at a time, so that no other write waits for long."""
        while days is not None:
            jobs = self._old(days, self._finished.old)
            if not jobs:
                return
            for start in range(0, len(jobs), _FORGOTTEN_AT_ONCE):
                began = time.monotonic()
                few = jobs[start : start + _FORGOTTEN_AT_ONCE]
                for job in few:
                    self._audit.append("forgotten", job.id, name=job.path, sha256=job.sha256)
                self._audit.sync()
                self._finished.forget(few)
                if stop.wait(_PAUSE_FACTOR * (time.monotonic() - began)):
                    return
            self._finished.forget_signatures(utc_now() - timedelta(days=days))
            self._finished.erase_deleted()

    def _old(self, days: int, due: Callable[[datetime], list[Job]]) -> list[Job]:
        """Some of the jobs that were `due` that many days ago by a clock that is right; else none."""
        while True:
            now = utc_now()
            jobs = due(now - timedelta(days=days))
            if not jobs or self._is_paused():
                return []
            if abs(utc_now() - now) <= _LONGEST_QUESTION:
                return jobs
            # The clock was set meanwhile: it is right now, but was not when they seemed old.

    def _is_paused(self) -> bool:
        """Whether the clock can't be trusted; why, is logged once."""
        before, self._paused = self._paused, clock_fault(self._witness)
        paused = self._paused
        if paused is not None and (before is None or before.code != paused.code):
            log.warning(Event.RETENTION_PAUSED, code=paused.code, error=paused.message, hint=paused.hint)
        return paused is not None

    def _delete_recording(self, job: Job, root: Path) -> None:
        self._delete(job, root, job.filed_as or job.path, job.identity)
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

        became = delete_unchanged(root, path, unchanged, account)
        if became is Deletion.GONE and (unavailable := self._unavailable()) is not None:
            raise unavailable  # the whole folder is missing, not just this file
        if became is Deletion.CHANGED:
            log.warning(Event.RETENTION_KEPT, job=job.id, folder=root.name, name=path)
