"""The `fmt ` chunk of a WAV (`WAVEFORMATEX` of Microsoft's `mmreg.h`): codec, and the length of the sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from invox_watcher.audio._info import seconds

_CODECS = {
    0x0001: "PCM",
    0x0002: "Microsoft ADPCM",
    0x0003: "float",
    0x0006: "A-law",
    0x0007: "µ-law",
    0x0011: "IMA ADPCM",
    0x0022: "TrueSpeech",
    0x0031: "GSM 6.10",
    0x0045: "G.726",
    0x0050: "MPEG",
    0x0055: "MP3",
}
_EXTENSIBLE = 0xFFFE
_PLAIN = frozenset({0x0001, 0x0003, 0x0006, 0x0007})  # each sample has its own bytes
_MS_ADPCM, _IMA_ADPCM, _GSM = 0x0002, 0x0011, 0x0031
_BLOCKS_SLACK = 2
_UNSET = 0xFFFFFFFF


class WaveFormat:
    """The chunk's bytes, in the byte order of `number`."""

    def __init__(self, data: bytes, number: Callable[[bytes, int, int], int]) -> None:
        self._data = data
        tag = number(data, 0, 2)
        self._codec = number(data, 24, 2) if tag == _EXTENSIBLE else tag
        self._channels, self._rate = number(data, 2, 2), number(data, 4, 4)
        self.bytes_per_second, self._block_bytes = number(data, 8, 4), number(data, 12, 2)
        self._bits = number(data, 14, 2)
        self._samples_per_block = 320 if self._codec == _GSM else number(data, 18, 2)

    @property
    def suffix(self) -> str:
        """The codec in brackets, to be put behind the name of the container; empty if it is not known yet."""
        return f" ({_CODECS.get(self._codec, f'codec 0x{self._codec:04x}')})" if self._codec else ""

    @property
    def is_plain(self) -> bool:
        """Whether any decoder plays it: PCM and its logarithmic kin, or not known yet."""
        return self._codec in _PLAIN or not self._codec

    def header(self, sound_bytes: int) -> bytes:
        """A header of RIFF for that much sound in this format."""
        body = b"WAVEfmt " + len(self._data).to_bytes(4, "little") + self._data
        body += b"data" + min(sound_bytes, _UNSET).to_bytes(4, "little")
        return b"RIFF" + min(len(body) + sound_bytes, _UNSET).to_bytes(4, "little") + body

    def seconds(self, sound_bytes: int | None, counted_samples: int) -> float | None:
        """The length of so much sound; None if the header's figures contradict each other.

        `counted_samples`: what the `fact` chunk says; 0 if there is none.
        """
        if not sound_bytes:
            return None if sound_bytes is None else 0.0
        by_rate = seconds(sound_bytes, self.bytes_per_second)
        if self._codec in _PLAIN:
            sample_bytes = self._channels * ((self._bits + 7) // 8)
            frames = [seconds(sound_bytes, self._rate * size) for size in (sample_bytes, self._block_bytes)]
            return _majority([*frames, by_rate])
        counted = seconds(counted_samples, self._rate) if 0 < counted_samples < _UNSET else None
        by_blocks = self._by_blocks(sound_bytes)
        if by_blocks is None:
            return _majority([counted, by_rate])
        # The last block may not be full, which only the count tells.
        fits = counted is not None and 0 <= by_blocks - counted <= _BLOCKS_SLACK * self._block_seconds
        return counted if fits else by_blocks

    @property
    def _block_seconds(self) -> float:
        return self._samples_per_block / self._rate

    def _by_blocks(self, sound_bytes: int) -> float | None:
        """For codecs whose blocks are all alike; None if the header describes blocks that can't be."""
        samples_of = {
            _MS_ADPCM: (self._block_bytes - 7 * self._channels) * 2 // max(1, self._channels) + 2,
            _IMA_ADPCM: (self._block_bytes - 4 * self._channels) * 2 // max(1, self._channels) + 1,
            _GSM: self._block_bytes * 320 // 65,
        }
        if samples_of.get(self._codec) != self._samples_per_block or not self._rate or self._block_bytes <= 0:
            return None
        return sound_bytes / self._block_bytes * self._block_seconds


def _majority(claims: Sequence[float | None]) -> float | None:
    """The first claim that more than half of those there are support; None if they contradict each other."""
    known = [claim for claim in claims if claim is not None]
    for claim in known:
        if 2 * sum(abs(claim - other) <= max(0.25, claim / 50) for other in known) > len(known):
            return claim
    return None
