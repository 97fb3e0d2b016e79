"""`audio` on bytes that ffmpeg does not write: other formats, other files, beginnings, the API's names."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from invox_watcher.audio import Completeness, mime_type
from tests.kit.audio import identify_bytes, identify_file

WHOLE, UNFINISHED, UNKNOWN = Completeness.WHOLE, Completeness.UNFINISHED, Completeness.UNKNOWN
THE_VENDORS_TYPES = (
    *("audio/x-wav", "audio/wav", "audio/mp3", "audio/m4a"),
    *("audio/flac", "audio/ogg", "audio/webm"),
)


@pytest.mark.parametrize(
    ("start", "format"),
    [
        (b"\x02dss", "DSS"),
        (b"\x03dss", "DSS"),
        (b"\x06dss", "DSS"),
        (b"\x03ds2", "DS2"),
        (b"\x01ds2", "DS2"),
        (b"\x07ds2", "DS2"),
        (b"\x03enc", "DS2 (encrypted)"),
    ],
)
def test_dictation_formats_are_to_be_exported_from_the_device(start: bytes, format: str) -> None:
    info = identify_bytes(start + bytes(1532) + b"\x0f\x03" * 256)
    assert (info.format, info.container, info.is_audio) == (format, None, True)
    assert "Export it from the dictation device" in info.hint


@pytest.mark.parametrize(
    ("start", "format"), [(b"#!AMR\n", "AMR"), (b"#!AMR-WB\n", "AMR-WB"), (b".ra\xfd\0\x04", "RealAudio")]
)
def test_formats_that_ffmpeg_cannot_write(start: bytes, format: str) -> None:
    info = identify_bytes(start + b"\x3c\x91\x17" * 100)
    assert (info.format, info.container, info.is_audio) == (format, None, True)


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "PDF document"),
        (b"Dear colleague,\r\n\r\nthank you for sending\tthis patient.", "plain text"),
        ("Sehr geehrte Frau Kollegin, Grüße".encode("latin-1"), "plain text"),
        ("\ufeffGrüße".encode(), "plain text"),
        ("\ufeffGrüße aus der Station drei".encode("utf-16-le"), "plain text"),
        ("\ufeffGrüße aus der Station drei".encode("utf-16-be"), "plain text"),
        (b"The free text of a letter, with a box's name at the place of a box.", "plain text"),
        (b"\n<!DOCTYPE html><title>Login</title>", "HTML page"),
        (b"<HTML><body>", "HTML page"),
        (b"MZ\x90\0\x03" + bytes(60), "Windows program"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(60), "Office document"),
        (bytes(128) + b"DICM\x02\0\0\0", "DICOM image"),
        (bytes(range(1, 256)) * 8, "unknown data"),
        (b"", "empty file"),
    ],
)
def test_what_is_no_sound_at_all(data: bytes, format: str) -> None:
    info = identify_bytes(data)
    assert (info.format, info.container, info.is_audio) == (format, None, False)
    assert info.completeness is UNKNOWN
    assert info.hint


def test_a_program_and_an_office_document(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "letter.docx.wav", "w") as archive:
        archive.writestr("word/document.xml", "<w:document/>")
    assert identify_file(tmp_path / "letter.docx.wav").format == "ZIP archive or Office document"
    assert identify_file(Path(os.path.realpath(sys.executable))).format == "Linux program"


@pytest.mark.parametrize("data", [b"RIF", b"R", b"fLa", b"Ogg", b"\0\0\0\x20ft", b"ID", b"\x1a\x45", b"#!A"])
def test_the_first_bytes_of_a_recording_are_waited_for(data: bytes) -> None:
    assert (identify_bytes(data).format, identify_bytes(data).completeness) == (
        "beginning of a recording",
        UNFINISHED,
    )


def test_a_short_note_is_not_waited_for() -> None:
    assert (identify_bytes(b"OK").format, identify_bytes(b"OK").completeness) == ("plain text", UNKNOWN)


def test_zeros_are_a_recording_to_come() -> None:
    info = identify_bytes(bytes(100_000))
    assert (info.format, info.completeness) == ("only zeros so far", UNFINISHED)


def test_frames_that_do_not_agree_with_each_other_are_no_mp3() -> None:
    at_44100, at_48000 = b"\xff\xfb\x90\x64".ljust(417, b"\0"), b"\xff\xfb\x94\x64".ljust(384, b"\0")
    assert identify_bytes(b"\x01" + (at_44100 + at_48000) * 20).format == "unknown data"
    assert identify_bytes(b"\x01" + at_44100 * 20).format == "MP3"


# The API's words


@pytest.mark.parametrize(
    ("container", "accepted", "expected"),
    [
        ("wav", THE_VENDORS_TYPES, "audio/wav"),
        ("wav", ["audio/x-wav"], "audio/x-wav"),
        ("mp3", THE_VENDORS_TYPES, "audio/mp3"),
        ("mp3", ["audio/mpeg"], "audio/mpeg"),
        ("m4a", THE_VENDORS_TYPES, "audio/m4a"),
        ("m4a", ["audio/x-m4a", "audio/mp4"], "audio/mp4"),
        ("flac", THE_VENDORS_TYPES, "audio/flac"),
        ("ogg", THE_VENDORS_TYPES, "audio/ogg"),
        ("webm", THE_VENDORS_TYPES, "audio/webm"),
        ("webm", ["audio/wav"], None),
        ("amr", THE_VENDORS_TYPES, None),
    ],
)
def test_the_type_is_one_that_the_account_accepts(
    container: str, accepted: list[str], expected: str | None
) -> None:
    assert mime_type(container, accepted) == expected
