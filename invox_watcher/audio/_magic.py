"""Formats recognised by their first bytes alone: unsupported audio, other files, and text."""

from __future__ import annotations

from dataclasses import dataclass

from invox_watcher.audio._info import (
    HINT_CONVERT,
    HINT_DICTATION,
    HINT_NOT_AUDIO,
    HINT_PROTECTED,
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
    decodable: bool = False


def _sound(format: str, magic: bytes, offset: int = 0, opening: bytes = b"") -> _Magic:
    """A format of sound that a decoder reads."""
    return _Magic(format, magic, offset, HINT_CONVERT, opening, decodable=True)


_MAGICS = (
    _sound("QCP (QCELP or EVRC)", b"QLCM", 8, b"RIFF"),
    _sound("RealAudio", b".ra\xfd"),
    _sound("RealMedia", b".RMF"),
    _sound("Creative Voice", b"Creative Voice File\x1a"),
    _sound("NIST SPHERE", b"NIST_1A\n"),
    _sound("8SVX", b"8SVX", 8, b"FORM"),
    _sound("iLBC", b"#!iLBC"),
    _sound("ATRAC (OMA)", b"ea3\x03"),
    _sound("ATRAC (OMA)", b"EA3\x01"),
    _sound("Musepack", b"MPCK"),
    _sound("Musepack", b"MP+\x07"),
    _sound("Shorten", b"ajkg"),
    _sound("TAK", b"tBaK"),
    _sound("DTS", b"\x7f\xfe\x80\x01"),
    _sound("DSD", b"DSD \x1c\0\0\0"),
    _Magic("Sony DVF or MSV", b"MS_VOICE", hint=HINT_DICTATION),
    _Magic("EVRC", b"#!EVRC", hint=HINT_CONVERT),
    _Magic("SMV", b"#!SMV", hint=HINT_CONVERT),
    _Magic("OptimFROG", b"OFR \x0c\0\0\0", hint=HINT_CONVERT),
    _Magic("OptimFROG", b"OFR \x0f\0\0\0", hint=HINT_CONVERT),
    _Magic("Audible", b"\x57\x90\x75\x36", 4, HINT_PROTECTED),
    _Magic("MIDI", b"MThd", hint="It contains notes, not sound. Copy the recording itself to the inbox."),
    _Magic("DS2 (encrypted)", b"\x03enc", hint=HINT_DICTATION, decodable=True),
    _Magic("AVI video", b"AVI ", 8, HINT_VIDEO, b"RIFF", decodable=True),
    _Magic("Flash video", b"FLV\x01", hint=HINT_VIDEO, decodable=True),
    _Magic("MPEG video", b"\0\0\x01\xba", hint=HINT_VIDEO, decodable=True),
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
        b"RIFX",
        b"FORM",
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),  # ASF
        b"#!AMR",
        b"caff",
        b".snd",
        b"riff\x2e\x91\xcf\x11",
        b"wvpk",
        b"\x02dss",
        b"\x03ds2",
    ),
    *(b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xe3", b"\xff\xe2", b"\xff\xf1", b"\xff\xf9"),
    *(magic.magic for magic in _MAGICS if magic.hint == HINT_CONVERT and magic.offset == 0),
)
_BEGINNING_BYTES = 12
_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_TEXT_CONTROLS = frozenset(b"\t\n\r\f")
_HTML = ("<!doctype html", "<html")
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


def read_magic(_reader: Reader, head: bytes) -> AudioInfo | None:
    """A format with a fixed signature at a fixed position, or None."""
    for magic in _MAGICS:
        if head.startswith(magic.magic, magic.offset) and head.startswith(magic.opening):
            is_sound = magic.hint != HINT_NOT_AUDIO
            if is_sound:
                return refused(magic.format, magic.hint, decodable=magic.decodable)
            return not_audio(magic.format)
    return None


def read_transport_stream(reader: Reader, head: bytes) -> AudioInfo | None:
    """An MPEG transport stream (ISO/IEC 13818-1, 2.4.3), also with the timestamps of M2TS; or None."""
    for length, offset in ((188, 0), (192, 4)):
        if all(head[offset + length * number : offset + length * number + 1] == b"G" for number in range(5)):
            cut = reader.size % length != 0
            completeness = Completeness.UNFINISHED if cut else Completeness.UNKNOWN
            return refused("MPEG transport stream", HINT_CONVERT, completeness, decodable=True)
    return None


def read_ac3(_reader: Reader, head: bytes) -> AudioInfo | None:
    """AC-3 or E-AC-3 (ATSC A/52), by two frames in a row; or None."""
    if head[:2] != b"\x0b\x77" or len(head) < 6:
        return None
    enhanced = head[5] >> 3 > 10
    if enhanced:
        frame_bytes = ((head[2] & 7) << 8 | head[3]) * 2 + 2
    else:
        rate, code = head[4] >> 6, head[4] & 63
        if rate == 3 or code >= 2 * len(_AC3_KBITS):
            return None
        kbits = _AC3_KBITS[code // 2]
        frame_bytes = 2 * (kbits * 2, kbits * 96000 // 44100 + code % 2, kbits * 3)[rate]
    if head[frame_bytes : frame_bytes + 2] != b"\x0b\x77" and frame_bytes + 2 <= len(head):
        return None
    return refused("E-AC-3" if enhanced else "AC-3", HINT_CONVERT, decodable=True)


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
