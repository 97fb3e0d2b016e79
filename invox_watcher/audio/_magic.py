"""Formats recognised by their first bytes alone: unsupported audio, other files, and text."""

from __future__ import annotations

from dataclasses import dataclass

from invox_watcher.audio._info import (
    HINT_CONVERT,
    HINT_DICTATION,
    HINT_NOT_AUDIO,
    HINT_UNFINISHED,
    HINT_VIDEO,
    AudioInfo,
    Completeness,
    not_audio,
    refused,
)
from invox_watcher.audio._reader import Reader


@dataclass(frozen=True)
class _Magic:
    format: str
    magic: bytes
    offset: int = 0
    hint: str = HINT_NOT_AUDIO
    opening: bytes = b""  # of the container around it


_MAGICS = (
    _Magic("AMR-WB", b"#!AMR-WB\n", hint=HINT_CONVERT),  # RFC 4867, section 5
    _Magic("AMR", b"#!AMR", hint=HINT_CONVERT),
    _Magic("AIFF", b"AIFF", 8, HINT_CONVERT, b"FORM"),
    _Magic("AIFC", b"AIFC", 8, HINT_CONVERT, b"FORM"),
    _Magic("CAF", b"caff", hint=HINT_CONVERT),
    _Magic("AU", b".snd", hint=HINT_CONVERT),
    _Magic("RealAudio", b".ra\xfd", hint=HINT_CONVERT),
    _Magic("RealMedia", b".RMF", hint=HINT_CONVERT),
    _Magic("Wave64", b"riff\x2e\x91\xcf\x11", hint=HINT_CONVERT),
    _Magic("big-endian WAV", b"RIFX", hint=HINT_CONVERT),
    _Magic("MIDI", b"MThd", hint="It contains notes, not sound. Copy the recording itself to the inbox."),
    _Magic("DS2 (encrypted)", b"\x03enc", hint=HINT_DICTATION),
    _Magic("AVI video", b"AVI ", 8, HINT_VIDEO, b"RIFF"),
    _Magic("Flash video", b"FLV\x01", hint=HINT_VIDEO),
    _Magic("MPEG video", b"\0\0\x01\xba", hint=HINT_VIDEO),
    _Magic("WebP image", b"WEBP", 8, opening=b"RIFF"),
    _Magic("PDF document", b"%PDF-"),
    _Magic("JPEG image", b"\xff\xd8\xff"),
    _Magic("PNG image", b"\x89PNG\r\n\x1a\n"),
    _Magic("GIF image", b"GIF8"),
    _Magic("TIFF image", b"II*\0"),
    _Magic("TIFF image", b"MM\0*"),
    _Magic("DICOM image", b"DICM", 128),
    _Magic("ZIP archive or Office document", b"PK\x03\x04"),
    _Magic("ZIP archive", b"PK\x05\x06"),
    _Magic("Office document", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    _Magic("RTF document", b"{\\rtf"),
    _Magic("gzip archive", b"\x1f\x8b\x08"),
    _Magic("7-Zip archive", b"7z\xbc\xaf\x27\x1c"),
    _Magic("RAR archive", b"Rar!\x1a\x07"),
    _Magic("Linux program", b"\x7fELF"),
    _Magic("Windows program", b"MZ"),
)
# ASF, with the identifier of the stream type in its header (ASF specification, sections 10.1 and 10.4).
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_VIDEO = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")
_DICTATION = {b"dss": "DSS", b"ds2": "DS2"}
# The first bytes of every audio format, for files that contain no more than these yet.
_AUDIO_BEGINNINGS = (
    *(
        b"RIFF",
        b"RF64",
        b"BW64",
        b"ID3",
        b"fLaC",
        b"OggS",
        b"\x1a\x45\xdf\xa3",
        b"FORM",
        _ASF,
        b"\x02dss",
        b"\x03ds2",
    ),
    *(b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xe3", b"\xff\xe2", b"\xff\xf1", b"\xff\xf9"),
    *(magic.magic for magic in _MAGICS if magic.hint == HINT_CONVERT and magic.offset == 0),
)
_BEGINNING_BYTES = 12
_TEXT_CONTROLS = frozenset(b"\t\n\r\f")
_HTML = ("<!doctype html", "<html")
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


def read_magic(_reader: Reader, head: bytes) -> AudioInfo | None:
    """A format with a fixed signature at a fixed position, or None."""
    if head.startswith(_ASF):
        return refused("WMV video", HINT_VIDEO) if _ASF_VIDEO in head else refused("WMA")
    # The first byte is the header's length in blocks of 512 bytes; 2, 3, 6 and 7 have been seen.
    if head[1:4] in _DICTATION and 0 < head[0] < 16:
        return refused(_DICTATION[head[1:4]], HINT_DICTATION)
    for magic in _MAGICS:
        if head.startswith(magic.magic, magic.offset) and head.startswith(magic.opening):
            is_sound = magic.hint != HINT_NOT_AUDIO
            return refused(magic.format, magic.hint) if is_sound else not_audio(magic.format)
    return None


def read_zeros(_reader: Reader, head: bytes) -> AudioInfo | None:
    """Space reserved for a whole file or its header, and not yet written; or None."""
    if any(head[:_BEGINNING_BYTES]):
        return None
    format = "header not written yet" if any(head) else "only zeros so far"
    return not_audio(format, HINT_UNFINISHED, Completeness.UNFINISHED)


def read_beginning(reader: Reader, head: bytes) -> AudioInfo | None:
    """A file so short that it could be the beginning of a recording, or None."""
    if reader.size > _BEGINNING_BYTES:
        return None
    first_box = head[:1] == b"\0" and b"ftyp".startswith(head[4:8])
    if first_box or any(magic.startswith(head[: len(magic)]) for magic in _AUDIO_BEGINNINGS):
        return not_audio("beginning of a recording", HINT_UNFINISHED, Completeness.UNFINISHED)
    return None


def read_text(_reader: Reader, head: bytes) -> AudioInfo | None:
    """Plain text or HTML in UTF-8, in UTF-16 with a byte order mark, or in an 8-bit code; or None."""
    encoding = _BYTE_ORDER_MARKS.get(head[:2])
    if encoding is None and any(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in head):
        return None
    text = head.decode(encoding or "utf-8-sig", "replace").removeprefix("\ufeff")
    letters = sum(c.isprintable() or c.isspace() for c in text) - text.count("\ufffd")
    if letters < 0.8 * len(text):
        return None
    return not_audio("HTML page" if text.lstrip()[:14].lower().startswith(_HTML) else "plain text")
