"""What a recording's own header says of author, device, time, comment and title; files made by FFmpeg."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from invox_watcher.audio import attributes
from tests.kit.audio import MAX_BYTES, MAX_READS, Metered

SAID = {"artist": "Dr.  Måns Öberg", "title": "Smith", "comment": "left knee", "date": "2026-11-28"}
FOUND = {
    "author": "Dr. Måns Öberg",
    "title": "Smith",
    "comment": "left knee",
    "recorded_at": "2026-11-28",
}


def made(path: Path, *arguments: str) -> bytes:
    said = [word for name, value in SAID.items() for word in ("-metadata", f"{name}={value}")]
    sound = ("-f", "lavfi", "-i", "sine=duration=1:sample_rate=16000")
    command = ("ffmpeg", "-y", "-loglevel", "error", *sound, *said, *arguments, str(path))
    subprocess.run(command, check=True)
    return path.read_bytes()


def read(data: bytes) -> dict[str, str]:
    return dict(attributes(io.BytesIO(data), len(data)))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a.wav", ()),
        ("a.flac", ()),
        ("a.ogg", ("-c:a", "libopus")),
        ("vorbis.ogg", ("-c:a", "libvorbis")),
        ("a.mp3", ()),
        ("v3.mp3", ("-id3v2_version", "3")),
        ("a.m4a", ()),
        ("a.mov", ("-c:a", "aac", "-movflags", "use_metadata_tags")),
    ],
)
def test_the_tags_that_a_recorder_writes(tmp_path: Path, name: str, arguments: tuple[str, ...]) -> None:
    found = read(made(tmp_path / name, *arguments))
    if name == "v3.mp3":  # that version has the year alone
        assert found.pop("recorded_at") == "2026"
        found["recorded_at"] = "2026-11-28"
    if name == "a.mov":  # names of FFmpeg's own
        assert found == {}
    else:
        assert found == FOUND


def test_broadcast_wav_has_an_originator_and_a_time(tmp_path: Path) -> None:
    bext = ("-write_bext", "1", "-map_metadata", "-1")
    names = ("originator=DS-9500", "origination_date=2026-11-28", "origination_time=07:15:00")
    said = [word for name in (*names, "description=ward 3") for word in ("-metadata", name)]
    sound = ("-f", "lavfi", "-i", "sine=duration=1")
    path = tmp_path / "b.wav"
    subprocess.run(("ffmpeg", "-loglevel", "error", *sound, *bext, *said, str(path)), check=True)
    expected = {"author": "DS-9500", "comment": "ward 3", "recorded_at": "2026-11-28T07:15:00"}
    assert read(path.read_bytes()) == expected


def dictation(kind: bytes) -> bytes:
    head = bytearray(0x600)
    head[:4] = b"\x03" + kind
    head[0x0C:0x12] = b"SMITH\0"
    head[0x26:0x32] = b"261128071500"
    head[0x31E:0x327] = b"left knee"
    return bytes(head)


def test_a_dictation_device_names_its_author() -> None:
    expected = {"author": "SMITH", "recorded_at": "2026-11-28T07:15:00", "comment": "left knee"}
    assert read(dictation(b"dss")) == expected
    del expected["comment"]
    assert read(dictation(b"ds2")) == expected


def test_a_phone_names_its_model() -> None:
    def box(kind: bytes, *content: bytes) -> bytes:
        data = b"".join(content)
        return (8 + len(data)).to_bytes(4, "big") + kind + data

    key = b"com.apple.quicktime.model"
    keys = box(b"keys", bytes(4), (1).to_bytes(4, "big"), box(b"mdta", key))
    item = box((1).to_bytes(4, "big"), box(b"data", bytes(8), b"iPhone 17"))
    meta = box(b"meta", box(b"hdlr", bytes(24)), keys, box(b"ilst", item))
    assert read(box(b"ftyp", b"qt  ") + box(b"moov", meta)) == {"device": "iPhone 17"}


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.m4a"])
def test_damaged_headers_cost_little(tmp_path: Path, name: str) -> None:
    data = made(tmp_path / name, *(("-c:a", "libopus") if name == "a.ogg" else ()))
    for place in range(0, min(len(data), 1500), 7):
        file = Metered(data[:place] + b"\xff\xff\xff" + data[place + 3 :])
        found = attributes(file, len(data))
        assert file.reads <= MAX_READS
        assert file.bytes_read <= MAX_BYTES
        assert all(text.isprintable() and 0 < len(text) <= 200 for text in found.values())
    for size in range(0, 600, 11):
        attributes(io.BytesIO(data[:size]), size)
