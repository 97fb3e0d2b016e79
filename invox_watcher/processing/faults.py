"""What an error means for the job whose step raised it: one table, and `judge`, a pure function."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from invox_watcher.errors import (
    ApiError,
    ApiRefusedError,
    ApiRejectedError,
    ApiUnavailableError,
    ConfigurationError,
    DecoderError,
    DiskFullError,
    FencedError,
    FolderBlockedError,
    FolderError,
    FoldersGoneError,
    InvoxError,
    JournalError,
    NotPermittedError,
    RecordingChangingError,
    RecordingError,
    RecordingVanishedError,
    RequestUnknownError,
    StaleStateError,
    StoppedError,
    StorageError,
    TemplateError,
    TranscriptionFailedError,
    UploadUncertainError,
    UploadUrlRefusedError,
    WrongJournalError,
)
from invox_watcher.job import Job, State
from invox_watcher.logs import where


class Action(Enum):
    """What to do with a job after an error."""

    STOP = auto()  # the daemon is stopping: leave the job as it is
    GO_ON = auto()  # another process has moved the job: take the step of the state found
    HOLD = auto()  # disk, share or journal refuses writes: wait, however long; no attempt is spent
    RETRY = auto()  # take the step again later
    CHECK_AGAIN = auto()  # the recording is missing: take the step again soon, to be certain
    VANISH = auto()  # it is missing again: close the job
    FAIL = auto()  # for good: the recording goes to failed/


@dataclass(frozen=True)
class Rule:
    """A row of the table."""

    action: Action
    blames_api: bool = False  # the error says something about the API, not about the recording
    blames_files: bool = False  # it may mean no more than that a share is unavailable


# The row of the nearest class in an error's method resolution order counts.
RULES: dict[type[Exception], Rule] = {
    StoppedError: Rule(Action.STOP),
    FencedError: Rule(Action.STOP),
    StaleStateError: Rule(Action.GO_ON),
    # the disk
    DiskFullError: Rule(Action.HOLD),
    JournalError: Rule(Action.HOLD),
    StorageError: Rule(Action.RETRY, blames_files=True),
    FoldersGoneError: Rule(Action.RETRY, blames_files=True),
    FolderBlockedError: Rule(Action.RETRY, blames_files=True),
    # the recording
    RecordingVanishedError: Rule(Action.VANISH, blames_files=True),
    RecordingChangingError: Rule(Action.RETRY),
    DecoderError: Rule(Action.RETRY),
    RecordingError: Rule(Action.FAIL),
    # the API
    ApiUnavailableError: Rule(Action.RETRY, blames_api=True),
    ApiRefusedError: Rule(Action.RETRY, blames_api=True),
    UploadUncertainError: Rule(Action.RETRY, blames_api=True),
    ApiRejectedError: Rule(Action.FAIL),
    RequestUnknownError: Rule(Action.FAIL),
    UploadUrlRefusedError: Rule(Action.FAIL),
    TranscriptionFailedError: Rule(Action.FAIL),
    ApiError: Rule(Action.FAIL),
    # the set-up
    TemplateError: Rule(Action.RETRY),
    # what no step should raise
    ConfigurationError: Rule(Action.FAIL),
    WrongJournalError: Rule(Action.HOLD),
    FolderError: Rule(Action.FAIL),
    NotPermittedError: Rule(Action.FAIL),
    InvoxError: Rule(Action.FAIL),
    OSError: Rule(Action.RETRY, blames_files=True),  # closing a file fails if its share is unavailable
    Exception: Rule(Action.RETRY),  # a bug in one step must not take the others down
}


@dataclass(frozen=True)
class Circumstances:
    """What else counts besides the error and the job."""

    max_attempts: int
    folders_fault: InvoxError | None = None  # why the folders are unavailable
    api_is_unavailable: bool = False  # the breaker is open
    recording_is_at_fault: bool = False  # others' calls succeed: see `ApiHealth`
    was_missing: bool = False  # the recording was missing at the job's last step, too


@dataclass(frozen=True)
class Verdict:
    """What to do with the job, because of which error, and how many attempts it has spent by then."""

    action: Action
    error: InvoxError
    attempts: int


def rule_for(error: Exception) -> Rule:
    """The row of the table for `error`."""
    return next(RULES[kind] for kind in type(error).__mro__ if kind in RULES)


def judge(error: Exception, job: Job, circumstances: Circumstances) -> Verdict:
    """What to do with `job`, as the journal has it, after its step raised `error`."""
    rule, fault = rule_for(error), _as_ours(error)
    if rule.blames_files and circumstances.folders_fault is not None:
        return Verdict(Action.HOLD, circumstances.folders_fault, job.attempts)
    if rule.action is Action.VANISH and not circumstances.was_missing:
        return Verdict(Action.CHECK_AGAIN, fault, job.attempts)
    if rule.action is not Action.RETRY:
        return Verdict(rule.action, fault, job.attempts)
    attempts = job.attempts + (spent := _spends_attempt(error, job, circumstances))
    never = job.state.must_end or (isinstance(error, StorageError) and is_kept(job))
    if spent and attempts >= circumstances.max_attempts and not never:
        return Verdict(Action.FAIL, fault, job.attempts)
    return Verdict(Action.RETRY, fault, attempts)


def is_kept(job: Job) -> bool:
    """Whether `job` is not given up because of a disk: it may have been paid for."""
    return job.state.must_end or job.state.may_be_paid_for


def _spends_attempt(error: Exception, job: Job, circumstances: Circumstances) -> bool:
    """Neither an outage nor a wrong set-up counts; an uncertain upload does, as it may have been paid for."""
    if isinstance(error, UploadUncertainError):
        return True
    if isinstance(error, ApiUnavailableError) and not is_of_set_up(error, job):
        return circumstances.recording_is_at_fault
    return not (circumstances.api_is_unavailable or is_of_set_up(error, job))


def is_of_set_up(error: Exception, job: Job) -> bool:
    """Whether the recording can't be at fault: before an upload the API knows only its MIME type.

    One that lacks a field of the template is not, either: it is paid for, and the template can be corrected.
    """
    if isinstance(error, ApiRefusedError | TemplateError):
        return True
    return job.state is State.IDENTIFIED and isinstance(error, ApiError) and error.code == "api_protocol"


def _as_ours(error: Exception) -> InvoxError:
    if isinstance(error, InvoxError):
        return error
    return InvoxError(f"Internal error: {where(error)}", code="internal")
