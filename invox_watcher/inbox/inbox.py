"""The loop that finds candidates in the inbox folder, and offers each until it is accepted.

Rescans are authoritative; the kernel's events are hints that make detection fast. One thread does everything,
and sleeps on a queue until a hint, a wake-up or the next scheduled check.
"""

from __future__ import annotations

import errno
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Literal

from invox_watcher.baton import running, share_cpu
from invox_watcher.errors import Reason
from invox_watcher.events import Event, log
from invox_watcher.heartbeat import beat
from invox_watcher.host import Place, open_root
from invox_watcher.inbox.inotify import Hint
from invox_watcher.inbox.monitor import Mode, Watch
from invox_watcher.inbox.notes import Notes
from invox_watcher.inbox.offers import Intake, Offers
from invox_watcher.inbox.reports import Reports, cause_of
from invox_watcher.inbox.room import Room
from invox_watcher.inbox.screening import (
    Judgement,
    Outcome,
    ScreeningRules,
    judge,
    read_attributes,
)
from invox_watcher.inbox.stability import Evidence, Snapshot, Stage, Tracker
from invox_watcher.inbox.tree import (
    Filter,
    NotAFileError,
    kind_of,
    open_file,
    open_folder,
    stat_of,
    walk,
)
from invox_watcher.inbox.waiting import WaitingFile, endless, error_reason, reason_of, waiting_files
from invox_watcher.priority import Priority

# The longest sleep: the delay until a dead watch, a missing folder, or a stop without `wake` is noticed.
_TURN_SECONDS = 1.0
# With this many hints at once, others have probably been lost.
_FLOOD = 1000
_AFTER_FLOOD_SECONDS = 1.0
_HINT_OVERFLOW = "A rescan finds the missed files. If it happens often, raise fs.inotify.max_queued_events."

_UNAVAILABLE = Reason(
    "inbox_unavailable", "The inbox can't be read.", "Does it exist, and may the daemon's user read it?"
)

# How urgent the file at a path will be; what its header says is read only if that matters.
PriorityOf = Callable[[str, Callable[[], Mapping[str, str]]], Priority]
# While a scan takes longer than that, what is due by then is checked.
_CHECK_IN_SCAN_SECONDS = 0.5


class _Signal(Enum):
    WAKE = "wake"
    ROOM = "room"  # there may be capacity again
    OVERFLOW = "overflow"  # events were lost


@dataclass(frozen=True)
class InboxStatus:
    """The state of the inbox. It is drained when `scans >= 1 and settling == refused_now == 0`."""

    scans: int  # full scans completed
    settling: int  # files not yet unchanged for long enough
    unfinished: int  # unchanged but incomplete, still open for writing, or growing without end
    refused_now: int  # complete, but held until `take` accepts files again
    troubled: int  # files and folders that could not be read or claimed; retried at the next rescan
    oldest: float | None  # when the oldest known file or folder was first seen, on the monotonic clock
    available: bool  # the folder is accessible
    watching: Literal["native", "polling"]


