"""FLAC (RFC 9639), also after an ID3v2 tag. It is complete if it ends with the frame of the last sample."""

from __future__ import annotations

import re
from dataclasses import dataclass

from invox_watcher.audio._crc import Crc
from invox_watcher.audio._id3 import audio_end, audio_start
from invox_watcher.audio._info import AudioInfo, Completeness, seconds, uploadable
from invox_watcher.audio._reader import Reader, big

_TAIL_BYTES = 64 << 10
_MAX_TAIL_BYTES = 512 << 10
_MAX_METADATA_BLOCKS = 200
_FRAME_SYNC = re.compile(rb"(?=\xff[\xf8\xf9])")
_crc8 = Crc(8, 0x07)
_crc16 = Crc(16, 0x8005)


@dataclass(frozen=True)
class _StreamInfo:
    block_size: int  # samples per frame of a stream of fixed block size
    max_frame_bytes: int
    sample_rate: int
    total_samples: int  # 0: unknown


@dataclass(frozen=True)
class _LastFrame:
    data: bytes  # from its header to the end of the audio
    end_sample: int


def read_flac(reader: Reader, head: bytes) -> AudioInfo | None:
    """FLAC, or None."""
    start = audio_start(reader, head)
    if reader.at(start, 4) != b"fLaC":
        return None
    block = reader.at(start + 4, 38)
    if len(block) < 38 or block[0] & 0x7F != 0:  # the first metadata block must be STREAMINFO
        return uploadable("FLAC", "flac", Completeness.UNFINISHED)
    stream = parse_stream_info(block[4:])
    frames_start = _frames_start(reader, start + 4)
    if frames_start is None or frames_start >= reader.size:
        return uploadable(
            "FLAC",
            "flac",
            Completeness.UNFINISHED,
            duration_seconds=seconds(stream.total_samples, stream.sample_rate),
        )
    last = _last_frame(reader, stream, frames_start)
    completeness = _completeness(stream, last)
    samples = stream.total_samples or None
    if samples is None and last is not None:
        samples = last.end_sample - _first_sample(reader, stream, frames_start)
    return uploadable(
        "FLAC",
        "flac",
        completeness,
        duration_seconds=None if samples is None else seconds(samples, stream.sample_rate),
        decodable=completeness is Completeness.UNFINISHED,
    )


def parse_stream_info(data: bytes) -> _StreamInfo:
    """The 34 bytes of a STREAMINFO block (RFC 9639, section 8.2)."""
    packed = big(data, 10, 8)  # 20 bits of sample rate, 3 of channels, 5 of depth, 36 of sample count
    return _StreamInfo(big(data, 2, 2), big(data, 7, 3), packed >> 44, packed & (1 << 36) - 1)


def _frames_start(reader: Reader, offset: int) -> int | None:
    for _ in range(_MAX_METADATA_BLOCKS):
        header = reader.at(offset, 4)
        if len(header) < 4:
            return None
        offset += 4 + big(header, 1, 3)
        if header[0] & 0x80:
            return offset
    return None


def _completeness(stream: _StreamInfo, last: _LastFrame | None) -> Completeness:
    if last is None or 0 < stream.total_samples < last.end_sample:
        return Completeness.UNKNOWN
    if last.end_sample < stream.total_samples:
        return Completeness.UNFINISHED
    # A frame ends with its own CRC-16, which brings the running value to zero; zeros after it keep it there.
    # (If that CRC's last byte is zero, in one file of 256, the file looks complete one byte too early.)
    values = list(_crc16.steps(last.data))
    if values[-1] == 0:
        return Completeness.WHOLE if stream.total_samples else Completeness.UNKNOWN
    if 0 not in values[8:]:
        return Completeness.UNFINISHED
    behind = last.data[8 + values[8:].index(0) + 1 :]
    next_one_begins = not stream.total_samples and len(behind) < 16 and behind[:1] == b"\xff"
    return Completeness.UNFINISHED if next_one_begins else Completeness.UNKNOWN


def _last_frame(reader: Reader, stream: _StreamInfo, frames_start: int) -> _LastFrame | None:
    first = reader.at(frames_start, 4)
    if len(first) < 4 or not _FRAME_SYNC.match(first):
        return None
    end = audio_end(reader)
    length = min(max(_TAIL_BYTES, stream.max_frame_bytes * 2), _MAX_TAIL_BYTES, end - frames_start)
    tail = reader.at(end - length, length)
    for match in reversed(list(_FRAME_SYNC.finditer(tail))):
        header = tail[match.start() : match.start() + 16]
        # All frames agree on the blocking strategy, the sample rate and the depth.
        if _agreed_bits(header) == _agreed_bits(first):
            samples = _frame_samples(header, stream)
            if samples is not None:
                return _LastFrame(tail[match.start() :], samples.stop)
    return None


def _first_sample(reader: Reader, stream: _StreamInfo, frames_start: int) -> int:
    """The number of the first sample: not zero if the stream was cut out of a longer one."""
    samples = _frame_samples(reader.at(frames_start, 16), stream)
    return samples.start if samples else 0


def _agreed_bits(header: bytes) -> tuple[int, int, int]:
    return big(header, 1, 1), big(header, 2, 1) & 0x0F, big(header, 3, 1) & 0x0F


def _frame_samples(header: bytes, stream: _StreamInfo) -> range | None:
    """The numbers of this frame's samples; None if this is not a frame header (RFC 9639, 9.1)."""
    size_code, rate_code = big(header, 2, 1) >> 4, big(header, 2, 1) & 0x0F
    leading_ones = 8 - (big(header, 4, 1) ^ 0xFF).bit_length()
    if size_code == 0 or leading_ones in (1, 8):
        return None
    number, offset = big(header, 4, 1) & (0x7F >> leading_ones), 5
    for byte in header[5 : 4 + leading_ones]:  # coded like UTF-8, but up to 36 bits
        number, offset = number << 6 | byte & 0x3F, offset + 1
    samples, size_bytes = _block_size(header, offset, size_code)
    offset += size_bytes + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if offset >= len(header) or _crc8(header[:offset]) != header[offset]:
        return None
    variable_block_size = header[1] & 1
    first = number if variable_block_size else number * stream.block_size
    return range(first, first + samples)


def _block_size(header: bytes, offset: int, code: int) -> tuple[int, int]:
    """The number of samples, and of the bytes at `offset` that encode it."""
    match code:
        case 1:
            return 192, 0
        case 6:
            return big(header, offset, 1) + 1, 1
        case 7:
            return big(header, offset, 2) + 1, 2
        case _ if code < 6:
            return 576 << (code - 2), 0
        case _:
            return 256 << (code - 8), 0
