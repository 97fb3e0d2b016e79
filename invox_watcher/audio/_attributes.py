"""Who recorded it, with what and when, from a recording's own header: a few reads, and no decoder.

WAV has LIST/INFO (Microsoft's "Multimedia Programming Interface") and bext (EBU Tech 3285); MP3 has ID3v2
(id3.org); M4A has the tags of iTunes and of QuickTime; FLAC and Ogg have Vorbis comments
(xiph.org/vorbis/doc/v-comment.html); DSS and DS2 have fixed fields, found by open decoders. The names of the
attributes are those that the decoder reports, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import BinaryIO

from invox_watcher.audio._boxes import Box, boxes, children
from invox_watcher.audio._ogg_pages import CAPTURE, pages
from invox_watcher.audio._reader import BudgetSpentError, Reader, big, little

_LONGEST_TEXT = 200
_MOST_TAG_BYTES = 128 << 10
_MOST_ITEMS = 200
_MOST_CHUNKS = 500
_MOST_PAGES = 8
_INFO = {b"IART": "author", b"ICMT": "comment", b"INAM": "title", b"ICRD": "recorded_at"}
_ID3 = {
    b"TPE1": "author", b"TP1": "author", b"TIT2": "title", b"TT2": "title", b"COMM": "comment",
    b"COM": "comment", b"TENC": "device", b"TEN": "device", b"TDRC": "recorded_at", b"TYER": "recorded_at",
}  # fmt: skip
_ID3_ENCODINGS = ("latin-1", "utf-16", "utf-16-be", "utf-8")
_MP4 = {
    b"\xa9ART": "author", b"\xa9nam": "title", b"\xa9cmt": "comment", b"\xa9day": "recorded_at",
    b"\xa9aut": "author", b"\xa9mod": "device",
}  # fmt: skip
_VORBIS = {
    "artist": "author", "author": "author", "title": "title", "comment": "comment",
    "description": "comment", "date": "recorded_at", "device": "device", "model": "device",
    "encoded_by": "device",
}  # fmt: skip

_Found = Iterable[tuple[str, str]]


def attributes(file: BinaryIO, size_bytes: int) -> Mapping[str, str]:
    """Of author, device, recorded_at, comment and title those that `file` has, each on one printable line.

    Empty for formats whose header only a decoder can read. Raises only OSError, whatever the content. Moves
    the file's position.
    """
    reader = Reader(file, size_bytes)
    found: dict[str, str] = {}
    try:
        head = reader.at(0, 1024)
        for name, value in _read(reader, head):
            if line := _line(value):
                found.setdefault(name, line)
    except BudgetSpentError:
        pass
    return found


def _read(reader: Reader, head: bytes) -> _Found:
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _wave(reader)
    if head[:3] == b"ID3":
        return _id3(reader, head)
    if head[:4] == b"fLaC":
        return _flac(reader)
    if head[:4] == CAPTURE:
        return _ogg(reader)
    if head[1:4] in (b"dss", b"ds2") and 0 < head[0] < 16:
        return _dictation(head)
    if head[4:8] in (b"ftyp", b"moov", b"wide", b"free", b"mdat", b"skip"):
        return _mp4(reader)
    return ()


def _line(value: str) -> str:
    """A value as one printable line of limited length."""
    shown = "".join(c if c.isprintable() else " " for c in value[: 4 * _LONGEST_TEXT])
    return " ".join(shown.split())[:_LONGEST_TEXT]


def _text(data: bytes) -> str:
    """Bytes up to a zero; WAV and DSS don't say in which encoding."""
    data = data.partition(b"\0")[0]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


# ---- WAV ---------------------------------------------------------------------------------------------------


