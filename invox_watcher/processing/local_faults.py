"""Which recordings this machine's disk or a template holds up: said once, and when it is over."""

from __future__ import annotations

import threading

from invox_watcher.errors import InvoxError, TemplateError
from invox_watcher.events import Event, log
from invox_watcher.job import Job


class LocalFaults:
    """The latest error of each job that waits for disk or template. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows, all by job
        self._storage: dict[str, InvoxError] = {}
        self._filing: dict[str, InvoxError] = {}  # of those that are never given up
        self._template: dict[str, InvoxError] = {}

    # ---- what there is -----------------------------------------------------------------------------------

    @property
    def storage(self) -> InvoxError | None:
        """Why a recording can't be read, written or filed."""
        with self._lock:
            return next(iter((*self._storage.values(), *self._filing.values())), None)

    @property
    def template(self) -> InvoxError | None:
        """Why a document can't be made."""
        with self._lock:
            return next(iter(self._template.values()), None)

    @property
    def waiting_for_template(self) -> int:
        """How many jobs have their transcript, and wait until their document can be made."""
        with self._lock:
            return len(self._template)

    @property
    def refuse_new(self) -> bool:
        """Whether no other recording would fare better.

        One that can't be filed may have a name that the disk refuses; two have the same disk.
        """
        with self._lock:
            return bool(self._storage) or len(self._filing) > 1

    # ---- what happens ------------------------------------------------------------------------------------

    def note_storage(self, job: Job, error: InvoxError) -> None:
        """Disk or journal have refused a step."""
        with self._lock:
            first = not self._storage
            self._storage[job.id] = error
        if first:
            _report_storage(job, error)

    def note_filing(self, job: Job, error: InvoxError) -> None:
        """It was tried several times, and is never given up: then people should know."""
        with self._lock:
            known = self._filing or self._storage
            self._filing[job.id] = error
        if not known:
            _report_storage(job, error)

    def note_template(self, job: Job, error: TemplateError) -> None:
        """A document could not be made."""
        with self._lock:
            first = not self._template
            self._template[job.id] = error
        if first:
            log.error(Event.TEMPLATE_ERROR, job=job.id, code=error.code, error=error.message, hint=error.hint)

    def end_storage(self, job: Job) -> bool:
        """The job got past its files, or has ended; whether that was the last one that was held up."""
        if not (self._storage or self._filing):
            return False
        with self._lock:
            found = (self._storage.pop(job.id, None), self._filing.pop(job.id, None))
            if not any(found) or self._storage or self._filing:
                return False
        log.info(Event.STORAGE_RECOVERED)
        return True

    def end_template(self, job: Job) -> None:
        """The job has its document, or needs none."""
        if self._template:
            with self._lock:
                self._template.pop(job.id, None)


def _report_storage(job: Job, error: InvoxError) -> None:
    log.error(Event.STORAGE_ERROR, job=job.id, code=error.code, error=error.message, hint=error.hint)
