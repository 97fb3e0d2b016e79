"""Recordings as recorders, phones, browsers and pipes leave them, made of files by ffmpeg and of bytes."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

SECONDS = 5.0
_TONE = "sine=frequency=300:sample_rate=16000:duration={}"
_AAC = ("-c:a", "aac")
_COPIED = ("-c", "copy")
_FRAGMENTS = (*_AAC, "-movflags", "+frag_keyframe+empty_moov", "-frag_duration")

# file name: seconds of sound, options of ffmpeg; `pipe` first: it can't go back to the header
_RECIPES: dict[str, tuple[float, Sequence[str]]] = {
    "a.wav": (SECONDS, ("-c:a", "pcm_s16le", "-bitexact", "-map_metadata", "-1")),
    "stereo24.wav": (SECONDS, ("-c:a", "pcm_s24le", "-ac", "2", "-ar", "44100")),
    "ima.wav": (SECONDS, ("-c:a", "adpcm_ima_wav")),
    "ms.wav": (SECONDS, ("-c:a", "adpcm_ms")),
    "gsm.wav": (SECONDS, ("-c:a", "libgsm_ms", "-ar", "8000")),
    "a.m4a": (SECONDS, _AAC),
    "fast.m4a": (SECONDS, (*_AAC, "-movflags", "+faststart")),
    "a.3gp": (SECONDS, _AAC),
    "a.3g2": (SECONDS, _AAC),
    "aac.mov": (SECONDS, _AAC),
    "alac.mov": (SECONDS, ("-c:a", "alac")),
    "pcm.mov": (SECONDS, ("-c:a", "pcm_s16le")),
    "ac3.mp4": (SECONDS, ("-c:a", "ac3", "-ar", "48000")),
    "few.mp4": (6.7, (*_FRAGMENTS, "500000")),
    "vbr.mp3": (SECONDS, ("-c:a", "libmp3lame", "-q:a", "5")),
    "cbr.mp3": (SECONDS, ("-c:a", "libmp3lame", "-b:a", "64k")),
    "tagged.mp3": (
        SECONDS,
        ("-c:a", "libmp3lame", "-b:a", "64k", "-write_id3v1", "1", "-metadata", "title=a"),
    ),
    "bare.mp3": (
        SECONDS,
        ("-c:a", "libmp3lame", "-b:a", "64k", "-write_xing", "0", "-id3v2_version", "0"),
    ),
    "noisy.mp3": (SECONDS, ("-c:a", "libmp3lame", "-q:a", "3", "-af", "volume='mod(t,2)/2':eval=frame")),
    "bare128.mp3": (
        6.7,
        ("-c:a", "libmp3lame", "-b:a", "128k", "-write_xing", "0", "-id3v2_version", "0"),
    ),
    "a.flac": (SECONDS, ("-c:a", "flac")),
    "piped.flac": (SECONDS, ("pipe", "-c:a", "flac", "-f", "flac")),
    "piped24.flac": (SECONDS, ("pipe", "-c:a", "flac", "-ar", "48000", "-sample_fmt", "s32", "-f", "flac")),
    "live.webm": (SECONDS, ("pipe", "-c:a", "libopus", "-f", "webm", "-live", "1")),
    "vorbis.webm": (SECONDS, ("pipe", "-c:a", "libvorbis", "-f", "webm", "-live", "1")),
    "a.webm": (SECONDS, ("-c:a", "libopus")),
    "a.opus": (SECONDS, ("-c:a", "libopus")),
    "vorbis.ogg": (SECONDS, ("-c:a", "libvorbis")),
    "speex.ogg": (SECONDS, ("-c:a", "libspeex")),
    "a.aac": (SECONDS, (*_AAC, "-f", "adts")),
    "a.ac3": (SECONDS, ("-c:a", "ac3", "-ar", "48000")),
    "a.eac3": (SECONDS, ("-c:a", "eac3", "-ar", "48000")),
    "a.ts": (SECONDS, (*_AAC, "-f", "mpegts")),
    "a.m2ts": (SECONDS, (*_AAC, "-f", "mpegts", "-mpegts_m2ts_mode", "1")),
    "a.wv": (SECONDS, ("-c:a", "wavpack")),
    "a.tta": (SECONDS, ("-c:a", "tta")),
    "a.dts": (SECONDS, ("-c:a", "dca", "-strict", "-2", "-ar", "48000")),
    "a.voc": (SECONDS, ("-c:a", "pcm_s16le")),
    "a.aiff": (SECONDS, ("-c:a", "pcm_s16be")),
    "a.caf": (SECONDS, ("-c:a", "pcm_s16le")),
    "a.au": (SECONDS, ("-c:a", "pcm_s16be")),
    "a.w64": (SECONDS, ("-c:a", "pcm_s16le")),
    "a.wma": (SECONDS, ("-c:a", "wmav2")),
}


# file name: what it repeats, without decoding it, how often, and options
_LONG: dict[str, tuple[str, int, Sequence[str]]] = {
    "tenths.mp4": ("a.m4a", 14, (*_FRAGMENTS[2:], "100000")),
    "seconds.mp4": ("a.m4a", 148, (*_FRAGMENTS[2:], "1000000")),
    "many.mp4": ("a.m4a", 30, (*_FRAGMENTS[2:], "100000")),
    "vbr_long.mp3": ("noisy.mp3", 150, ("-write_xing", "0", "-id3v2_version", "0")),
    "long.webm": ("a.opus", 140, ("pipe", "-f", "webm", "-live", "1")),
    "long.opus": ("a.opus", 12, ()),
    "hour.opus": ("a.opus", 480, ()),
    "long_vorbis.ogg": ("vorbis.ogg", 12, ()),
    "long_flac.ogg": ("a.flac", 12, ("-c:a", "flac")),
}


def make_sources(folder: Path) -> dict[str, bytes]:
    """Every recipe's file, by name. Fails, rather than skips, if ffmpeg is missing."""
    return {**_encoded(folder), **{name: _repeated(folder, name) for name in _LONG}}


