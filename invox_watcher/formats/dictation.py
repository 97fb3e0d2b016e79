"""DSS and DS2, the formats of dictation devices, in the worker: their header, and what FFmpeg can't decode.

The header's fields are those that open decoders have found: the first byte is its length in blocks of 512
bytes, the next three the format, and times are local. DS2 and Grundig's DSS are decoded by pydsscodec, which
returns lists of floats, 32 bytes per sample: a recording is given to it in windows, except for DS2 SP, which
it decodes as it comes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import av
import pydsscodec

from invox_watcher.formats.encoding import File, Sink
from invox_watcher.formats.facts import text
from invox_watcher.formats.sound import Decoded

HEAD_BYTES = 0x10000  # pydsscodec looks so far for the first block of sound
_BLOCK_BYTES = 512
_ENCRYPTED = b"\x03enc"
_GRUNDIG_BLOCKS = 6
_WINDOW_BLOCKS, _BLOCKS_BEFORE, _BLOCKS_AFTER = 200, 4, 1
_SAMPLES_PER_FRAME = {"ds2_qp": 256, "ds2_qp7": 256, "grundig_sp": 384}
_FULL_SCALE = 32768
# The recorder's length in milliseconds is taken if it is that in seconds, cut or rounded.
_SAME_SECONDS = 1.5


class PasswordError(Exception):
    """The recording is encrypted, and no password fits; `given`: whether there was one to try."""

    def __init__(self, *, given: bool) -> None:
        super().__init__()
        self.given = given


@dataclass(frozen=True)
class Header:
    """What the device wrote into the header."""

    recorder_seconds: float | None
    attributes: dict[str, str]


def is_dictation(head: bytes) -> bool:
    """Whether it is a DSS or DS2 file."""
    return head[1:4] in (b"dss", b"ds2") or head.startswith(_ENCRYPTED)


def needs_codec(head: bytes) -> bool:
    """Whether it is one that FFmpeg can't decode: DS2, or Grundig's DSS."""
    return is_dictation(head) and (head[1:4] != b"dss" or head[0] == _GRUNDIG_BLOCKS)


def read_header(head: bytes) -> Header:
    """The header's fields; those that hold nothing plausible are left out."""
    comment = head[0x31E:0x382] if head[1:4] == b"dss" else b""
    found = {
        "author": _ascii(head[0x0C:0x1C]),
        "recorded_at": _time(head[0x26:0x32]),
        "comment": _ascii(comment),
    }
    return Header(_recorder_seconds(head), {name: value for name, value in found.items() if value})


def decode(file: File, sink: Sink, passwords: Sequence[bytes]) -> Decoded:
    """Write all the sound that can be decoded to `sink`.

    Raises:
        PasswordError: it is encrypted.
        OSError: it can't be read, or the output not written.
    """
    decoded = Decoded()
    plain = _plain(file, passwords)
    head = next(plain, b"")
    name = pydsscodec.detect_format(head)
    if name is None:
        decoded.failed()
        return decoded
    decoded.codec = name
    if name in _SAMPLES_PER_FRAME:
        rate, stretches = 16_000, _in_windows(head, plain, decoded)
    else:
        rate, stretches = 12_000, _as_it_comes(head, plain, decoded)
    for samples in stretches:
        if samples:
            sink.write(_frame(samples, rate))
    return decoded


# ---- the header --------------------------------------------------------------------------------------------


def _ascii(field: bytes) -> str:
    value = field.split(b"\0")[0].split(b"\xff")[0]
    return text(value.decode("latin-1"))


def _time(digits: bytes) -> str:
    try:
        return datetime.strptime(digits.decode("ascii"), "%y%m%d%H%M%S").isoformat()
    except ValueError:
        return ""


def _recorder_seconds(head: bytes) -> float | None:
    digits = head[0x3E:0x44]
    if len(digits) < 6 or not digits.isdigit():
        return None
    seconds = float(int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:]))
    exact = int.from_bytes(head[0x200:0x204], "little") / 1000
    return exact if abs(exact - seconds) <= _SAME_SECONDS else seconds


# ---- bytes -------------------------------------------------------------------------------------------------


