"""The boxes of ISO/IEC 14496-12 and of QuickTime: their order, also as seen from the end of a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from invox_watcher.audio._reader import Reader, big

_MAX_CHILDREN = 200
# A walk leaves this much of the budget to those that read the boxes.
_RESERVED_READS = 400
_TAIL_BYTES = 256 << 10
_FRAGMENT = re.compile(rb"moof\0\0\0\x10mfhd")
# What holds no sound: if its end is missing, nothing is missed.
_NO_SOUND = frozenset((b"free", b"skip", b"wide", b"udta", b"meta", b"uuid"))
# What may stand at the top level. Anything else behind the sound is a tag, or a program's leavings.
_TOP_LEVEL = frozenset(
    b"ftyp styp moov mdat imda moof mfra free skip wide sidx ssix prft emsg meta uuid udta pnot pdin".split()
)


@dataclass(frozen=True)
class Box:
    """One box. Positions are bytes from the start of the file."""

    type: bytes
    start: int  # of its content
    end: int
    open_ended: bool = False  # a size of 0: up to the end of the file


@dataclass
class TopLevel:
    """The result of walking the top-level boxes."""

    ftyp: Box | None = None
    moov: Box | None = None
    mdats: tuple[int, int] | None = None  # where the content of the first begins, and of the last ends
    open_ended: bool = False
    moofs: list[Box] = field(default_factory=list)
    has_mfra: bool = False
    end: int = 0  # of the last box
    walked: bool = False  # from the first to the last; else the end was found from the tail, or not at all
    ends_vouched: bool = False  # the end of the file was read
    cut_behind_sound: bool = False  # the last box is not all there, but it holds no sound

    @property
    def has_mdat(self) -> bool:
        """Whether there is a box of sound that is not in a fragment's description."""
        return self.mdats is not None


def top_level(reader: Reader) -> TopLevel:
    """The top-level boxes: all of them, or if there are too many, the first and the last."""
    found = TopLevel()
    for box in boxes(reader, 0, reader.size):
        if reader.reads_left < _RESERVED_READS:
            _from_the_tail(reader, found)
            return found
        complete = found.moov and (found.has_mdat or found.moofs)
        if box.type not in _TOP_LEVEL and complete and (box.open_ended or box.end > reader.size):
            break
        if box.type in _NO_SOUND and complete and not found.moofs and box.end > reader.size:
            found.cut_behind_sound = True
            break
        _note(found, box)
    found.walked = found.ends_vouched = True
    return found


def _note(found: TopLevel, box: Box) -> None:
    found.end, found.open_ended = box.end, box.open_ended
    if box.type == b"ftyp":
        found.ftyp = found.ftyp or box
    elif box.type == b"moov":
        found.moov = box
    elif box.type in (b"mdat", b"imda"):
        found.mdats = (found.mdats[0] if found.mdats else box.start, box.end)
    elif box.type == b"moof":
        found.moofs.append(box)
    elif box.type == b"mfra":
        found.has_mfra = True


def _from_the_tail(reader: Reader, found: TopLevel) -> None:
    """Continue with the last fragment that begins in the tail."""
    tail_start = max(found.end, reader.size - min(_TAIL_BYTES, reader.bytes_left // 2))
    tail = reader.at(tail_start, reader.size - tail_start)
    starts = [match.start() - 4 for match in _FRAGMENT.finditer(tail) if match.start() >= 4]
    if not starts:
        return
    for box in boxes(reader, tail_start + starts[-1], reader.size):
        if box.type not in _TOP_LEVEL:
            break
        _note(found, box)
    found.ends_vouched = True


def boxes(reader: Reader, start: int, end: int) -> Iterator[Box]:
    """The boxes between two positions; ends at anything that is not a box, such as trailing zeros."""
    while end - start >= 8:
        header = reader.at(start, 16)
        size, kind, payload = big(header, 0, 4), header[4:8], start + 8
        if not (len(kind) == 4 and kind.isascii() and kind.decode("ascii").isprintable()):
            return
        if size == 1:
            size, payload = big(header, 8, 8), start + 16
        box_end = start + size if size else end
        if box_end < payload:
            return
        yield Box(kind, payload, box_end, open_ended=size == 0)
        start = box_end


def children(reader: Reader, parent: Box) -> Iterator[Box]:
    """The boxes inside another one, up to a number that no recorder reaches."""
    for number, box in enumerate(boxes(reader, parent.start, parent.end)):
        if number == _MAX_CHILDREN:
            return
        yield box
