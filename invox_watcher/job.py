"""What the journal knows of one recording: `Job` (frozen), its `State`, and the legal transitions.

    claimed ──► identified ──► uploading ──► waiting ──► transcribed ──► delivered ──► done
       │            │ ▲            │  │          │             ▲
       │            │ └────────────┘  └──────────┼─────────────┤ (asked after a crash: already there)
       │            └────────────────────────────┼─────────────┘ (same content as an earlier recording)
       └──► failing ◄────────────────────────────┘   failing ──► failed      any of them ──► vanished
       (from identified on, back to claimed: the recording is no longer what was hashed)

Each state says what is *known on disk*, so that a kill between two steps needs no second code path: the
step of that state is simply taken again. What the rest of the package asks about a state are its properties.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from invox_watcher.errors import Reason
from invox_watcher.plan import Plan
from invox_watcher.priority import Priority
from invox_watcher.recording import FileIdentity, Remedy
from invox_watcher.spending import Reservation
from invox_watcher.suspicion import Suspicion


class State(StrEnum):
    """How far a recording has come; `processing.pipeline` has the step that each state leads to."""

    CLAIMED = "claimed"  # its file is in processing/, nothing else is known
    IDENTIFIED = "identified"  # its SHA-256 is known, and whether an earlier job has the same content
    UPLOADING = "uploading"  # the request id is on disk; this job, or an earlier one, may have sent the bytes
    WAITING = "waiting"  # the API has the bytes
    TRANSCRIBED = "transcribed"  # the reply is in the journal and the output names are reserved
    DELIVERED = "delivered"  # every output is in the outbox
    DONE = "done"  # the recording is in done/
    FAILING = "failing"  # the reason is in the journal; the recording still has to move
    FAILED = "failed"  # the recording and its error file are in failed/
    VANISHED = "vanished"  # another program removed the file from processing/

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to the recording."""
        return self in FINAL

    @property
    def moves_bytes(self) -> bool:
        """Whether its step reads or sends the whole recording."""
        return self in (State.CLAIMED, State.IDENTIFIED)

    @property
    def is_polled(self) -> bool:
        """Whether its step asks the API about the request id."""
        return self in (State.UPLOADING, State.WAITING)

    @property
    def may_be_paid_for(self) -> bool:
        """Whether the API may have the recording already."""
        return self in (State.UPLOADING, State.WAITING, State.TRANSCRIBED)

    @property
    def must_end(self) -> bool:
        """Whether only filing is left, which is never given up: transcript or reason is already safe."""
        return self in (State.DELIVERED, State.FAILING)

    @property
    def is_given_up(self) -> bool:
        """Whether the recording has no transcript and gets none."""
        return self in (State.FAILING, State.FAILED, State.VANISHED)

    @property
    def has_upload(self) -> bool:
        """Whether there is an upload to show, under way or complete."""
        return self.may_be_paid_for or self in (State.DELIVERED, State.DONE)


FINAL = frozenset({State.DONE, State.FAILED, State.VANISHED})
ACTIVE = frozenset(State) - FINAL

_BEFORE_DELIVERY = {State.FAILING, State.VANISHED}
TRANSITIONS: dict[State, frozenset[State]] = {
    State.CLAIMED: frozenset({State.IDENTIFIED} | _BEFORE_DELIVERY),
    State.IDENTIFIED: frozenset(
        {State.IDENTIFIED, State.CLAIMED, State.UPLOADING, State.WAITING, State.TRANSCRIBED}
        | _BEFORE_DELIVERY
    ),
    State.UPLOADING: frozenset(
        {State.UPLOADING, State.CLAIMED, State.IDENTIFIED, State.WAITING, State.TRANSCRIBED}
        | _BEFORE_DELIVERY
    ),
    State.WAITING: frozenset({State.WAITING, State.CLAIMED, State.TRANSCRIBED} | _BEFORE_DELIVERY),
    State.TRANSCRIBED: frozenset({State.TRANSCRIBED, State.DELIVERED, State.CLAIMED} | _BEFORE_DELIVERY),
    State.DELIVERED: frozenset({State.DONE, State.CLAIMED}),
    State.FAILING: frozenset({State.FAILING, State.FAILED, State.VANISHED}),
    State.DONE: frozenset(),
    State.FAILED: frozenset(),
    State.VANISHED: frozenset(),
}


