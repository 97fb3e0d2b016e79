"""Renders a transcript in each output format: JSON, SRT, VTT and TXT, as bytes.

Pure functions; the same `Delivery` always gives the same bytes, so files can be written again after a crash.
All files are UTF-8 without a byte order mark, with LF line ends, which every current SRT player reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Literal

from invox_watcher.outputs.captions import clean, prefix, srt, vtt
from invox_watcher.outputs.delivery import Delivery
from invox_watcher.outputs.transcript_json import transcript_json
from invox_watcher.transcript import Segment

OutputFormat = Literal["json", "srt", "vtt", "txt"]
MEDIA_TYPES: Mapping[OutputFormat, str] = {
    "json": "application/json",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "txt": "text/plain",
}


def render(delivery: Delivery, format: OutputFormat, speaker_names: Mapping[str, str]) -> bytes:
    """The content of one output file. A transcript without words gives an empty SRT and TXT.

    `speaker_names` maps labels (`Speaker_00`) to the names shown in SRT, VTT and TXT; JSON keeps the labels.
    """
    if format == "json":
        return transcript_json(delivery)
    written = [segment for segment in delivery.transcript.segments if clean(segment.text)]
    segments = [
        Segment(segment.text, segment.start, segment.end, _label(segment.speaker, speaker_names))
        for segment in written
    ]
    return _TEXT_FORMATS[format](segments).encode("utf-8")


def _txt(segments: Sequence[Segment]) -> str:
    """One paragraph for each turn of a speaker, with the line breaks of the API's text."""
    paragraphs = []
    for speaker, turn in groupby(segments, key=lambda segment: segment.speaker):
        words = " ".join("\n".join(map(clean, segment.text.splitlines())) for segment in turn)
        paragraphs.append(f"{prefix(speaker)}{words}\n")
    return "\n".join(paragraphs)


_TEXT_FORMATS: dict[str, Callable[[Sequence[Segment]], str]] = {"srt": srt, "vtt": vtt, "txt": _txt}


def _label(speaker: str | None, names: Mapping[str, str]) -> str | None:
    return clean(names.get(speaker, speaker)) or None if speaker is not None else None
