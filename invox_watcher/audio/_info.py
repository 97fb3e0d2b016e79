"""What is known of a recording: `AudioInfo`, its `Completeness`, and the three kinds of answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

HINT_UNFINISHED = "The file is incomplete by its own header. Copy it, or export it from the recorder, again."
HINT_CONVERT = "Convert it to WAV, MP3, M4A or FLAC and put the result into the inbox."
HINT_VIDEO = "Save its sound alone, as WAV, MP3 or M4A, and put that into the inbox."
HINT_DICTATION = "Export it from the dictation device or its software as WAV or MP3."
HINT_NOT_AUDIO = "This is not a sound recording. Put the recording itself into the inbox."

_LONGEST_SECONDS = 30 * 86400.0


class Completeness(StrEnum):
    """Whether a file is all there, as far as its container can tell."""

    WHOLE = "whole"  # the container itself says that all of it is here
    UNFINISHED = "unfinished"  # the header waits to be completed, or declares more than the file holds
    UNKNOWN = "unknown"  # the container cannot say


@dataclass(frozen=True)
class AudioInfo:
    """What a file is. Sizes are bytes from the start of the file, durations seconds."""

    format: str  # for a person: "WAV (A-law)", "Ogg Opus", "PDF document"
    container: str | None  # wav, mp3, m4a, flac, ogg, webm; None for what the API does not take
    duration_seconds: float | None  # as declared, or estimated where nothing is declared
    completeness: Completeness
    declared_bytes: int | None  # how long the file has to be by its own account
    is_audio: bool
    hint: str  # what to do where it can't be taken; empty if nothing is wrong


def uploadable(
    format: str,
    container: str,
    completeness: Completeness,
    *,
    duration_seconds: float | None = None,
    declared_bytes: int | None = None,
) -> AudioInfo:
    """A recording in a container that the API takes."""
    return AudioInfo(
        format=format,
        container=container,
        duration_seconds=_plausible(duration_seconds),
        completeness=completeness,
        declared_bytes=declared_bytes,
        is_audio=True,
        hint=HINT_UNFINISHED if completeness is Completeness.UNFINISHED else "",
    )


def refused(
    format: str,
    hint: str = HINT_CONVERT,
    completeness: Completeness = Completeness.UNKNOWN,
    *,
    duration_seconds: float | None = None,
) -> AudioInfo:
    """Sound, perhaps with pictures, but in a format that the API does not take."""
    return AudioInfo(format, None, _plausible(duration_seconds), completeness, None, True, hint)


def not_audio(
    format: str, hint: str = HINT_NOT_AUDIO, completeness: Completeness = Completeness.UNKNOWN
) -> AudioInfo:
    """Anything else."""
    return AudioInfo(format, None, None, completeness, None, False, hint)


def seconds(count: float, per_second: float) -> float | None:
    """`count` units at `per_second`; None where a header says zero or less."""
    return count / per_second if count >= 0 and per_second > 0 else None


def _plausible(duration_seconds: float | None) -> float | None:
    # A header can claim any number, even none (NaN), and others plan by it.
    if duration_seconds is None or not 0 <= duration_seconds <= _LONGEST_SECONDS:
        return None
    return duration_seconds
