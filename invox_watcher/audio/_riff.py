"""WAV and variants: RIFF/WAVE and RIFX, Broadcast WAV (EBU Tech 3285), RF64 and BW64 (EBU Tech 3306).

Chunk layout is that of Microsoft's "Multimedia Programming Interface". Sizes in the header are claims: what
they say is believed if the file agrees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from invox_watcher.audio._info import HINT_CONVERT, HINT_HEADER, AudioInfo, Completeness, refused, uploadable
from invox_watcher.audio._reader import Reader, big, is_placeholder, little
from invox_watcher.audio._wave_format import WaveFormat

_TAGS = {b"RIFF": "WAV", b"RF64": "RF64", b"BW64": "BW64", b"RIFX": "big-endian WAV"}
_IN_DS64 = 0xFFFFFFFF
_MAX_CHUNKS = 500
_MAX_FORMAT_BYTES = 256
_SEARCHED_BYTES = 64 << 10
# Writers are known to count the RIFF header itself (8 bytes) or a padding byte that they do not write.
_SLOPPY_BYTES = 8
# What lies outside every chunk matters if it is at least that much; less is a tag or a program's leavings.
_MIN_STRAY_BYTES = 4096
_Number = Callable[[bytes, int, int], int]


@dataclass(frozen=True)
class _Chunk:
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class _Wave:
    """Where the chunks of a file are."""

    name: str
    format: WaveFormat
    chunks: dict[bytes, _Chunk]
    riff_size: int
    data: _Chunk
    unpadded: bool  # a chunk before the sound is of odd size and lacks its padding byte
    is_64_bit: bool  # its sizes are in a chunk of their own


@dataclass(frozen=True)
class _Finding:
    """What the sizes say together; `sound_bytes` is None if they contradict each other about the sound."""

    completeness: Completeness
    sound_bytes: int | None
    unclosed: bool = False
    mendable: bool = False
    stray_bytes: int = 0
    remark: str = ""


def read_wave(reader: Reader, head: bytes) -> AudioInfo | None:
    """WAV with its codec, or None if this is another RIFF file or something else."""
    tag, form = head[:4], head[8:12]
    if tag not in _TAGS or not b"WAVE".startswith(form):
        return None
    number = big if tag == b"RIFX" else little
    chunks, unpadded, budget_left = _chunks_until_data(reader, number)
    format_chunk = chunks.get(b"fmt ", _Chunk(0, 0))
    wave_format = WaveFormat(reader.at(format_chunk.start, min(format_chunk.size, _MAX_FORMAT_BYTES)), number)
    name = f"{'BWF' if b'bext' in chunks and tag == b'RIFF' else _TAGS[tag]}{wave_format.suffix}"
    data = chunks.get(b"data")
    if data is None:
        info = _without_data(reader, number(head, 4, 4), name, wave_format, budget_left=budget_left)
        return _refused_if_foreign(tag, info)
    riff_size, data_size = number(head, 4, 4), data.size
    if tag != b"RIFF" and b"ds64" in chunks:
        ds64 = reader.at(chunks[b"ds64"].start, 16)
        riff_size = little(ds64, 0, 8) if riff_size == _IN_DS64 else riff_size
        data_size = little(ds64, 8, 8) if data_size == _IN_DS64 else data_size
    sound = _Chunk(data.start, data_size)
    wave = _Wave(name, wave_format, chunks, riff_size, sound, unpadded, is_64_bit=tag in (b"RF64", b"BW64"))
    return _refused_if_foreign(tag, _judge(reader, wave, number))


def _refused_if_foreign(tag: bytes, info: AudioInfo) -> AudioInfo:
    return replace(info, container=None, hint=HINT_CONVERT, decodable=True) if tag == b"RIFX" else info


def _without_data(
    reader: Reader, riff_size: int, name: str, wave_format: WaveFormat, *, budget_left: bool
) -> AudioInfo:
    """Not all of the header is there; or all of it is, but a chunk in it has a wrong size."""
    all_there = abs(riff_size + 8 - reader.size) <= _SLOPPY_BYTES
    at = reader.at(0, _SEARCHED_BYTES).find(b"data", 12) if all_there and wave_format.suffix else -1
    if at < 0:
        completeness = Completeness.UNFINISHED if budget_left else Completeness.UNKNOWN
        return uploadable(name, "wav", completeness)
    sound_bytes = reader.size - at - 8
    return replace(
        refused(
            f"{name} with a damaged header",
            HINT_HEADER,
            duration_seconds=wave_format.seconds(sound_bytes, 0),
            decodable=True,
        ),
        sound_header=wave_format.header(sound_bytes),
        sound_start=at + 8,
    )


def _judge(reader: Reader, wave: _Wave, number: _Number) -> AudioInfo:
    found = _compare(reader, wave, number)
    fact = wave.chunks.get(b"fact")
    samples = number(reader.at(fact.start, 4), 0, 4) if fact else 0
    info = uploadable(
        wave.name,
        "wav",
        found.completeness,
        duration_seconds=wave.format.seconds(found.sound_bytes, samples),
        declared_bytes=_declared_bytes(reader, wave),
        decodable=found.mendable or not wave.format.is_plain,
        unclosed=found.unclosed,
        remark=found.remark,
    )
    covers_little = found.stray_bytes > 10 * wave.data.size
    unclosed_sound = found.unclosed and bool(found.sound_bytes) and wave.data.size == 0
    if wave.unpadded or found.stray_bytes or unclosed_sound:
        header = wave.format.header(reader.size - wave.data.start)
        info = replace(info, decodable=True, sound_header=header, sound_start=wave.data.start)
    if wave.unpadded and found.completeness is not Completeness.UNFINISHED:
        return replace(
            info, format=f"{wave.name} with a chunk that is not padded", container=None, hint=HINT_HEADER
        )
    if unclosed_sound and wave.is_64_bit:  # decoders read what the sizes say: nothing
        return replace(info, format=f"{wave.name} without its sizes", container=None, hint=HINT_HEADER)
    if covers_little:
        says = (
            f"{wave.name} whose header covers {wave.data.size:,} of {reader.size - wave.data.start:,} bytes"
        )
        return replace(info, format=says, container=None, hint=HINT_HEADER)
    return info


def _compare(reader: Reader, wave: _Wave, number: _Number) -> _Finding:
    data, file_size = wave.data, reader.size
    held = max(0, file_size - data.start)
    riff_end = wave.riff_size + 8
    if data.size == 0:  # a writer's initial value, filled in at the end
        if _chunks_end(reader, data.start, number) == file_size:
            return _Finding(Completeness.WHOLE, 0, unclosed=held == 0)
        remark = "its header was never completed: it counts no sound"
        return _Finding(Completeness.UNKNOWN, held, unclosed=True, mendable=True, remark=remark)
    if data.size > held:
        if is_placeholder(data.size, held):
            return _Finding(Completeness.UNKNOWN, held)
        if abs(riff_end - file_size) <= _SLOPPY_BYTES:  # nothing is missing: the other size was miscounted
            remark = f"its header counts {data.size - held:,} bytes of sound too many"
            return _Finding(Completeness.UNKNOWN, held, remark=remark)
        return _Finding(Completeness.UNFINISHED, held, mendable=held > 0)
    stray = _stray_bytes(reader, wave, number)
    if stray > min(data.size, max(_MIN_STRAY_BYTES, wave.format.bytes_per_second // 2)):
        remark = f"{stray:,} bytes lie outside of what its header counts"
        return _Finding(
            Completeness.UNKNOWN, None, unclosed=True, mendable=True, stray_bytes=stray, remark=remark
        )
    if riff_end > file_size + _SLOPPY_BYTES and not is_placeholder(wave.riff_size, file_size):
        # All the sound is there. What may be missing is a chunk behind it.
        remark = f"its header counts {riff_end - file_size:,} bytes more behind the sound"
        return _Finding(Completeness.UNKNOWN, data.size, unclosed=True, remark=remark)
    agree = data.end <= riff_end <= file_size
    return _Finding(Completeness.WHOLE if agree else Completeness.UNKNOWN, data.size)


def _chunks_until_data(reader: Reader, number: _Number) -> tuple[dict[bytes, _Chunk], bool, bool]:
    """The first chunk of each name up to and including `data`; is one not padded; were all of them read."""
    chunks: dict[bytes, _Chunk] = {}
    offset, unpadded = 12, False
    for _ in range(_MAX_CHUNKS):
        header = reader.at(offset, 8)
        if len(header) < 8:
            return chunks, unpadded, True
        chunk = _Chunk(offset + 8, number(header, 4, 4))
        chunks.setdefault(header[:4], chunk)
        if header[:4] == b"data":
            return chunks, unpadded, True
        offset = _next_chunk(reader, chunk)
        unpadded = unpadded or (offset == chunk.end and chunk.size % 2 == 1)
    return chunks, unpadded, False


def _next_chunk(reader: Reader, chunk: _Chunk) -> int:
    """Where the next chunk begins: after a padding byte of zero, which some writers omit."""
    if chunk.size % 2 == 0:
        return chunk.end
    follows = reader.at(chunk.end, 5)
    missing = follows[:1] != b"\0" and _is_name(follows[:4]) and not _is_name(follows[1:5])
    return chunk.end if missing or follows[:4] in (b"data", b"LIST", b"fact", b"fmt ") else chunk.end + 1


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and name[:1].isalnum() and all(0x20 <= byte < 0x7F for byte in name)


def _chunks_end(reader: Reader, offset: int, number: _Number) -> int:
    """Where the chunks from `offset` on end: at the end of the file, or at something that is none."""
    for _ in range(_MAX_CHUNKS):
        header = reader.at(offset, 8)
        chunk = _Chunk(offset + 8, number(header, 4, 4))
        if len(header) < 8 or not _is_name(header[:4]) or chunk.end > reader.size:
            break
        offset = min(_next_chunk(reader, chunk), reader.size)
    return offset


def _stray_bytes(reader: Reader, wave: _Wave, number: _Number) -> int:
    """How much lies behind the sound that is neither a chunk nor zeros."""
    start = _chunks_end(reader, min(_next_chunk(reader, wave.data), reader.size), number)
    header = reader.at(start, 8)
    cut_chunk = start + 8 + number(header, 4, 4)
    if _is_name(header[:4]) and abs(cut_chunk - wave.riff_size - 8) <= _SLOPPY_BYTES:
        return 0
    length = reader.size - start
    samples = (reader.at(start + length * part // 4, 1024) for part in range(4))
    return length if any(any(sample) for sample in samples) else 0


def _declared_bytes(reader: Reader, wave: _Wave) -> int | None:
    held = reader.size - wave.data.start
    if wave.data.size == 0 or wave.data.size > held:
        known = wave.data.size and not is_placeholder(wave.data.size, held)
        return max(wave.data.end, wave.riff_size + 8) if known else None
    riff_end = wave.riff_size + 8
    return max(wave.data.end, riff_end) if riff_end <= reader.size else wave.data.end
