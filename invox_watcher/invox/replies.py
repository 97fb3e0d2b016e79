"""Parses the API's replies about a transcription, in every known shape.

The vendor's pages contradict themselves about names and types, so `parse_reply` accepts all of them. Words
matter more than times: an invalid time is repaired, a word is never dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from invox_watcher.errors import ApiUnavailableError
from invox_watcher.transcript import Segment, Transcript

_STATUS_KEYS = ("processingStatus", "transcriptionStatus", "status")
_SPEAKER_KEYS = ("speakerId", "speaker")
_LONGEST_SECONDS = 360_000  # 100 hours: captions show hours with two digits
_LONGEST_MESSAGE = 500
_LONGEST_STATUS = 40


class ReplyStatus(StrEnum):
    """The API's three states of a transcription."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"


@dataclass(frozen=True)
class TranscriptionReply:
    """One reply about one transcription. `transcript` is set if and only if the status is COMPLETED."""

    status: ReplyStatus
    transcript: Transcript | None
    error_message: str | None
    raw: Mapping[str, Any]  # what the API sent, unchanged
    unknown_status: str | None = None  # an undocumented status, shortened; treated as PENDING


def parse_reply(payload: object) -> TranscriptionReply:
    """Parse a decoded JSON body, from polling or from a webhook.

    The first of `processingStatus`, `transcriptionStatus` and `status` that is not null counts. Without
    any, transcribed words mean COMPLETED and an `errorMessage` means ERROR. Raises ApiUnavailableError (code
    `api_protocol`) if the body has none of these, or is COMPLETED without a readable transcription.
    """
    if not isinstance(payload, Mapping):
        raise _nonsense(f"expected an object, got {_kind(payload)}")
    message = _message(payload.get("errorMessage"))
    stated = _first(payload, _STATUS_KEYS)
    status, unknown = _known(stated) if stated is not None else (_implied(payload, message), None)
    transcript = Transcript(_segments(payload)) if status is ReplyStatus.COMPLETED else None
    return TranscriptionReply(status, transcript, message, payload, unknown)


def _known(stated: object) -> tuple[ReplyStatus, str | None]:
    try:
        return ReplyStatus(str(stated).strip().upper()), None
    except ValueError:
        return ReplyStatus.PENDING, _one_line(str(stated))[:_LONGEST_STATUS]


def _implied(payload: Mapping[str, Any], message: str | None) -> ReplyStatus:
    if payload.get("transcription"):
        return ReplyStatus.COMPLETED
    if message is not None:
        return ReplyStatus.ERROR
    # An empty transcription is ambiguous: the recording may be silent, or the result not ready yet.
    raise _nonsense("it has no status, no words and no error message")


def _segments(payload: Mapping[str, Any]) -> tuple[Segment, ...]:
    items = payload.get("transcription")
    if not isinstance(items, Sequence) or isinstance(items, str | bytes):
        raise _nonsense(f"the status is COMPLETED, but `transcription` is {_kind(items)}, not a list")
    segments: list[Segment] = []
    reached = 0.0
    for index, item in enumerate(items):
        segment = _segment(item, f"transcription[{index}]", reached)
        reached = segment.end
        if segment.text:
            segments.append(segment)
    return tuple(segments)


def _segment(item: object, where: str, reached: float) -> Segment:
    """One segment. An invalid start becomes `reached`; an invalid end, or one before the start, the start."""
    if not isinstance(item, Mapping):
        raise _nonsense(f"`{where}` is {_kind(item)}, not an object")
    if "text" not in item:
        raise _nonsense(f"`{where}` has no `text`")
    text = item["text"]
    if text is not None and not isinstance(text, str):
        raise _nonsense(f"`{where}.text` is {_kind(text)}, not a string")
    start = _seconds(item.get("start"))
    start = reached if start is None else start
    end = _seconds(item.get("end"))
    end = start if end is None else max(start, end)
    return Segment((text or "").strip(), start, end, _speaker(_first(item, _SPEAKER_KEYS)))


def _seconds(value: object) -> float | None:
    """A time as a float, negative ones as 0; None for anything that is not a time within 100 hours."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) and seconds < _LONGEST_SECONDS else None


def _speaker(value: object) -> str | None:
    """`Speaker_00` for 0, 0.0, "0" and "Speaker_00"; other labels on one line; None for none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    label = _one_line(str(value))
    if label.isascii() and label.isdecimal():
        return f"Speaker_{label.lstrip('0').zfill(2)}"
    return label or None


def _first(mapping: Mapping[str, Any], keys: Sequence[str]) -> object:
    return next((mapping[key] for key in keys if mapping.get(key) is not None), None)


def _message(value: object) -> str | None:
    return (_one_line(value)[:_LONGEST_MESSAGE] or None) if isinstance(value, str) else None


def _one_line(text: str) -> str:
    """The text without control characters, with white space collapsed to single spaces."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def _kind(value: object) -> str:
    """The type of a JSON value, for messages; never its content."""
    if value is None:
        return "missing or null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object")


def _nonsense(message: str) -> ApiUnavailableError:
    return ApiUnavailableError(
        f"Invalid reply from the API: {message}.",
        code="api_protocol",
        hint="The request is retried. If this persists, the API has changed or api.base_url is wrong.",
    )
