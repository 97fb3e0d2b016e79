"""Is a file complete? How long it has been unchanged (a pure tracker), and whether anyone is writing to it.

File times are only compared with themselves; all waiting is measured on the clock that the caller passes in.
"""

from __future__ import annotations

import errno
import fcntl
import heapq
import itertools
import os
import signal
from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum, StrEnum

# How soon a file that is open for writing is looked at again. Its being closed is announced, but a moment
# before the kernel counts the writer out (`__fput`), so that the look which follows may come too early.
_OPEN_RECHECK_MIN_SECONDS = 0.05
_OPEN_RECHECK_MAX_SECONDS = 1.0


class Writer(StrEnum):
    """Whether some process has a file open for writing."""

    NONE = "none"
    OPEN = "open"
    UNKNOWN = "unknown"


def writer_of(fd: int) -> Writer:
    """Ask the kernel whether any process has the file behind `fd` (opened read-only) open for writing.

    A read lease is granted only if nobody has; fcntl(2), "Leases". It is given back at once. It is refused
    to those who don't own the file (without CAP_LEASE), and says nothing about other machines, so ask only on
    a local file system.
    """
    try:
        # Sent if a writer opens the file in between; the default would be SIGIO, which kills.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return Writer.OPEN if error.errno == errno.EAGAIN else Writer.UNKNOWN
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return Writer.NONE


