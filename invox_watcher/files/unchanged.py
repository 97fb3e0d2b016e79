"""Reads or deletes what was filed or published, if it is the same: another file may have its name by now."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from invox_watcher.errors import RecordingVanishedError, StorageError
from invox_watcher.files import crossing, durable
from invox_watcher.recording import FileIdentity


class Deletion(StrEnum):
    """The outcome of a deletion."""

    DELETED = "deleted"
    GONE = "gone"
    CHANGED = "changed"  # it was modified or replaced, so it is kept


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


def delete_unchanged(
    root: Path, path: str, unchanged: FileIdentity | str, before: Callable[[], None] = lambda: None
) -> Deletion:
    """Delete `root`/`path` if it is unchanged since it was filed; call `before` once that is certain.

    `unchanged` is a recording's identity, whose size and time must be the same, or a file's SHA-256.
    """
    with durable.storage(f"deleting in {root.name}/"):
        try:
            with durable.parent(root, path) as (folder, name):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if isinstance(unchanged, str):
                    same = stat.S_ISREG(status.st_mode) and durable.sha256(folder, name) == unchanged
                else:
                    same = crossing.is_copy_of(status, unchanged.size_bytes, unchanged.mtime_ns)
                if not same:
                    return Deletion.CHANGED
                before()  # may take a while
                now = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if FileIdentity.of(now) != FileIdentity.of(status):
                    return Deletion.CHANGED
                os.unlink(name, dir_fd=folder)
                durable.sync(folder)
        except FileNotFoundError:
            return Deletion.GONE
    return Deletion.DELETED


def _vanished(root: Path) -> RecordingVanishedError:
    return RecordingVanishedError(f"The recording is no longer in {root.name}/ as it was filed.")
