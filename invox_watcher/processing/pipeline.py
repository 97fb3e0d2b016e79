"""What happens to a recording: `Pipeline.advance` takes one job one step further, and nothing else does.

A recording is **claimed**: one rename moves it from the inbox to processing/, and the journal gets its row.
Then each state leads to one step, in `steps/`:

    state         step             what it does
    claimed       identify         hashes the recording, and looks for an earlier job with the same content;
                                   `prepare` decodes what the API does not take
    identified    upload, reuse    uploads it; if an earlier job has the same content, follows that
                                   job, or asks for the result of its upload; if the daily minutes
                                   are used up, holds it
    uploading     reconcile        the upload's answer was lost: asks the API before anything is sent again
    waiting       poll             polls the API for the result, again and again
    transcribed   publish          judges the transcript, and writes its files to the outbox; moves the
                                   recording to done/ if nothing stands in the way
    delivered     file_as_done     moves the recording to done/
    failing       file_as_failed   writes the error file, and moves the recording to failed/

Final replies, from `poll`, `reconcile` and `reuse` alike, go through `accept`, which leads to transcribed.
What can't be processed goes through `fail`, which leads to failing. A recording that was removed from
processing/ goes through `vanish`. Before a transcript is accepted, before it is published, and before the
recording is filed, `verify` compares the recording with what was hashed; `rechecks` checks done/ once more.
The final states are done, failed and vanished.

Each step begins from what is in the journal and ends with a guarded journal write, so that a step that was
killed anywhere is simply taken again. `engine` decides *when* a step is taken; `faults` decides what an error
means for the job, and `engine` carries it out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from invox_watcher.coverage import Listener
from invox_watcher.errors import InvoxError
from invox_watcher.events import Event, log
from invox_watcher.files import Folders
from invox_watcher.formats.decoder import Decoder
from invox_watcher.inbox import Evidence
from invox_watcher.invox import InvoxApi
from invox_watcher.job import Job, State
from invox_watcher.journal import Journal
from invox_watcher.processing.claiming import Claiming, FileFirst, Outcome
from invox_watcher.processing.context import Context, Next, ProcessingOptions, Step
from invox_watcher.processing.polling import ResultPoller
from invox_watcher.processing.reservations import Reservations
from invox_watcher.processing.steps.fail import fail
from invox_watcher.processing.steps.file_as_done import file_as_done
from invox_watcher.processing.steps.file_as_failed import file_as_failed
from invox_watcher.processing.steps.hold import hold
from invox_watcher.processing.steps.identify import identify
from invox_watcher.processing.steps.poll import poll
from invox_watcher.processing.steps.prepare import needs_preparing, prepare_again
from invox_watcher.processing.steps.publish import publish
from invox_watcher.processing.steps.reconcile import reconcile
from invox_watcher.processing.steps.reuse import reuse
from invox_watcher.processing.steps.upload import upload
from invox_watcher.processing.steps.vanish import vanish


def _upload_or_reuse(context: Context, job: Job) -> Next:
    if job.original_id is not None:
        return reuse(context, job)
    if needs_preparing(context, job):
        return prepare_again(context, job)
    if job.request_id is not None:  # of an earlier job of this content: the API may have its upload
        to = State.WAITING if context.poller.is_expected(job) else State.UPLOADING
        return Next(context.journal.move(job, to, detail={"request_id": job.request_id}))
    held = hold(context, job)
    return upload(context, job) if held is None else held


STEPS: dict[State, Step] = {
    State.CLAIMED: identify,
    State.IDENTIFIED: _upload_or_reuse,
    State.UPLOADING: reconcile,
    State.WAITING: poll,
    State.TRANSCRIBED: publish,
    State.DELIVERED: file_as_done,
    State.FAILING: file_as_failed,
}


class Pipeline:
    """The state machine. Safe to use from several threads, one thread per job at a time."""

    def __init__(
        self,
        *,
        folders: Folders,
        journal: Journal,
        api: InvoxApi,
        options: ProcessingOptions,
        decoder: Decoder,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
        listener: Listener | None = None,
        claiming: Claiming | None = None,
        may_file_first: Callable[[], bool] = lambda: True,
        waiting: Callable[[], int] = lambda: 0,
        on_filed: Callable[[Job, Evidence], None] = lambda _job, _evidence: None,
    ) -> None:
        """`listener` hears what a transcript may have left out. `claiming` is how one host claims by default.
        `may_file_first`: see `Context`. `waiting`: see `ResultPoller`.

        `on_filed` gets each job whose recording is in done/, and what had shown that that was complete.
        """
        self._on_filed = on_filed
        self._claiming = claiming or FileFirst(folders, journal, stop)
        self._evidence: dict[str, Evidence] = {}  # of jobs under way that this process has claimed
        self._context = Context(
            folders=folders,
            journal=journal,
            api=api,
            options=options,
            poller=ResultPoller(journal, api, options.polling, clock=clock, waiting=waiting),
            reservations=Reservations(folders, journal),
            decoder=decoder,
            stop=stop,
            clock=clock,
            listener=listener,
            may_file_first=may_file_first,
        )

    def claim(self, job: Job, waited_seconds: float = 0.0, evidence: Evidence = Evidence.UNPROVEN) -> bool:
        """Take the recording out of the inbox. False if it is gone or has changed: it will be seen again.

        `evidence` is what shows that it is complete.

        Raises:
            StorageError, JournalError: it could not be claimed, and stays in the inbox or returns there.
        """
        (outcome,) = self.claim_all([(job, waited_seconds, evidence)])
        if isinstance(outcome, InvoxError):
            raise outcome
        return outcome

    def claim_all(self, wanted: Sequence[tuple[Job, float, Evidence]]) -> list[Outcome]:
        """`claim` each of them, which is cheaper together: for each what that would return, or raise."""
        outcomes = self._claiming.claim_all([(job, round(waited, 3)) for job, waited, _evidence in wanted])
        for (job, waited_seconds, evidence), outcome in zip(wanted, outcomes, strict=True):
            if outcome is not True:
                continue
            self._evidence[job.id] = evidence
            log.info(
                Event.CLAIMED, job=job.id, recording=job.path, bytes=job.size_bytes, format=job.format,
                duration_seconds=job.duration_seconds, waited_seconds=round(waited_seconds, 3),
                evidence=evidence,
            )  # fmt: skip
        return outcomes

    def is_taken(self, path: str) -> bool:
        """Whether another host claims that recording at this moment."""
        return self._claiming.is_taken(path)

    def advance(self, job: Job) -> Next:
        """Take `job` one step further.

        Raises:
            InvoxError: the step was not completed; `faults` says what each class means for the job.
        """
        return self._forget(STEPS[job.state](self._context, job))

    def fail(self, job: Job, error: InvoxError) -> Next:
        """Give `job` up for good because of `error`: its reason goes into the journal, then it moves."""
        return self._forget(fail(self._context, job, error))

    def vanish(self, job: Job) -> Next:
        """Close a job whose recording was removed from processing/."""
        return self._forget(vanish(self._context, job))

    def _forget(self, following: Next) -> Next:
        job = following.job
        if not job.state.is_polled:
            self._context.poller.forget(job)
        if job.state.is_final:
            self._context.open_reported.discard(job.id)
            self._context.accepted.pop(job.id, None)
            evidence = self._evidence.pop(job.id, Evidence.UNPROVEN)
            if job.state is State.DONE:
                self._on_filed(job, Evidence.UNPROVEN if job.changed_uploads else evidence)
        return following
