"""Formats of recorders and telephones that the API does not take: how long they are, and whether complete.

AIFF ("Audio Interchange File Format", Apple 1989), CAF (Apple's "Core Audio Format Specification"), AU (Sun's
`audio_filehdr`), Wave64 (Sony), AMR (RFC 4867, section 5; 3GPP TS 26.101 and 26.201), ASF (Microsoft's
specification, section 3.2), WavPack (its "Binary File / Block Format"), Monkey's Audio and TTA by their own
sources' headers, DSS by its recorders' files.
"""

from __future__ import annotations

import struct

from invox_watcher.audio._info import (
    HINT_CONVERT,
    HINT_DICTATION,
    HINT_VIDEO,
    AudioInfo,
    Completeness,
    refused,
    seconds,
)
from invox_watcher.audio._reader import Reader, big, is_placeholder, little
from invox_watcher.audio._wave_format import WaveFormat

_WHOLE, _UNFINISHED, _UNKNOWN = Completeness.WHOLE, Completeness.UNFINISHED, Completeness.UNKNOWN
_MAX_CHUNKS = 200
_UNSET = 0xFFFFFFFF
_TAIL_BYTES = 128 << 10

_W64_RIFF = b"riff\x2e\x91\xcf\x11"
_W64_HEADER_BYTES = 24  # of a chunk: its identifier, and a size that counts them
_AMR_BYTES = (13, 14, 16, 18, 20, 21, 27, 32, 6, 6, 6, 6, 1, 1, 1, 1)  # of a frame of 20 ms, by its mode
_AMR_WB_BYTES = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1)
_AU_SAMPLE_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}  # by the number of the encoding
# ASF, with the identifiers of an object and of the stream types in its header.
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_VIDEO = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")
_WAVPACK_RATES = (6000, 8000, 9600, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200)
_DICTATION = {b"dss": "DSS", b"ds2": "DS2"}
_DICTATION_LENGTH = 0x3E  # six digits, HHMMSS


def read_foreign(reader: Reader, head: bytes) -> AudioInfo | None:
    """One of these formats, or None."""
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(reader, head)
    if head[:8] == _W64_RIFF:
        return _wave64(reader, head)
    if head[:4] == b"MAC " and 3000 <= little(head, 4, 2) < 5000:
        return _monkeys_audio(reader, head)
    if head[1:4] in _DICTATION and 0 < head[0] < 16:
        # The first byte is the header's length in blocks of 512 bytes; 2, 3, 6 and 7 have been seen.
        return refused(
            _DICTATION[head[1:4]],
            HINT_DICTATION,
            duration_seconds=_digits(head[_DICTATION_LENGTH : _DICTATION_LENGTH + 6]),
            decodable=True,
        )
    for magic, read in _READERS.items():
        if head.startswith(magic):
            return read(reader, head)
    return None


def _found(
    format: str,
    completeness: Completeness,
    duration_seconds: float | None = None,
    declared_bytes: int | None = None,
) -> AudioInfo:
    return refused(
        format,
        HINT_CONVERT,
        completeness,
        duration_seconds=duration_seconds or None,  # none of them says for certain that there is no sound
        declared_bytes=declared_bytes,
        decodable=True,
    )


def _digits(text: bytes) -> float | None:
    """The seconds of six digits, HHMMSS."""
    if len(text) != 6 or not text.isdigit():
        return None
    return int(text[:2]) * 3600.0 + int(text[2:4]) * 60 + int(text[4:])


def _by_size(reader: Reader, end: int) -> Completeness:
    """By where the file should end; a padding byte may be missing."""
    return _UNFINISHED if end > reader.size + 1 else _WHOLE


