"""WebM and Matroska (RFC 8794, RFC 9559): the elements before the first cluster, and how the file ends."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from invox_watcher.audio._clusters import Ending, clusters_ending
from invox_watcher.audio._elements import Element, children, element
from invox_watcher.audio._info import (
    HINT_CONVERT,
    HINT_VIDEO,
    AudioInfo,
    Completeness,
    refused,
    seconds,
    uploadable,
)
from invox_watcher.audio._reader import Reader, big

_EBML, _DOC_TYPE, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x4282, 0x18538067, 0x1F43B675
_INFO, _TIMESTAMP_SCALE, _DURATION = 0x1549A966, 0x2AD7B1, 0x4489
_TRACKS, _TRACK_ENTRY, _TRACK_TYPE, _CODEC_ID = 0x1654AE6B, 0xAE, 0x83, 0x86
_VIDEO = 1
_DOC_TYPES = {"webm": "WebM", "matroska": "Matroska"}
_CODECS = {"OPUS": "Opus", "VORBIS": "Vorbis"}


@dataclass
class _Segment:
    """What was found in the segment's header."""

    timestamp_scale: int = 1_000_000
    duration: float | None = None
    codec: str = ""
    has_video: bool = False
    first_cluster: Element | None = None


def read_ebml(reader: Reader, _head: bytes) -> AudioInfo | None:
    """WebM with its codec, Matroska or video, or None."""
    ebml = element(reader, 0)
    if ebml is None or ebml.id != _EBML or ebml.size is None:
        return None
    outer = element(reader, ebml.start + ebml.size)
    if outer is None:
        return uploadable("WebM", "webm", Completeness.UNFINISHED)
    doc_type = _text(reader, next((e for e in children(reader, ebml) if e.id == _DOC_TYPE), None))
    name = _DOC_TYPES.get(doc_type, "EBML data")
    segment = _Segment()
    if outer.id == _SEGMENT:
        _read_segment(reader, outer, segment)
    # Zero is what writers have there until they have finished.
    duration = seconds(segment.duration * segment.timestamp_scale, 1e9) if segment.duration else None
    completeness, ending = _completeness(reader, outer, segment)
    if duration is None and ending is not None and ending.length:
        duration = seconds(ending.length * segment.timestamp_scale, 1e9)
    label = f"{name} ({segment.codec})" if segment.codec else name
    if segment.has_video:
        return refused(f"{name} video", HINT_VIDEO, completeness, duration_seconds=duration, decodable=True)
    if doc_type != "webm":
        return refused(
            label,
            HINT_CONVERT,
            completeness,
            duration_seconds=duration,
            decodable=segment.first_cluster is not None,
        )
    return uploadable(
        label,
        "webm",
        completeness,
        duration_seconds=duration,
        declared_bytes=outer.start + outer.size if outer.size else None,
        decodable=segment.first_cluster is not None
        and (completeness is Completeness.UNFINISHED or (ending is not None and ending.whole is None)),
    )


def _completeness(reader: Reader, outer: Element, segment: _Segment) -> tuple[Completeness, Ending | None]:
    """Whether the segment is complete; and its ending, if it had to be read since no size is declared."""
    if outer.size is None:  # streamed; also the placeholder until a writer has finished
        first = segment.first_cluster
        ending = clusters_ending(reader, first.start) if first else None
        cut = ending is not None and ending.whole is False
        return Completeness.UNFINISHED if cut else Completeness.UNKNOWN, ending
    if outer.size == 0 or outer.start + outer.size > reader.size:
        return Completeness.UNFINISHED, None
    return Completeness.WHOLE, None


def _read_segment(reader: Reader, outer: Element, segment: _Segment) -> None:
    for found in children(reader, outer):
        if found.id == _CLUSTER:
            segment.first_cluster = found
            return
        if found.id == _INFO:
            for child in children(reader, found):
                if child.id == _TIMESTAMP_SCALE:
                    segment.timestamp_scale = big(reader.at(child.start, 8), 0, min(child.size or 0, 8))
                elif child.id == _DURATION:
                    segment.duration = _float(reader.at(child.start, min(child.size or 0, 8)))
        elif found.id == _TRACKS:
            for entry in children(reader, found):
                if entry.id == _TRACK_ENTRY:
                    _read_track(reader, entry, segment)


def _read_track(reader: Reader, entry: Element, segment: _Segment) -> None:
    for child in children(reader, entry):
        if child.id == _TRACK_TYPE:
            segment.has_video = segment.has_video or reader.at(child.start, 1) == bytes([_VIDEO])
        elif child.id == _CODEC_ID and not segment.codec:
            codec = _text(reader, child).removeprefix("A_")
            segment.codec = _CODECS.get(codec, codec)


def _text(reader: Reader, found: Element | None) -> str:
    if found is None:
        return ""
    data = reader.at(found.start, min(found.size or 0, 32)).partition(b"\0")[0]
    return "".join(c for c in data.decode("ascii", "ignore") if c.isprintable())


def _float(data: bytes) -> float | None:
    if len(data) == 4:
        return float(struct.unpack(">f", data)[0])
    return float(struct.unpack(">d", data)[0]) if len(data) == 8 else None
