"""The decision about one file: not yet, or a `Candidate`, with a reason if it can't be transcribed."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from invox_watcher.audio import AudioInfo, Completeness, attributes, identify
from invox_watcher.audio import mime_type as mime_type_of
from invox_watcher.errors import Reason
from invox_watcher.inbox.stability import Evidence, Waits, Writer, writer_of
from invox_watcher.recording import FileIdentity, Remedy

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
    remedy: Remedy = Remedy.NONE  # what a decoder can do for it
    evidence: Evidence = Evidence.UNPROVEN  # that it is complete
    remark: str = ""  # what is odd about it, for the log
    attributes: Mapping[str, str] = field(
        default_factory=dict
    )  # its author and so on, if they are to be read
    waited_seconds: float = field(default=0.0, compare=False)  # since it was first seen


class Outcome(StrEnum):
    """What to do with a file now."""

    READY = "ready"  # offer it
    SETTLING = "settling"  # not yet unchanged for long enough
    UNFINISHED = "unfinished"  # empty, or incomplete according to its header
    OPEN = "open"  # open for writing


@dataclass(frozen=True)
class Judgement:
    """The outcome for one file; with `candidate` if it is ready, else with `reason`.

    `evidence` says whether it is complete, and `why` says it in words; None and empty if it was not read, or
    is certainly incomplete. A file that is settling must be unchanged for `wait_seconds`.
    """

    outcome: Outcome
    candidate: Candidate | None = None
    reason: str = ""
    evidence: Evidence | None = None
    why: str = ""
    wait_seconds: float = 0.0


@dataclass(frozen=True)
class ScreeningRules:
    """What the account and the configuration allow, and how long files must be unchanged."""

    max_size_bytes: int
    accepted_mime_types: Sequence[str]
    waits: Waits
    read_attributes: bool = False  # whether a candidate has them


@dataclass(frozen=True)
class _Question:
    """One file, its writer, and for how long it has been unchanged."""

    path: str
    status: os.stat_result
    writer: Writer
    local: bool
    unchanged_seconds: float
    waits: Waits

    @property
    def settled(self) -> bool:
        return self.unchanged_seconds >= self.waits.of(Evidence.LIKELY)

    @property
    def patient(self) -> bool:
        return self.unchanged_seconds >= self.waits.patience_seconds


def judge(path: str, fd: int, rules: ScreeningRules, *, unchanged_seconds: float, local: bool) -> Judgement:
    """Decide about the file behind `fd`, opened read-only; `path` only names it in the candidate.

    `unchanged_seconds`: for how long it is known not to have changed. `local`: all writers on its file system
    are known to this kernel.

    Raises:
        OSError: its content can't be read.
    """
    judgement = _judge(path, fd, rules, unchanged_seconds=unchanged_seconds, local=local)
    if not rules.read_attributes or judgement.candidate is None:
        return judgement
    candidate = replace(judgement.candidate, attributes=read_attributes(fd))
    return replace(judgement, candidate=candidate)


def read_attributes(fd: int) -> Mapping[str, str]:
    """Author, device and so on, by the header of the file behind `fd`.

    Raises:
        OSError: its content can't be read.
    """
    with os.fdopen(fd, "rb", buffering=0, closefd=False) as file:
        return attributes(file, os.fstat(fd).st_size)


def _judge(path: str, fd: int, rules: ScreeningRules, *, unchanged_seconds: float, local: bool) -> Judgement:
    status = os.fstat(fd)
    writer = writer_of(fd) if local else Writer.UNKNOWN
    if writer is Writer.OPEN:
        return Judgement(Outcome.OPEN, reason="open for writing")
    waits = rules.waits
    asked = _Question(path, status, writer, local, unchanged_seconds, waits)
    soonest = waits.of(Evidence.PROVEN if writer is Writer.NONE else Evidence.LIKELY)
    if unchanged_seconds < soonest:  # whatever is in it
        return _settling(soonest)
    if (refusal := _refuse_unread(status, rules)) is not None:
        # Some servers rename by link and unlink: a second name may disappear in a moment.
        return _ready(asked, refusal=refusal) if asked.settled else _settling(waits.of(Evidence.LIKELY))
    if status.st_size == 0:
        unfinished = Reason("empty", "The file is empty.", "Record or copy it again.")
        return _unfinished(asked, unfinished, reason="empty")
    with os.fdopen(fd, "rb", buffering=0, closefd=False) as file:
        info = identify(file, status.st_size)
    if info.completeness is Completeness.UNFINISHED:
        unfinished = Reason(
            "truncated",
            f"The recording ({info.format}) is incomplete and has not changed for a long time.",
            info.hint or "Copy it from the device again.",
        )
        return _unfinished(asked, unfinished, info=info, reason="incomplete")
    if info.unclosed and asked.writer is Writer.UNKNOWN and not asked.patient:
        return _wait_patiently(asked, "incomplete: its header was not completed")
    return _judge_complete(asked, fd, info, rules)


def judge_settled(path: str, fd: int, rules: ScreeningRules) -> Candidate:
    """The judgement of a file that has been unchanged for longer than anything has to be.

    Raises:
        OSError: its content can't be read.
    """
    judgement = judge(path, fd, rules, unchanged_seconds=math.inf, local=False)
    assert judgement.candidate is not None  # noqa: S101 - nothing else is left to wait for
    return judgement.candidate


def _judge_complete(asked: _Question, fd: int, info: AudioInfo, rules: ScreeningRules) -> Judgement:
    """It is not known to be incomplete: how long it has to wait depends on what shows that it is complete."""
    whole = info.completeness is Completeness.WHOLE and not _has_hole(fd, asked.status.st_size)
    evidence = Evidence.of(closed=asked.writer is Writer.NONE, whole=whole)
    why = f"{_about_writers(asked)}; {_ABOUT_WHOLENESS[whole]}"
    mime_type = mime_type_of(info.container, rules.accepted_mime_types) if info.container else None
    refusal = _refuse_read(info, mime_type)
    remedy = _remedy(info, refusal)
    wait_seconds = max(rules.waits.of(evidence), rules.waits.of(Evidence.LIKELY) if refusal else 0)
    if asked.unchanged_seconds < wait_seconds:
        return _settling(wait_seconds, evidence, why)
    sent_as = mime_type if refusal is None else None
    return _ready(
        asked, info=info, mime_type=sent_as, refusal=refusal, remedy=remedy, evidence=evidence, why=why
    )


_ABOUT_WHOLENESS = {
    True: "its content is whole",
    False: "its content doesn't show where it ends, or its end may not be written yet",
}


def _about_writers(asked: _Question) -> str:
    if asked.writer is Writer.NONE:
        return "no process has it open for writing"
    if asked.local:
        return "it may be open for writing: it is another user's, and CAP_LEASE is missing"
    return "it may be open for writing: that can't be determined here"


def _has_hole(fd: int, size_bytes: int) -> bool:
    """Whether some of its space was never written to, as far as its file system says."""
    try:
        return os.lseek(fd, 0, os.SEEK_HOLE) < size_bytes
    except OSError:
        return False


def _settling(wait_seconds: float, evidence: Evidence | None = None, why: str = "") -> Judgement:
    return Judgement(Outcome.SETTLING, evidence=evidence, why=why, wait_seconds=wait_seconds)


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
    if info.is_audio and info.duration_seconds == 0:
        return Reason("empty", f"The recording ({info.format}) contains no sound.", "Record it again.")
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


def _remedy(info: AudioInfo, refusal: Reason | None) -> Remedy:
    if refusal is None:
        return Remedy.REPAIR if info.decodable else Remedy.NONE
    has_sound = refusal.code != "empty" and (info.decodable or info.container is not None)
    return Remedy.DECODE if has_sound else Remedy.NONE


def _unfinished(
    asked: _Question, refusal: Reason, *, info: AudioInfo | None = None, reason: str
) -> Judgement:
    if asked.patient:
        can_verify = info is not None and (info.decodable or info.container is not None)
        remedy = Remedy.VERIFY if can_verify else Remedy.NONE
        return _ready(asked, info=info, refusal=refusal, remedy=remedy)
    return _wait_patiently(asked, reason)


def _wait_patiently(asked: _Question, reason: str) -> Judgement:
    if asked.settled:
        return Judgement(Outcome.UNFINISHED, reason=reason)
    return Judgement(Outcome.SETTLING, reason=reason, wait_seconds=asked.waits.of(Evidence.LIKELY))


def _ready(
    asked: _Question,
    *,
    info: AudioInfo | None = None,
    mime_type: str | None = None,
    refusal: Reason | None = None,
    remedy: Remedy = Remedy.NONE,
    evidence: Evidence | None = None,
    why: str = "",
) -> Judgement:
    candidate = Candidate(
        path=asked.path,
        identity=FileIdentity.of(asked.status),
        format=info.format if info else "unknown",
        mime_type=mime_type,
        duration_seconds=info.duration_seconds if info else None,
        refusal=refusal,
        remedy=remedy,
        evidence=evidence or Evidence.UNPROVEN,
        remark=info.remark if info and refusal is None else "",
    )
    return Judgement(Outcome.READY, candidate, evidence=evidence, why=why)
