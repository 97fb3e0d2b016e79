"""What is known about a recording: `AudioInfo`, its `Completeness`, and the three kinds of results."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

HINT_UNFINISHED = "The file is incomplete according to its header. Copy or export it from the recorder again."
HINT_CONVERT = "Convert it to WAV, MP3, M4A or FLAC and copy the result to the inbox."
HINT_VIDEO = "Save only its audio track, as WAV, MP3 or M4A, and copy that to the inbox."
HINT_HEADER = (
    "Its header is damaged. Open it in an audio editor, save it again as WAV, and copy that to the inbox."
)
HINT_PROTECTED = "Save it without protection, as WAV, MP3 or M4A, and copy that to the inbox."
HINT_DICTATION = "Export it from the dictation device or its software as WAV or MP3."
HINT_NOT_AUDIO = "This is not an audio recording. Copy the recording itself to the inbox."

_LONGEST_SECONDS = 30 * 86400.0


class Completeness(StrEnum):
    """Whether a file is complete, as far as its container shows."""

    WHOLE = "whole"  # complete according to the container
    UNFINISHED = "unfinished"  # the header is incomplete, or declares more than the file contains
    UNKNOWN = "unknown"  # the container does not show it


@dataclass(frozen=True)
class AudioInfo:
    """What a file is. Sizes are bytes from the start of the file, durations seconds."""

    format: str  # for a person: "WAV (A-law)", "Ogg Opus", "PDF document"
    container: str | None  # wav, mp3, m4a, flac, ogg, webm; None for what the API does not accept
    duration_seconds: float | None  # as declared, otherwise estimated
    completeness: Completeness
    declared_bytes: int | None  # the file's length according to its header
    is_audio: bool
    hint: str  # what to do if it can't be transcribed; empty if nothing is wrong
    # A decoder may make an acceptable recording of it: the API does not take it, or its header misleads.
    decodable: bool = False
    # Its header is as a writer leaves it until it has finished: it may still be recording.
    unclosed: bool = False
    # What is odd about a recording that is taken all the same, for the log; empty if nothing is.
    remark: str = ""
    # If its beginning misleads decoders: they should get these bytes, then the file from `sound_start` on.
    sound_header: bytes = b""
    sound_start: int = 0


def uploadable(
    format: str,
    container: str,
    completeness: Completeness,
    *,
    duration_seconds: float | None = None,
    declared_bytes: int | None = None,
    decodable: bool = False,
    unclosed: bool = False,
    remark: str = "",
) -> AudioInfo:
    """A recording in a container that the API accepts."""
    return AudioInfo(
        format=format,
        container=container,
        duration_seconds=_plausible(duration_seconds),
        completeness=completeness,
        declared_bytes=declared_bytes,
        is_audio=True,
        hint=HINT_UNFINISHED if completeness is Completeness.UNFINISHED else "",
        decodable=decodable,
        unclosed=unclosed,
        remark=remark,
    )


def refused(
    format: str,
    hint: str = HINT_CONVERT,
    completeness: Completeness = Completeness.UNKNOWN,
    *,
    duration_seconds: float | None = None,
    declared_bytes: int | None = None,
    decodable: bool = False,
) -> AudioInfo:
    """Audio or video in a format that the API does not accept."""
    seconds = _plausible(duration_seconds)
    return AudioInfo(format, None, seconds, completeness, declared_bytes, True, hint, decodable)


def not_audio(
    format: str, hint: str = HINT_NOT_AUDIO, completeness: Completeness = Completeness.UNKNOWN
) -> AudioInfo:
    """Anything else."""
    return AudioInfo(format, None, None, completeness, None, False, hint)


def seconds(count: float, per_second: float) -> float | None:
    """`count` units at `per_second`; None if a header declares zero or less."""
    return count / per_second if count >= 0 and per_second > 0 else None


def _plausible(duration_seconds: float | None) -> float | None:
    # A header can contain any number, even NaN, and other code relies on it.
    if duration_seconds is None or not 0 <= duration_seconds <= _LONGEST_SECONDS:
        return None
    return duration_seconds
