"""Offers complete files to the intake: those that it accepts are claimed together, the others are held."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from invox_watcher.errors import InvoxError
from invox_watcher.events import Event, log
from invox_watcher.heartbeat import beat
from invox_watcher.inbox.reports import Reports
from invox_watcher.inbox.room import Room
from invox_watcher.inbox.screening import Candidate
from invox_watcher.inbox.stability import Tracker
from invox_watcher.inbox.waiting import error_reason
from invox_watcher.priority import Priority

# So many files are claimed together at most: the first of them waits until the last was judged.
_MOST_TOGETHER = 32
# To another file system they are copied, which takes longer the more bytes they have.
_MOST_BYTES_TOGETHER = 64 << 20


class Intake(Protocol):
    """What takes files out of the inbox."""

    def take(self, candidate: Candidate) -> bool:
        """Accept a file for the next `claim_taken`; False if there is no capacity."""

    def claim_taken(self) -> Mapping[str, OSError | InvoxError]:
        """Move what was accepted out of the inbox; return why others could not be moved, by their path."""


class _Batch:
    """What was accepted, and not yet claimed."""

    def __init__(self) -> None:
        self.candidates: list[Candidate] = []
        self.most_urgent = Priority.ROUTINE
        self._size_bytes = 0

    def add(self, candidate: Candidate, priority: Priority) -> None:
        """One more was accepted."""
        self.candidates.append(candidate)
        self.most_urgent = min(self.most_urgent, priority)
        self._size_bytes += candidate.identity.size_bytes

    @property
    def is_full(self) -> bool:
        """Whether no more should be claimed with these."""
        return len(self.candidates) >= _MOST_TOGETHER or self._size_bytes >= _MOST_BYTES_TOGETHER


class Offers:
    """Offers files that `tracker` knows to an `Intake`; `room` learns what that does not accept."""

    def __init__(self, tracker: Tracker, reports: Reports, room: Room, clock: Callable[[], float]) -> None:
        self._tracker = tracker
        self._reports = reports
        self._room = room
        self._clock = clock
        self._accepted = _Batch()

    def claim_before(self, path: str, intake: Intake) -> None:
        """Claim now what is more urgent than that file, which is judged next."""
        if self._accepted.most_urgent < self._tracker.priority_of(path):
            self.claim(intake)

    def offer(self, candidate: Candidate, intake: Intake) -> None:
        """Offer a file. If there is no room for it, it will be the first to be offered again."""
        path = candidate.path
        waited_seconds = self._clock() - self._tracker.known_since(path)
        priority = self._tracker.priority_of(path)
        self._room.ask()
        if intake.take(replace(candidate, waited_seconds=waited_seconds)):
            self._accepted.add(candidate, priority)
            if self._accepted.is_full:
                self.claim(intake)
        else:
            self._tracker.hold(path, first=True)
            self._room.refuse(priority)

    def claim(self, intake: Intake) -> None:
        """Have all claimed that were accepted. What could not be moved is tried again at the next rescan."""
        if not self._accepted.candidates:
            return
        refused = intake.claim_taken()
        self._room.note_claim(self._clock())
        accepted, self._accepted = self._accepted, _Batch()
        for candidate in accepted.candidates:
            path, error = candidate.path, refused.get(candidate.path)
            if error is None:
                if candidate.remark:
                    log.warning(Event.RECORDING_DOUBTFUL, recording=path, reason=candidate.remark)
                self._tracker.forget(path)
                self._reports.forget(path)
            else:
                self._tracker.mark_error(path, self._clock())
                self._tracker.explain(path, error_reason(error))
                self._reports.not_taken(path, error)
        beat()
