"""Cyclic redundancy checks, most significant bit first and starting from zero, as FLAC and Ogg use them."""

from __future__ import annotations

from collections.abc import Iterator


class Crc:
    """One polynomial of `width` bits (8 or more)."""

    def __init__(self, width: int, polynomial: int) -> None:
        self._shift = width - 8
        self._mask = (1 << width) - 1
        self._table = [self._entry(byte, width, polynomial) for byte in range(256)]

    def __call__(self, data: bytes) -> int:
        """The check value of all of `data`."""
        value = 0
        for value in self.steps(data):  # noqa: B007 - the last one counts
            pass
        return value

    def steps(self, data: bytes) -> Iterator[int]:
        """The check value after each byte of `data`."""
        table, shift, mask = self._table, self._shift, self._mask
        value = 0
        for byte in data:
            value = (value << 8 & mask) ^ table[value >> shift ^ byte]
            yield value

    def _entry(self, byte: int, width: int, polynomial: int) -> int:
        value = byte << self._shift
        for _ in range(8):
            carry = value >> (width - 1)
            value = (value << 1 & self._mask) ^ (polynomial if carry else 0)
        return value
