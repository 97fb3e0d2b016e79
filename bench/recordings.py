"""Recordings to be measured with: noise of a given size, no two alike."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from pathlib import Path

RATE = 8000
BYTES_PER_SECOND = 2 * RATE  # as vendor.lua has it
SIZE = 100_000


def wav_header(size_bytes: int) -> bytes:
    """The header of a whole WAV of that size: mono, 8 kHz, 16 bits."""
    chunk = struct.pack("<4sI2H2I2H", b"fmt ", 16, 1, 1, RATE, BYTES_PER_SECOND, 2, 16)
    riff = struct.pack("<4sI4s", b"RIFF", size_bytes - 8, b"WAVE")
    return riff + chunk + struct.pack("<4sI", b"data", size_bytes - 44)


def wav(size_bytes: int = SIZE) -> bytes:
    """A whole WAV of noise; `size_bytes` has to be even."""
    return wav_header(size_bytes) + random.randbytes(size_bytes - 44)


def write_wavs(folder: Path, count: int, size_bytes: int = SIZE) -> None:
    """So many recordings, and the disk has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:06}.wav").write_bytes(wav(size_bytes))
    os.sync()


def write_mixed(folder: Path, count: int, *, below: int = 20) -> None:
    """WAV, MP3 and FLAC in turns, in `below` subfolders; each of some 100 kB and with a tag of its own."""
    mp3, flac = _encoded(folder, "mp3", "-b:a", "128k"), _encoded(folder, "flac")
    for number in range(count):
        path = folder / f"ward {number % below}" / f"{number:06}"
        path.parent.mkdir(exist_ok=True)
        tag = random.randbytes(32)
        match number % 3:
            case 0:
                path.with_suffix(".wav").write_bytes(wav())
            case 1:  # an ID3 2.3 tag with one private frame
                frame = b"PRIV" + struct.pack(">IH", len(tag), 0) + tag
                path.with_suffix(".mp3").write_bytes(b"ID3\3\0\0\0\0\0" + bytes([len(frame)]) + frame + mp3)
            case _:  # an APPLICATION block after STREAMINFO, RFC 9639 §8
                block = b"\2" + len(tag).to_bytes(3, "big") + tag
                path.with_suffix(".flac").write_bytes(flac[:42] + block + flac[42:])
    os.sync()


def _encoded(folder: Path, format: str, *options: str) -> bytes:
    """6.25 s of sound as ffmpeg writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"pattern.{format}"
    source = ["-f", "lavfi", "-i", "anoisesrc=sample_rate=16000:duration=6.25:amplitude=0.1:seed=7"]
    bare = ["-map_metadata", "-1", "-id3v2_version", "0"] if format == "mp3" else []
    command = ["ffmpeg", "-v", "error", "-y", *source, *options, *bare, str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    content = path.read_bytes()
    path.unlink()
    return content
