"""Every error of the package as one tree, each with a code, a hint and whether retrying can help.

    InvoxError
    ├── ConfigurationError      the configuration is invalid; lists everything wrong with it
    ├── FolderError             a folder can't be used: missing, not writable, nested wrongly
    ├── NotPermittedError       the current user lacks permission
    ├── StorageError            a file operation failed; nothing was moved
    │   ├── DiskFullError           full, over quota, or read-only: affects every recording
    │   ├── FoldersGoneError        a share is unavailable, or not mounted
    │   └── FolderBlockedError      a file or a symbolic link has the name of a required folder
    ├── TemplateError           a document can't be made with its template: the operator must act
    ├── JournalError            the journal is locked, corrupt, or another daemon holds it
    │   └── WrongJournalError       not the one to use now: the operator must act
    ├── StaleStateError         a guarded journal write found the job in another state
    │   └── FencedError             this host was silent for too long, and another one has what it had
    ├── StoppedError            the daemon is stopping; the step was cancelled cleanly
    ├── DecoderError            a decoder's process was killed or could not be started: try again
    ├── RecordingChangingError  a process is still writing to the claimed recording
    ├── RecordingError          this recording can't be transcribed as it is → failed/
    │   └── RecordingVanishedError  its file no longer exists
    ├── ApiError                the vendor's API
    │   ├── ApiUnavailableError     network, 408, 425, 429, 5xx, an unusable reply: try later
    │   ├── ApiRefusedError         401 with a fresh token, 403, TLS, 407: the operator must act
    │   ├── ApiRejectedError        the API rejected this request as invalid (400, 413, …)
    │   ├── RequestUnknownError     404: the API does not know this request id
    │   ├── UploadUrlRefusedError   storage refused the presigned URL: expired or not accepted
    │   ├── UploadUncertainError    all bytes were sent but no response arrived
    │   └── TranscriptionFailedError  the API tried and reported ERROR
    └── TargetError             a target that transcripts are delivered to
        ├── TargetUnavailableError  network, TLS, login, a temporary refusal: not caused by this delivery
        ├── TargetRefusedError      the target never takes this delivery as it is
        └── DeliveryUncertainError  all bytes were sent but no answer arrived

No message contains a token, a presigned URL, a secret or a word of a transcript: messages are written at the
raise site, never copied from a library's exception.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of the command line; the numbers from 64 on are those of BSD's sysexits.h."""

    OK = 0
    SOME_FAILED = 1
    NOT_RUNNING = 3  # for `status`, as the Linux Standard Base specifies for init scripts
    NOT_READY = 4  # for `status`: running, but no recording could go through now
    USAGE = 64
    UNAVAILABLE = 69
    SOFTWARE = 70
    TRY_LATER = 75
    PERMISSION = 77
    CONFIGURATION = 78


@dataclass(frozen=True)
class Reason:
    """Why something was not done: a stable machine-readable code, a sentence, and what to do about it."""

    code: str
    message: str
    hint: str


class InvoxError(Exception):
    """The root. `code` is stable and machine-readable, `hint` is what the operator can do.

    `retry_can_help`: whether `invox-watcher retry` may succeed for this recording.
    """

    code: str = "error"
    hint: str = ""
    retry_can_help: bool = False
    exit_status: ExitStatus = ExitStatus.SOFTWARE

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        retry_can_help: bool | None = None,
    ) -> None:
        super().__init__(message)
        if retry_can_help is not None:
            self.retry_can_help = retry_can_help
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
    """One configuration problem: the key's path, its line (1-based, None if unknown), and a message."""

    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


class ConfigurationError(InvoxError):
    """The configuration is invalid. `problems` lists every problem, not just the first."""

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
    """The current user lacks permission."""

    code = "not_permitted"
    hint = "Run this as root or as the daemon's user."
    exit_status = ExitStatus.PERMISSION

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        if hint is None and os.geteuid() == 0:
            hint = (
                "Even root is not allowed to: is it on a share that gives root no rights, or in a container?"
            )
        super().__init__(message, hint=hint)


class StorageError(InvoxError):
    """A file operation failed (permission, I/O error, …). Nothing was moved; retrying can help."""

    code = "storage"
    retry_can_help = True
    exit_status = ExitStatus.TRY_LATER


class DiskFullError(StorageError):
    """Full, over quota, or read-only: affects every recording, so the intake pauses."""

    code = "disk_full"
    hint = "Free up space on that file system; processing resumes automatically."


class FoldersGoneError(StorageError):
    """A folder is unavailable: not caused by any recording, so none is failed for it."""

    code = "folders_unavailable"
    hint = "Nothing is lost: processing resumes automatically once the share is mounted and responds."


class FolderBlockedError(StorageError):
    """A file or a symbolic link has the name of a required folder."""

    code = "folder_blocked"


