"""How a result's words are represented: as segments with times and speakers, as WebVTT, or as one text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

from invox_watcher.sandbox.ledger import Segment
from invox_watcher.sandbox.readings import Reading

_NAMES = ("Doctor", "Patient")


def fields(reading: Reading, segments: tuple[Segment, ...], *, vtt: bool) -> dict[str, Any]:
    """The reply's fields that hold the words; with a `vttTranscription` of them if `vtt` says so."""
    text = " ".join(segment.text for segment in segments)
    beside = {"vttTranscription": _vtt(reading, segments)} if vtt else {}
    match reading.words:
        case "segments":
            return {"transcription": [_segment(reading, segment) for segment in segments]} | beside
        case "vtt":
            return {"vttTranscription": _vtt(reading, segments)}
        case "vtt_and_empty":
            return {"transcription": [], "vttTranscription": _vtt(reading, segments)}
        case "string":
            return {"transcription": text}
        case "untimed":
            return {"transcription": [{"text": text}]}
        case "text_field":
            return {"text": text}
        case "none":
            return {"transcription": []}


def _segment(reading: Reading, segment: Segment) -> dict[str, Any]:
    body: dict[str, Any] = {"text": segment.text}
    if reading.times != "none":
        body["start"] = _time(reading, segment.start_seconds)
        body["end"] = _time(reading, segment.end_seconds)
    return body | _speaker(reading, segment.speaker)


def _speaker(reading: Reading, speaker: int | None) -> dict[str, Any]:
    field = reading.shape.speaker_field
    if speaker is None or field is None:
        return {}
    names: dict[str, Any] = {"speakerId": f"Speaker_{speaker:02}", "speaker": str(speaker)}
    body: dict[str, Any] = {field: speaker if reading.speaker_is_number else names[field]}
    if reading.speaker_name:
        body["speakerName"] = _name(speaker)
    return body


def _name(speaker: int) -> str:
    return _NAMES[speaker] if speaker < len(_NAMES) else f"Speaker {speaker}"


def _time(reading: Reading, seconds: float) -> float | str:
    rounded = round(seconds, 3)
    match reading.times:
        case "milliseconds":
            return round(seconds * 1000)
        case "text":
            return str(rounded)
        case "suffix":
            return f"{rounded}s"
        case "clock":
            return _clock(seconds)
        case _:
            return rounded


def _vtt(reading: Reading, segments: tuple[Segment, ...]) -> str:
    """WebVTT: https://www.w3.org/TR/webvtt1/."""
    if reading.vtt_style == "rich":
        return "\ufeff" + "\r\n".join(_rich_lines(segments))
    voices = reading.vtt_style == "voices"
    cues = [
        f"{_clock(segment.start_seconds)} --> {_clock(segment.end_seconds)}\n"
        f"{_voice(segment) if voices else ''}{escape(segment.text)}\n"
        for segment in segments
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _rich_lines(segments: tuple[Segment, ...]) -> Iterator[str]:
    """Whatever a cue may have, and hours left out where they are zero."""
    yield from ("WEBVTT - made by the sandbox", "", "NOTE", "This is not speech.", "")
    for number, segment in enumerate(segments, 1):
        start, end = (
            _clock(seconds).removeprefix("00:") for seconds in (segment.start_seconds, segment.end_seconds)
        )
        yield from (f"cue-{number}", f"{start} --> {end} align:start line:0")
        first, _, rest = segment.text.partition(" ")
        yield f"{_voice(segment)}<i>{escape(first)}</i>"
        yield f"{escape(rest)}</v>"
        yield ""


def _voice(segment: Segment) -> str:
    return "" if segment.speaker is None else f"<v {_name(segment.speaker)}>"


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}.{rest % 1000:03}"
