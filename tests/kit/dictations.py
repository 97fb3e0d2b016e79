"""Recordings in formats that the API does not take: real speech by FFmpeg, DSS and DS2 made by hand."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import av

_BLOCK_BYTES, _PAYLOAD_BYTES = 512, 506
_G723_BYTES = (24, 20, 4, 1)  # of a frame, by the two lowest bits of its first byte
_QP_FRAME_BYTES, QP_FRAME_SECONDS = 56, 0.016
# file name: options of the ffmpeg program
BY_FFMPEG: dict[str, Sequence[str]] = {
    "adts.aac": ("-c:a", "aac", "-f", "adts"),
    "phone.3gp": ("-c:a", "aac"),
    "memo.mov": ("-c:a", "aac"),
    "pcm.mov": ("-c:a", "pcm_s16le"),
    "v2.wma": ("-c:a", "wmav2"),
    "sound.aiff": ("-c:a", "pcm_s16be"),
    "sound.aifc": ("-c:a", "pcm_mulaw", "-f", "aiff"),
    "sound.caf": ("-c:a", "pcm_s16be"),
    "ima.caf": ("-c:a", "adpcm_ima_qt"),
    "sound.au": ("-c:a", "pcm_mulaw"),
    "sound.w64": ("-c:a", "pcm_s16le"),
    "layer2.mp2": ("-c:a", "mp2"),
    "opus.mka": ("-c:a", "libopus"),
}
BY_HAND = ("voice.amr", "voice.3gp", "voice.dss")


def make(name: str, speech: Path, folder: Path, *, seconds: float) -> Path:
    """The first `seconds` of `speech` under that name of BY_FFMPEG or BY_HAND."""
    target = folder / name
    cut = [
        "ffmpeg",
        "-v",
        "error",
        "-nostdin",
        "-y",
        "-t",
        str(seconds),
        "-i",
        str(speech),
        "-map_metadata",
        "-1",
    ]
    if name in BY_FFMPEG:
        subprocess.run([*cut, *BY_FFMPEG[name], str(target)], check=True, timeout=60)
        return target
    wave = folder / f"{name}.8k"
    subprocess.run([*cut, "-ar", "8000", "-ac", "1", "-f", "wav", str(wave)], check=True, timeout=60)
    if name == "voice.dss":
        target.write_bytes(dss_lp(_packets(wave, "g723_1"), seconds=seconds))
    else:
        _mux(wave, target, "libopencore_amrnb", "amr" if name == "voice.amr" else "3gp")
    wave.unlink()
    return target


def without_extra(folder: Path) -> dict[str, str]:
    """The environment of a process that does not find the extra; `folder` is made for that."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'pydsscodec' else find(name, *more)\n"
    )
    return {"PYTHONPATH": f"{folder}:{Path(__file__).parent.parent.parent}"}


def _mux(wave: Path, target: Path, codec: str, format: str) -> None:
    with av.open(str(wave)) as source, av.open(str(target), "w", format=format) as output:
        stream = cast("av.AudioStream", output.add_stream(codec, rate=8000, layout="mono"))
        stream.bit_rate = 12_200
        for frame in source.decode(audio=0):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _packets(wave: Path, codec: str) -> list[bytes]:
    with av.open(str(wave)) as source:
        encoder = cast("av.AudioCodecContext", av.CodecContext.create(codec, "w"))
        encoder.sample_rate, encoder.layout, encoder.format = 8000, "mono", "s16"
        encoder.bit_rate = 6300
        packets = [bytes(p) for frame in source.decode(audio=0) for p in encoder.encode(frame)]
        return packets + [bytes(p) for p in encoder.encode(None)]


def header(magic: bytes, *, seconds: float, author: str = "DR SMITH") -> bytearray:
    """A dictation header of as many blocks as its first byte says, with the recorder's own length."""
    data = bytearray(b"\xff" * (magic[0] * _BLOCK_BYTES))
    data[:4] = magic
    data[0x0C:0x1C] = author.encode().ljust(16, b"\0")
    data[0x26:0x32] = b"261123185056"
    data[0x32:0x3E] = b"261123185100"
    whole = round(seconds)
    data[0x3E:0x44] = f"{whole // 3600:02}{whole // 60 % 60:02}{whole % 60:02}".encode()
    data[0x200:0x204] = round(seconds * 1000).to_bytes(4, "little")
    return data


def dss_lp(frames: Sequence[bytes], *, seconds: float) -> bytes:
    """A DSS file in long-play mode: G.723.1 frames in a row, cut into blocks, padded with 0xFF."""
    assert all(len(frame) == _G723_BYTES[frame[0] & 3] for frame in frames)
    head = header(b"\x02dss", seconds=seconds)
    head[0x2A4] = 2  # the codec
    head[0x31E:0x382] = b"follow-up".ljust(100, b"\0")
    sound = b"".join(frames)
    blocks = [sound[at : at + _PAYLOAD_BYTES] for at in range(0, len(sound), _PAYLOAD_BYTES)]
    return bytes(head) + b"".join(bytes(6) + block.ljust(_PAYLOAD_BYTES, b"\xff") for block in blocks)


def ds2_qp(frames: int, *, seconds: float | None = None, content: bytes = b"\0") -> bytes:
    """A DS2 file in QP mode with so many frames, all of the same `content`: no speech, but decodable."""
    head = header(b"\x03ds2", seconds=frames * QP_FRAME_SECONDS if seconds is None else seconds)
    return bytes(head) + _qp_blocks(frames, content)


def _qp_blocks(frames: int, content: bytes) -> bytes:
    frame = (content * _QP_FRAME_BYTES)[:_QP_FRAME_BYTES]
    stream, blocks, begun = frame * frames, [], 0
    for at in range(0, len(stream), _PAYLOAD_BYTES):
        first = -at % _QP_FRAME_BYTES  # where in the block the first frame begins
        count = min(-(-(at + _PAYLOAD_BYTES) // _QP_FRAME_BYTES), frames) - begun
        begun += count
        block_header = bytes([0, (first + 6) // 2, count, 0xFF, 6, 0xFF])
        blocks.append(block_header + stream[at : at + _PAYLOAD_BYTES].ljust(_PAYLOAD_BYTES, b"\0"))
    return b"".join(blocks)


def encrypted_ds2(frames: int, password: bytes) -> bytes:
    """A DS2 file that this password opens, and no other; what is then decoded is noise."""
    data = bytearray(ds2_qp(frames))
    data[:4] = b"\x03enc"
    salt = bytes(range(16))
    mixed = bytes(a ^ b for a, b in zip(password.ljust(16, b"\0"), salt, strict=True))
    check = hashlib.sha1(mixed, usedforsecurity=False).digest()[16:18]
    data[0x146:0x15C] = b"\x01\0" + salt + check + b"\0\0"
    return bytes(data)
