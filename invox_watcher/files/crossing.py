"""Moves a recording to another file system: copy, verify, fsync, rename, remove.

Killed at any point, the move is simply repeated: a partial copy is overwritten, a complete one recognised.
Between the rename and the removal the recording is in both places, never in none.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from io import FileIO

from invox_watcher.baton import waiting
from invox_watcher.errors import RecordingChangingError, StorageError
from invox_watcher.files import durable
from invox_watcher.heartbeat import beat

PART_PREFIX, PART_SUFFIX = ".invox-watcher-", ".part"  # hidden, and on the inbox's built-in ignore list
_BLOCK_BYTES = 1 << 20
# The slowest disk that does not count as stalled: an fsync of a whole recording reports no progress.
SLOWEST_BYTES_PER_SECOND = 4 << 20
_COARSEST_TIMES_NS = 2_000_000_000  # FAT stores times with a resolution of two seconds


def is_part(name: str) -> bool:
    """Whether a file of that name is an incomplete copy."""
    return name.startswith(PART_PREFIX) and name.endswith(PART_SUFFIX)


def is_copy_of(copy: os.stat_result, size_bytes: int, mtime_ns: int) -> bool:
    """Whether `copy` may be a copy, made here, of a file with that size and time."""
    return copy.st_size == size_bytes and abs(copy.st_mtime_ns - mtime_ns) < _COARSEST_TIMES_NS


def cross(folder: int, name: str, new_folder: int, new_name: str) -> None:
    """Move `name` in the folder `folder` to `new_name` in `new_folder`, both given as descriptors.

    After an error the file is still in `folder`.

    Raises:
        FileExistsError: another file has the new name.
        RecordingChangingError: it was modified during the copy.
        OSError, StorageError: it could not be copied, or the copy differs.
    """
    with waiting, _open(folder, name) as source:
        before = os.fstat(source.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if not _has_crossed(source, new_folder, new_name):
            # Named after the file, so that every attempt uses the same name.
            part = f"{PART_PREFIX}{before.st_dev:x}-{before.st_ino:x}{PART_SUFFIX}"
            try:
                _copy(source, before, new_folder, part)
                _check_unchanged(folder, name, before)
                durable.rename_new(new_folder, part, new_folder, new_name)
            except BaseException:
                with suppress(OSError):
                    os.unlink(part, dir_fd=new_folder)
                raise
        durable.sync(new_folder)
        _check_unchanged(folder, name, before)
    os.unlink(name, dir_fd=folder)
    durable.sync(folder)


def _open(folder: int, name: str) -> FileIO:
    return os.fdopen(os.open(name, durable.FILE, dir_fd=folder), "rb", buffering=0)


def _has_crossed(source: FileIO, new_folder: int, new_name: str) -> bool:
    """Whether a killed attempt has left a complete copy; FileExistsError if another file has the name."""
    try:
        there = os.stat(new_name, dir_fd=new_folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if stat.S_ISREG(there.st_mode) and there.st_size == os.fstat(source.fileno()).st_size:
        with _open(new_folder, new_name) as copy:
            if _sha256(copy) == _sha256(source):
                durable.sync(copy.fileno())
                return True
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _copy(source: FileIO, before: os.stat_result, new_folder: int, part: str) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(part, flags, 0o600, dir_fd=new_folder), "w+b", buffering=0) as copy:
        digest = hashlib.sha256()
        source.seek(0)
        while block := source.read(_BLOCK_BYTES):
            digest.update(block)
            _write_all(copy, block)
            beat()
        os.fchmod(copy.fileno(), stat.S_IMODE(before.st_mode) & 0o666)
        os.utime(copy.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
        beat(before.st_size / SLOWEST_BYTES_PER_SECOND)
        durable.sync(copy.fileno())
        # Dropped from the cache, so that the verification reads from the disk.
        os.posix_fadvise(copy.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if _sha256(copy) != digest.hexdigest():
            raise StorageError(
                "The copy of a recording differs from what was written: the target disk may be faulty.",
                code="copy_differs",
            )


def _write_all(file: FileIO, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]


def _sha256(file: FileIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
        beat()
    return digest.hexdigest()


def _check_unchanged(folder: int, name: str, before: os.stat_result) -> None:
    now = os.stat(name, dir_fd=folder, follow_symlinks=False)
    same = ("st_dev", "st_ino", "st_size", "st_mtime_ns")
    if any(getattr(now, part) != getattr(before, part) for part in same):
        raise RecordingChangingError("The recording changed while being copied to another file system.")
