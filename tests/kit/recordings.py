"""Recordings: tones that we write, and every format by ffmpeg, each recipe of the same 1.7 s of sound."""

from __future__ import annotations

import functools
import json
import math
import shutil
import struct
import subprocess
import wave
from collections.abc import Iterable, Sequence
from pathlib import Path

SECONDS = 1.7
_SOUND = ("-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=16000:duration={SECONDS}")
_PICTURE = ("-f", "lavfi", "-i", f"color=red:size=32x32:rate=5:duration={SECONDS}")
_PIPE = "pipe"
_VIDEO = "video"
_BITEXACT = ("-bitexact", "-map_metadata", "-1")

# file name: options of the output; `pipe` as the first means that ffmpeg can't go back to the header
RECIPES: dict[str, Sequence[str]] = {
    "pcm.wav": ("-c:a", "pcm_s16le"),
    "float.wav": ("-c:a", "pcm_f32le"),
    "alaw.wav": ("-c:a", "pcm_alaw", "-ar", "8000"),
    "mulaw.wav": ("-c:a", "pcm_mulaw", "-ar", "8000"),
    "gsm.wav": ("-c:a", "libgsm_ms", "-ar", "8000"),
    "adpcm.wav": ("-c:a", "adpcm_ima_wav"),
    "extensible.wav": ("-c:a", "pcm_s24le", "-ac", "6"),
    "odd.wav": ("-c:a", "pcm_u8", "-ar", "8000", "-af", "atrim=end_sample=8001", *_BITEXACT),
    "bwf.wav": ("-c:a", "pcm_s16le", "-write_bext", "1", "-metadata", "description=ward 3"),
    "rf64.wav": ("-c:a", "pcm_s16le", "-rf64", "always"),
    "piped.wav": (_PIPE, "-c:a", "pcm_s16le", "-f", "wav"),
    "vbr.mp3": ("-c:a", "libmp3lame", "-q:a", "5"),
    "cbr.mp3": ("-c:a", "libmp3lame", "-b:a", "48k"),
    "bare.mp3": ("-c:a", "libmp3lame", "-b:a", "48k", "-write_xing", "0", "-id3v2_version", "0"),
    "stereo44.mp3": ("-c:a", "libmp3lame", "-b:a", "128k", "-ar", "44100", "-ac", "2"),
    "tagged.mp3": ("-c:a", "libmp3lame", "-b:a", "48k", "-write_id3v1", "1", "-metadata", "title=a"),
    "piped.mp3": (_PIPE, "-c:a", "libmp3lame", "-b:a", "48k", "-f", "mp3"),
    "aac.m4a": ("-c:a", "aac", "-b:a", "48k"),
    "faststart.m4a": ("-c:a", "aac", "-b:a", "48k", "-movflags", "+faststart"),
    "fragmented.m4a": ("-c:a", "aac", "-movflags", "+frag_keyframe+empty_moov", "-frag_duration", "500000"),
    "alac.m4a": ("-c:a", "alac"),
    "sound_only.mp4": ("-c:a", "aac", "-b:a", "48k"),
    "s16.flac": ("-c:a", "flac"),
    "stereo24.flac": ("-c:a", "flac", "-ac", "2", "-ar", "48000", "-sample_fmt", "s32"),
    "piped.flac": (_PIPE, "-c:a", "flac", "-f", "flac"),
    "opus.ogg": ("-c:a", "libopus", "-b:a", "24k"),
    "vorbis.ogg": ("-c:a", "libvorbis", "-ar", "44100"),
    "flac.ogg": ("-c:a", "flac"),
    "speex.ogg": ("-c:a", "libspeex"),
    "opus.webm": ("-c:a", "libopus", "-b:a", "24k"),
    "vorbis.webm": ("-c:a", "libvorbis"),
    "live.webm": (_PIPE, "-c:a", "libopus", "-f", "webm", "-live", "1"),
    # known, but not taken
    "aac.aac": ("-c:a", "aac", "-f", "adts"),
    "layer2.mp2": ("-c:a", "mp2"),
    "voice.3gp": ("-c:a", "aac"),
    "opus.mka": ("-c:a", "libopus"),
    "sound.mov": ("-c:a", "pcm_s16le"),
    "sound.aiff": ("-c:a", "pcm_s16be"),
    "sound.caf": ("-c:a", "pcm_s16le"),
    "sound.au": ("-c:a", "pcm_s16be"),
    "sound.wma": ("-c:a", "wmav2"),
    "sound.w64": ("-c:a", "pcm_s16le"),
    "sound.ra": ("-c:a", "real_144", "-ar", "8000", "-f", "rm"),
    "film.mp4": (_VIDEO, "-c:a", "aac", "-c:v", "mpeg4"),
    "film.mov": (_VIDEO, "-c:a", "aac", "-c:v", "mpeg4"),
    "film.webm": (_VIDEO, "-c:a", "libopus", "-c:v", "libvpx"),
    "film.mkv": (_VIDEO, "-c:a", "libopus", "-c:v", "mpeg4"),
    "film.ogv": (_VIDEO, "-c:a", "libvorbis", "-c:v", "libtheora"),
    "film.avi": (_VIDEO, "-c:a", "mp2", "-c:v", "mpeg4"),
    "film.wmv": (_VIDEO, "-c:a", "wmav2", "-c:v", "wmv2"),
    "photo.jpg": (_VIDEO, "-an", "-frames:v", "1"),
    "photo.png": (_VIDEO, "-an", "-frames:v", "1"),
}


