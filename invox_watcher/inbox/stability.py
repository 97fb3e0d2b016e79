"""Is a file complete? Two witnesses and a clock: `Evidence`, and for how long each kind of it has to wait.

The witnesses: the file is *closed* (this kernel says that no process has it open for writing), and it is
*whole* (its container says so, and its last bytes are sound). File times are only compared with each other;
all waiting is measured on the clock that the caller passes in.
"""

from __future__ import annotations

import errno
import fcntl
import heapq
import itertools
import os
import signal
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum

from invox_watcher.errors import Reason
from invox_watcher.priority import Priority, Turns

# When to check a file that is open for writing again. The close event comes a moment before the kernel drops
# the writer (`__fput`), so the check that it triggers may be too early.
_OPEN_RECHECK_MIN_SECONDS = 0.05
_OPEN_RECHECK_MAX_SECONDS = 1.0
# So many gaps at the front of a dict cost nothing: it passes them all to find its first entry.
_FEW_GAPS = 1000


class Writer(StrEnum):
    """Whether some process has a file open for writing."""

    NONE = "none"
    OPEN = "open"
    UNKNOWN = "unknown"


def writer_of(fd: int) -> Writer:
    """Ask the kernel whether any process has the file behind `fd` (opened read-only) open for writing.

    A read lease is granted only if none has; fcntl(2), "Leases". It is released at once. It is refused to
    users who don't own the file (without CAP_LEASE), and does not cover other machines, so use this only on a
    local file system.
    """
    try:
        # Sent if a writer opens the file in between; the default would be SIGIO, which kills.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return Writer.OPEN if error.errno == errno.EAGAIN else Writer.UNKNOWN
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return Writer.NONE


class Evidence(StrEnum):
    """What speaks for a file being complete."""

    PROVEN = "proven"  # closed and whole
    LIKELY = "likely"  # one of the two
    UNPROVEN = "unproven"  # neither: only time tells

    @classmethod
    def of(cls, *, closed: bool, whole: bool) -> Evidence:
        """The evidence that the two witnesses give."""
        if closed and whole:
            return cls.PROVEN
        return cls.LIKELY if closed or whole else cls.UNPROVEN


@dataclass(frozen=True)
class Waits:
    """For how long a file must be unchanged; see config.example.yaml, `watch`."""

    grace_seconds: float  # proven
    settle_seconds: float  # likely
    unproven_seconds: float
    patience_seconds: float  # certainly incomplete

    def of(self, evidence: Evidence) -> float:
        """The wait for that evidence, which is never shorter than the one for better evidence."""
        waits = [self.grace_seconds, self.settle_seconds, self.unproven_seconds]
        return max(waits[: list(Evidence).index(evidence) + 1])


_DEVICES: dict[int, int] = {}  # each number once; see `Snapshot.of`


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What must stay the same for a file to count as unchanged."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Snapshot:
        """The snapshot of a stat result.

        Equal numbers are one object: an inbox of 100,000 files takes 10 MB less.
        """
        mtime_ns, ctime_ns = status.st_mtime_ns, status.st_ctime_ns
        return cls(
            _DEVICES.setdefault(status.st_dev, status.st_dev),
            status.st_ino,
            status.st_size,
            mtime_ns,
            mtime_ns if ctime_ns == mtime_ns else ctime_ns,
        )


class Stage(Enum):
    """The stage of a file that has not been claimed yet."""

    SETTLING = "settling"  # not yet unchanged for long enough
    UNFINISHED = "unfinished"  # unchanged, but empty, incomplete or open; or growing without end
    HELD = "held"  # complete, but there is no capacity
    ERROR = "error"  # could not be read or claimed; retried at the next rescan


@dataclass(slots=True)
class _Entry:
    snapshot: Snapshot | None  # None as long as it could not be opened
    known_since: float
    first_seen: float  # the same, but later if the file changed after it was held or failed
    quiet_since: float
    last_event: float  # when it was last closed, renamed or seen open, changed or not
    due: float | None
    stage: Stage = Stage.SETTLING
    priority: Priority = Priority.ROUTINE  # by which it is queued
    queued: bool = False
    reason: Reason | None = None  # why it is at that stage, if that was found out


