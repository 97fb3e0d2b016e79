"""MPEG audio: MP3, and layers I and II and AAC in ADTS, which the API does not take.

There is no container, only consecutive frames, so it is recognised by several frames in a row. What precedes
them is a tag, or junk; lengths come from the encoder's Xing, Info or VBRI header if it is right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from invox_watcher.audio._id3 import audio_end, audio_start
from invox_watcher.audio._info import HINT_CONVERT, AudioInfo, Completeness, refused, uploadable
from invox_watcher.audio._mpeg_frames import (
    FRAMES_TO_BE_SURE,
    LAYER_3,
    MAX_FRAME_BYTES,
    Frame,
    ends_whole,
    find_frames,
    find_last,
    free_format,
    run,
)
from invox_watcher.audio._mpeg_length import Lengths, mpeg_seconds, noted_lengths
from invox_watcher.audio._reader import Reader

_NAMES = {0: "AAC (ADTS)", 1: "MP3", 2: "MP2", 3: "MP1"}  # by the header's two bits of layer
_WINDOW_BYTES = 64 << 10
_MAX_WINDOWS = 5
_OVERLAP_BYTES = FRAMES_TO_BE_SURE * MAX_FRAME_BYTES
_PROBE_BYTES = 16 << 10
_MIN_ZEROS = 64


@dataclass(frozen=True)
class _Beginning:
    """The first frames that were found; `start` is the position of the first."""

    start: int
    frames: list[Frame]
    header: bytes  # the first frame's bytes

    @property
    def first(self) -> Frame:
        return self.frames[0]

    @property
    def frame_bytes(self) -> float:
        return (self.frames[-1].end - self.first.offset) / len(self.frames)

    @property
    def bytes_per_second(self) -> float:
        return self.frame_bytes * self.first.sample_rate / self.first.samples


def read_mpeg(reader: Reader, head: bytes) -> AudioInfo | None:
    """MP3, or another, unsupported format of MPEG audio frames, or None."""
    start = audio_start(reader, head)
    tags_start = audio_end(reader)
    sound_end = _before_zeros(reader, tags_start)
    begins = reader.at(start, 4)
    if start and (len(begins) < 4 or not any(reader.at(start, _WINDOW_BYTES))):
        if ends_whole(reader, sound_end):
            return _behind_damaged_tag(reader)
        return uploadable("MP3", "mp3", Completeness.UNFINISHED)  # an ID3v2 tag without audio yet
    found = _search(reader, start)
    if found is None:
        return _by_its_end(reader, start, sound_end)
    if found.first.layer != LAYER_3:
        return _foreign(reader, found, sound_end)
    if start and ends_whole(reader, found.start, found.first):  # the tag's size covers a part of the sound
        return _behind_damaged_tag(reader)
    lengths = noted_lengths(found.header)
    completeness, remark = _completeness(reader, lengths, found, sound_end)
    if sound_end < tags_start and not lengths.size:
        completeness = Completeness.UNKNOWN  # zeros may be space that was reserved for more
    return uploadable(
        "MP3",
        "mp3",
        completeness,
        duration_seconds=mpeg_seconds(reader, found.first, found.header, found.start, sound_end),
        declared_bytes=found.start + lengths.size if lengths.size and not remark else None,
        decodable=completeness is Completeness.UNFINISHED,
        unclosed=lengths.frames == 0,
        remark=remark,
    )


def _before_zeros(reader: Reader, end: int) -> int:
    """Where the last frames end, if zeros are behind them: some devices fill up their last block."""
    for _ in range(_MAX_WINDOWS):
        tail = reader.at(max(0, end - _PROBE_BYTES), min(end, _PROBE_BYTES))
        rest = tail.rstrip(b"\0")
        # A frame of silence ends with zeros, too, and they belong to it.
        if len(tail) - len(rest) < _MIN_ZEROS:
            return end
        if rest:
            last = find_last(rest)
            return end - len(tail) + max(len(rest), min(len(tail), last.end if last else 0))
        end -= len(tail)
    return end


def _search(reader: Reader, start: int) -> _Beginning | None:
    offset = start
    for _ in range(_MAX_WINDOWS):
        window = reader.at(offset, _WINDOW_BYTES + _OVERLAP_BYTES)
        frames = find_frames(window, _WINDOW_BYTES)
        if not frames and offset == start and offset + len(window) >= reader.size:
            frames = _short(window)
        if frames:
            first = frames[0]
            return _Beginning(offset + first.offset, frames, window[first.offset : first.end])
        offset += _WINDOW_BYTES
        if offset >= reader.size:
            break
    return None


def _short(window: bytes) -> list[Frame]:
    """As many frames as a file has that is too short for more."""
    frames = run(window, 0, FRAMES_TO_BE_SURE)
    reaches_end = bool(frames) and frames[0].layer == LAYER_3 and frames[-1].end + 4 > len(window)
    return frames if reaches_end else []


def _by_its_end(reader: Reader, start: int, sound_end: int) -> AudioInfo | None:
    """Where no frames begin: MP3 of a free bit rate, or MP3 with more in front of it than is searched."""
    window = reader.at(start, _OVERLAP_BYTES)
    if free_format(window, 4096):
        return refused("MP3 (free format)", HINT_CONVERT)
    if reader.size > start + _MAX_WINDOWS * _WINDOW_BYTES and ends_whole(reader, sound_end):
        return _behind_other_data(reader, start + _MAX_WINDOWS * _WINDOW_BYTES, sound_end)
    return None


def _behind_other_data(reader: Reader, start: int, end: int) -> AudioInfo:
    """Frames that begin later than players search: from somewhere on there are only frames, so bisect."""
    while end - start > _WINDOW_BYTES // 4:
        middle = (start + end) // 2
        if find_frames(reader.at(middle, _PROBE_BYTES), _PROBE_BYTES):
            end = middle
        else:
            start = middle
    return _refused_but_for(reader, "MP3 behind other data", _search(reader, start))


def _behind_damaged_tag(reader: Reader) -> AudioInfo:
    """Players follow the size in the tag, and miss sound: it has to be decoded without the tag."""
    return _refused_but_for(reader, "MP3 behind a damaged tag", _search(reader, 10))


def _refused_but_for(reader: Reader, format: str, found: _Beginning | None) -> AudioInfo:
    """Not to be sent as it is; a decoder can have the part that begins with the frames that were found."""
    info = refused(format, HINT_CONVERT, decodable=found is not None)
    if found is None:
        return info
    seconds = mpeg_seconds(reader, found.first, found.header, found.start, audio_end(reader))
    return replace(info, sound_start=found.start, duration_seconds=seconds)


def _foreign(reader: Reader, found: _Beginning, sound_end: int) -> AudioInfo:
    cut = ends_whole(reader, sound_end, found.first) is False
    return refused(
        _NAMES[found.first.layer],
        HINT_CONVERT,
        Completeness.UNFINISHED if cut else Completeness.UNKNOWN,
        duration_seconds=mpeg_seconds(reader, found.first, found.header, found.start, sound_end),
        decodable=True,
    )


def _completeness(
    reader: Reader, lengths: Lengths, found: _Beginning, sound_end: int
) -> tuple[Completeness, str]:
    """And a remark, if the encoder's header is wrong."""
    held_bytes = reader.size - found.start
    if lengths.frames == 0:  # a placeholder, filled in at the end
        cut = ends_whole(reader, sound_end, found.first) is False
        remark = "its header was never completed: it counts no sound"
        return (Completeness.UNFINISHED, "") if cut else (Completeness.UNKNOWN, remark)
    if lengths.size:
        if lengths.size > held_bytes:
            return _size_too_large(reader, lengths, found, sound_end)
        end = found.start + lengths.size
        more_follows = sound_end - end > found.bytes_per_second  # files put together
        if more_follows and ends_whole(reader, sound_end) is False:
            return Completeness.UNFINISHED, ""
        whole = ends_whole(reader, end, found.first)
        return Completeness.WHOLE if whole else Completeness.UNKNOWN, ""
    if len(found.frames) < FRAMES_TO_BE_SURE and found.frames[-1].end - found.first.offset > held_bytes:
        return Completeness.UNFINISHED, ""
    # A tag at the end is the last thing that any writer writes.
    whole = ends_whole(reader, sound_end, found.first)
    if audio_end(reader) < reader.size:
        tagged = whole and sound_end == audio_end(reader)
        return Completeness.WHOLE if tagged else Completeness.UNKNOWN, ""
    return Completeness.UNFINISHED if whole is False else Completeness.UNKNOWN, ""


def _size_too_large(
    reader: Reader, lengths: Lengths, found: _Beginning, sound_end: int
) -> tuple[Completeness, str]:
    """Cut, unless the last frame is whole and what is missing is less than a second, or is not sound."""
    assert lengths.size is not None  # noqa: S101 - the caller has checked
    missing = lengths.size - (reader.size - found.start)
    counts_tags = abs(lengths.size - reader.size) <= found.frame_bytes
    expected = (lengths.frames or 0) * found.frame_bytes
    all_there = abs(sound_end - found.start - expected) <= 2 * found.frame_bytes
    if (missing <= found.bytes_per_second or counts_tags or all_there) and ends_whole(
        reader, sound_end, found.first
    ):
        return Completeness.UNKNOWN, f"its header counts {missing:,} bytes too many"
    return Completeness.UNFINISHED, ""
