"""Every error of the daemon, drawn as one tree, each with a code, a hint and whether retrying can help.

    InvoxError
    ├── ConfigurationError      the configuration can't be used; lists everything wrong with it
    ├── FolderError             a folder can't be used: missing, not writable, nested wrongly
    ├── NotPermittedError       it is somebody else's
    ├── StorageError            the file system refused; nothing was moved
    │   ├── DiskFullError           full, over quota, or read-only: it would refuse any recording
    │   ├── FoldersGoneError        a share is away, or left its empty mount point
    │   └── FolderBlockedError      a file or a link stands where a folder is needed
    ├── JournalError            the journal is locked, corrupt, or another daemon holds it
    ├── StaleStateError         a guarded journal write found the job in another state
    ├── StoppedError            the daemon is stopping; the step was given up cleanly
    ├── RecordingChangingError  somebody still writes to the recording that we hold
    ├── RecordingError          this recording can't be transcribed as it is → failed/
    │   └── RecordingVanishedError  its file is gone
    └── ApiError                the vendor's API, as seen through `api`
        ├── ApiUnavailableError     network, 408, 425, 429, 5xx, a reply that makes no sense: try later
        ├── ApiRefusedError         401 with a fresh token, 403, TLS, 407: the operator must act
        ├── ApiRejectedError        the API says that this request is wrong (400, 413, …)
        ├── RequestUnknownError     404: the API has nothing under this request id
        ├── UploadUrlRefusedError   storage refused the presigned URL: expired or not accepted
        ├── UploadUncertainError    all bytes went out but no answer came
        └── TranscriptionFailedError  the API tried and reported ERROR

No message holds a token, a presigned URL, a secret or a word of a transcript: what is shown to an operator
is written where the facts are known, never copied from a library's exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of the command line; the numbers from 64 on are those of BSD's sysexits.h."""

    OK = 0
    SOME_FAILED = 1
    NOT_RUNNING = 3  # of `status`, by the Linux Standard Base's rules for init scripts
    USAGE = 64
    UNAVAILABLE = 69
    SOFTWARE = 70
    TRY_LATER = 75
    PERMISSION = 77
    CONFIGURATION = 78


@dataclass(frozen=True)
class Reason:
    """Why something is not done: a stable machine-readable code, a sentence, and what a person can do."""

    code: str
    message: str
    hint: str


class InvoxError(Exception):
    """The root. `code` is stable and machine-readable, `hint` tells a person what to do.

    `retry_can_help` says whether an operator's `retry` of the recording may succeed.
    """

    code: str = "error"
    hint: str = ""
    retry_can_help: bool = False
    exit_status: ExitStatus = ExitStatus.SOFTWARE

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if hint is not None:
            self.hint = hint

    @property
    def message(self) -> str:
        """The message without code and hint."""
        return str(self.args[0])

    @property
    def reason(self) -> Reason:
        """Code, message and hint as a value."""
        return Reason(self.code, self.message, self.hint)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration: the key's path, its line (1-based, None if unknown), and what."""

    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


class ConfigurationError(InvoxError):
    """The configuration can't be used. `problems` holds everything that is wrong, not just the first."""

    code = "configuration"
    exit_status = ExitStatus.CONFIGURATION

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        super().__init__("\n".join([f"{source}: {count}", *(f"  {problem}" for problem in problems)]))


class FolderError(InvoxError):
    """A folder of the configuration can't be used."""

    code = "folder"
    exit_status = ExitStatus.CONFIGURATION


class NotPermittedError(InvoxError):
    """It is somebody else's."""

    code = "not_permitted"
    hint = "Ask as root, or as the daemon's user."
    exit_status = ExitStatus.PERMISSION


class StorageError(InvoxError):
    """The file system refused (permission, I/O error, …). Nothing was moved; retrying can help."""

    code = "storage"
    retry_can_help = True
    exit_status = ExitStatus.TRY_LATER


class DiskFullError(StorageError):
    """Full, over quota, or read-only: no recording's fault, so the intake pauses."""

    code = "disk_full"
    hint = "Make room on that file system; work goes on by itself."


class FoldersGoneError(StorageError):
    """A folder can't be reached: no recording's fault, so none is given up for it."""

    code = "folders_unavailable"
    hint = "Nothing is lost: work goes on by itself once the share is mounted and answers."


class FolderBlockedError(StorageError):
    """A file or a link stands where a folder is needed."""

    code = "folder_blocked"


class JournalError(InvoxError):
    """The journal can't be used now; no recording is taken."""

    code = "journal"
    retry_can_help = True
    exit_status = ExitStatus.TRY_LATER


class StaleStateError(InvoxError):
    """A guarded write changed no row: someone else moved the job on, so this attempt ends."""

    code = "stale_state"


class StoppedError(InvoxError):
    """The daemon is stopping; the job stays where it is and goes on after the restart."""

    code = "stopped"
    retry_can_help = True


class RecordingChangingError(InvoxError):
    """The recording changed after it was taken: its writer is not done with it. Look again later."""

    code = "still_changing"
    hint = "Does the device, or the copy, write to the file after it has closed it?"
    retry_can_help = True


class RecordingError(InvoxError):
    """This recording can't be transcribed as it is. `code` names why: `truncated`, `not_audio`, …"""

    code = "recording"
    exit_status = ExitStatus.SOME_FAILED


class RecordingVanishedError(RecordingError):
    """The recording's file is gone from where we put it."""

    code = "vanished"
    hint = "Someone removed the file from processing/. Put the recording into the inbox again."


class ApiError(InvoxError):
    """Something about the vendor's API. `status` is the HTTP status, None if there was no answer."""

    code = "api"
    exit_status = ExitStatus.UNAVAILABLE

    def __init__(
        self, message: str, *, code: str | None = None, hint: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.status = status


class ApiUnavailableError(ApiError):
    """A transient fault: try again later, after `retry_after_seconds` where the server said so."""

    code = "api_unavailable"
    hint = "As a rule this passes by itself. Ask the vendor if it lasts."
    retry_can_help = True

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint, status=status)
        self.retry_after_seconds = retry_after_seconds


class ApiRefusedError(ApiError):
    """A fault of set-up (credentials, permission, TLS, proxy): no recording is to blame."""

    code = "api_refused"
    retry_can_help = True
    exit_status = ExitStatus.PERMISSION


class ApiRejectedError(ApiError):
    """The API says that this very request is wrong; sending it again will not help."""

    code = "api_rejected"
    exit_status = ExitStatus.SOME_FAILED


class RequestUnknownError(ApiError):
    """The API has nothing under this request id (404, `transcriptionNotFound`)."""

    code = "request_unknown"
    retry_can_help = True


class UploadUrlRefusedError(ApiError):
    """Storage refused the presigned URL (expired, already used, wrong type): ask for a new one."""

    code = "upload_url_refused"
    retry_can_help = True


class UploadUncertainError(ApiError):
    """All bytes went out but no answer came: the upload may have arrived, so ask before sending again."""

    code = "upload_uncertain"
    hint = "Is the line stable? Nothing is sent twice: the API is asked first whether it has the recording."
    retry_can_help = True


class TranscriptionFailedError(ApiError):
    """The API took the recording and reported ERROR. A fresh try by the operator may help."""

    code = "transcription_failed"
    retry_can_help = True
    exit_status = ExitStatus.SOME_FAILED
