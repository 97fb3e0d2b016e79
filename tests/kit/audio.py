"""What `audio` says of bytes and of files, and that it stays within its budget."""

from __future__ import annotations

import io
from pathlib import Path

from invox_watcher.audio import AudioInfo, identify

MAX_BYTES, MAX_READS = 1 << 20, 2000


def identify_bytes(data: bytes) -> AudioInfo:
    """What these bytes are."""
    return identify(io.BytesIO(data), len(data))


def identify_file(path: Path) -> AudioInfo:
    """What this file is."""
    with path.open("rb", buffering=0) as file:
        return identify(file, path.stat().st_size)


class Metered(io.BytesIO):
    """A file in memory that counts what is read from it."""

    reads = 0
    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.reads += 1
        self.bytes_read += len(data)
        return data


def assert_harmless(data: bytes) -> AudioInfo:
    """Any bytes: few reads, no impossible duration, a printable format."""
    file = Metered(data)
    info = identify(file, len(data))
    assert file.reads <= MAX_READS
    assert file.bytes_read <= MAX_BYTES
    assert info.duration_seconds is None or 0 <= info.duration_seconds < 31 * 86400
    assert info.format.isprintable()
    return info
