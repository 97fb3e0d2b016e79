"""Segments, read from every shape in which the API is known to send words: a list, WebVTT, one text.

Words are worth more than times: a time that makes no sense is repaired, and no word is dropped. What was
repaired or left out is added to `repairs`, in words that quote nothing.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from invox_watcher.transcript import Segment

_TEXT_KEYS = ("text", "transcript", "content")
_START_KEYS = ("start", "startTime", "start_time", "begin")
_END_KEYS = ("end", "endTime", "end_time")
_SPEAKER_KEYS = ("speakerName", "speakerId", "speaker")
_LONGEST_SECONDS = 360_000  # 100 hours: captions show hours with two digits
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")
_CUE_TIMES = re.compile(r"\s*([\d:.,]+)\s*-->\s*([\d:.,]+)")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>")
# WebVTT's own tags and times only: "<7 mg, >10 ml" are words.
_TAG = re.compile(r"</?(?:c|i|b|u|v|ruby|rt|lang)(?:[.\s][^>]*)?>|<[\d:]+\.\d{3}>")
# Beyond ten times the recording's length, and not just by seconds, times can only be in another unit.
_MILLISECONDS_FACTOR = 10
_MILLISECONDS_FLOOR_SECONDS = 60.0
_MILLISECONDS_SLACK_SECONDS = 5.0


@dataclass(frozen=True)
class _Timed:
    """Words with the times as sent: seconds or, perhaps, milliseconds; None if unusable."""

    text: str
    start: float | None
    end: float | None
    speaker: str | None


def segments_of(
    items: object, vtt: object, duration_seconds: float | None, repairs: list[str]
) -> tuple[Segment, ...]:
    """The segments in `items`, else those in the WebVTT text `vtt`; empty if neither has words.

    `duration_seconds` is the recording's length, by which times in milliseconds are recognized.
    """
    if isinstance(items, Mapping):
        items = items.get("segments") or [items]
    found = _of_list(items, repairs) if isinstance(items, Sequence) and not isinstance(items, str) else []
    if not found and isinstance(items, str) and items.strip():
        found = [_Timed(items.strip(), None, None, None)]
        repairs.append("the transcription is one text without times")
    if not found and isinstance(vtt, str):
        found = _of_vtt(vtt)
        if found:
            repairs.append("the words are from vttTranscription")
    if len(found) > 1 and all(one.start is None and one.end is None for one in found):
        repairs.append("no segment has a time: the times are estimated")
    return _repaired(_in_seconds(found, duration_seconds, repairs), duration_seconds)


def has_words(items: object, vtt: object) -> bool:
    """Whether there are words in either."""
    return bool(segments_of(items, vtt, None, []))


def kind_of(value: object) -> str:
    """What a JSON value is, in JSON's words, never what it holds."""
    if value is None:
        return "missing or null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object")


def one_line(text: str) -> str:
    """The text without control characters, its white space as single spaces."""
    joined = " ".join(text.split())
    return joined if joined.isprintable() else "".join(c for c in joined if c.isprintable())


def first_of(mapping: Mapping[str, object], keys: Sequence[str]) -> object:
    """The first value under one of `keys` that is neither null nor an empty text; None if there is none."""
    return next((mapping[key] for key in keys if mapping.get(key) not in (None, "")), None)


def _of_list(items: Sequence[object], repairs: list[str]) -> list[_Timed]:
    found = []
    for index, item in enumerate(items):
        where = f"transcription[{index}]"
        if isinstance(item, str):
            item = {"text": item}  # noqa: PLW2901 - a list of plain texts
        if not isinstance(item, Mapping):
            repairs.append(f"{where} is {kind_of(item)}: left out")
            continue
        text = first_of(item, _TEXT_KEYS)
        if isinstance(text, int | float) and not isinstance(text, bool):
            repairs.append(f"{where}.text is a number")
            text = str(text)
        if not isinstance(text, str):
            if text is not None:
                repairs.append(f"{where}.text is {kind_of(text)}: left out")
            elif not any(key in item for key in _TEXT_KEYS):
                repairs.append(f"{where} has no text: left out")
            continue
        if text.strip():
            start, end = (_number(first_of(item, keys)) for keys in (_START_KEYS, _END_KEYS))
            speaker = next(filter(None, (_speaker(item.get(key)) for key in _SPEAKER_KEYS)), None)
            found.append(_Timed(text.strip(), start, end, speaker))
    return found


