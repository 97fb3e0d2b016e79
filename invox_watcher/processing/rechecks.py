"""Looks at done/ once more: a sender whose line had stalled may write to a recording that is filed already.

A rename does not end what another process, or another machine, writes to an open file. A recording that was
proven complete is looked at once; another one, again and again for an hour. If it has changed, its transcript
is of a part: the transcript is withdrawn, and the recording goes back to the inbox, as a new one.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO

from invox_watcher.errors import JournalError, RecordingVanishedError, StorageError
from invox_watcher.events import Event, log
from invox_watcher.files import Folders
from invox_watcher.heartbeat import beat
from invox_watcher.host import mount_of
from invox_watcher.inbox import Evidence, Waits, Writer, writer_of
from invox_watcher.job import Job
from invox_watcher.journal import AuditLog, Finished
from invox_watcher.recording import FileIdentity
from invox_watcher.times import utc_now

# In multiples of `unproven_seconds`: with its default the last check is an hour after the filing.
_LATER_LOOKS = (1, 4, 20, 120)
_RECENT = timedelta(hours=1)
# Beyond so many, recordings are looked at once only.
_MOST_REMEMBERED = 20_000


@dataclass(frozen=True)
class _Look:
    job: Job
    expected: FileIdentity
    later: Sequence[float]  # the delays of the looks after this one


class Rechecks:
    """Remembers what was filed; `run` is the body of a thread. `add` may be called from any thread."""

    def __init__(
        self,
        folders: Folders,
        finished: Finished,
        audit: AuditLog,
        waits: Waits,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders = folders
        self._finished = finished
        self._audit = audit
        self._clock = clock
        self._first_seconds = waits.of(Evidence.LIKELY)
        self._later = [waits.of(Evidence.UNPROVEN) * times for times in _LATER_LOOKS]
        self._lock = threading.Lock()  # guards what follows
        self._heap: list[tuple[float, int, _Look]] = []
        self._order = itertools.count()

    def add(self, job: Job, evidence: Evidence) -> None:
        """`job` was filed in done/; `evidence` is what showed that its recording was complete."""
        once = evidence is Evidence.PROVEN or len(self._heap) >= _MOST_REMEMBERED
        self._put(_Look(job, job.identity, [] if once else self._later), self._first_seconds)

    def run(self, stop: threading.Event) -> None:
        """Look at what the run before this one has filed, then at each recording when it is due."""
        try:
            for job in self._finished.recent(utc_now() - _RECENT):
                self._put(_Look(job, job.identity, self._later), 0.0)
        except JournalError:
            pass  # reported by the journal's monitor
        self.look()  # however short the run is
        while not stop.wait(self._first_seconds):
            self.look()

    def look(self) -> None:
        """Look at every recording that is due."""
        for look in self._pop_due():
            beat()
            try:
                expected = self._look_at(look)
            except (StorageError, JournalError):
                self._put(look, self._first_seconds)  # reported by the monitors of folders and journal
                continue
            if expected is not None and look.later:
                self._put(_Look(look.job, expected, look.later[1:]), look.later[0])

    def _put(self, look: _Look, delay_seconds: float) -> None:
        with self._lock:
            heapq.heappush(self._heap, (self._clock() + delay_seconds, next(self._order), look))

    def _pop_due(self) -> list[_Look]:
        now, due = self._clock(), []
        with self._lock:
            while self._heap and self._heap[0][0] <= now:
                due.append(heapq.heappop(self._heap)[2])
        return due

    def _look_at(self, look: _Look) -> FileIdentity | None:
        """What the recording is expected to be next time; None if there is no next time."""
        job = look.job
        filed_as = job.filed_as or job.path
        try:
            with self._folders.open_filed(filed_as) as file:
                found = FileIdentity.of(os.fstat(file.fileno()))
                same_size = found.size_bytes == look.expected.size_bytes
                same_time = found.mtime_ns == look.expected.mtime_ns
                if (same_size and same_time) or writer_of(file.fileno()) is Writer.OPEN:
                    return look.expected
                if same_size and _sha256(file) == job.sha256:
                    return found
        except RecordingVanishedError:
            return look.expected  # moved away by a person, or its share is unavailable
        if not self._finished.has_its_name(job):
            return None  # withdrawn before, and filed again as a whole, under the same name
        # On a share the same file may get another number.
        if found.inode == look.expected.inode or mount_of(os.path.realpath(self._folders.done)).remote:
            self._start_over(job, filed_as)
        return None  # else a person has put another file in its place

    def _start_over(self, job: Job, filed_as: str) -> None:
        log.error(Event.RECORDING_CHANGED, job=job.id, recording=job.path, state=job.state)
        outputs = self._finished.outputs(job.id)
        self._audit.write("withdrawn", job.id, name=filed_as, outputs=outputs)
        self._folders.withdraw(outputs)
        returned_as = self._folders.return_filed(filed_as, job.path)
        log.warning(Event.RETURNED, job=job.id, recording=returned_as)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
        beat()
    return digest.hexdigest()