def _plain(file: File, passwords: Sequence[bytes]) -> Iterator[bytes]:
    """The file decrypted, first `HEAD_BYTES` of it, then as it comes."""
    head = _read(file, HEAD_BYTES)
    decryptor = None
    if head.startswith(_ENCRYPTED):
        decryptor = _decryptor(head[:0x600], passwords)
    yield decryptor.push(head) if decryptor else head
    while chunk := _read(file, HEAD_BYTES):
        yield decryptor.push(chunk) if decryptor else chunk


def _read(file: File, size: int) -> bytes:
    parts = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _decryptor(header: bytes, passwords: Sequence[bytes]) -> pydsscodec.DecryptStreamer:
    for password in passwords:
        try:
            pydsscodec.DecryptStreamer(password).push(header)  # checks the password
        except RuntimeError:
            continue
        return pydsscodec.DecryptStreamer(password)
    raise PasswordError(given=bool(passwords))


# ---- samples -----------------------------------------------------------------------------------------------


def _as_it_comes(head: bytes, rest: Iterator[bytes], decoded: Decoded) -> Iterator[list[float]]:
    decoder = pydsscodec.StreamingDecoder()
    yield decoder.push(head)
    for chunk in rest:
        yield decoder.push(chunk)
    yield decoder.push(bytes(_BLOCK_BYTES))  # a block without a frame pushes out the last one
    try:
        yield decoder.finish()
    except RuntimeError:
        decoded.failed()


def _in_windows(head: bytes, rest: Iterator[bytes], decoded: Decoded) -> Iterator[list[float]]:
    start = head[0] * _BLOCK_BYTES
    header, buffer = head[:start], bytearray(head[start:])
    window = _WINDOW_BLOCKS * _BLOCK_BYTES
    before = b""
    for chunk in rest:
        buffer += chunk
        while len(buffer) >= window + _BLOCKS_AFTER * _BLOCK_BYTES:
            after = bytes(buffer[window : window + _BLOCKS_AFTER * _BLOCK_BYTES])
            yield _window(header, before, bytes(buffer[:window]), after, decoded)
            before = bytes(buffer[window - _BLOCKS_BEFORE * _BLOCK_BYTES : window])
            del buffer[:window]
    while buffer:
        part, after = bytes(buffer[:window]), bytes(buffer[window : window + _BLOCK_BYTES])
        yield _window(header, before, part, after, decoded)
        before = part[-_BLOCKS_BEFORE * _BLOCK_BYTES :]
        del buffer[:window]


def _window(
    header: bytes, before: bytes, part: bytes, after: bytes, decoded: Decoded, *, again: bool = False
) -> list[float]:
    """The samples of the blocks in `part`; `before` lets the decoder settle, `after` ends the last frame."""
    if len(part) % _BLOCK_BYTES:
        decoded.failed()
        part = part[: len(part) - len(part) % _BLOCK_BYTES]
    if not _frames(part):
        return []
    try:
        audio = pydsscodec.decode_bytes(header + before + part + _without_frames(after))
    except RuntimeError:
        decoded.failed()
        if again:
            return []
        # The last frame may be cut: do without its block.
        whole, last = part[:-_BLOCK_BYTES], part[-_BLOCK_BYTES:]
        return _window(header, before, whole, last, decoded, again=True)
    decoded.ends_in_error = False
    per_frame = _SAMPLES_PER_FRAME[decoded.codec]
    if audio.sample_count != (_frames(before) + _frames(part)) * per_frame:
        decoded.failed()
    samples: list[float] = audio.samples
    return samples[_frames(before) * per_frame :]


def _frames(blocks: bytes) -> int:
    """How many frames begin in these blocks: the third byte of each."""
    return sum(blocks[2::_BLOCK_BYTES])


def _without_frames(block: bytes) -> bytes:
    return block[:2] + b"\0" + block[3:] if len(block) == _BLOCK_BYTES else b""


def _frame(samples: list[float], rate: int) -> av.AudioFrame:
    if max(samples) >= _FULL_SCALE - 0.5 or min(samples) < -_FULL_SCALE:
        samples = [min(max(sample, -_FULL_SCALE), _FULL_SCALE - 1) for sample in samples]
    frame = av.AudioFrame("s16", "mono", len(samples))
    frame.planes[0].update(_padded(array("h", map(round, samples)).tobytes(), frame.planes[0].buffer_size))
    frame.sample_rate = rate
    return frame


def _padded(data: bytes, size: int) -> bytes:
    return data.ljust(size, b"\0")
