"""Positioned reads with a budget, so that the cost per file is limited; integers from bytes."""

from __future__ import annotations

from typing import BinaryIO

MAX_BYTES = 1 << 20
MAX_READS = 2000


class BudgetSpentError(Exception):
    """The file makes its reader seek endlessly. Never leaves the package."""


class _Budget:
    def __init__(self) -> None:
        self.reads_left = MAX_READS
        self.bytes_left = MAX_BYTES

    def spend(self, length: int) -> None:
        self.reads_left -= 1
        self.bytes_left -= length
        if self.reads_left < 0 or self.bytes_left < 0:
            raise BudgetSpentError


class Reader:
    """Bytes of a file by position, up to the `size` that it had when opened."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._origin = 0
        self._budget = _Budget()
        self.size = size_bytes

    @property
    def reads_left(self) -> int:
        """How many reads the budget still allows."""
        return self._budget.reads_left

    @property
    def bytes_left(self) -> int:
        """How many bytes the budget still allows."""
        return self._budget.bytes_left

    def after(self, offset: int) -> Reader:
        """The same file as if it began at `offset`, on the same budget."""
        behind = Reader(self._file, max(0, self.size - offset))
        behind._origin, behind._budget = self._origin + offset, self._budget
        return behind

    def at(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer, or none, at the end of the file. Raises BudgetSpentError."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        self._budget.spend(length)
        self._file.seek(self._origin + offset)
        return self._file.read(length)


def little(data: bytes, offset: int, length: int) -> int:
    """The unsigned little-endian integer at `offset`; missing bytes count as zero."""
    return int.from_bytes(data[offset : offset + length].ljust(length, b"\0"), "little")


def big(data: bytes, offset: int, length: int) -> int:
    """The unsigned big-endian integer at `offset`; missing bytes count as zero."""
    return int.from_bytes(data[offset : offset + length].ljust(length, b"\0"), "big")


def is_placeholder(declared: int, held: int) -> bool:
    """Whether a size is what writers to a pipe leave: a limit of 32 bits, or GB on a file of MB."""
    near_limit = any(abs(declared - limit) <= 1 << 16 for limit in (1 << 31, 1 << 32))
    endless = declared >= 1 << 40 or 10**9 <= declared < 1 << 32
    return near_limit or (endless and held * 16 < declared)
