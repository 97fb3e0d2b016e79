"""The recording as PyAV reads it: an open descriptor, if need be with another beginning."""

from __future__ import annotations

import os


class Descriptor:
    """An open file descriptor as the file object that PyAV wants; remembers why a call failed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None

    def read(self, size: int) -> bytes:
        try:
            return os.read(self._descriptor, size)
        except OSError as error:
            self.error = error
            raise

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            self.error = error
            raise
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return os.lseek(self._descriptor, offset, whence)
        except OSError:  # a header can contain any number
            return -1

    def tell(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)


class Spliced:
    """`header`, then what `source` has from `start` on: for a recording whose own beginning misleads."""

    def __init__(self, source: Descriptor, header: bytes, start: int) -> None:
        self._source, self._header, self._start = source, header, start
        self._at = 0

    @property
    def error(self) -> OSError | None:
        """Why a call of the source failed."""
        return self._source.error

    def read(self, size: int) -> bytes:
        """At most `size` bytes; fewer where the header ends."""
        if self._at < len(self._header):
            data = self._header[self._at : self._at + size]
        else:
            self._source.seek(self._at - len(self._header) + self._start)
            data = self._source.read(size)
        self._at += len(data)
        return data

    def write(self, _data: bytes) -> int:
        """Nothing writes to a recording.

        Raises:
            OSError: always.
        """
        raise OSError("a recording is only read")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new position; -1 if there is none such."""
        if whence == os.SEEK_END:
            offset += self._source.seek(0, os.SEEK_END) - self._start + len(self._header)
        elif whence == os.SEEK_CUR:
            offset += self._at
        if offset < 0:
            return -1
        self._at = offset
        return offset

    def tell(self) -> int:
        """The position."""
        return self._at