@dataclass(frozen=True)
class Snapshot:
    """What must stay the same for a file to count as unchanged."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, facts: os.stat_result) -> Snapshot:
        """The snapshot of a stat result."""
        return cls(facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


class Stage(Enum):
    """Where a file stands that has not been taken yet."""

    SETTLING = "settling"  # not yet quiet for long enough
    UNFINISHED = "unfinished"  # quiet, but empty, half-written or held open; or growing without end
    WAITING = "waiting"  # there was no room
    TROUBLED = "troubled"  # could not be read or taken; the next rescan tries again


@dataclass
class _Entry:
    snapshot: Snapshot | None  # None as long as it could not be opened
    known_since: float
    first_seen: float  # the same, but for a file that changes after it has waited for us
    quiet_since: float
    due: float | None
    stage: Stage = Stage.SETTLING


class Tracker:
    """What is known of every file that has not been taken: since when it is unchanged, when to look again.

    Pure bookkeeping: it touches no file, and `now` (monotonic seconds) is always passed in.
    """

    def __init__(self, *, settle_seconds: float, patience_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._patience_seconds = patience_seconds
        self._entries: dict[str, _Entry] = {}
        self._stages: Counter[Stage] = Counter()
        self._heap: list[tuple[float, int, str]] = []
        self._order = itertools.count()
        self._waiting: deque[str] = deque()

    def see(self, path: str, snapshot: Snapshot, now: float, *, look_now: bool = False) -> bool:
        """Note what a file looks like now; True if it was not known before.

        A new or changed file starts to be quiet now, and is due for a look within `settle_seconds`, or at
        once if `look_now`.
        """
        entry = self._entries.get(path)
        if entry is not None and entry.snapshot == snapshot:
            return False
        if entry is None:
            self._add(path, snapshot, now)
        else:
            if entry.stage in (Stage.WAITING, Stage.TROUBLED):
                entry.first_seen = now  # the time it lay here was not its writer's
            if entry.stage is not Stage.UNFINISHED:
                self._move(path, Stage.SETTLING)
            entry.snapshot, entry.quiet_since = snapshot, now
        due = now if look_now else now + self._settle_seconds
        # Never put off: a file that changes with every scan has to be looked at all the same.
        if entry is None or entry.due is None or due < entry.due:
            self._look_at(path, due)
        return entry is None

    def settled(self, path: str, now: float) -> bool:
        """Unchanged for `settle_seconds`?"""
        return now >= self._entries[path].quiet_since + self._settle_seconds

    def patient(self, path: str, now: float) -> bool:
        """Unchanged for `patience_seconds`?"""
        return now >= self._entries[path].quiet_since + self._patience_seconds

    def overdue(self, path: str, now: float) -> bool:
        """Here for `patience_seconds`, changed or not?"""
        return now >= self._entries[path].first_seen + self._patience_seconds

    def settle(self, path: str) -> None:
        """Look again once the file has been unchanged for `settle_seconds`."""
        self._move(path, Stage.SETTLING)
        self._look_at(path, self._entries[path].quiet_since + self._settle_seconds)

    def hold_unfinished(self, path: str) -> None:
        """The file is quiet but not whole: look again when it changes, or after `patience_seconds`."""
        self._move(path, Stage.UNFINISHED)
        self._look_at(path, self._entries[path].quiet_since + self._patience_seconds)

    def hold_open(self, path: str, now: float) -> None:
        """A process has the file open for writing: look again soon, and less often the longer it is so."""
        self._move(path, Stage.SETTLING)
        known_seconds = now - self._entries[path].first_seen
        self._look_at(
            path, now + min(max(known_seconds, _OPEN_RECHECK_MIN_SECONDS), _OPEN_RECHECK_MAX_SECONDS)
        )

    def mark_unfinished(self, path: str) -> None:
        """Count the file as unfinished, without changing when it is looked at."""
        self._move(path, Stage.UNFINISHED)

    def wait_for_room(self, path: str, *, first: bool = False) -> None:
        """Queue the file until there is room; `first` puts it back where it came from."""
        if first:
            self._waiting.appendleft(path)
        elif self._entries[path].stage is not Stage.WAITING:
            self._waiting.append(path)
        self._park(path, Stage.WAITING)

    def trouble(self, path: str, now: float) -> None:
        """The file, known or not, could not be read or taken: leave it alone until `retry_troubled`."""
        if path not in self._entries:
            self._add(path, None, now)
        self._park(path, Stage.TROUBLED)

    def retry_troubled(self, now: float) -> None:
        """Look at every troubled file now."""
        for path, entry in self._entries.items():
            if entry.stage is Stage.TROUBLED and entry.due is None:
                self._look_at(path, now)

    def look_now(self, path: str, now: float) -> None:
        """Look at a known file as soon as possible."""
        self._look_at(path, now)

    def forget(self, path: str) -> None:
        """The file was taken, or is gone."""
        entry = self._entries.pop(path, None)
        if entry is not None:
            self._stages[entry.stage] -= 1

    def pop_due(self, now: float) -> str | None:
        """A file whose look is due, the one due longest first; None if none is."""
        while self._heap and self._heap[0][0] <= now:
            due, _, path = heapq.heappop(self._heap)
            entry = self._entries.get(path)
            if entry is not None and entry.due == due:
                entry.due = None
                return path
        return None

    def pop_waiting(self) -> str | None:
        """The file that has waited for room longest, None if none does."""
        while self._waiting:
            path = self._waiting.popleft()
            entry = self._entries.get(path)
            if entry is not None and entry.stage is Stage.WAITING:
                return path
        return None

    def next_due(self) -> float | None:
        """When the next look is due, None if there is none to wait for."""
        while self._heap:
            due, _, path = self._heap[0]
            entry = self._entries.get(path)
            if entry is not None and entry.due == due:
                return due
            heapq.heappop(self._heap)
        return None

    def paths(self) -> set[str]:
        """Every file known."""
        return set(self._entries)

    def known_since(self, path: str) -> float:
        """When a known file was first seen."""
        return self._entries[path].known_since

    def oldest(self) -> float | None:
        """When the file that is known for longest was first seen; None if none is known."""
        # New ones are added at the end, and none changes its place.
        return next((entry.known_since for entry in self._entries.values()), None)

    def count(self, stage: Stage) -> int:
        """How many files stand at `stage`."""
        return self._stages[stage]

    def _add(self, path: str, snapshot: Snapshot | None, now: float) -> None:
        self._entries[path] = _Entry(snapshot, known_since=now, first_seen=now, quiet_since=now, due=None)
        self._stages[Stage.SETTLING] += 1

    def _park(self, path: str, stage: Stage) -> None:
        self._move(path, stage)
        self._entries[path].due = None

    def _move(self, path: str, stage: Stage) -> None:
        entry = self._entries[path]
        self._stages[entry.stage] -= 1
        self._stages[stage] += 1
        entry.stage = stage

    def _look_at(self, path: str, when: float) -> None:
        self._entries[path].due = when
        heapq.heappush(self._heap, (when, next(self._order), path))
