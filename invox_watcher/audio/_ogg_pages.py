"""The pages of an Ogg file (RFC 3533), and the codec that the first page of a stream names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from invox_watcher.audio._flac import parse_stream_info
from invox_watcher.audio._reader import Reader, little

CAPTURE = b"OggS"
FIRST, LAST = 2, 4
NO_GRANULE = (1 << 64) - 1
HEADER_BYTES = 27 + 255
VIDEO_MARKS = (b"\x80theora", b"BBCD\0", b"\x01video", b"OVP80")


@dataclass(frozen=True)
class Page:
    """One page."""

    flags: int
    granule: int  # the number of the sample after its last whole packet
    serial: int
    packets: int  # that end in it
    start: int
    payload_start: int
    end: int


@dataclass(frozen=True)
class Codec:
    """What the first page of a stream says."""

    name: str
    sample_rate: int
    skipped_samples: int = 0  # at its start, which are not to be heard


def parse_page(data: bytes, offset: int) -> Page | None:
    """The page at `offset` of `data`; None if there is none, or not all of its header."""
    header = data[offset : offset + 27]
    if len(header) < 27 or header[:5] != CAPTURE + b"\0":
        return None
    segments = data[offset + 27 : offset + 27 + header[26]]
    if len(segments) < header[26]:
        return None
    payload = offset + 27 + len(segments)
    packets = sum(length < 255 for length in segments)
    serial, granule = little(header, 14, 4), little(header, 6, 8)
    return Page(header[5], granule, serial, packets, offset, payload, payload + sum(segments))


def pages(reader: Reader, *, reads_left: int) -> Iterator[Page]:
    """The pages from the start on, while the budget has more than `reads_left`."""
    offset = 0
    while reader.reads_left > reads_left:
        page = parse_page(reader.at(offset, HEADER_BYTES), 0)
        if page is None:
            return
        yield replace(page, start=offset, payload_start=offset + page.payload_start, end=offset + page.end)
        offset += page.end


def first_packet(reader: Reader, page: Page) -> bytes:
    """The beginning of a page's content."""
    return reader.at(page.payload_start, 64)


def codec_of(packet: bytes) -> Codec | None:
    """The codec of a stream, by the beginning of its first packet; None if it is not one for audio."""
    if packet.startswith(b"OpusHead"):
        return Codec("Opus", 48000, little(packet, 10, 2))  # granules always count at 48 kHz
    if packet.startswith(b"\x01vorbis"):
        return Codec("Vorbis", little(packet, 12, 4))
    if packet.startswith(b"\x7fFLAC"):
        return Codec("FLAC", parse_stream_info(packet[17:51]).sample_rate)
    if packet.startswith(b"Speex   "):
        return Codec("Speex", little(packet, 36, 4))
    return None
