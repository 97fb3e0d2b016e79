"""Reads what was filed or published, only if it is still the same: another file may have its name by now."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from invox_watcher.errors import RecordingVanishedError, StorageError
from invox_watcher.files import crossing, durable
from invox_watcher.recording import FileIdentity


@contextmanager
def open_unchanged(root: Path, path: str, expected: FileIdentity) -> Iterator[BinaryIO]:
    """The recording `root`/`path`, opened for reading, if its size and time are those of `expected`.

    Raises:
        RecordingVanishedError: it is not there any more, or not as it was.
        StorageError: it can't be read.
    """
    try:
        with durable.parent(root, path) as (folder, name):
            descriptor = os.open(name, durable.FILE, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        raise _vanished(root) from None
    except OSError as error:
        if os.path.islink(root / path):
            raise _vanished(root) from None
        raise StorageError(f"opening a recording in {root.name}/: {error.strerror}") from None
    with FileIO(descriptor) as file:
        status = os.fstat(descriptor)
        same = crossing.is_copy_of(status, expected.size_bytes, expected.mtime_ns)
        if not stat.S_ISREG(status.st_mode) or not same:
            raise _vanished(root)
        yield file


def read_unchanged(root: Path, path: str, sha256: str, *, most_bytes: int) -> bytes | None:
    """The content of the file `root`/`path` if it has that SHA-256; None if it is gone, changed or larger."""
    with suppress(OSError), durable.parent(root, path) as (folder, name):
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode) and status.st_size <= most_bytes:
            content = durable.read(folder, name)
            return content if hashlib.sha256(content).hexdigest() == sha256 else None
    return None


def _vanished(root: Path) -> RecordingVanishedError:
    return RecordingVanishedError(f"The recording is no longer in {root.name}/ as it was filed.")
