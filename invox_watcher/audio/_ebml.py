"""WebM and Matroska (RFC 8794, RFC 9559): the elements before the first cluster."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from invox_watcher.audio._info import HINT_VIDEO, AudioInfo, Completeness, refused, seconds, uploadable
from invox_watcher.audio._reader import Reader, big

_EBML, _DOC_TYPE, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x4282, 0x18538067, 0x1F43B675
_INFO, _TIMESTAMP_SCALE, _DURATION = 0x1549A966, 0x2AD7B1, 0x4489
_TRACKS, _TRACK_ENTRY, _TRACK_TYPE, _CODEC_ID = 0x1654AE6B, 0xAE, 0x83, 0x86
_VIDEO = 1
_MAX_CHILDREN = 100
_DOC_TYPES = {"webm": "WebM", "matroska": "Matroska"}
_CODECS = {"OPUS": "Opus", "VORBIS": "Vorbis"}


@dataclass(frozen=True)
class _Element:
    id: int
    start: int
    size: int | None  # None: up to the end of the enclosing element


@dataclass
class _Segment:
    """What was found in the segment's header."""

    timestamp_scale: int = 1_000_000
    duration: float | None = None
    codec: str = ""
    has_video: bool = False


def read_ebml(reader: Reader, _head: bytes) -> AudioInfo | None:
    """WebM with its codec, Matroska or video, or None."""
    ebml = _element(reader, 0)
    if ebml is None or ebml.id != _EBML or ebml.size is None:
        return None
    outer = _element(reader, ebml.start + ebml.size)
    if outer is None:
        return uploadable("WebM", "webm", Completeness.UNFINISHED)
    doc_type = _text(reader, next((e for e in _children(reader, ebml) if e.id == _DOC_TYPE), None))
    name = _DOC_TYPES.get(doc_type, "EBML data")
    segment = _Segment()
    if outer.id == _SEGMENT:
        _read_segment(reader, outer, segment)
    duration = None if segment.duration is None else seconds(segment.duration * segment.timestamp_scale, 1e9)
    completeness = _completeness(reader, outer)
    if segment.has_video:
        return refused(f"{name} video", HINT_VIDEO, completeness, duration_seconds=duration)
    label = f"{name} ({segment.codec})" if segment.codec else name
    if doc_type != "webm":
        return refused(label, completeness=completeness, duration_seconds=duration)
    declared_bytes = outer.start + outer.size if outer.size else None
    return uploadable(label, "webm", completeness, duration_seconds=duration, declared_bytes=declared_bytes)


def _completeness(reader: Reader, segment: _Element) -> Completeness:
    if segment.size is None:  # streamed; also the placeholder until a writer has finished
        return Completeness.UNKNOWN
    if segment.size == 0 or segment.start + segment.size > reader.size:
        return Completeness.UNFINISHED
    return Completeness.WHOLE


def _element(reader: Reader, offset: int) -> _Element | None:
    """The element at `offset`: its id with the length marker, its size without it."""
    header = reader.at(offset, 12)
    id_length = _vint_length(header, 0)
    size_length = _vint_length(header, id_length)
    if id_length > 4 or size_length > 8 or len(header) < id_length + size_length:
        return None
    size = big(header, id_length, size_length) & (1 << 7 * size_length) - 1
    unknown = size == (1 << 7 * size_length) - 1
    return _Element(big(header, 0, id_length), offset + id_length + size_length, None if unknown else size)


def _vint_length(data: bytes, offset: int) -> int:
    return 9 - big(data, offset, 1).bit_length()


def _children(reader: Reader, parent: _Element) -> Iterator[_Element]:
    offset = parent.start
    end = reader.size if parent.size is None else parent.start + parent.size
    for _ in range(_MAX_CHILDREN):
        child = _element(reader, offset) if offset < end else None
        if child is None:
            return
        yield child
        if child.size is None:
            return
        offset = child.start + child.size


def _read_segment(reader: Reader, outer: _Element, segment: _Segment) -> None:
    for element in _children(reader, outer):
        if element.id == _CLUSTER:
            return
        if element.id == _INFO:
            for child in _children(reader, element):
                if child.id == _TIMESTAMP_SCALE:
                    segment.timestamp_scale = big(reader.at(child.start, 8), 0, min(child.size or 0, 8))
                elif child.id == _DURATION:
                    segment.duration = _float(reader.at(child.start, min(child.size or 0, 8)))
        elif element.id == _TRACKS:
            for entry in _children(reader, element):
                if entry.id == _TRACK_ENTRY:
                    _read_track(reader, entry, segment)


def _read_track(reader: Reader, entry: _Element, segment: _Segment) -> None:
    for child in _children(reader, entry):
        if child.id == _TRACK_TYPE:
            segment.has_video = segment.has_video or reader.at(child.start, 1) == bytes([_VIDEO])
        elif child.id == _CODEC_ID and not segment.codec:
            codec = _text(reader, child).removeprefix("A_")
            segment.codec = _CODECS.get(codec, codec)


def _text(reader: Reader, element: _Element | None) -> str:
    if element is None:
        return ""
    data = reader.at(element.start, min(element.size or 0, 32)).partition(b"\0")[0]
    return "".join(c for c in data.decode("ascii", "ignore") if c.isprintable())


def _float(data: bytes) -> float | None:
    if len(data) == 4:
        return float(struct.unpack(">f", data)[0])
    return float(struct.unpack(">d", data)[0]) if len(data) == 8 else None