class Inbox:
    """Watches the folder `root`.

    `mode` is `auto` (poll network and FUSE mounts, watch others), `native` or `polling`. A file is offered
    when it has been unchanged for as long as the evidence of its completeness demands (`rules.waits`); an
    incomplete file is refused once it has been unchanged for `patience_seconds`. `user_of` names the other
    instance that uses a folder, given by a descriptor; nothing is taken from there. `notes` carry over from
    process to process for how long incomplete files have been unchanged. What is more urgent by `priority_of`
    is offered first; None: nothing is.
    """

    def __init__(
        self,
        root: Path,
        rules: ScreeningRules,
        *,
        mode: Mode,
        recursive: bool,
        ignore: Sequence[str],
        rescan_seconds: float,
        polling_seconds: float,
        priority_of: PriorityOf | None = None,
        user_of: Callable[[int], str | None] = lambda _folder: None,
        notes: Notes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = os.path.abspath(root)
        self._rules = rules
        self._recursive = recursive
        self._rescan_seconds = rescan_seconds
        self._polling_seconds = polling_seconds
        self._clock = clock
        self._user_of = user_of
        self._notes = notes or Notes(bytes, lambda _content: None)
        self._names = Filter(ignore)
        self._priority_of = priority_of
        self._tracker = Tracker(rules.waits)
        self._reports = Reports()
        self._queue: queue.SimpleQueue[Hint | _Signal] = queue.SimpleQueue()
        self._hints: dict[Hint, None] = {}  # in order of arrival
        self._room = Room(lambda: self._queue.put(_Signal.ROOM))
        self._offers = Offers(self._tracker, self._reports, self._room, clock)
        self._watch = Watch(
            mode=mode,
            recursive=recursive,
            put=self._queue.put,
            on_overflow=lambda: self._queue.put(_Signal.OVERFLOW),
        )
        self._unreadable: dict[str, float] = {}  # folders that can't be read, and since when
        self._place: Place | None = None
        self._unavailable = False
        self._scans = 0
        self._next_scan = clock()
        self._status = self._current_status()

    @property
    def status(self) -> InboxStatus:
        """The latest status; may be read from any thread."""
        return self._status

    def closed(self) -> Reason | None:
        """Why no recording can be found now; None if the inbox can be read. From any thread."""
        return None if self._status.available else _UNAVAILABLE

    def wake(self) -> None:
        """Check at once, also what `take` has refused. From any thread."""
        self._queue.put(_Signal.WAKE)

    def has_room(self) -> None:
        """There may be capacity again: offer soon what `take` has refused. From any thread."""
        self._room.signal()

    def run(self, intake: Intake, stop: threading.Event) -> None:
        """Offer every complete file to `intake` until `stop` is set (within 1 s, or at once after `wake`).

        A file for which there is no capacity is offered again after `has_room` or `wake`, or at the next
        rescan. Why one could not be moved is logged, and it is offered again at the next rescan.

        Raises:
            InvoxError: `watch_died`, if a thread of the watch has died.
        """
        share_cpu()
        try:
            while not stop.is_set():
                with running:
                    self._turn(intake, stop)
                beat()
                self._status = self._current_status()
                self._sleep()
        finally:
            self._watch.close()

    def waiting(self) -> list[WaitingFile]:
        """Every file that was not taken, and every folder that can't be read. From any thread."""
        return list(waiting_files(self._tracker, self._unreadable, self._clock()))

    # ---- one turn ----

    def _turn(self, intake: Intake, stop: threading.Event) -> None:
        if not self._watch.native and not self._work_is_due():
            return
        try:
            root_fd, place = open_root(self._root, self._place)
        except OSError as error:
            self._note_unavailable(error)
            return
        try:
            self._note_available(place)
            if self._clock() >= self._next_scan:
                self._scan(root_fd, intake, stop)
            self._follow_hints(root_fd, stop)
            self._check_due(root_fd, intake, stop)
            self._watch.judge_silence(self._clock())
            self._notes.save()
        except _InboxUnavailableError as unavailable:
            self._note_unavailable(unavailable.error)
        finally:
            os.close(root_fd)

    def _work_is_due(self) -> bool:
        now = self._clock()
        due = self._tracker.next_due()
        return (
            now >= self._next_scan
            or (due is not None and now >= due)
            or (self._room.due is not None and now >= self._room.due)
            or (self._room.refused is None and self._tracker.count(Stage.HELD) > 0)
        )

    def _sleep(self) -> None:
        moments = [self._next_scan, self._watch.verdict_due]
        if not self._unavailable:
            moments += [self._tracker.next_due(), self._room.due]
        left = min(moment for moment in moments if moment is not None) - self._clock()
        count, overflow = 0, False
        try:
            item = self._queue.get(timeout=min(max(left, 0.0), _TURN_SECONDS))
            while True:
                count += 1
                if isinstance(item, Hint):
                    self._hints[item] = None
                elif item is _Signal.WAKE:
                    self._room.reset()
                elif item is _Signal.ROOM:
                    self._room.hear()
                else:
                    overflow = True
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        if overflow:
            log.warning(Event.WATCH_OVERFLOWED, hint=_HINT_OVERFLOW)
        if overflow or count >= _FLOOD:
            self._watch.expect_silence()
            self._next_scan = min(self._next_scan, self._clock() + _AFTER_FLOOD_SECONDS)

    def _note_unavailable(self, error: OSError) -> None:
        self._next_scan = self._clock() + min(self._polling_seconds, self._rescan_seconds)
        if not self._unavailable:
            self._unavailable = True
            self._watch.close()
            log.warning(
                Event.INBOX_UNAVAILABLE,
                **cause_of(error),
                hint="Check that the folder exists and that the daemon's user can read it.",
            )

    def _note_available(self, place: Place) -> None:
        # Watch first, then scan: a file that appears in between is then seen twice rather than missed.
        try:
            new_watch = self._watch.follow(self._root, place)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _InboxUnavailableError(error) from None
        self._place = place
        if new_watch or self._unavailable:
            self._next_scan = self._clock()
        if self._unavailable:
            self._unavailable = False
            log.info(Event.INBOX_AVAILABLE)
        if new_watch:
            self._status = self._current_status()  # available before the first scan, which may take long

    # ---- finding files ----

    def _scan(self, root_fd: int, intake: Intake, stop: threading.Event) -> None:
        check_at = self._clock() + _CHECK_IN_SCAN_SECONDS
        seen: set[str] = set()
        new: list[str] = []
        unreadable_before, self._unreadable = self._unreadable, {}

        def unreadable(folder: str, error: OSError) -> None:
            seen.add(folder)
            self._note_unreadable(folder, error, unreadable_before.get(folder))

        def may_enter(folder: str) -> bool:
            used = self._is_used_by_another(root_fd, folder)
            if used:
                seen.add(folder)
            return not used

        found = walk(
            root_fd,
            "",
            recursive=self._recursive,
            names=self._names,
            on_unreadable=unreadable,
            may_enter=may_enter,
        )
        try:
            for path, status in found:
                if stop.is_set():
                    return
                seen.add(path)
                if self._notice(path, status):
                    new.append(path)
                # Of a hundred thousand the first ones need not wait for the last.
                if self._clock() >= check_at:
                    self._check_due(root_fd, intake, stop)
                    check_at = self._clock() + _CHECK_IN_SCAN_SECONDS
        except OSError as error:
            raise _InboxUnavailableError(error) from None
        now = self._clock()
        for path in self._tracker.not_in(seen):
            self._tracker.check_now(path, now)
        self._tracker.retry_errors(now)
        self._reports.keep(lambda path: path in seen or self._tracker.knows(path))
        self._notes.keep(self._tracker.snapshots)
        self._watch.rescanned(new, now)
        self._room.reset()
        self._scans += 1
        self._next_scan = now + (self._rescan_seconds if self._watch.native else self._polling_seconds)
        self._status = self._current_status()

    def _note_unreadable(self, folder: str, error: OSError, since: float | None = None) -> None:
        self._reports.unreadable(folder, error)
        self._unreadable.setdefault(folder, self._clock() if since is None else since)

    def _is_used_by_another(self, root_fd: int, folder: str) -> bool:
        try:
            fd = open_folder(root_fd, folder)
        except OSError:
            return False
        try:
            user = self._user_of(fd)
        finally:
            os.close(fd)
        if user is not None:
            self._reports.occupied(folder, user)
        return user is not None

    def _notice(self, path: str, status: os.stat_result) -> bool:
        beat()
        if not stat.S_ISREG(status.st_mode):
            self._reports.skipped(path, kind_of(status.st_mode))
            return False
        best, snapshot, now = self._best_evidence(status.st_dev), Snapshot.of(status), self._clock()
        return self._tracker.see(path, snapshot, now, best=best, since=self._notes.since(snapshot, now))

    def _best_evidence(self, device: int) -> Evidence:
        return Evidence.PROVEN if self._watch.sees_every_writer(device) else Evidence.LIKELY

    def _follow_hints(self, root_fd: int, stop: threading.Event) -> None:
        hints, self._hints = self._hints, {}
        folders = {hint.path for hint in hints if hint.folder}
        for hint in hints:
            if stop.is_set():
                return
            self._watch.hear(hint)
            if self._names.why_ignored(hint.path, folder=hint.folder) is not None:
                continue
            if not hint.folder:
                self._follow_hint(root_fd, hint.path)
            elif self._recursive and not _within(hint.path, folders):
                found = walk(
                    root_fd,
                    hint.path,
                    recursive=True,
                    names=self._names,
                    on_unreadable=self._note_unreadable,
                )
                for path, status in found:
                    self._notice(path, status)

    def _follow_hint(self, root_fd: int, path: str) -> None:
        try:
            status = stat_of(root_fd, path)
        except OSError as error:
            self._note_unopened(path, error)
            return
        if not stat.S_ISREG(status.st_mode):
            self._tracker.forget(path)
        self._notice(path, status)
        if stat.S_ISREG(status.st_mode):
            # The sender that closed or moved it may set its times, its mode or its name next.
            self._tracker.touch(path, self._clock(), best=self._best_evidence(status.st_dev))

    # ---- checking one file ----

    def _check_due(self, root_fd: int, intake: Intake, stop: threading.Event) -> None:
        self._room.update(self._clock())
        # By priority, all wait in one queue for their turn.
        queued = [] if self._priority_of is None else self._queue_due(root_fd, self._priority_of, stop)
        while not stop.is_set() and (path := self._tracker.pop_queued(self._room.refused)) is not None:
            self._offers.claim_before(path, intake)
            self._check(root_fd, path, intake)
        self._tracker.hold_queued(queued)
        if self._priority_of is None:
            self._check_due_in_order(root_fd, intake, stop)
        self._offers.claim(intake)

    def _check_due_in_order(self, root_fd: int, intake: Intake, stop: threading.Event) -> None:
        while not stop.is_set() and (path := self._tracker.pop_due(self._clock())) is not None:
            if self._room.refused is None:
                self._check(root_fd, path, intake)
            else:
                self._tracker.hold(path)

    def _queue_due(self, root_fd: int, priority_of: PriorityOf, stop: threading.Event) -> list[str]:
        queued = []
        while not stop.is_set() and (path := self._tracker.pop_due(self._clock())) is not None:
            beat()
            try:
                priority = priority_of(path, partial(_attributes_of, root_fd, path))
            except (OSError, NotAFileError):  # the check, which comes next, says so
                priority = Priority.ROUTINE
            self._tracker.queue(path, priority)
            queued.append(path)
        return queued

    def _check(self, root_fd: int, path: str, intake: Intake) -> None:
        beat()
        if any(self._is_used_by_another(root_fd, folder) for folder in _folders_above(path)):
            self._tracker.forget(path)
            return
        try:
            fd = open_file(root_fd, path)
        except NotAFileError as error:
            self._tracker.forget(path)
            self._reports.skipped(path, error.kind)
            return
        except OSError as error:
            self._note_unopened(path, error)
            return
        try:
            status = os.fstat(fd)
            now = self._clock()
            self._tracker.see(path, Snapshot.of(status), now, best=self._best_evidence(status.st_dev))
            judgement = judge(
                path,
                fd,
                self._rules,
                unchanged_seconds=self._tracker.unchanged_seconds(path, now),
                local=self._watch.sees_every_writer(status.st_dev),
            )
        except OSError as error:
            self._note_unopened(path, error)
            return
        finally:
            os.close(fd)
        self._act(path, judgement, now, intake)

    def _act(self, path: str, judgement: Judgement, now: float, intake: Intake) -> None:
        if judgement.candidate is not None:
            self._offers.offer(judgement.candidate, intake)
        elif judgement.outcome is Outcome.UNFINISHED:
            self._tracker.hold_unfinished(path)
            self._tracker.explain(path, reason_of(judgement, self._rules.waits))
            if (looks := self._tracker.quiet_since(path)) is not None:
                self._notes.add(*looks)
            self._reports.unfinished(path, judgement.reason)
        else:
            if judgement.outcome is Outcome.OPEN:
                self._tracker.hold_open(path, now)
            else:
                self._tracker.settle(path, judgement.wait_seconds)
            self._tracker.explain(path, reason_of(judgement, self._rules.waits))
            if self._tracker.overdue(path, now):
                self._note_endless(path, judgement, now)

    def _note_endless(self, path: str, judgement: Judgement, now: float) -> None:
        self._tracker.mark_unfinished(path)
        reason = reason_of(judgement, self._rules.waits)
        if not self._tracker.settled(path, now):
            self._reports.endless(path, "still growing")
            reason = reason if judgement.outcome is Outcome.OPEN else endless(self._rules.waits)
        elif self._tracker.patient(path, now):
            self._reports.endless(path, judgement.reason)
        self._tracker.explain(path, reason)

    def _note_unopened(self, path: str, error: OSError) -> None:
        # The file is gone, or a folder above it is gone or has become a link: nothing to process.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            self._forget(path)
            return
        self._reports.unreadable(path, error)
        self._tracker.mark_error(path, self._clock())
        self._tracker.explain(path, error_reason(error))

    def _forget(self, path: str) -> None:
        self._tracker.forget(path)
        self._reports.forget(path)

    def _current_status(self) -> InboxStatus:
        oldest = self._tracker.oldest()
        known = [*self._unreadable.values(), *([] if oldest is None else [oldest])]
        return InboxStatus(
            scans=self._scans,
            settling=self._tracker.count(Stage.SETTLING),
            unfinished=self._tracker.count(Stage.UNFINISHED),
            refused_now=self._tracker.count(Stage.HELD),
            troubled=self._tracker.count(Stage.ERROR) + len(self._unreadable),
            oldest=min(known, default=None),
            available=self._place is not None and not self._unavailable,
            watching="native" if self._watch.native else "polling",
        )


def _attributes_of(root_fd: int, path: str) -> Mapping[str, str]:
    fd = open_file(root_fd, path)
    try:
        return read_attributes(fd)
    finally:
        os.close(fd)


class _InboxUnavailableError(Exception):
    """The inbox folder itself can't be read; `error` is the reason."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _within(path: str, folders: Collection[str]) -> bool:
    """Whether `path` is inside one of `folders`."""
    return any(folder in folders for folder in _folders_above(path))


def _folders_above(path: str) -> list[str]:
    """The folders that `path` lies in, except for the inbox itself."""
    steps = path.split("/")
    return ["/".join(steps[:depth]) for depth in range(1, len(steps))]
