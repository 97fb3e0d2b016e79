"""Part of claimed → identified: a recording that the API does not take is decoded into one that it takes.

The result lies beside the recording in processing/ until that is filed. It is a product of the recording,
which stays what it is: where the result is missing, after a crash or a restored backup, it is made again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from dataclasses import dataclass
from typing import Any, BinaryIO

from invox_watcher.audio import identify
from invox_watcher.baton import waiting
from invox_watcher.decoding import target_for, with_advice
from invox_watcher.errors import RecordingError, RecordingVanishedError
from invox_watcher.events import Event, log
from invox_watcher.formats.decoder import Beginning, Facts
from invox_watcher.job import Failure, Job, Payload
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.steps.fail import begin_failing
from invox_watcher.processing.steps.verify import sha256_of, verify
from invox_watcher.recording import Remedy


@dataclass(frozen=True)
class _Tolerance:
    seconds: float
    share: float

    def of(self, length_seconds: float) -> float:
        return self.seconds + self.share * length_seconds


_PATH = ".invox-watcher-prepared"  # hidden, so no recording's name; `files` knows it by this beginning
# A dictation device's own length, in whole seconds, and the decoded one differ by less.
_DEVICE_TOLERANCE = _Tolerance(1.0, 0.01)
# Noise is clipped more often.
_MOST_CLIPPED = 0.001
# Codecs add and drop parts of a packet at either end.
_HEADER_TOLERANCE = _Tolerance(0.5, 0.001)
_DICTATION_CODECS = ("dss", "ds2", "grundig")
_TRUNCATED = "truncated"


@dataclass(frozen=True)
class Prepared:
    """The file to upload, and the facts about its sound."""

    payload: Payload
    facts: Facts

    @property
    def columns(self) -> dict[str, Any]:
        """The fields of the job that it determines."""
        return {"payload": self.payload, "duration_seconds": self.facts.seconds}

    @property
    def detail(self) -> dict[str, Any]:
        """For the journal's history."""
        facts = self.facts
        sent = f"{self.payload.mime_type}, {self.payload.size_bytes} bytes"
        found = {
            "prepared": sent,
            "codec": facts.codec,
            "seconds": facts.seconds,
            "rate": facts.rate,
            "channels": facts.channels,
            "clipped": round(facts.clipped, 6),
            "errors": facts.errors,
            **facts.attributes,
        }
        return found | ({"truncated": True} if self.payload.truncated else {})


def refused(context: Context, job: Job) -> Failure | None:
    """Why `job`, which the intake refused, fails without being decoded; None if a decoder may help."""
    assert job.refusal is not None  # noqa: S101 - the caller has checked
    if job.refusal.remedy is Remedy.REPAIR:
        return None
    if job.refusal.remedy is Remedy.NONE or target_for(context.options.mime_types) is None:
        return job.refusal
    if context.decoder.is_installed:
        return None
    return dataclasses.replace(job.refusal, reason=with_advice(job.refusal.reason), retry_can_help=True)


def prepare(context: Context, job: Job, recording: BinaryIO) -> Prepared | None:
    """Decode `recording`, that of `job`, into the file to upload; None if it is sent as it is.

    Raises:
        RecordingError: it can't be decoded, or the result must not be sent.
        StorageError, DecoderError, StoppedError: try again.
    """
    if job.refusal is None or job.refusal.remedy is not Remedy.REPAIR:
        return _prepare(context, job, recording)
    if not context.decoder.is_installed or target_for(context.options.mime_types) is None:
        return None
    with contextlib.suppress(RecordingError):  # the API may find more in it than we do
        return _prepare(context, job, recording)
    return None


