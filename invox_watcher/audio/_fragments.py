"""The length of a fragmented MP4 (ISO/IEC 14496-12, section 8.8): from its first fragment to its last."""

from __future__ import annotations

import io
from dataclasses import dataclass

from invox_watcher.audio._boxes import Box, TopLevel, children
from invox_watcher.audio._info import seconds
from invox_watcher.audio._reader import Reader, big

_MAX_FRAGMENT_BYTES = 128 << 10  # of its description


@dataclass(frozen=True)
class _Fragment:
    """One track's part of a fragment, in its units of time."""

    start: int | None  # None: not said
    length: int


def fragments_seconds(
    reader: Reader, found: TopLevel, track: int, timescale: int, default_duration: int
) -> float | None:
    """The length of a track that lies in fragments; None if that can't be told within the budget."""
    if not found.moofs or not found.ends_vouched or found.moofs[-1].end > reader.size:
        return None
    # The sum is right in any order, after a cut, and without times; the times of two take fewer reads.
    if found.walked and len(found.moofs) < reader.reads_left:
        parts = [_fragment(reader, moof, track, default_duration) for moof in found.moofs]
        lengths = [part.length for part in parts if part is not None]
        return seconds(sum(lengths), timescale) if len(lengths) == len(parts) else None
    first = _fragment(reader, found.moofs[0], track, default_duration)
    last = _fragment(reader, found.moofs[-1], track, default_duration)
    if first is None or last is None or first.start is None or last.start is None:
        return None
    return seconds(last.start + last.length - first.start, timescale)


def _fragment(reader: Reader, moof: Box, track: int, default: int) -> _Fragment | None:
    size = moof.end - moof.start
    if size > _MAX_FRAGMENT_BYTES:
        return None
    inside = Reader(io.BytesIO(reader.at(moof.start, size)), size)  # one read of the file for all of it
    for box in children(inside, Box(moof.type, 0, size)):
        if box.type != b"traf":
            continue
        number, start, length = 0, None, 0
        for child in children(inside, box):
            if child.type == b"tfhd":
                data = inside.at(child.start, 32)
                number, default = big(data, 4, 4), _default_sample_duration(data) or default
            elif child.type == b"tfdt":
                data = inside.at(child.start, 12)
                start = big(data, 4, 8 if data[:1] == b"\x01" else 4)
            elif child.type == b"trun":
                length += _run_length(inside, child, default)
        if number == track:
            return _Fragment(start, length)
    return None


def _default_sample_duration(tfhd: bytes) -> int:
    flags = big(tfhd, 1, 3)
    before = (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
    return big(tfhd, 8 + before, 4) if flags & 8 else 0


def _run_length(reader: Reader, trun: Box, default: int) -> int:
    data = reader.at(trun.start, trun.end - trun.start)
    flags, count = big(data, 1, 3), big(data, 4, 4)
    if not flags & 0x100:  # no durations of their own
        return count * default
    first = 8 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
    step = 4 * (flags >> 8 & 0xF).bit_count()
    return sum(big(data, offset, 4) for offset in range(first, min(first + count * step, len(data)), step))