@dataclass(frozen=True)
class Failure:
    """Why a recording failed, and at which stage: what the error file and `show` say."""

    stage: State
    reason: Reason
    retry_can_help: bool
    attempts: int = 0  # how often the step had been tried
    at: str = ""  # when it failed, as RFC 3339; empty for a refusal that is not yet a failure
    remedy: Remedy = Remedy.NONE  # of a refusal: what a decoder can do about it


@dataclass(frozen=True)
class Fault:
    """Why the last attempt of a job's step did not work, since the state that it is in began."""

    reason: Reason
    since: datetime  # of the first attempt that ended with this code, without another code in between


@dataclass(frozen=True)
class Payload:
    """What is uploaded: the recording, or a file prepared from it."""

    path: str  # relative to the job's folder in processing/
    size_bytes: int
    sha256: str
    mime_type: str
    truncated: bool = False  # the recording was cut off, and is sent nevertheless


@dataclass(frozen=True)
class Job:
    """One recording's row in the journal. Times are aware UTC datetimes, `path` is relative to the inbox."""

    id: str
    state: State
    path: str  # POSIX, relative; bytes that are not UTF-8 as surrogate escapes
    identity: FileIdentity
    received_at: datetime
    format: str | None = None  # what the recording is, in words: "WAV (PCM)"
    mime_type: str | None = None  # in the API's words
    duration_seconds: float | None = None
    refusal: Failure | None = None  # why the intake knows that it can't be transcribed as it is
    plan: Plan | None = None  # None: as the configuration says for all
    reservation: Reservation | None = None  # of the daily minutes, by its upload
    predecessor_id: str | None = None  # the failed job that this one is a retry of
    successor_id: str | None = None  # of a failed job: the one that is its retry
    payload: Payload | None = None  # what is uploaded instead of the recording
    sha256: str | None = None
    original_id: str | None = None  # the earlier job with the same content
    request_id: str | None = None
    attempts: int = 0  # faults since the last step that worked
    last_fault: Fault | None = None
    refused_urls: int = 0
    changed_uploads: int = 0  # how often it was no longer what had been hashed
    uploaded_bytes: int = 0  # progress of a running upload, for display only
    uploaded_at: datetime | None = None  # when storage acknowledged it, be it for an earlier job
    polled_at: datetime | None = None  # the last poll after which the result was still pending
    waited_seconds: float = 0.0  # for the result, until `polled_at`
    denied_seconds: float = 0.0  # how long the API has denied the request id by then
    completed_at: datetime | None = None
    delivered_by: str | None = None  # polling, webhook, reuse
    suspect: tuple[Suspicion, ...] | None = None  # what is odd about its transcript; None: nothing was heard
    filed_as: str | None = None  # the reserved path in outbox/, done/ or failed/, with any suffix
    failure: Failure | None = None
    host: str | None = None  # whose it is, of the hosts of a fleet
    updated_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def changed(self, changes: Mapping[str, Any]) -> Job:
        """The same with these fields changed: `dataclasses.replace`, without setting each of the others."""
        copy = object.__new__(Job)
        copy.__dict__.update(self.__dict__, **changes)
        return copy

    @property
    def size_bytes(self) -> int:
        """The recording's size."""
        return self.identity.size_bytes

    @property
    def upload(self) -> Payload:
        """What is to be sent to the API. Only for a job that is identified and has a MIME type."""
        if self.payload is not None:
            return self.payload
        assert self.sha256 is not None and self.mime_type is not None  # noqa: S101, PT018 - see above
        return Payload(self.path, self.size_bytes, self.sha256, self.mime_type)

    @property
    def priority(self) -> Priority:
        """How urgent it is."""
        return Priority.ROUTINE if self.plan is None else self.plan.priority

    @property
    def asks_api(self) -> bool:
        """Whether its next step calls the API."""
        if self.state is State.IDENTIFIED:
            return self.original_id is None and self.request_id is None
        return self.state.is_polled

    @property
    def transcription_seconds(self) -> float | None:
        """From the end of the upload until the result was here; None if another job's result was reused."""
        if self.uploaded_at is None or self.completed_at is None or self.delivered_by == "reuse":
            return None
        return round(max((self.completed_at - self.uploaded_at).total_seconds(), 0.0), 3)


def new_job_id() -> str:
    """A new job id, sorting by time, safe as a folder name: `20261123t185056-9f2c41d07ab3`."""
    return f"{time.strftime('%Y%m%dt%H%M%S', time.gmtime())}-{secrets.token_hex(6)}"
