"""WAV and variants: RIFF/WAVE with any codec, Broadcast WAV (EBU Tech 3285), RF64 and BW64 (EBU Tech 3306).

Chunk layout and format tags are those of Microsoft's "Multimedia Programming Interface" and `mmreg.h`.
"""

from __future__ import annotations

from dataclasses import dataclass

from invox_watcher.audio._info import AudioInfo, Completeness, seconds, uploadable
from invox_watcher.audio._reader import Reader, little

_TAGS = {b"RIFF": "WAV", b"RF64": "RF64", b"BW64": "BW64"}
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
_CONSTANT_RATE = frozenset({0x0001, 0x0003, 0x0006, 0x0007})
_IN_DS64 = 0xFFFFFFFF
# Lengths that writers to a pipe leave in the header: most writers, SoX, and those avoiding the sign bit.
_ENDLESS = frozenset({0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF})
_MAX_CHUNKS = 500
# Writers are known to count the RIFF header itself (8 bytes) or a padding byte that they do not write.
_SLOPPY_BYTES = 8


@dataclass(frozen=True)
class _Chunk:
    start: int
    size: int


def read_wave(reader: Reader, head: bytes) -> AudioInfo | None:
    """WAV with its codec, or None if this is another RIFF file or something else."""
    tag, form = head[:4], head[8:12]
    if tag not in _TAGS or not b"WAVE".startswith(form):
        return None
    chunks, budget_left = _chunks_until_data(reader)
    format_chunk = chunks.get(b"fmt ", _Chunk(0, 0))
    wave_format = reader.at(format_chunk.start, min(format_chunk.size, 40))
    name = f"{'BWF' if b'bext' in chunks and tag == b'RIFF' else _TAGS[tag]}{_codec_suffix(wave_format)}"
    data = chunks.get(b"data")
    if data is None:
        return uploadable(name, "wav", Completeness.UNFINISHED if budget_left else Completeness.UNKNOWN)

    riff_size, data_size = little(head, 4, 4), data.size
    if tag != b"RIFF" and b"ds64" in chunks:
        ds64 = reader.at(chunks[b"ds64"].start, 16)
        riff_size = little(ds64, 0, 8) if riff_size == _IN_DS64 else riff_size
        data_size = little(ds64, 8, 8) if data_size == _IN_DS64 else data_size
    held = min(data_size or reader.size, max(0, reader.size - data.start))
    return uploadable(
        name,
        "wav",
        _completeness(reader.size, riff_size, data.start, data_size),
        duration_seconds=_duration(reader, wave_format, chunks, held),
        declared_bytes=_declared_bytes(riff_size, data.start, data_size),
    )


def _chunks_until_data(reader: Reader) -> tuple[dict[bytes, _Chunk], bool]:
    """The first chunk of each name up to and including `data`, and whether all of them were read."""
    chunks: dict[bytes, _Chunk] = {}
    offset = 12
    for _ in range(_MAX_CHUNKS):
        header = reader.at(offset, 8)
        if len(header) < 8:
            return chunks, True
        chunk = _Chunk(offset + 8, little(header, 4, 4))
        chunks.setdefault(header[:4], chunk)
        if header[:4] == b"data":
            return chunks, True
        offset = chunk.start + chunk.size + chunk.size % 2
    return chunks, False


def _completeness(file_size: int, riff_size: int, data_start: int, data_size: int) -> Completeness:
    if data_size == 0:  # initial value, patched at the end
        return Completeness.UNFINISHED
    if data_size in _ENDLESS:
        return Completeness.UNKNOWN
    data_end = data_start + data_size
    missing = riff_size + 8 - file_size
    if data_end > file_size:
        return Completeness.UNFINISHED
    if riff_size == 0 or riff_size in _ENDLESS or riff_size + 8 < data_end or 0 < missing <= _SLOPPY_BYTES:
        return Completeness.UNKNOWN  # all the audio is there, but the two lengths contradict each other
    return Completeness.UNFINISHED if missing > 0 else Completeness.WHOLE


def _declared_bytes(riff_size: int, data_start: int, data_size: int) -> int | None:
    if data_size == 0 or data_size in _ENDLESS:
        return None
    data_end = data_start + data_size
    return data_end if riff_size in _ENDLESS else max(data_end, riff_size + 8)


def _codec(wave_format: bytes) -> int:
    tag = little(wave_format, 0, 2)
    return little(wave_format, 24, 2) if tag == _EXTENSIBLE else tag


def _codec_suffix(wave_format: bytes) -> str:
    codec = _codec(wave_format)
    return f" ({_CODECS.get(codec, f'codec 0x{codec:04x}')})" if codec else ""


def _duration(
    reader: Reader, wave_format: bytes, chunks: dict[bytes, _Chunk], held_bytes: int
) -> float | None:
    rate, bytes_per_second = little(wave_format, 4, 4), little(wave_format, 8, 4)
    if _codec(wave_format) in _CONSTANT_RATE:
        return seconds(held_bytes, rate * little(wave_format, 12, 2))
    if b"fact" in chunks:  # the number of samples, which can't be computed for compressed formats
        samples = little(reader.at(chunks[b"fact"].start, 4), 0, 4)
        if 0 < samples < _IN_DS64:
            return seconds(samples, rate)
    return seconds(held_bytes, bytes_per_second)