def _of_vtt(text: str) -> list[_Timed]:
    """The cues of a WebVTT text (https://www.w3.org/TR/webvtt1/), read leniently; a voice is a speaker."""
    found: list[_Timed] = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n").strip("\ufeff\n ")):
        lines = block.split("\n")
        at = next((n for n, line in enumerate(lines) if _CUE_TIMES.match(line)), None)
        if at is None:
            continue
        times = _CUE_TIMES.match(lines[at])
        assert times is not None  # noqa: S101 - it was found by the same pattern
        start, end = _number(times[1]), _number(times[2])
        for speaker, words in _voices("\n".join(lines[at + 1 :])):
            if words:
                found.append(_Timed(words, start, end, speaker))
    if not found and "-->" not in text and not text.lstrip("\ufeff").startswith("WEBVTT") and text.strip():
        found.append(_Timed(text.strip(), None, None, None))
    return found


def _voices(payload: str) -> list[tuple[str | None, str]]:
    """The cue's text by speaker: `<v Doctor>Good morning.</v>`."""
    parts = _VOICE.split(payload)
    voices = [(None, parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    return [
        (_speaker(html.unescape(name)) if name else None, _joined(html.unescape(_TAG.sub("", words))))
        for name, words in voices
    ]


def _joined(lines: str) -> str:
    """A cue's lines are its layout, not its words."""
    return " ".join(lines.split())


def _in_seconds(found: list[_Timed], duration_seconds: float | None, repairs: list[str]) -> list[_Timed]:
    """With times in milliseconds turned into seconds."""
    last = max((time for one in found for time in (one.start, one.end) if time is not None), default=0.0)
    length = duration_seconds or 0.0
    if length <= 0 or last <= max(_MILLISECONDS_FACTOR * length, length + _MILLISECONDS_FLOOR_SECONDS):
        return found
    if last / 1000 > length + _MILLISECONDS_SLACK_SECONDS:
        return found
    repairs.append("times are in milliseconds")

    def scaled(time: float | None) -> float | None:
        return None if time is None else time / 1000

    return [replace(one, start=scaled(one.start), end=scaled(one.end)) for one in found]


def _repaired(found: list[_Timed], duration_seconds: float | None) -> tuple[Segment, ...]:
    """Unusable starts become the end of the segment before, unusable or earlier ends the start.

    If no segment has a time, each gets the share of the recording that its share of the text has.
    """
    if all(one.start is None and one.end is None for one in found):
        return _estimated(found, duration_seconds or 0.0)
    segments: list[Segment] = []
    reached = 0.0
    for one in found:
        start, end = (_plausible(time) for time in (one.start, one.end))
        start = reached if start is None else start
        reached = start if end is None else max(start, end)
        segments.append(Segment(one.text, start, reached, one.speaker))
    return tuple(segments)


def _estimated(found: list[_Timed], duration_seconds: float) -> tuple[Segment, ...]:
    whole = sum(len(one.text) for one in found)
    segments: list[Segment] = []
    before, start = 0, 0.0
    for one in found:
        before += len(one.text)
        end = round(duration_seconds * before / whole, 3)
        segments.append(Segment(one.text, start, end, one.speaker))
        start = end
    return tuple(segments)


def _plausible(time: float | None) -> float | None:
    return None if time is None or time >= _LONGEST_SECONDS else max(time, 0.0)


def _number(value: object) -> float | None:
    """A time as it was sent, as a number: 1.5, "1.5", "1.5s", "61,5", "00:01:01.500"; None if unusable."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        text = value.strip().lower().removesuffix("s").strip().replace(",", ".")
        if (clock := _CLOCK.fullmatch(text)) is not None:
            hours, minutes, seconds = (float(part or 0) for part in clock.groups())
            return hours * 3600 + minutes * 60 + seconds
        value = text
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _speaker(value: object) -> str | None:
    """`Speaker_00` for 0, 0.0, "0" and "Speaker_00"; other labels on one line; None for none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    label = one_line(str(value))
    if label.isascii() and label.isdecimal():
        return f"Speaker_{label.lstrip('0').zfill(2)}"
    return label or None
