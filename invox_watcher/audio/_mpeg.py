"""MPEG audio (ISO/IEC 11172-3, 13818-3): MP3, not layers I and II, nor AAC in ADTS (13818-7).

There is no container, only consecutive frames, so it is recognised by several frames in a row. Lengths come
from the encoder's Xing, Info or VBRI header if there is one, and are estimated otherwise.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from invox_watcher.audio._id3 import audio_end, audio_start
from invox_watcher.audio._info import AudioInfo, Completeness, refused, seconds, uploadable
from invox_watcher.audio._reader import Reader, big

_FRAMES_TO_BE_SURE = 4
_SEARCHED_BYTES = 64 << 10
_WINDOW_BYTES = _SEARCHED_BYTES + _FRAMES_TO_BE_SURE * 8192  # the longest frame, of ADTS, has 8,191 bytes
_TAIL_BYTES = 4096  # two of the longest frames of layer III, and more
_SYNC = re.compile(rb"(?=\xff[\xe2-\xff])")

_NAMES = {0: "AAC (ADTS)", 1: "MP3", 2: "MP2", 3: "MP1"}  # by the header's two bits of layer
_ADTS, _LAYER_3, _LAYER_1 = 0, 1, 3
_MPEG_1 = 3
_KBITS = {  # by "is it MPEG-1" and layer bits; index 0 is a free bit rate, not used in practice
    (True, 3): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {_MPEG_1: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_ADTS_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


class _Frame(NamedTuple):
    offset: int
    layer: int
    version: int
    sample_rate: int
    samples: int
    size: int

    def agrees_with(self, other: _Frame) -> bool:
        return self[1:5] == other[1:5]


class _Lengths(NamedTuple):
    """The encoder's header in the first frame; None if there is none."""

    frames: int | None
    size: int | None


def read_mpeg(reader: Reader, head: bytes) -> AudioInfo | None:
    """MP3, or another, unsupported format of MPEG audio frames, or None."""
    start = audio_start(reader, head)
    window = reader.at(start, _WINDOW_BYTES)
    if start and (len(window) < 4 or not any(window)):  # an ID3v2 tag without audio yet
        return uploadable("MP3", "mp3", Completeness.UNFINISHED)
    frames = _find_frames(window, file_ends=start + len(window) >= reader.size)
    if not frames:
        return None
    first = frames[0]
    if first.layer != _LAYER_3:
        return refused(_NAMES[first.layer])
    sound_start = start + first.offset
    lengths = _noted_lengths(window[first.offset : first.offset + first.size])
    sound_end = audio_end(reader)
    return uploadable(
        "MP3",
        "mp3",
        _completeness(reader, lengths, sound_start, sound_end, frames),
        duration_seconds=_duration(lengths, sound_end - sound_start, frames),
        declared_bytes=sound_start + lengths.size if lengths.size else None,
    )


def _find_frames(window: bytes, *, file_ends: bool) -> list[_Frame]:
    """The first run of frames long enough not to be a coincidence, up to the end of the window."""
    for match in _SYNC.finditer(window, 0, _SEARCHED_BYTES):
        if len(_run(window, match.start(), _FRAMES_TO_BE_SURE)) == _FRAMES_TO_BE_SURE:
            return _run(window, match.start(), len(window))
    run = _run(window, 0, _FRAMES_TO_BE_SURE)
    if file_ends and run and run[0].layer == _LAYER_3 and run[-1].offset + run[-1].size + 4 > len(window):
        return run  # as many as a short file can contain
    return []


def _run(window: bytes, offset: int, limit: int) -> list[_Frame]:
    frames: list[_Frame] = []
    while len(frames) < limit:
        frame = _parse(window, offset)
        if frame is None or (frames and not frame.agrees_with(frames[0])):
            break
        frames.append(frame)
        offset += frame.size
    return frames


