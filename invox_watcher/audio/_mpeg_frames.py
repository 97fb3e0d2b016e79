"""Frames of MPEG audio (ISO/IEC 11172-3, 13818-3) and of AAC in ADTS (13818-7), and runs of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from invox_watcher.audio._reader import Reader, big

FRAMES_TO_BE_SURE = 4
MAX_FRAME_BYTES = 8192  # of ADTS; the longest of MPEG audio has 2,881 bytes
_TAIL_BYTES = 16 << 10  # some of the longest frames of layer III, two of the longest of ADTS
SYNC = re.compile(rb"(?=\xff[\xe2-\xff])")

ADTS, LAYER_3, _LAYER_1 = 0, 1, 3
_MPEG_1 = 3
_KBITS = {  # by "is it MPEG-1" and layer bits; index 0 is a free bit rate
    (True, 3): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {_MPEG_1: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_ADTS_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


class Frame(NamedTuple):
    """One frame, by its header: where it is, what is in it, and its length in samples and bytes."""

    offset: int
    layer: int
    version: int
    sample_rate: int
    samples: int
    size: int

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + self.size

    def agrees_with(self, other: Frame) -> bool:
        """Whether both can be of one stream."""
        return self[1:5] == other[1:5]


def run(window: bytes, offset: int, limit: int) -> list[Frame]:
    """The frames in a row from `offset` on, at most `limit`; the last may go beyond the window."""
    frames: list[Frame] = []
    while len(frames) < limit:
        frame = parse_frame(window, offset)
        if frame is None or (frames and not frame.agrees_with(frames[0])):
            break
        frames.append(frame)
        offset = frame.end
    return frames


def parse_frame(data: bytes, offset: int) -> Frame | None:
    """The frame whose header is at `offset`, or None."""
    header = data[offset : offset + 6]
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    if layer == ADTS:
        return _parse_adts(header, offset)
    kbits_index, rate_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or kbits_index in (0, 15) or rate_index == 3 or header[3] & 3 == 2:
        return None
    kbits = _KBITS[version == _MPEG_1, layer][kbits_index]
    rate = _RATES[version][rate_index]
    if layer == _LAYER_1:
        return Frame(offset, layer, version, rate, 384, (12_000 * kbits // rate + padding) * 4)
    samples = 576 if layer == LAYER_3 and version != _MPEG_1 else 1152
    return Frame(offset, layer, version, rate, samples, samples // 8 * 1000 * kbits // rate + padding)


def _parse_adts(header: bytes, offset: int) -> Frame | None:
    rate_index = header[2] >> 2 & 15
    size = big(header, 3, 3) >> 5 & 0x1FFF
    if header[1] < 0xF0 or rate_index >= len(_ADTS_RATES) or len(header) < 6 or size < 7:
        return None
    return Frame(offset, ADTS, header[1] >> 3 & 1, _ADTS_RATES[rate_index], 1024, size)


def find_frames(window: bytes, searched_bytes: int) -> list[Frame]:
    """The first run of frames long enough not to be a coincidence, up to the end of the window."""
    for match in SYNC.finditer(window, 0, searched_bytes):
        if len(run(window, match.start(), FRAMES_TO_BE_SURE)) == FRAMES_TO_BE_SURE:
            return run(window, match.start(), len(window))
    return []


def find_last(data: bytes) -> Frame | None:
    """The last frame of the last run in these bytes; it may go beyond them."""
    last = None
    for frames in runs(data, lambda frames: len(frames) >= FRAMES_TO_BE_SURE):
        last = frames[-1]
    return last


def runs(data: bytes, accept: Callable[[Sequence[Frame]], bool]) -> Iterator[Sequence[Frame]]:
    """All runs in these bytes that `accept` does not take for a coincidence, whatever is between them."""
    offset = 0
    while (match := SYNC.search(data, offset)) is not None:
        frames = run(data, match.start(), len(data))
        if accept(frames):
            yield frames
            offset = frames[-1].end
        else:
            offset = match.start() + 1


def ends_whole(reader: Reader, end: int, like: Frame | None = None) -> bool | None:
    """Whether the bytes before `end` are frames `like` another one, and the last is whole.

    False if it is cut; None if there are no frames, such as in space that was only reserved.
    """
    start = max(0, end - _TAIL_BYTES)
    tail = reader.at(start, end - start)
    cut = None
    for match in SYNC.finditer(tail):
        frames = run(tail, match.start(), len(tail))
        if not frames or (like and not frames[0].agrees_with(like)):
            continue
        if frames[-1].end == len(tail):
            return True
        rest = tail[frames[-1].end :]
        begun = frames[-1].end > len(tail) or (len(rest) < 4 and rest[:1] == b"\xff")
        if begun and len(frames) >= FRAMES_TO_BE_SURE:
            cut = False
    return cut


def free_format(window: bytes, searched_bytes: int) -> bool:
    """Whether it begins with frames of layer III of a bit rate that their headers do not name."""
    for match in SYNC.finditer(window, 0, searched_bytes):
        start = match.start()
        header = window[start : start + 4]
        if (
            len(header) < 4
            or header[1] >> 1 & 3 != LAYER_3
            or header[1] >> 3 & 3 == 1
            or header[2] & 0xFC > 0x08
        ):
            continue
        second = window.find(header[:2], start + 24, start + 3000)
        while second > 0:
            if all(_resembles(header, window, second + number * (second - start)) for number in range(3)):
                return True
            second = window.find(header[:2], second + 1, start + 3000)
    return False


def _resembles(header: bytes, window: bytes, near: int) -> bool:
    # A frame may be a byte longer by its padding, so that the next ones are a little later.
    for offset in range(near - 3, near + 4):
        other = window[offset : offset + 4]
        if len(other) == 4 and other[:2] == header[:2] and (other[2] ^ header[2]) & 0xFC == 0:
            return True
    return False