class TemplateError(InvoxError):
    """A document can't be made: its template is missing or broken, or needs what the recording lacks.

    `missing_field` is what this recording lacks; None if the template is of no use for any.
    """

    code = "template"
    retry_can_help = True
    exit_status = ExitStatus.CONFIGURATION

    def __init__(
        self, message: str, *, hint: str, code: str | None = None, missing_field: str | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.missing_field = missing_field


class JournalError(InvoxError):
    """The journal is unavailable; no recording is claimed."""

    code = "journal"
    retry_can_help = True
    exit_status = ExitStatus.TRY_LATER


class WrongJournalError(JournalError):
    """It is not the journal to use: to try again can't help. The operator must say which one is."""

    code = "journal_wrong"
    retry_can_help = False
    exit_status = ExitStatus.CONFIGURATION


class StaleStateError(InvoxError):
    """A guarded write changed no row: another thread has advanced the job, so this attempt ends."""

    code = "stale_state"


class FencedError(StaleStateError):
    """This host was silent for too long, and another one has taken over what it had: it has to stop."""

    code = "fenced"
    exit_status = ExitStatus.TRY_LATER


class StoppedError(InvoxError):
    """The daemon is stopping; the job keeps its state and continues after the restart."""

    code = "stopped"
    retry_can_help = True


class DecoderError(InvoxError):
    """The process that decodes was killed, or could not be started: that says nothing about the recording."""

    code = "decoder"
    hint = "Is there enough memory? `invox-watcher check` tries the decoder."
    retry_can_help = True
    exit_status = ExitStatus.TRY_LATER


class RecordingChangingError(InvoxError):
    """The recording changed after it was claimed: it is still being written. Check again later."""

    code = "still_changing"
    hint = "Check whether the device or the copying program writes to the file again after closing it."
    retry_can_help = True
    retry_after_seconds: float | None = None


class RecordingError(InvoxError):
    """This recording can't be transcribed as it is. `code` is the reason: `truncated`, `not_audio`, …"""

    code = "recording"
    exit_status = ExitStatus.SOME_FAILED


class RecordingVanishedError(RecordingError):
    """The recording's file is no longer where the daemon put it."""

    code = "vanished"
    hint = "The file was removed from processing/. Copy the recording to the inbox again."


class ApiError(InvoxError):
    """An error of the vendor's API. `status` is the HTTP status, None if there was no response."""

    code = "api"
    exit_status = ExitStatus.UNAVAILABLE

    def __init__(
        self, message: str, *, code: str | None = None, hint: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.status = status


class ApiUnavailableError(ApiError):
    """A transient fault: try again later, after `retry_after_seconds` if the server sent that."""

    code = "api_unavailable"
    hint = "Usually temporary. Contact the vendor if it persists."
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
    """A setup fault (credentials, permission, TLS, proxy), not caused by any recording."""

    code = "api_refused"
    retry_can_help = True
    exit_status = ExitStatus.PERMISSION


class ApiRejectedError(ApiError):
    """The API rejected this request as invalid; sending it again will not help."""

    code = "api_rejected"
    exit_status = ExitStatus.SOME_FAILED


class RequestUnknownError(ApiError):
    """The API does not know this request id (404, `transcriptionNotFound`)."""

    code = "request_unknown"
    retry_can_help = True


class UploadUrlRefusedError(ApiError):
    """Storage refused the presigned URL (expired, already used, wrong type): ask for a new one."""

    code = "upload_url_refused"
    retry_can_help = True


class UploadUncertainError(ApiError):
    """All bytes were sent but no response arrived: ask the API whether it has the upload before resending."""

    code = "upload_uncertain"
    hint = "Check the network connection. Nothing is sent twice: the API is first asked for the recording."
    retry_can_help = True


class TranscriptionFailedError(ApiError):
    """The API accepted the recording and reported ERROR. `invox-watcher retry` may help."""

    code = "transcription_failed"
    retry_can_help = True
    exit_status = ExitStatus.SOME_FAILED


class TargetError(InvoxError):
    """A delivery to a target failed."""

    code = "target"
    retry_can_help = True
    exit_status = ExitStatus.UNAVAILABLE


class TargetUnavailableError(TargetError):
    """Not caused by this delivery: all others wait too, for `retry_after_seconds` if the target said so.

    Also what the operator has to fix: a certificate, a login, a host key.
    """

    code = "target_unavailable"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class TargetRefusedError(TargetError):
    """The target takes other deliveries, but never this one as it is."""

    code = "target_refused"
    exit_status = ExitStatus.SOME_FAILED


class UnsendableError(TargetRefusedError):
    """The recording lacks something that the target's section needs: the target itself was never asked."""


class DeliveryUncertainError(TargetError):
    """All bytes were sent, but no answer arrived: it is sent again, with the same key."""

    code = "delivery_uncertain"
    hint = "It is sent again with the same key, by which the target can tell that it is a repeat."
