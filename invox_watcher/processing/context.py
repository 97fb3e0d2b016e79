"""What every step gets, and what it returns: `Context`, `ProcessingOptions`, `Next`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from invox_watcher.budget import Held
from invox_watcher.coverage import Listener
from invox_watcher.files import Folders
from invox_watcher.formats.decoder import Decoder
from invox_watcher.invox import InvoxApi, TranscriptionReply
from invox_watcher.job import Job
from invox_watcher.journal import UNCONFIRMED_CLOCK, Journal
from invox_watcher.outputs import Delivery, OutputFormat, render
from invox_watcher.processing.polling import PollingPolicy, ResultPoller
from invox_watcher.processing.reservations import Reservations
from invox_watcher.spending import Limits


@dataclass(frozen=True)
class ProcessingOptions:
    """What the configuration says about processing; see config.example.yaml for each."""

    on_duplicate: Literal["reuse", "process", "fail", "skip"] = "reuse"
    on_truncated: Literal["fail", "send"] = "fail"
    max_size_bytes: int = 4096 << 20
    mime_types: Sequence[str] = ()  # that the account takes now
    formats: Sequence[OutputFormat] = ("json", "srt")
    speaker_names: Mapping[str, str] = field(default_factory=dict)
    docx_template: str | None = None  # path; None: the one in the package
    polling: PollingPolicy = field(default_factory=PollingPolicy)
    limits: Limits = field(default_factory=Limits)  # of audio minutes per day
    quiet_seconds: float = 0.0  # for how long a recording that changed must be unchanged before it is sent


@dataclass(frozen=True)
class Context:
    """The parts that the steps work with, one for all jobs."""

    folders: Folders
    journal: Journal
    api: InvoxApi
    options: ProcessingOptions
    poller: ResultPoller
    reservations: Reservations
    decoder: Decoder
    stop: threading.Event
    clock: Callable[[], float]  # monotonic
    listener: Listener | None = None  # None: transcripts are judged without the recording
    # Whether this host may move a recording before the journal has agreed to it: no other can have it by now.
    may_file_first: Callable[[], bool] = lambda: True
    accepted: dict[str, TranscriptionReply] = field(default_factory=dict)  # some of those in the journal
    open_reported: set[str] = field(default_factory=set)  # jobs whose recording is open for writing

    def formats_of(self, job: Job) -> Sequence[OutputFormat]:
        """The transcript files to write for `job`."""
        return self.options.formats if job.plan is None else cast(Sequence[OutputFormat], job.plan.formats)

    def rendered(self, job: Job, delivery: Delivery, format: OutputFormat) -> bytes:
        """The content of a transcript file of `job`.

        Raises:
            TemplateError: its document can't be made.
        """
        options, plan = self.options, job.plan
        if plan is None:
            return render(delivery, format, options.speaker_names, options.docx_template)
        return render(delivery, format, plan.speaker_names, plan.template)

    @property
    def ending_detail(self) -> dict[str, str]:
        """For the history of a job that ends now: `Finished` counts no age from a time that may be wrong."""
        return {} if self.api.confirms_clock else UNCONFIRMED_CLOCK


@dataclass(frozen=True)
class Next:
    """What comes after a step: the job as it is now, and in how many seconds its next step is due."""

    job: Job
    after_seconds: float = 0.0
    asked_api: bool = True  # if the state says that the step asks: False if a webhook was answer enough
    held: Held | None = None  # it waits for another day, and not for its turn


Step = Callable[[Context, Job], Next]