def write_wav(path: Path, *, seconds: float = 0.5, pitch: float = 440.0, rate: int = 8000) -> Path:
    """A mono 16-bit tone; another pitch is other content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(_tone(seconds, pitch, rate))
    return path


@functools.lru_cache(maxsize=100)
def _tone(seconds: float, pitch: float, rate: int) -> bytes:
    turn = 2 * math.pi * pitch / rate
    samples = [int(9000 * math.sin(turn * n)) for n in range(int(seconds * rate))]
    return struct.pack(f"<{len(samples)}h", *samples)


def write_au(path: Path, *, seconds: float = 0.5, pitch: float = 440.0, rate: int = 8000) -> Path:
    """The same tone as an AU file, which the API does not take."""
    write_wav(path, seconds=seconds, pitch=pitch, rate=rate)
    with wave.open(str(path), "rb") as file:
        samples = file.readframes(file.getnframes())
    swapped = bytearray(samples)
    swapped[::2], swapped[1::2] = samples[1::2], samples[::2]
    path.write_bytes(struct.pack(">4s5I", b".snd", 24, len(samples), 3, rate, 1) + swapped)
    return path


def write_sparse_wav(path: Path, size_bytes: int) -> Path:
    """A valid PCM WAV of that size whose samples are all zero and take no space on the disk."""
    header = b"RIFF" + struct.pack("<I", size_bytes - 8) + b"WAVEfmt "
    header += struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data"
    header += struct.pack("<I", size_bytes - len(header) - 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(size_bytes)
    return path


def make(names: Iterable[str], folder: Path) -> dict[str, Path]:
    """These recipes' files in `folder`, by name. Fails, rather than skips, if ffmpeg is missing."""
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        raise RuntimeError("These tests need ffmpeg and ffprobe: apt-get install ffmpeg")
    paths = {name: folder / name for name in names}
    piped = {name for name in paths if RECIPES[name][0] == _PIPE}
    films = {name for name in paths if RECIPES[name][0] == _VIDEO}
    for name in piped:
        paths[name].write_bytes(_ffmpeg(*_SOUND, *RECIPES[name][1:], "pipe:1"))
    # To start ffmpeg takes longer than to write a file.
    sounds = [part for name in paths.keys() - piped - films for part in (*RECIPES[name], str(paths[name]))]
    moving = [part for name in films for part in ("-shortest", *RECIPES[name][1:], str(paths[name]))]
    if sounds:
        _ffmpeg(*_SOUND, *sounds)
    if moving:
        _ffmpeg(*_SOUND, *_PICTURE, *moving)
    return paths


def ffprobe_seconds(path: Path) -> float:
    """The duration by ffprobe."""
    command = ("ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "json", str(path))
    reply = subprocess.run(command, check=True, capture_output=True, timeout=30)
    return float(json.loads(reply.stdout)["format"]["duration"])


def _ffmpeg(*arguments: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments]
    reply = subprocess.run(command, check=False, capture_output=True, timeout=60)
    assert reply.returncode == 0, f"{' '.join(command)}: {reply.stderr.decode(errors='replace')}"
    return reply.stdout