class Tracker:
    """Every file that has not been claimed: since when it is unchanged, and when to check it again.

    Pure bookkeeping: it touches no file, and `now` (monotonic seconds) is always passed in.
    """

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._entries: dict[str, _Entry] = {}
        self._forgotten = 0  # how many of it are gone since it was made
        self._stages: Counter[Stage] = Counter()
        self._heap: list[tuple[float, int, str]] = []
        self._order = itertools.count()
        self._queues: tuple[deque[tuple[int, str]], ...] = tuple(deque() for _ in Priority)
        self._turns = Turns()

    def see(
        self,
        path: str,
        snapshot: Snapshot,
        now: float,
        *,
        best: Evidence = Evidence.LIKELY,
        since: float | None = None,
    ) -> bool:
        """Record a file's current snapshot; True if it was not known before.

        If it was not, it counts as unchanged `since` then; None: from now on.

        A new or changed file counts as unchanged from now on, and is due for a check as soon as it can be
        taken with the `best` evidence that its file system allows.
        """
        entry = self._entries.get(path)
        if entry is not None and entry.snapshot == snapshot:
            return False
        if entry is None:
            self._add(path, snapshot, now, unchanged_since=now if since is None else since)
        else:
            if entry.stage in (Stage.HELD, Stage.ERROR):
                entry.first_seen = now  # the time until now was not due to its writer
            if entry.stage is not Stage.UNFINISHED:
                self._move(path, Stage.SETTLING)
            entry.snapshot, entry.quiet_since, entry.queued = snapshot, now, False
        self._check_by(path, now + self._waits.of(best))
        return entry is None

    def touch(self, path: str, now: float, *, best: Evidence = Evidence.LIKELY) -> None:
        """A known file was closed, moved or created by its sender: the wait starts again, changed or not."""
        entry = self._entries[path]
        entry.last_event = now
        if entry.due is not None:
            self._check_by(path, now + self._waits.of(best))

    def unchanged_seconds(self, path: str, now: float) -> float:
        """How long the file has been unchanged, and no event has come for it."""
        entry = self._entries[path]
        return now - max(entry.quiet_since, entry.last_event)

    def settled(self, path: str, now: float) -> bool:
        """Unchanged for `settle_seconds`, even if it is open?"""
        return now >= self._entries[path].quiet_since + self._waits.of(Evidence.LIKELY)

    def patient(self, path: str, now: float) -> bool:
        """Unchanged for `patience_seconds`?"""
        return now >= self._entries[path].quiet_since + self._waits.patience_seconds

    def overdue(self, path: str, now: float) -> bool:
        """Known for `patience_seconds`, changed or not?"""
        return now >= self._entries[path].first_seen + self._waits.patience_seconds

    def settle(self, path: str, wait_seconds: float) -> None:
        """Check again once the file has been unchanged for `wait_seconds`."""
        self._move(path, Stage.SETTLING)
        entry = self._entries[path]
        self._schedule(path, max(entry.quiet_since, entry.last_event) + wait_seconds)

    def hold_unfinished(self, path: str) -> None:
        """The file is unchanged but incomplete: check it when it changes, or after `patience_seconds`."""
        self._move(path, Stage.UNFINISHED)
        self._schedule(path, self._entries[path].quiet_since + self._waits.patience_seconds)

    def hold_open(self, path: str, now: float) -> None:
        """A process has the file open for writing: check again soon, then less and less often."""
        self._move(path, Stage.SETTLING)
        self._entries[path].last_event = now
        known_seconds = now - self._entries[path].first_seen
        self._schedule(
            path, now + min(max(known_seconds, _OPEN_RECHECK_MIN_SECONDS), _OPEN_RECHECK_MAX_SECONDS)
        )

    def mark_unfinished(self, path: str) -> None:
        """Count the file as unfinished, without changing when it is checked."""
        self._move(path, Stage.UNFINISHED)

    def queue(self, path: str, priority: Priority) -> None:
        """Queue a file that is due until it is its turn."""
        entry = self._entries[path]
        entry.priority, entry.due = priority, None
        self._enqueue(path)

    def hold(self, path: str, *, first: bool = False) -> None:
        """Queue the file until there is capacity; `first` returns it to the front of the queue."""
        self._enqueue(path, first=first)
        self._park(path, Stage.HELD)

    def hold_queued(self, paths: Iterable[str]) -> None:
        """There is no capacity for those of `paths` that are still queued."""
        for path in paths:
            if path in self._entries and self._entries[path].queued:
                self._park(path, Stage.HELD)

    def mark_error(self, path: str, now: float) -> None:
        """The file, known or not, could not be read or claimed: leave it alone until `retry_errors`."""
        if path not in self._entries:
            self._add(path, None, now, unchanged_since=now)
        self._park(path, Stage.ERROR)

    def retry_errors(self, now: float) -> None:
        """Check every file with an error now."""
        for path, entry in self._entries.items():
            if entry.stage is Stage.ERROR and entry.due is None:
                self._schedule(path, now)

    def check_now(self, path: str, now: float) -> None:
        """Check a known file as soon as possible."""
        self._schedule(path, now)

    def forget(self, path: str) -> None:
        """The file was claimed, or no longer exists."""
        entry = self._entries.pop(path, None)
        if entry is None:
            return
        self._stages[entry.stage] -= 1
        self._forgotten += 1
        if self._forgotten > len(self._entries) + _FEW_GAPS:
            self._entries, self._forgotten = dict(self._entries), 0

    def pop_due(self, now: float) -> str | None:
        """A file whose check is due, the earliest first; None if none is."""
        while self._heap and self._heap[0][0] <= now:
            due, _, path = heapq.heappop(self._heap)
            entry = self._entries.get(path)
            if entry is not None and entry.due == due:
                entry.due = None
                return path
        return None

    def pop_queued(self, above: Priority | None = None) -> str | None:
        """The queued file whose turn it is; None if there is none.

        With `above`, only of those that are more urgent than that.
        """
        queues = self._queues[:above]
        for queue in queues:
            while queue and not self._is_queued(queue[0][1]):
                queue.popleft()
        number = self._turns.next([queue[0][0] if queue else None for queue in queues])
        if number is None:
            return None
        path = queues[number].popleft()[1]
        self._entries[path].queued = False
        return path

    def priority_of(self, path: str) -> Priority:
        """How urgent a known file is; routine until it has been queued as another."""
        return self._entries[path].priority

    def next_due(self) -> float | None:
        """When the next check is due, None if none is scheduled."""
        while self._heap:
            due, _, path = self._heap[0]
            entry = self._entries.get(path)
            if entry is not None and entry.due == due:
                return due
            heapq.heappop(self._heap)
        return None

    def knows(self, path: str) -> bool:
        """Whether the file is known."""
        return path in self._entries

    def not_in(self, paths: Collection[str]) -> list[str]:
        """Every file known that is not one of `paths`."""
        return [path for path in self._entries if path not in paths]

    def snapshots(self) -> set[Snapshot]:
        """What every file looks like that could be opened."""
        return {entry.snapshot for entry in self._entries.values() if entry.snapshot is not None}

    def quiet_since(self, path: str) -> tuple[Snapshot, float] | None:
        """What a known file looks like, and since when; None if it could not be opened."""
        entry = self._entries[path]
        return None if entry.snapshot is None else (entry.snapshot, entry.quiet_since)

    def known_since(self, path: str) -> float:
        """When a known file was first seen."""
        return self._entries[path].known_since

    def oldest(self) -> float | None:
        """When the oldest known file was first seen; None if none is known."""
        # New entries are added at the end, and none is ever reordered.
        return next((entry.known_since for entry in self._entries.values()), None)

    def explain(self, path: str, reason: Reason) -> None:
        """Why the file is at its stage, if it is known."""
        if (entry := self._entries.get(path)) is not None:
            entry.reason = reason

    def listed(self) -> Iterator[tuple[str, Stage, Reason | None, float, Snapshot | None]]:
        """Each file's path, stage, reason, since when it is known, its snapshot. From any thread."""
        # Copying a dictionary is one operation of the interpreter: no other thread runs in between.
        for path, entry in self._entries.copy().items():
            yield path, entry.stage, entry.reason, entry.known_since, entry.snapshot

    def count(self, stage: Stage) -> int:
        """The number of files at `stage`."""
        return self._stages[stage]

    def _add(self, path: str, snapshot: Snapshot | None, now: float, *, unchanged_since: float) -> None:
        self._entries[path] = _Entry(
            snapshot,
            known_since=now,
            first_seen=now,
            quiet_since=unchanged_since,
            last_event=unchanged_since,
            due=None,
        )
        self._stages[Stage.SETTLING] += 1

    def _is_queued(self, path: str) -> bool:
        entry = self._entries.get(path)
        return entry is not None and entry.queued

    def _enqueue(self, path: str, *, first: bool = False) -> None:
        entry = self._entries[path]
        queue = self._queues[entry.priority]
        if first:
            queue.appendleft((queue[0][0] - 1 if queue else next(self._order), path))
        elif not entry.queued:
            queue.append((next(self._order), path))
        entry.queued = True

    def _park(self, path: str, stage: Stage) -> None:
        self._move(path, stage)
        self._entries[path].due = None

    def _move(self, path: str, stage: Stage) -> None:
        entry = self._entries[path]
        self._stages[entry.stage] -= 1
        self._stages[stage] += 1
        entry.stage, entry.reason = stage, None

    def _check_by(self, path: str, due: float) -> None:
        # Never postponed: a file that changes with every scan must be checked all the same.
        before = self._entries[path].due
        if before is None or due < before:
            self._schedule(path, due)

    def _schedule(self, path: str, when: float) -> None:
        self._entries[path].due = when
        heapq.heappush(self._heap, (when, next(self._order), path))
