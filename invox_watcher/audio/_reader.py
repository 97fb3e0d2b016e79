"""Positioned reads with a budget, so that the cost per file is limited; integers from bytes."""

from __future__ import annotations

from typing import BinaryIO

MAX_BYTES = 1 << 20
MAX_READS = 2000


class BudgetSpentError(Exception):
    """The file makes its reader seek endlessly. Never leaves the package."""


class Reader:
    """Bytes of a file by position, up to the `size` that it had when opened."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._reads_left = MAX_READS
        self._bytes_left = MAX_BYTES
        self.size = size_bytes

    def at(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer, or none, at the end of the file. Raises BudgetSpentError."""
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
