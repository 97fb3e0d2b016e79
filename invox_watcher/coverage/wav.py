"""Uncompressed WAV as samples for the detector: 16 kHz, one channel, 16 bits. Plain arithmetic, no decoder.

Chunks and format tags are those of Microsoft's "Multimedia Programming Interface" and `mmreg.h`. Sizes are
not trusted: sound ends where the file does.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

RATE = 16_000
BLOCK_SECONDS = 4
_FORMS = (b"RIFF", b"RF64", b"BW64")
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)
_MOST_CHUNKS = 500
_MOST_CHANNELS = 64
_RATES = range(4_000, 384_001)


@dataclass(frozen=True)
class Pcm:
    """Uncompressed sound in an open file; `samples` reads it."""

    fd: int
    begin: int  # of the sound, in bytes
    end: int
    rate: int
    channels: int
    width: int  # bytes of a sample of one channel
    is_float: bool

    @property
    def length(self) -> int:
        """How many samples of each channel there are."""
        return (self.end - self.begin) // (self.width * self.channels)

    def samples(self, start_seconds: float, end_seconds: float) -> Iterator[array[int]]:
        """The samples of a stretch in blocks of `BLOCK_SECONDS`, from each block's loudest channel."""
        position, stop = (
            int(min(seconds * self.rate, self.length)) for seconds in (start_seconds, end_seconds)
        )
        while position < stop:
            count = min(BLOCK_SECONDS * self.rate, stop - position)
            sound = self.read(position, count)
            if not sound:
                return
            yield _resampled(sound, self.rate)
            position += count

    def read(self, position: int, count: int) -> array[int]:
        """At most `count` samples from `position` on, at their own rate, of their loudest channel."""
        frame = self.width * self.channels
        data = os.pread(self.fd, count * frame, self.begin + position * frame)
        return self._loudest(data[: len(data) // frame * frame]) if len(data) >= frame else array("h")

    def _loudest(self, data: bytes) -> array[int]:
        samples = _as_16_bits(data, self.width, is_float=self.is_float)
        channels = (samples[channel :: self.channels] for channel in range(self.channels))
        return max(channels, key=lambda one: max(one) - min(one))


def read_pcm(fd: int) -> Pcm | None:
    """The sound of an uncompressed WAV file; None for anything else."""
    head = os.pread(fd, 12, 0)
    if head[:4] not in _FORMS or head[8:] != b"WAVE":
        return None
    size, offset, wave_format = os.fstat(fd).st_size, 12, b""
    for _ in range(_MOST_CHUNKS):
        header = os.pread(fd, 8, offset)
        name, length = header[:4], _little(header[4:])
        if name == b"fmt ":
            wave_format = os.pread(fd, 40, offset + 8)
        if name == b"data":
            end = size if length in _UNKNOWN_SIZES else min(size, offset + 8 + length)
            return _pcm(fd, wave_format, offset + 8, end)
        if len(header) < 8:
            return None
        offset += 8 + length + length % 2
    return None


def _pcm(fd: int, wave_format: bytes, begin: int, end: int) -> Pcm | None:
    tag, channels, rate = _little(wave_format[:2]), _little(wave_format[2:4]), _little(wave_format[4:8])
    if tag == _EXTENSIBLE:
        tag = _little(wave_format[24:26])
    if not 0 < channels <= _MOST_CHANNELS or rate not in _RATES:
        return None
    width, rest = divmod(_little(wave_format[12:14]), channels)
    if rest or width not in {_PCM: (1, 2, 3, 4), _FLOAT: (4, 8)}.get(tag, ()):
        return None
    return Pcm(fd, begin, end, rate, channels, width, tag == _FLOAT)


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _as_16_bits(data: bytes, width: int, *, is_float: bool) -> array[int]:
    """The upper 16 bits of each sample."""
    if is_float:
        values = array("f" if width == 4 else "d", data)
        if sys.byteorder == "big":
            values.byteswap()
        return array("h", (int(32767 * max(-1.0, min(1.0, value))) for value in values))  # NaN is -1.0
    if width == 1:
        return array("h", ((value - 128) << 8 for value in data))
    upper = bytearray(len(data) // width * 2)
    upper[::2], upper[1::2] = data[width - 2 :: width], data[width - 1 :: width]
    samples = array("h", bytes(upper))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def _resampled(samples: array[int], rate: int) -> array[int]:
    """At `RATE`: each sample the mean of those that it replaces, or between those that it lies between."""
    if rate == RATE:
        return samples
    count = len(samples) * RATE // rate
    if rate > RATE:
        sums = [0, *accumulate(samples)]
        edges = [index * rate // RATE for index in range(count + 1)]
        return array("h", ((sums[b] - sums[a]) // (b - a) for a, b in pairwise(edges)))
    samples.append(samples[-1])
    result = array("h")
    for index in range(count):
        place, part = divmod(index * rate, RATE)
        result.append(samples[place] + (samples[place + 1] - samples[place]) * part // RATE)
    return result
