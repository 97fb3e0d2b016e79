"""How long MPEG audio is: by the encoders' headers in it, or by counting its frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from invox_watcher.audio._id3 import audio_start
from invox_watcher.audio._info import seconds
from invox_watcher.audio._mpeg_frames import Frame, find_frames, runs
from invox_watcher.audio._reader import Reader, big

_MAX_PARTS = 8
_PART_WINDOW_BYTES = 32 << 10
_SAMPLES = 4
_SHORTEST_RUN = 3
_SAMPLE_BYTES = 12 << 10
_RESERVED_BYTES = 64 << 10
_ID3V1_BYTES = 128


class Lengths(NamedTuple):
    """The encoder's header in the first frame; None if there is none."""

    frames: int | None
    size: int | None


def noted_lengths(frame: bytes) -> Lengths:
    """The Xing or Info header, whose position depends on the side information, or Fraunhofer's VBRI."""
    if frame[36:40] == b"VBRI":
        return Lengths(big(frame, 50, 4), big(frame, 46, 4))
    mpeg_1, mono, crc_bytes = frame[1] >> 3 & 3 == 3, frame[3] >> 6 == 3, 0 if frame[1] & 1 else 2
    after_side_info = 4 + (17 if mpeg_1 == mono else 32 if mpeg_1 else 9)
    for offset in (after_side_info, after_side_info + crc_bytes):  # writers differ on whether the CRC counts
        if frame[offset : offset + 4] in (b"Xing", b"Info"):
            flags = big(frame, offset + 4, 4)
            values = offset + 8
            frames = big(frame, values, 4) if flags & 1 else None
            size = big(frame, values + (4 if flags & 1 else 0), 4) if flags & 2 else None
            return Lengths(frames, size)
    return Lengths(None, None)


def mpeg_seconds(reader: Reader, first: Frame, header: bytes, start: int, end: int) -> float | None:
    """The length of the frames between two positions; None if that can't be told within the budget.

    `first`: the first frame, `header` its bytes. Files put together of several have several headers.
    """
    total = 0.0
    frame, lengths = first, noted_lengths(header)
    for _ in range(_MAX_PARTS):
        if not lengths.frames or not lengths.size:
            rest = _by_frames(reader, frame, start, end, lengths.frames)
            return None if rest is None else total + rest
        total += lengths.frames * frame.samples / frame.sample_rate
        mean_bytes = lengths.size / lengths.frames
        start += lengths.size
        if end - start < mean_bytes * frame.sample_rate / frame.samples:  # less than a second
            return total
        start = _skip_tags(reader, start)
        window = reader.at(start, min(_PART_WINDOW_BYTES, end - start))
        found = find_frames(window, len(window))
        if not found:
            return total
        frame, start = found[0], start + found[0].offset
        lengths = noted_lengths(window[frame.offset : frame.offset + frame.size])
    return None


def _skip_tags(reader: Reader, offset: int) -> int:
    if reader.at(offset, 3) == b"TAG":
        offset += _ID3V1_BYTES
    return offset + audio_start(reader.after(offset), reader.at(offset, 3))


def _by_frames(reader: Reader, first: Frame, start: int, end: int, counted: int | None) -> float | None:
    """By their number if all are of one size or few enough to be counted; unknown otherwise.

    `counted` is what the encoder's header says, which is believed if it is about right.
    """
    mean_bytes = _one_size(reader, first, start, end)
    frames = (end - start) / mean_bytes if mean_bytes else _count(reader, first, start, end)
    if counted and frames is None:
        return None
    if counted and frames is not None and abs(frames - counted) <= max(2, counted / 50):
        frames = counted
    return seconds(frames * first.samples, first.sample_rate) if frames else None


def _one_size(reader: Reader, first: Frame, start: int, end: int) -> float | None:
    """The mean size of a frame, if looks at several places find one bit rate."""
    sizes: list[int] = []
    for number in range(_SAMPLES + 1):
        offset = max(start, start + (end - start - _SAMPLE_BYTES) * number // _SAMPLES)
        window = reader.at(offset, min(_SAMPLE_BYTES, end - offset))
        sizes += [frame.size for frame in _all_frames(window, first) if frame.end <= len(window)]
    if not sizes or max(sizes) - min(sizes) > 1 or first.layer == 0:
        return None
    return sum(sizes) / len(sizes)


def _count(reader: Reader, first: Frame, start: int, end: int) -> int | None:
    if end - start > reader.bytes_left - _RESERVED_BYTES:
        return None
    data = reader.at(start, end - start)
    return sum(1 for _ in _all_frames(data, first))


def _all_frames(data: bytes, like: Frame) -> Iterator[Frame]:
    """The frames in all runs, whatever is between those."""

    def accept(frames: Sequence[Frame]) -> bool:
        return len(frames) >= _SHORTEST_RUN and frames[0].agrees_with(like)

    return itertools.chain.from_iterable(runs(data, accept))
