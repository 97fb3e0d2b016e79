"""Positioned reads under a budget, so that no file costs more than a fixed effort; integers from bytes."""

from __future__ import annotations

from typing import BinaryIO

MAX_BYTES = 1 << 20
MAX_READS = 2000


class BudgetSpentError(Exception):
    """The file makes its reader jump about for ever. Never leaves the package."""


class Reader:
    """Bytes of a file by position, cut at the `size` it had when it was looked at."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._reads_left = MAX_READS
        self._bytes_left = MAX_BYTES
        self.size = size_bytes

    def at(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer, or none, where the file ends. Raises BudgetSpentError."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        self._reads_left -= 1
        self._bytes_left -= length
        if self._reads_left < 0 or self._bytes_left < 0:
            raise BudgetSpentError
        self._file.seek(offset)
        return self._file.read(length)


def little(data: bytes, offset: int, length: int) -> int:
    """The unsigned little-endian integer at `offset`; missing bytes count as zero."""
    return int.from_bytes(data[offset : offset + length].ljust(length, b"\0"), "little")


def big(data: bytes, offset: int, length: int) -> int:
    """The unsigned big-endian integer at `offset`; missing bytes count as zero."""
    return int.from_bytes(data[offset : offset + length].ljust(length, b"\0"), "big")