def _parse(data: bytes, offset: int) -> _Frame | None:
    header = data[offset : offset + 6]
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    if layer == _ADTS:
        return _parse_adts(header, offset)
    kbits_index, rate_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or kbits_index in (0, 15) or rate_index == 3 or header[3] & 3 == 2:
        return None
    kbits = _KBITS[version == _MPEG_1, layer][kbits_index]
    rate = _RATES[version][rate_index]
    if layer == _LAYER_1:
        return _Frame(offset, layer, version, rate, 384, (12_000 * kbits // rate + padding) * 4)
    samples = 576 if layer == _LAYER_3 and version != _MPEG_1 else 1152
    return _Frame(offset, layer, version, rate, samples, samples // 8 * 1000 * kbits // rate + padding)


def _parse_adts(header: bytes, offset: int) -> _Frame | None:
    rate_index = header[2] >> 2 & 15
    size = big(header, 3, 3) >> 5 & 0x1FFF
    if header[1] < 0xF0 or rate_index >= len(_ADTS_RATES) or len(header) < 6 or size < 7:
        return None
    return _Frame(offset, _ADTS, header[1] >> 3 & 1, _ADTS_RATES[rate_index], 1024, size)


def _noted_lengths(frame: bytes) -> _Lengths:
    """The Xing or Info header, whose position depends on the side information, or Fraunhofer's VBRI."""
    if frame[36:40] == b"VBRI":
        return _Lengths(big(frame, 50, 4), big(frame, 46, 4))
    mpeg_1, mono, crc_bytes = frame[1] >> 3 & 3 == _MPEG_1, frame[3] >> 6 == 3, 0 if frame[1] & 1 else 2
    after_side_info = 4 + (17 if mpeg_1 == mono else 32 if mpeg_1 else 9)
    for offset in (after_side_info, after_side_info + crc_bytes):  # writers differ on whether the CRC counts
        if frame[offset : offset + 4] in (b"Xing", b"Info"):
            flags = big(frame, offset + 4, 4)
            values = offset + 8
            frames = big(frame, values, 4) if flags & 1 else None
            size = big(frame, values + (4 if flags & 1 else 0), 4) if flags & 2 else None
            return _Lengths(frames, size)
    return _Lengths(None, None)


def _completeness(
    reader: Reader, lengths: _Lengths, sound_start: int, sound_end: int, frames: list[_Frame]
) -> Completeness:
    first, last = frames[0], frames[-1]
    held_bytes = reader.size - sound_start
    if lengths.frames == 0:  # a placeholder, filled in at the end
        return Completeness.UNFINISHED
    if lengths.size:
        if lengths.size > held_bytes:
            return Completeness.UNFINISHED
        whole = _ends_with_frames(reader, first, sound_start + lengths.size)
        return Completeness.WHOLE if whole else Completeness.UNKNOWN
    if len(frames) < _FRAMES_TO_BE_SURE and last.offset + last.size - first.offset > held_bytes:
        return Completeness.UNFINISHED
    # A tag at the end is the last thing that any writer writes.
    tagged = sound_end < reader.size and _ends_with_frames(reader, first, sound_end)
    return Completeness.WHOLE if tagged else Completeness.UNKNOWN


def _ends_with_frames(reader: Reader, first: _Frame, end: int) -> bool:
    """Whether the bytes before `end` are whole frames like the `first`, not space that was only reserved."""
    tail = reader.at(max(0, end - _TAIL_BYTES), min(_TAIL_BYTES, end))
    for match in _SYNC.finditer(tail):
        run = _run(tail, match.start(), len(tail))
        if run and run[0].agrees_with(first) and run[-1].offset + run[-1].size == len(tail):
            return True
    return False


def _duration(lengths: _Lengths, sound_bytes: int, frames: list[_Frame]) -> float | None:
    first, last = frames[0], frames[-1]
    if lengths.frames:
        return seconds(lengths.frames * first.samples, first.sample_rate)
    mean_bytes = (last.offset + last.size - first.offset) / len(frames)
    return seconds(sound_bytes / mean_bytes * first.samples, first.sample_rate)