def _prepare(context: Context, job: Job, recording: BinaryIO) -> Prepared:
    """Decode it.

    Raises:
        RecordingError: it can't be decoded, or the result must not be sent.
        StorageError, DecoderError, StoppedError: try again.
    """
    target = target_for(context.options.mime_types)
    assert job.refusal is not None and target is not None  # noqa: S101, PT018 - see `refused`
    container, mime = target
    path, began = f"{_PATH}.{container}", context.clock()
    try:
        with context.folders.new_payload(job.id, path) as file, waiting:
            facts = context.decoder.decode(recording, file, container, context.stop, _beginning(recording))
            truncated = _judge(context, job, job.refusal, facts)
    except RecordingError as error:
        log.info(Event.PREPARATION_FAILED, job=job.id, code=error.code)
        if error.code == "undecodable" and job.refusal.reason.code == _TRUNCATED:
            raise _as_error(job.refusal) from None
        raise
    with context.folders.open_recording(job.id, path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        payload = Payload(path, size_bytes, sha256_of(context, file, size_bytes), mime, truncated)
    log.info(
        Event.PREPARED, job=job.id, codec=facts.codec, mime_type=mime, bytes=size_bytes,
        duration_seconds=facts.seconds, errors=facts.errors, truncated=truncated,
        seconds=round(context.clock() - began, 3),
    )  # fmt: skip
    return Prepared(payload, facts)


def _beginning(recording: BinaryIO) -> Beginning:
    info = identify(recording, os.fstat(recording.fileno()).st_size)
    return Beginning(info.sound_header, info.sound_start)


def needs_preparing(context: Context, job: Job) -> bool:
    """Whether what has to be uploaded for `job` is missing or incomplete."""
    if job.payload is None:
        return job.refusal is not None and job.refusal.remedy is not Remedy.REPAIR
    try:
        with context.folders.open_recording(job.id, job.payload.path) as file:
            return os.fstat(file.fileno()).st_size != job.payload.size_bytes
    except RecordingVanishedError:
        return True


def prepare_again(context: Context, job: Job) -> Next:
    """Prepare an identified job: the result is missing, or the job had followed one without a transcript.

    Raises:
        RecordingError, RecordingChangingError, StorageError, DecoderError: see `prepare` and `verify`.
    """
    if (failure := refused(context, job)) is not None:
        return begin_failing(context, job, failure)
    with context.folders.open_recording(job.id, job.path) as recording:
        job = verify(context, job, recording)
        prepared = prepare(context, job, recording)
        job = verify(context, job, recording)
    changes = {"payload": None} if prepared is None else prepared.columns
    return Next(context.journal.update(job, **changes), asked_api=False)


def _judge(context: Context, job: Job, refusal: Failure, facts: Facts) -> bool:
    """Whether it was cut off, and may be sent nevertheless.

    Raises:
        RecordingError: it must not be sent.
    """
    if facts.recorder_seconds is not None or facts.codec.startswith(_DICTATION_CODECS):
        _check_dictation(facts)
        return False
    if not _is_cut(refusal, facts):
        return False
    if context.options.on_truncated == "fail":
        raise _truncated(job, facts)
    log.warning(Event.TRUNCATED_SENT, job=job.id, recording=job.path, duration_seconds=facts.seconds)
    return True


def _check_dictation(facts: Facts) -> None:
    """A decoder that loses its way gives noise, without an error: the device's own length shows that."""
    expected = facts.recorder_seconds
    if expected is not None and abs(facts.seconds - expected) > _DEVICE_TOLERANCE.of(expected):
        raise _decoded_wrongly(
            f"The device has recorded {expected:.0f} s, but {facts.seconds:.0f} s were decoded."
        )
    if facts.clipped > _MOST_CLIPPED:
        raise _decoded_wrongly(f"What was decoded is noise: {facts.clipped:.1%} of it is as loud as can be.")


def _is_cut(refusal: Failure, facts: Facts) -> bool:
    expected = facts.declared_seconds
    if expected is not None and facts.seconds < expected - _HEADER_TOLERANCE.of(expected):
        return True
    if refusal.remedy is Remedy.VERIFY:  # the header says that it is cut: only a length can refute that
        return expected is None or facts.ends_in_error
    return expected is None and facts.ends_in_error


def _truncated(job: Job, facts: Facts) -> RecordingError:
    length = f"{facts.seconds:.1f} s"
    if facts.declared_seconds is not None:
        length += f" of {facts.declared_seconds:.1f} s"
    return RecordingError(
        f"The recording ({job.format}) was cut off: {length} can be played.",
        code=_TRUNCATED,
        hint="Copy it from the device again; or set intake.on_truncated to send, and retry it.",
    )


def _decoded_wrongly(message: str) -> RecordingError:
    return RecordingError(
        message,
        code="decoded_wrongly",
        hint="Export it from the dictation device or its software as WAV or MP3, and copy that to the inbox.",
    )


def _as_error(refusal: Failure) -> RecordingError:
    reason = refusal.reason
    return RecordingError(reason.message, code=reason.code, hint=reason.hint)
