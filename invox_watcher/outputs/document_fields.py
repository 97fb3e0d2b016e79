"""What a document's template can refer to: the fields of one recording, each ready to be shown. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from invox_watcher.outputs.captions import clean, prefix
from invox_watcher.outputs.delivery import Delivery
from invox_watcher.suspicion import Doubt
from invox_watcher.transcript import Segment

# Every recording has these; all other names are its attributes. docs/docx.md describes each.
FIELDS = (
    "job_id", "recording", "name", "folder", "date", "received_at", "recorded_at", "completed_at",
    "duration", "duration_seconds", "truncated", "text", "turns", "speakers", "doubts", "attributes",
)  # fmt: skip
# By its own header, if that says so.
HEADER_ATTRIBUTES = ("author", "device", "comment", "title")

_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_ENDS = re.compile("[\t\n\r\x85\u2028\u2029]")
DOUBTS = {
    Doubt.UNTRANSCRIBED_SPEECH: "someone speaks, but there are no words",
    Doubt.TOO_FEW_WORDS: "there may be words missing",
    Doubt.TOO_MANY_WORDS: "there are more words than can be said in that time",
    Doubt.BEYOND_END: "the recording has ended by then",
}


@dataclass(frozen=True)
class Turn:
    """What one speaker says without a break. `text` has the line breaks of the API's text."""

    speaker: str  # empty if the API names none
    start: str  # "1:02:33"
    end: str
    start_seconds: float
    end_seconds: float
    text: str


@dataclass(frozen=True)
class Question:
    """A place where the recording should be listened to, and why."""

    reason: str
    start: str
    end: str


@dataclass(frozen=True)
class TemplateFields:
    """The names that a template uses and does not define."""

    required: frozenset[str]  # without one of these a document can't be made
    optional: frozenset[str]  # only where `is defined` or `default` allows for their absence


def fields_of(delivery: Delivery, speaker_names: Mapping[str, str]) -> dict[str, Any]:
    """The value of each field, and of each attribute whose name is not that of a field."""
    folder, recording = os.path.split(_LINE_ENDS.sub(" ", _valid(delivery.source.name)))
    name, seconds = os.path.splitext(recording)[0], delivery.source.duration_seconds
    attributes = {key: _valid(text) for key, text in delivery.attributes.items()}
    received_at, recorded_at = delivery.received_at.astimezone(), _moment(attributes.get("recorded_at"))
    turns = tuple(_turns(delivery, speaker_names))
    return {
        **attributes,
        "job_id": delivery.job_id or "",
        "recording": recording,
        "name": name,
        "folder": folder,
        "date": (recorded_at or received_at).date().isoformat(),
        "received_at": received_at,
        "recorded_at": recorded_at,
        "completed_at": delivery.completed_at.astimezone() if delivery.completed_at else None,
        "duration": "" if seconds is None else clock(seconds),
        "duration_seconds": seconds,
        "truncated": delivery.prepared is not None and delivery.prepared.truncated,
        "text": "\n\n".join(f"{prefix(turn.speaker)}{turn.text}" for turn in turns),
        "turns": turns,
        "speakers": tuple(dict.fromkeys(turn.speaker for turn in turns if turn.speaker)),
        "doubts": tuple(Question(DOUBTS[d.reason], clock(d.start), clock(d.end)) for d in delivery.suspect),
        "attributes": attributes,
    }


def for_xml(text: str) -> str:
    """The text without the control characters that XML 1.0 forbids, and with LF line ends."""
    return _NOT_IN_XML.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def clock(seconds: float) -> str:
    """A time in a recording, in whole seconds: `0:07`, `1:02:33`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def label(speaker: str | None, names: Mapping[str, str]) -> str | None:
    """What a speaker is called in documents and captions."""
    return clean(names.get(speaker, speaker)) or None if speaker is not None else None


def words(segment: Segment) -> str:
    """The words of a segment, with the line breaks of the API's text."""
    return "\n".join(map(clean, segment.text.splitlines()))


def _turns(delivery: Delivery, names: Mapping[str, str]) -> Iterator[Turn]:
    written = [segment for segment in delivery.transcript.segments if clean(segment.text)]
    for speaker, segments in groupby(written, key=lambda segment: label(segment.speaker, names)):
        turn = list(segments)
        start, end = turn[0].start, max(segment.end for segment in turn)
        text = " ".join(map(words, turn))
        yield Turn(speaker or "", clock(start), clock(end), start, end, text)


def _moment(text: str | None) -> datetime | None:
    """When a recorder says that it was, in this machine's time zone."""
    try:
        return datetime.fromisoformat(text).astimezone() if text else None
    except (ValueError, OverflowError):
        return None


def _valid(text: str) -> str:
    """Bytes of a file's name that are not UTF-8, and half characters, replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
