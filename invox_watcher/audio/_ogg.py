"""Ogg (RFC 3533) with Opus (RFC 7845), Vorbis, FLAC or Speex. The last page gives the length."""

from __future__ import annotations

from dataclasses import dataclass

from invox_watcher.audio._crc import Crc
from invox_watcher.audio._flac import parse_stream_info
from invox_watcher.audio._info import (
    HINT_VIDEO,
    AudioInfo,
    Completeness,
    not_audio,
    refused,
    seconds,
    uploadable,
)
from invox_watcher.audio._reader import Reader, little

_CAPTURE = b"OggS"
_TAIL_BYTES = 2 * (27 + 255 + 255 * 255)  # the longest page, twice
_FIRST_PAGE_BYTES = 27 + 255 + 64  # a header and the codec's signature
_MAX_STREAMS = 16
_FIRST, _LAST = 2, 4
_NO_GRANULE = (1 << 64) - 1
_VIDEO_MARKS = (b"\x80theora", b"BBCD\0", b"\x01video", b"OVP80")
_crc32 = Crc(32, 0x04C11DB7)


@dataclass(frozen=True)
class _Page:
    flags: int
    granule: int
    serial: int
    payload_start: int  # within the bytes it was parsed from
    end: int


@dataclass(frozen=True)
class _Codec:
    name: str
    sample_rate: int
    serial: int
    skipped_samples: int = 0


def read_ogg(reader: Reader, head: bytes) -> AudioInfo | None:
    """Ogg with its codec, or None."""
    if not head.startswith(_CAPTURE):
        return None
    codec: _Codec | None = None
    offset = 0
    for _ in range(_MAX_STREAMS):  # the first page of every stream comes before all others
        data = reader.at(offset, _FIRST_PAGE_BYTES)
        page = _parse_page(data, 0)
        if page is None or not page.flags & _FIRST:
            break
        packet = data[page.payload_start :]
        if packet.startswith(_VIDEO_MARKS):
            return refused("Ogg video", HINT_VIDEO)
        codec = codec or _codec(packet, page.serial)
        offset += page.end
    if codec is None:
        if reader.size - offset < _FIRST_PAGE_BYTES:  # some of the first pages may still be missing
            return uploadable("Ogg", "ogg", Completeness.UNFINISHED)
        return not_audio("Ogg without a known audio codec")
    completeness, granule = _ending(reader, codec.serial)
    return uploadable(
        f"Ogg {codec.name}",
        "ogg",
        completeness,
        duration_seconds=(
            None if granule is None else seconds(granule - codec.skipped_samples, codec.sample_rate)
        ),
    )


def _parse_page(data: bytes, offset: int) -> _Page | None:
    header = data[offset : offset + 27]
    if len(header) < 27 or header[:5] != _CAPTURE + b"\0":
        return None
    segments = data[offset + 27 : offset + 27 + header[26]]
    if len(segments) < header[26]:
        return None
    payload_start = offset + 27 + len(segments)
    return _Page(
        header[5], little(header, 6, 8), little(header, 14, 4), payload_start, payload_start + sum(segments)
    )


def _codec(packet: bytes, serial: int) -> _Codec | None:
    if packet.startswith(b"OpusHead"):
        return _Codec("Opus", 48000, serial, little(packet, 10, 2))  # granules always count at 48 kHz
    if packet.startswith(b"\x01vorbis"):
        return _Codec("Vorbis", little(packet, 12, 4), serial)
    if packet.startswith(b"\x7fFLAC"):
        return _Codec("FLAC", parse_stream_info(packet[17:51]).sample_rate, serial)
    if packet.startswith(b"Speex   "):
        return _Codec("Speex", little(packet, 36, 4), serial)
    return None


def _ending(reader: Reader, serial: int) -> tuple[Completeness, int | None]:
    """Completeness by the last page, and the last position of the stream `serial`."""
    tail_start = max(0, reader.size - _TAIL_BYTES)
    tail = reader.at(tail_start, _TAIL_BYTES)
    completeness: Completeness | None = None
    offset = tail.rfind(_CAPTURE)
    while offset >= 0:
        page = _parse_page(tail, offset)
        if completeness is None:
            completeness = _last_page_completeness(tail, offset, page)
        if page is not None and page.serial == serial and page.granule != _NO_GRANULE:
            return completeness, page.granule
        offset = tail.rfind(_CAPTURE, 0, offset)
    return completeness or Completeness.UNKNOWN, None


def _last_page_completeness(tail: bytes, offset: int, page: _Page | None) -> Completeness:
    if page is None or page.end > len(tail):
        return Completeness.UNFINISHED
    if page.end < len(tail):  # the start of another page, or other data after the last one
        return Completeness.UNFINISHED if _CAPTURE.startswith(tail[page.end :][:4]) else Completeness.UNKNOWN
    if not page.flags & _LAST:
        return Completeness.UNKNOWN
    unchecked = tail[offset : offset + 22] + bytes(4) + tail[offset + 26 : page.end]
    return (
        Completeness.WHOLE
        if _crc32(unchecked) == little(tail, offset + 22, 4)
        else Completeness.UNKNOWN  # reserved and not yet written, or damaged
    )
