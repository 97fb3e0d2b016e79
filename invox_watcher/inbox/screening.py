"""The decision about one file: not yet, or a `Candidate`, with a reason if it can't be transcribed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from invox_watcher.audio import AudioInfo, Completeness, identify
from invox_watcher.audio import mime_type as mime_type_of
from invox_watcher.errors import Reason
from invox_watcher.inbox.stability import Writer, writer_of
from invox_watcher.recording import FileIdentity

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Candidate:
    """A complete file, as it was when judged; or one that can't be transcribed, with a `refusal`."""

    path: str  # relative to the inbox, POSIX; bytes that are not UTF-8 as surrogate escapes
    identity: FileIdentity
    format: str  # for a person: "WAV (PCM)"; "unknown" if it was not read
    mime_type: str | None  # as the API spells it; None with a refusal
    duration_seconds: float | None
    # Why it can't be transcribed; codes: empty, too_large, truncated, not_audio, unsupported_format,
    # not_accepted, hard_link.
    refusal: Reason | None
    waited_seconds: float = field(default=0.0, compare=False)  # since it was first seen


class Outcome(StrEnum):
    """What to do with a file now."""

    READY = "ready"  # offer it
    SETTLING = "settling"  # not yet unchanged for long enough
    UNFINISHED = "unfinished"  # empty, or incomplete according to its header
    OPEN = "open"  # open for writing


@dataclass(frozen=True)
class Judgement:
    """The outcome for one file; with `candidate` if it is ready, else with `reason`."""

    outcome: Outcome
    candidate: Candidate | None = None
    reason: str = ""


@dataclass(frozen=True)
class ScreeningRules:
    """What the account and the configuration allow."""

    max_size_bytes: int
    accepted_mime_types: Sequence[str]


def judge(
    path: str, fd: int, rules: ScreeningRules, *, settled: bool, patient: bool, local: bool
) -> Judgement:
    """Decide about the file behind `fd`, opened read-only; `path` only names it in the candidate.

    `settled` and `patient`: it has been unchanged for `settle_seconds`, for `patience_seconds`. `local`: all
    writers on its file system are known to this kernel.

    Raises:
        OSError: its content can't be read.
    """
    status = os.fstat(fd)
    writer = writer_of(fd) if local else Writer.UNKNOWN
    if writer is Writer.OPEN:
        return Judgement(Outcome.OPEN, reason="open for writing")
    if not settled and writer is not Writer.NONE:
        return Judgement(Outcome.SETTLING)
    if (refusal := _refuse_unread(status, rules)) is not None:
        # Some servers rename by link and unlink: a second name may disappear in a moment.
        return _ready(path, status, refusal=refusal) if settled else Judgement(Outcome.SETTLING)
    if status.st_size == 0:
        unfinished = Reason("empty", "The file is empty.", "Record or copy it again.")
        return _unfinished(path, status, unfinished, settled=settled, patient=patient, reason="empty")
    with os.fdopen(fd, "rb", buffering=0, closefd=False) as file:
        info = identify(file, status.st_size)
    if info.completeness is Completeness.UNFINISHED:
        unfinished = Reason(
            "truncated",
            f"The recording ({info.format}) is incomplete and has not changed for a long time.",
            info.hint or "Copy it from the device again.",
        )
        return _unfinished(
            path, status, unfinished, info=info, settled=settled, patient=patient, reason="incomplete"
        )
    if not settled and info.completeness is not Completeness.WHOLE:
        return Judgement(Outcome.SETTLING)
    mime_type = mime_type_of(info.container, rules.accepted_mime_types) if info.container else None
    refusal = _refuse_read(info, mime_type)
    if refusal is not None and not settled:
        return Judgement(Outcome.SETTLING)
    return _ready(path, status, info=info, mime_type=mime_type, refusal=refusal)


def _refuse_unread(status: os.stat_result, rules: ScreeningRules) -> Reason | None:
    if status.st_nlink > 1:
        return Reason(
            "hard_link",
            f"The file has {status.st_nlink} hard links, so it may belong to another user.",
            "Put a copy of the recording into the inbox, not a link.",
        )
    if status.st_size > rules.max_size_bytes:
        return Reason(
            "too_large",
            f"The file is {status.st_size / _MIB:.0f} MiB; the limit is {rules.max_size_bytes / _MIB:g} MiB.",
            "Split or compress the recording, or raise intake.max_size_mib.",
        )
    return None


def _refuse_read(info: AudioInfo, mime_type: str | None) -> Reason | None:
    if not info.is_audio:
        return Reason("not_audio", f"Not an audio recording: {info.format}.", info.hint)
    if info.container is None:
        return Reason(
            "unsupported_format", f"The API does not support this format: {info.format}.", info.hint
        )
    if mime_type is None:
        return Reason(
            "not_accepted",
            f"This account does not accept this format: {info.format}.",
            info.hint
            or "Convert the recording, or add its type to api.mime_types if the account accepts it.",
        )
    return None


def _unfinished(
    path: str,
    status: os.stat_result,
    refusal: Reason,
    *,
    info: AudioInfo | None = None,
    settled: bool,
    patient: bool,
    reason: str,
) -> Judgement:
    if patient:
        return _ready(path, status, info=info, refusal=refusal)
    return Judgement(Outcome.UNFINISHED if settled else Outcome.SETTLING, reason=reason)


def _ready(
    path: str,
    status: os.stat_result,
    *,
    info: AudioInfo | None = None,
    mime_type: str | None = None,
    refusal: Reason | None = None,
) -> Judgement:
    candidate = Candidate(
        path=path,
        identity=FileIdentity.of(status),
        format=info.format if info else "unknown",
        mime_type=mime_type,
        duration_seconds=info.duration_seconds if info else None,
        refusal=refusal,
    )
    return Judgement(Outcome.READY, candidate)