def _wave(reader: Reader) -> _Found:
    found = {}
    for name, start, size in _chunks(reader, 12, reader.size):
        if name == b"LIST" and reader.at(start, 4) == b"INFO":
            for item, at, length in _chunks(reader, start + 4, start + size):
                if item in _INFO:
                    found[_INFO[item]] = _text(reader.at(at, min(length, 4 * _LONGEST_TEXT)))
        elif name == b"bext":
            data = reader.at(start, 338)
            found.setdefault("author", _text(data[256:288]))
            found.setdefault("comment", _text(data[:256]))
            if day := _text(data[320:330]):
                found.setdefault("recorded_at", f"{day}T{_text(data[330:338])}".removesuffix("T"))
    return found.items()


def _chunks(reader: Reader, offset: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, position and size of each chunk; a size that leads nowhere ends it."""
    for _ in range(_MOST_CHUNKS):
        header = reader.at(offset, 8)
        size = little(header, 4, 4)
        if len(header) < 8 or offset + 8 > end:
            return
        yield header[:4], offset + 8, size
        offset += 8 + size + size % 2


# ---- MP3 ---------------------------------------------------------------------------------------------------


def _id3(reader: Reader, head: bytes) -> _Found:
    version = head[3]
    tag = reader.at(10, min(_synchsafe(head[6:10]), _MOST_TAG_BYTES))
    if head[5] & 0x80 and version < 4:  # so that no tag looks like a frame of sound
        tag = tag.replace(b"\xff\0", b"\xff")
    name_bytes, header_bytes = (3, 6) if version < 3 else (4, 10)
    offset = 4 + big(tag, 0, 4) if version == 3 and head[5] & 0x40 else 0
    for _ in range(_MOST_ITEMS):
        name = tag[offset : offset + name_bytes]
        sized = tag[offset + name_bytes : offset + name_bytes + (3 if version < 3 else 4)]
        size = _synchsafe(sized) if version == 4 else int.from_bytes(sized, "big")
        offset += header_bytes
        data = tag[offset : offset + size]
        if not name.strip(b"\0") or not data:
            return
        if name in (b"TXXX", b"TXX"):  # the tag's own name stands before its value
            what, value = _id3_texts(data)
            if what.lower() in _VORBIS:
                yield _VORBIS[what.lower()], value
        elif name in (b"COMM", b"COM"):  # a language and a description stand before it
            yield _ID3[name], _id3_texts(data[:1] + data[4:])[1]
        elif name in _ID3:
            yield _ID3[name], _id3_texts(data)[0]
        offset += size


def _synchsafe(data: bytes) -> int:
    value = 0
    for byte in data:
        value = value << 7 | byte & 0x7F
    return value


def _id3_texts(data: bytes) -> tuple[str, str]:
    """The first and the second text of a frame, which begins with their encoding."""
    encoding = _ID3_ENCODINGS[data[0]] if data[0] < len(_ID3_ENCODINGS) else "latin-1"
    first, _, rest = data[1:].decode(encoding, "replace").partition("\0")
    return first.removeprefix("\ufeff"), rest.partition("\0")[0].removeprefix("\ufeff")


# ---- FLAC and Ogg ------------------------------------------------------------------------------------------


def _flac(reader: Reader) -> _Found:
    offset = 4
    for _ in range(_MOST_ITEMS):
        header = reader.at(offset, 4)
        size = big(header, 1, 3)
        if len(header) < 4:
            return ()
        if header[0] & 0x7F == 4:
            return _vorbis_comments(reader.at(offset + 4, min(size, _MOST_TAG_BYTES)))
        if header[0] & 0x80:
            return ()
        offset += 4 + size
    return ()


def _ogg(reader: Reader) -> _Found:
    """The comments are the second packet of the stream, from its second page on."""
    data = b""
    for number, page in enumerate(pages(reader, reads_left=0)):
        if number:
            data += reader.at(page.payload_start, min(page.end - page.payload_start, _MOST_TAG_BYTES))
        if number == _MOST_PAGES or len(data) > _MOST_TAG_BYTES or (number and page.packets):
            break
    for mark in (b"OpusTags", b"\x03vorbis"):
        if data.startswith(mark):
            return _vorbis_comments(data[len(mark) :])
    return ()


def _vorbis_comments(data: bytes) -> _Found:
    offset = 4 + little(data, 0, 4)
    count, offset = little(data, offset, 4), offset + 4
    for _ in range(min(count, _MOST_ITEMS)):
        size = little(data, offset, 4)
        name, _, value = data[offset + 4 : offset + 4 + size].decode("utf-8", "replace").partition("=")
        if name.lower() in _VORBIS:
            yield _VORBIS[name.lower()], value
        offset += 4 + size


# ---- M4A and QuickTime -------------------------------------------------------------------------------------


def _mp4(reader: Reader) -> _Found:
    for box in boxes(reader, 0, reader.size):
        if box.type == b"moov" and box.end <= reader.size:
            for inside in children(reader, box):
                if inside.type == b"udta":
                    yield from _user_data(reader, inside)
                elif inside.type == b"meta":
                    yield from _metadata(reader, inside)
            return


def _user_data(reader: Reader, udta: Box) -> _Found:
    for box in children(reader, udta):
        if box.type == b"meta":
            yield from _metadata(reader, box)
        elif box.type in _MP4:  # QuickTime's: size and language before the text
            size = big(reader.at(box.start, 2), 0, 2)
            yield _MP4[box.type], _text(reader.at(box.start + 4, min(size, 4 * _LONGEST_TEXT)))


def _metadata(reader: Reader, meta: Box) -> _Found:
    # QuickTime's is a plain box, MP4's has version and flags.
    start = meta.start if reader.at(meta.start + 4, 4) == b"hdlr" else meta.start + 4
    names: list[str] = []
    for box in boxes(reader, start, meta.end):
        if box.type == b"keys":
            names = list(_keys(reader, box))
        elif box.type == b"ilst":
            for kind, at, size in _items(reader, box):
                number = int.from_bytes(kind, "big")
                name = names[number - 1] if 0 < number <= len(names) else ""
                attribute = _MP4.get(kind) or _QUICKTIME.get(name)
                if attribute:
                    yield attribute, _item_text(reader, at, size)


_QUICKTIME = {
    "com.apple.quicktime.author": "author",
    "com.apple.quicktime.artist": "author",
    "com.apple.quicktime.model": "device",
    "com.apple.quicktime.title": "title",
    "com.apple.quicktime.comment": "comment",
    "com.apple.quicktime.creationdate": "recorded_at",
}


def _keys(reader: Reader, box: Box) -> Iterator[str]:
    data = reader.at(box.start, min(box.end - box.start, _MOST_TAG_BYTES))
    offset = 8
    for _ in range(min(big(data, 4, 4), _MOST_ITEMS)):
        size = big(data, offset, 4)
        yield data[offset + 8 : offset + size].decode("utf-8", "replace")
        offset += max(size, 8)


def _items(reader: Reader, ilst: Box) -> Iterator[tuple[bytes, int, int]]:
    """Type, position and size of each item; QuickTime's types are numbers, not names."""
    offset = ilst.start
    for _ in range(_MOST_ITEMS):
        header = reader.at(offset, 8)
        size = big(header, 0, 4)
        if size < 8 or offset + size > ilst.end:
            return
        yield header[4:8], offset + 8, size - 8
        offset += size


def _item_text(reader: Reader, at: int, size: int) -> str:
    length = min(big(reader.at(at, 4), 0, 4), size) - 16
    return _text(reader.at(at + 16, min(max(length, 0), 4 * _LONGEST_TEXT)))


# ---- DSS and DS2 -------------------------------------------------------------------------------------------


def _dictation(head: bytes) -> _Found:
    yield "author", _text(head[0x0C:0x1C].split(b"\xff")[0])
    with contextlib.suppress(ValueError):
        yield "recorded_at", datetime.strptime(head[0x26:0x32].decode("ascii"), "%y%m%d%H%M%S").isoformat()
    if head[1:4] == b"dss":
        yield "comment", _text(head[0x31E:0x382].split(b"\xff")[0])
