"""What a viewer can have done: what the command `retry` does, with one recording. Twice is once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from invox_watcher.delivery import SEND_AGAIN
from invox_watcher.diagnostics.attention import is_open_failure
from invox_watcher.diagnostics.names import UnknownNameError
from invox_watcher.diagnostics.retrying import move_back, order_again, why_not_sendable
from invox_watcher.errors import InvoxError, NotPermittedError, RecordingVanishedError
from invox_watcher.files import check_mounted, placed_orders
from invox_watcher.job import Job, State
from invox_watcher.journal import DeliveryState, Journal
from invox_watcher.page.model import Done, Sight
from invox_watcher.page.recording import Recordings
from invox_watcher.page.resources import Resources

_OWED = (DeliveryState.DUE, DeliveryState.UNCERTAIN)
_SAME_CLICK_SECONDS = 30.0


class NotPossibleError(InvoxError):
    """That can't be done with this recording as it is."""

    code = "not_possible"
    hint = "Nothing was changed."


@dataclass
class Actions:
    """Actions on single recordings. Safe for several threads: one at a time."""

    resources: Resources
    recordings: Recordings
    state: Path  # the state directory
    receivers: frozenset[str]  # the names of all targets, commands included
    on_change: Callable[[], None]
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    _ordered: dict[tuple[str, str], float] = field(init=False, default_factory=dict)

    def retry(self, sight: Sight, job_id: str, record: Callable[[], None]) -> Done:
        """Move the failed recording to the inbox; `record` is called just before."""
        with self._lock:
            journal = self.resources.reader.journal()
            job = self._known(journal, sight, job_id)
            if job.state is not State.FAILED:
                raise NotPossibleError(f"The recording is {job.state}, not failed.")
            outputs = journal.finished.outputs(job.id)
            done = self.resources.patience.ask(lambda: self._moved_back(job, outputs, journal, record))
            self.on_change()
            return done

    def _moved_back(
        self, job: Job, outputs: dict[str, str], journal: Journal, record: Callable[[], None]
    ) -> Done:
        folders = self.resources.folders
        check_mounted(self.state, (folders.failed, folders.inbox))
        try:
            if not is_open_failure(job, journal, folders):
                return Done.RETRIED_BEFORE
            record()
            move_back(job, outputs, folders)
        except RecordingVanishedError:
            return Done.RETRIED_BEFORE
        except PermissionError as error:
            raise NotPermittedError(f"{folders.failed} can't be read: {error.strerror}") from None
        return Done.RETRIED

    def send_again(self, sight: Sight, job_id: str, target: str, record: Callable[[], None]) -> Done:
        """Have a delivery made again; `record` is called just before."""
        with self._lock:
            journal = self.resources.reader.journal()
            job = self._known(journal, sight, job_id)
            found = [one for one in journal.deliveries.of(job.id) if one.target == target]
            if not found or target not in self.receivers:
                raise UnknownNameError("Nothing of this recording goes to a target of that name.", hint="")
            if (why := why_not_sendable(job, target)) is not None:
                raise NotPossibleError(why)
            if found[0].state in _OWED or self._is_ordered(job.id, target):
                return Done.OWED_ALREADY
            record()
            order_again(self.state, [job.id], target)
            self._ordered[job.id, target] = time.monotonic()
            self.on_change()
            return Done.SENT_AGAIN

    def _known(self, journal: Journal, sight: Sight, job_id: str) -> Job:
        job = self.recordings.job(journal, sight, job_id)
        if job is None:
            raise UnknownNameError("There is no such recording.", hint="")
        return job

    def _is_ordered(self, job_id: str, target: str) -> bool:
        """Whether it was asked for just now, or the daemon has not carried out an earlier order yet."""
        before = time.monotonic() - _SAME_CLICK_SECONDS
        self._ordered = {key: at for key, at in self._ordered.items() if at > before}
        return (job_id, target) in self._ordered or any(
            order.get("do") == SEND_AGAIN and order.get("target") == target and order.get("jobs") == [job_id]
            for _name, order in placed_orders(self.state)
        )
