"""Ogg (RFC 3533) with Opus (RFC 7845), Vorbis, FLAC or Speex. The last page shows whether it is complete."""

from __future__ import annotations

from dataclasses import replace

from invox_watcher.audio._crc import Crc
from invox_watcher.audio._info import HINT_VIDEO, AudioInfo, Completeness, not_audio, refused, uploadable
from invox_watcher.audio._ogg_length import ogg_seconds
from invox_watcher.audio._ogg_pages import (
    CAPTURE,
    FIRST,
    HEADER_BYTES,
    LAST,
    NO_GRANULE,
    VIDEO_MARKS,
    Codec,
    Page,
    codec_of,
    first_packet,
    pages,
    parse_page,
)
from invox_watcher.audio._reader import Reader, little

_TAIL_BYTES = 2 * (27 + 255 + 255 * 255)  # the longest page, twice
_MAX_STREAMS = 16
_crc32 = Crc(32, 0x04C11DB7)


def read_ogg(reader: Reader, head: bytes) -> AudioInfo | None:
    """Ogg with its codec, or None."""
    if not head.startswith(CAPTURE):
        return None
    codec: Codec | None = None
    first_pages_end = 0
    for number, page in enumerate(pages(reader, reads_left=0)):
        # The first page of every stream comes before all others.
        if number == _MAX_STREAMS or not page.flags & FIRST:
            break
        packet = first_packet(reader, page)
        if packet.startswith(VIDEO_MARKS):
            return refused("Ogg video", HINT_VIDEO, decodable=True)
        codec = codec or codec_of(packet)
        first_pages_end = page.end
    if codec is None:
        if reader.size - first_pages_end < HEADER_BYTES + 64:  # some of the first pages may still be missing
            return uploadable("Ogg", "ogg", Completeness.UNFINISHED)
        return not_audio("Ogg without a known audio codec")
    completeness, last_page = _ending(reader)
    return uploadable(
        f"Ogg {codec.name}",
        "ogg",
        completeness,
        duration_seconds=ogg_seconds(reader, last_page),
        decodable=completeness is Completeness.UNFINISHED,
    )


def _ending(reader: Reader) -> tuple[Completeness, Page | None]:
    """Completeness by the last page, and the last page with a position."""
    tail_start = max(0, reader.size - _TAIL_BYTES)
    tail = reader.at(tail_start, _TAIL_BYTES)
    completeness: Completeness | None = None
    offset = tail.rfind(CAPTURE)
    while offset >= 0:
        page = parse_page(tail, offset)
        if completeness is None:
            completeness = _last_page_completeness(tail, offset, page)
        if page is not None and page.granule != NO_GRANULE:
            return completeness, replace(page, start=tail_start + offset)
        offset = tail.rfind(CAPTURE, 0, offset)
    return completeness or Completeness.UNKNOWN, None


def _last_page_completeness(tail: bytes, offset: int, page: Page | None) -> Completeness:
    if page is None or page.end > len(tail):
        return Completeness.UNFINISHED
    if page.end < len(tail):  # the start of another page, or other data after the last one
        return Completeness.UNFINISHED if CAPTURE.startswith(tail[page.end :][:4]) else Completeness.UNKNOWN
    if not page.flags & LAST:
        return Completeness.UNKNOWN
    unchecked = tail[offset : offset + 22] + bytes(4) + tail[offset + 26 : page.end]
    return (
        Completeness.WHOLE
        if _crc32(unchecked) == little(tail, offset + 22, 4)
        else Completeness.UNKNOWN  # reserved and not yet written, or damaged
    )
