"""How a claim is won: by the rename alone, or if several hosts watch one inbox, in the journal first.

One host moves the file, then writes its row: a file in processing/ without a row goes back to the inbox. With
several hosts the row comes first, with a reservation of the file that only one of them can have; the rename
follows. A row whose file was not moved is deleted again, by this host or by the one that takes over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from invox_watcher.baton import waiting
from invox_watcher.errors import FencedError, JournalError, StorageError
from invox_watcher.files import Claim, Folders
from invox_watcher.job import Job
from invox_watcher.journal import Journal

# The inbox sees at once what is returned to it: while the journal refuses writes, don't spin.
_JOURNAL_REFUSED_SECONDS = 2.0
# A file that another host has just reserved is gone from the inbox in a moment, unless that host dies.
_TAKEN_SECONDS = 2.0

Outcome = bool | StorageError | JournalError


class Claiming(Protocol):
    """Takes recordings out of the inbox, for the inbox's thread."""

    def claim_all(self, wanted: Sequence[tuple[Job, float]]) -> list[Outcome]:
        """Claim each job, with its waiting time: True, or False if it is gone, or why it could not be.

        What is not claimed is in the inbox, or, after a StorageError, perhaps in processing/.
        """

    def is_taken(self, path: str) -> bool:
        """Whether another host was found to claim the file with that path, a moment ago."""


class FileFirst:
    """The claims of one host."""

    def __init__(self, folders: Folders, journal: Journal, stop: threading.Event) -> None:
        self._folders = folders
        self._journal = journal
        self._stop = stop

    def claim_all(self, wanted: Sequence[tuple[Job, float]]) -> list[Outcome]:
        found = self._folders.claim_all([_claim_of(job) for job, _waited in wanted])
        claimed = [one for one, outcome in zip(wanted, found, strict=True) if outcome is True]
        try:
            if claimed:
                self._journal.add_all(claimed)
        except BaseException as error:
            for job, _waited in claimed:
                self._folders.unclaim(job.id)  # no row would ever lead to it
            with waiting:
                self._stop.wait(_JOURNAL_REFUSED_SECONDS)
            if not isinstance(error, JournalError):
                raise
            return [error if outcome is True else outcome for outcome in found]
        return [*found]

    def is_taken(self, path: str) -> bool:  # noqa: ARG002 - there is no other host
        return False


class JournalFirst:
    """The claims of one of several hosts."""

    def __init__(self, folders: Folders, journal: Journal, stop: threading.Event) -> None:
        self._folders = folders
        self._journal = journal
        self._stop = stop
        self._lost: list[Job] = []  # perhaps in the journal, but not moved
        self._taken_until: dict[str, float] = {}  # by path

    def claim_all(self, wanted: Sequence[tuple[Job, float]]) -> list[Outcome]:
        try:
            self._withdraw()
            won = self._journal.reserve_all(wanted)
        except (JournalError, FencedError) as error:
            self._lost += [job for job, _waited in wanted]
            with waiting:
                self._stop.wait(_JOURNAL_REFUSED_SECONDS)
            refusal = JournalError(error.message, code=error.code, hint=error.hint)
            return [refusal for _ in wanted]
        self._note_taken(job.path for job, _waited in wanted if job.id not in won)
        claims = [_claim_of(job) for job, _waited in wanted if job.id in won]
        found = dict(zip((claim.job_id for claim in claims), self._folders.claim_all(claims), strict=True))
        outcomes: list[Outcome] = [found.get(job.id, False) for job, _waited in wanted]
        self._lost = [job for job, _waited in wanted if found.get(job.id, True) is not True]
        try:
            self._withdraw()
        except (JournalError, FencedError):  # before the next claim, or by the host that takes over
            with waiting:
                self._stop.wait(_JOURNAL_REFUSED_SECONDS)
        return outcomes

    def is_taken(self, path: str) -> bool:
        return self._taken_until.get(path, 0.0) > time.monotonic()

    def _note_taken(self, paths: Iterable[str]) -> None:
        now = time.monotonic()
        self._taken_until = {path: until for path, until in self._taken_until.items() if until > now}
        self._taken_until |= dict.fromkeys(paths, now + _TAKEN_SECONDS)

    def _withdraw(self) -> None:
        if self._lost:
            self._journal.withdraw_all(self._lost)
            self._lost = []


def _claim_of(job: Job) -> Claim:
    return Claim(job.id, job.path, job.identity)