def _encoded(folder: Path) -> dict[str, bytes]:
    """By few calls of ffmpeg: to start it takes longer than to write a file."""
    found: dict[str, bytes] = {}
    files: dict[float, list[str]] = defaultdict(list)
    for name, (seconds, options) in _RECIPES.items():
        if options[0] == "pipe":
            found[name] = _ffmpeg(*_tone(seconds), *options[1:], "pipe:1")
        else:
            files[seconds] += [*options, str(folder / name)]
    for seconds, outputs in files.items():
        _ffmpeg(*_tone(seconds), *outputs)
    return {name: found.get(name) or (folder / name).read_bytes() for name in _RECIPES}


def _tone(seconds: float) -> Sequence[str]:
    return ("-f", "lavfi", "-i", _TONE.format(seconds))


def _repeated(folder: Path, name: str) -> bytes:
    source, times, options = _LONG[name]
    codec = () if "-c:a" in options else _COPIED
    loop = ("-stream_loop", str(times - 1), "-i", str(folder / source))
    if options[:1] == ("pipe",):
        return _ffmpeg(*loop, *codec, *options[1:], "pipe:1")
    _ffmpeg(*loop, *codec, *options, str(folder / name))
    return (folder / name).read_bytes()


def _ffmpeg(*arguments: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments]
    reply = subprocess.run(command, check=False, capture_output=True, timeout=120)
    assert reply.returncode == 0, f"{' '.join(command)}: {reply.stderr.decode(errors='replace')}"
    return reply.stdout


# Changes to bytes


def patched(data: bytes, offset: int, new: bytes) -> bytes:
    """With `new` in place of as many bytes at `offset`."""
    return data[:offset] + new + data[offset + len(new) :]


def part(data: bytes, percent: int) -> bytes:
    """The beginning of a file whose copy was interrupted."""
    return data[: len(data) * percent // 100]


def le32(number: int) -> bytes:
    """Four bytes, as in RIFF."""
    return number.to_bytes(4, "little")


def wav_sizes(data: bytes, *, sound: int | None = None, riff: int | None = None) -> bytes:
    """A WAV with a header of 44 bytes, and other sizes in it."""
    if sound is not None:
        data = patched(data, 40, le32(sound))
    return data if riff is None else patched(data, 4, le32(riff))


def with_chunk(wav: bytes, chunk: bytes) -> bytes:
    """A WAV with a chunk before its sound, and the size to match."""
    longer = wav[:36] + chunk + wav[36:]
    return patched(longer, 4, le32(len(longer) - 8))


def ape_tag() -> bytes:
    """An APEv2 tag with header and footer."""
    end = le32(2000) + le32(72) + le32(1)
    body = b"x" * 40
    return (
        b"APETAGEX" + end + le32(0xA0000000) + bytes(8) + body + b"APETAGEX" + end + le32(1 << 31) + bytes(8)
    )


def xing(mp3: bytes, *, frames: int | None = None, more_bytes: int | None = None) -> bytes:
    """With other figures in the encoder's header."""
    at = max(mp3.find(b"Xing"), mp3.find(b"Info")) + 8
    if frames is not None:
        mp3 = patched(mp3, at, frames.to_bytes(4, "big"))
    if more_bytes is not None:
        size = int.from_bytes(mp3[at + 4 : at + 8], "big") + more_bytes if more_bytes else 0
        mp3 = patched(mp3, at + 4, size.to_bytes(4, "big"))
    return mp3


def pages(ogg: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    found, offset = [], 0
    while offset < len(ogg):
        end = offset + 27 + ogg[offset + 26] + sum(ogg[offset + 27 : offset + 27 + ogg[offset + 26]])
        found.append(ogg[offset:end])
        offset = end
    return found


def second_half(ogg: bytes) -> bytes:
    """A stream that was cut out of a longer one: its header, then the pages of its second half."""
    found = pages(ogg)
    return b"".join(found[:2] + found[len(found) // 2 :])


def amr(frames: int) -> bytes:
    """AMR of 12.2 kbit/s."""
    return b"#!AMR\n" + (b"\x3c" + bytes(range(31))) * frames