def _aiff(reader: Reader, head: bytes) -> AudioInfo:
    name, offset, duration = head[8:12].decode("ascii"), 12, None
    frame_bytes, rate = 0, 0.0
    for _ in range(_MAX_CHUNKS):
        chunk = reader.at(offset, 8)
        if len(chunk) < 8:
            break
        size = big(chunk, 4, 4)
        if chunk[:4] == b"COMM":
            common = reader.at(offset + 8, 18)
            rate = _extended(common[8:18])
            frame_bytes = big(common, 0, 2) * ((big(common, 6, 2) + 7) // 8)
            duration = seconds(big(common, 2, 4), rate) if big(common, 2, 4) else None
        elif chunk[:4] == b"SSND":
            end = offset + 8 + size
            if size <= 8 or is_placeholder(size, reader.size - offset):  # never filled in
                held = seconds(reader.size - offset - 16, frame_bytes * rate) if name == "AIFF" else None
                return _found(name, _UNKNOWN, held)
            return _found(name, _by_size(reader, end), duration, end)
        offset += 8 + size + size % 2
    return _found(name, _UNFINISHED)


def _extended(data: bytes) -> float:
    """A floating-point number of 80 bits, as AIFF has for the sample rate; 0.0 for what is none."""
    exponent, mantissa = big(data, 0, 2) - 16383, big(data, 2, 8)
    return mantissa * 2.0 ** (exponent - 63) if 0 <= exponent < 64 else 0.0


def _caf(reader: Reader, _head: bytes) -> AudioInfo:
    offset, rate, packet_bytes, packet_frames = 8, 0.0, 0, 0
    frames = None
    sound: tuple[int, int] | None = None  # start and size
    for _ in range(_MAX_CHUNKS):
        chunk = reader.at(offset, 12)
        if len(chunk) < 12:
            break
        size = big(chunk, 4, 8)
        if chunk[:4] == b"desc":
            data = reader.at(offset + 12, 32)
            rate = struct.unpack(">d", data[:8].ljust(8, b"\0"))[0]
            packet_bytes, packet_frames = big(data, 16, 4), big(data, 20, 4)
        elif chunk[:4] == b"pakt":
            frames = big(reader.at(offset + 12, 16), 8, 8)
        elif chunk[:4] == b"data":
            sound = offset + 12, size
            if size >= 1 << 63:  # -1: up to the end of the file
                break
        offset += 12 + size
    if sound is None:
        return _found("CAF", _UNFINISHED)
    start, size = sound
    endless = size >= 1 << 63
    held = reader.size - start if endless else min(size, reader.size - start)
    if frames is None and packet_bytes:
        frames = (held - 4) // packet_bytes * packet_frames  # an edit count of 4 bytes precedes it
    duration = None if frames is None else seconds(frames, rate)
    if endless:
        return _found("CAF", _UNKNOWN, duration)
    return _found("CAF", _by_size(reader, start + size), duration, start + size)


def _au(reader: Reader, head: bytes) -> AudioInfo:
    start, size, encoding = big(head, 4, 4), big(head, 8, 4), big(head, 12, 4)
    held = max(0, reader.size - start)
    unset = size == _UNSET or (size == 0 and held > 0)
    sample_bytes = _AU_SAMPLE_BYTES.get(encoding, 0) * big(head, 20, 4)
    duration = seconds(held if unset else min(size, held), big(head, 16, 4) * sample_bytes)
    if unset:
        return _found("AU", _UNKNOWN, duration)
    return _found("AU", _by_size(reader, start + size), duration, start + size)


def _wave64(reader: Reader, _head: bytes) -> AudioInfo:
    offset, wave_format = 40, WaveFormat(b"", little)
    for _ in range(_MAX_CHUNKS):
        chunk = reader.at(offset, _W64_HEADER_BYTES)
        size = little(chunk, 16, 8)
        if len(chunk) < _W64_HEADER_BYTES or (size < _W64_HEADER_BYTES and chunk[:4] != b"data"):
            break
        start = offset + _W64_HEADER_BYTES
        if chunk[:4] == b"fmt ":
            wave_format = WaveFormat(reader.at(start, min(size - _W64_HEADER_BYTES, 64)), little)
        elif chunk[:4] == b"data":
            held = reader.size - start
            unset = size <= _W64_HEADER_BYTES < held or size >= 1 << 40
            sound_bytes = held if unset else min(size - _W64_HEADER_BYTES, held)
            name, duration = f"Wave64{wave_format.suffix}", wave_format.seconds(sound_bytes, 0)
            if unset:
                return _found(name, _UNKNOWN, duration)
            return _found(name, _by_size(reader, offset + size), duration, offset + size)
        offset += size + -size % 8
    return _found("Wave64", _UNFINISHED)


def _amr(reader: Reader, head: bytes) -> AudioInfo:
    wide = head.startswith(b"#!AMR-WB")
    name, sizes = ("AMR-WB", _AMR_WB_BYTES) if wide else ("AMR", _AMR_BYTES)
    start = head.find(b"\n") + 1
    if not 0 < start <= 16 or b"_MC" in head[:start]:  # of several channels
        return _found(name, _UNKNOWN)
    window = reader.at(start, min(reader.size - start, reader.bytes_left // 2))
    offset = frames = 0
    while offset < len(window):
        if window[offset] & 0x83:  # bits that are always zero
            return _found(name, _UNKNOWN)
        offset += sizes[window[offset] >> 3 & 15]
        frames += 1
    duration = frames * 0.02
    if (
        start + len(window) < reader.size
    ):  # longer than may be read: a rate that is constant so far is taken for that of the rest
        duration *= (reader.size - start) / len(window)
        return _found(name, _UNKNOWN, duration if offset == frames * sizes[window[0] >> 3 & 15] else None)
    return _found(name, _UNFINISHED if offset > len(window) else _UNKNOWN, duration)


def _asf(reader: Reader, head: bytes) -> AudioInfo:
    properties = head.find(_ASF_PROPERTIES)
    completeness, duration, end = _UNKNOWN, None, None
    if (
        properties >= 0 and not little(head, properties + 88, 4) & 1
    ):  # not broadcast, where sizes mean nothing
        file_bytes = little(head, properties + 40, 8)
        end = file_bytes or None
        completeness = _by_size(reader, file_bytes) if file_bytes else _UNKNOWN
        hundred_ns, preroll_ms = little(head, properties + 64, 8), little(head, properties + 80, 8)
        duration = hundred_ns / 1e7 - preroll_ms / 1e3 if hundred_ns else None
    if _ASF_VIDEO in head:
        return refused("WMV video", HINT_VIDEO, completeness, duration_seconds=duration, decodable=True)
    return _found("WMA", completeness, duration, end)


def _wavpack(reader: Reader, head: bytes) -> AudioInfo:
    total, flags = little(head, 12, 4), little(head, 24, 4)
    index = flags >> 23 & 15
    rate = _WAVPACK_RATES[index] if index < len(_WAVPACK_RATES) else 192000 if index == 13 else 0
    if total == _UNSET:
        return _found("WavPack", _UNKNOWN)
    tail_start = max(0, reader.size - _TAIL_BYTES)
    tail = reader.at(tail_start, _TAIL_BYTES)
    at = tail.rfind(b"wvpk")
    block_end = tail_start + at + 8 + little(tail, at + 4, 4)
    complete = (
        at >= 0 and little(tail, at + 16, 4) + little(tail, at + 20, 4) >= total and block_end <= reader.size
    )
    completeness = _WHOLE if complete else _UNFINISHED if at >= 0 else _UNKNOWN
    return _found("WavPack", completeness, seconds(total, rate), block_end)


def _monkeys_audio(reader: Reader, head: bytes) -> AudioInfo:
    name = "Monkey's Audio"
    if little(head, 4, 2) < 3980:  # the older header has no sizes
        return _found(name, _UNKNOWN)
    descriptor, header, seek_table, wav_header = (little(head, offset, 4) for offset in (8, 12, 16, 20))
    end = descriptor + header + seek_table + wav_header + little(head, 24, 8)
    info = head[descriptor : descriptor + 24]
    blocks = little(info, 4, 4) * max(0, little(info, 12, 4) - 1) + little(info, 8, 4)
    return _found(name, _by_size(reader, end), seconds(blocks, little(info, 20, 4)), end)


def _tta(_reader: Reader, head: bytes) -> AudioInfo:
    return _found("TTA", _UNKNOWN, seconds(little(head, 14, 4), little(head, 10, 4)))


_READERS = {
    b"caff\0\x01": _caf,
    b".snd": _au,
    b"#!AMR": _amr,
    _ASF: _asf,
    b"wvpk": _wavpack,
    b"TTA1\x01\0": _tta,
}
