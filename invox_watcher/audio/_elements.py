"""Elements of EBML (RFC 8794): their ids and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from invox_watcher.audio._reader import Reader, big

_MAX_CHILDREN = 100
_HEADER_BYTES = 12


@dataclass(frozen=True)
class Element:
    """One element; its content begins at `start`."""

    id: int  # with the marker of its length
    start: int
    size: int | None  # None: up to the end of the enclosing element


def element(reader: Reader, offset: int) -> Element | None:
    """The element at `offset`; None if there is none, or not all of its header."""
    return parse_element(reader.at(offset, _HEADER_BYTES), 0, base=offset)


def parse_element(data: bytes, offset: int, base: int = 0) -> Element | None:
    """The element at `offset` of `data`, with its position counted from `base`; as `element`."""
    header = data[offset : offset + _HEADER_BYTES]
    id_length = _vint_length(header, 0)
    size_length = _vint_length(header, id_length)
    if id_length > 4 or size_length > 8 or len(header) < id_length + size_length:
        return None
    size = big(header, id_length, size_length) & (1 << 7 * size_length) - 1
    unknown = size == (1 << 7 * size_length) - 1
    return Element(big(header, 0, id_length), base + id_length + size_length, None if unknown else size)


def children(reader: Reader, parent: Element) -> Iterator[Element]:
    """The elements inside another one, up to a number that no recorder reaches."""
    offset = parent.start
    end = reader.size if parent.size is None else parent.start + parent.size
    for _ in range(_MAX_CHILDREN):
        child = element(reader, offset) if offset < end else None
        if child is None:
            return
        yield child
        if child.size is None:
            return
        offset = child.start + child.size


def _vint_length(data: bytes, offset: int) -> int:
    return 9 - big(data, offset, 1).bit_length()
