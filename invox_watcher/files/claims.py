"""Moves recordings from the inbox to processing/, several at once, so that they share their syncs.

For each of them alone the order is: its folder in processing/ is made, and on disk; it is renamed; its new
name is on disk; its old name is gone from the disk. A power cut leaves it in one of the two, or in both.

On NFS a rename may have happened although it failed: if the server's answer was lost, the request is sent
again, and then finds nothing. So after a failure a look decides: nothing but this claim moves a file there.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from invox_watcher.errors import RecordingChangingError, StorageError
from invox_watcher.files import crossing, durable
from invox_watcher.heartbeat import beat
from invox_watcher.recording import FileIdentity


@dataclass(frozen=True)
class Claim:
    """Move inbox/`path` to processing/`job_id`/`path`, if it is the `expected` file."""

    job_id: str
    path: str
    expected: FileIdentity


class Move:
    """One recording on its way. Once a step has failed, no further one is taken."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.error: StorageError | None = None
        self.found: FileIdentity | None = None  # which file was there, moved or not; None if none was
        self.old_folder: tuple[int, int] | None = None  # device and inode, if it was renamed
        self._descriptors = (-1, -1)
        self._opened = ExitStack()

    @property
    def is_as_expected(self) -> bool:
        """Whether the expected file was moved."""
        return self.error is None and self.found == self.claim.expected

    def rename(self, inbox: Path, root: Path, mode: int) -> None:
        """Move it to the folder `root`; missing folders in that are made with `mode`."""
        with suppress(FileNotFoundError, RecordingChangingError):
            old, name = self._opened.enter_context(durable.parent(inbox, self.claim.path))
            new, new_name = self._opened.enter_context(durable.parent(root, self.claim.path, mode))
            try:
                durable.rename_new(old, name, new, new_name)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    if not _is_file(new, new_name):
                        raise
                    self._note(old, new, new_name)
                    return
                found = FileIdentity.of(os.stat(name, dir_fd=old, follow_symlinks=False))
                if found == self.claim.expected:
                    crossing.cross(old, name, new, new_name)
                self.found = found
                return
            self._note(old, new, new_name)

    def _note(self, old: int, new: int, new_name: str) -> None:
        """It is in the folder `new`."""
        self._descriptors = old, new
        folder = os.fstat(old)
        self.old_folder = folder.st_dev, folder.st_ino
        self.found = FileIdentity.of(os.stat(new_name, dir_fd=new, follow_symlinks=False))

    def sync_new_name(self) -> None:
        """Let its new name be on disk."""
        if self.old_folder is not None:
            durable.sync(self._descriptors[1])

    def sync_old_folder(self) -> None:
        """Let its old name, and every other that was removed from its folder, be gone from the disk."""
        durable.sync(self._descriptors[0])

    def close(self) -> None:
        """Close the folders."""
        self._opened.close()


def _is_file(folder: int, name: str) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    return False


def move_all(claims: Sequence[Claim], inbox: Path, processing: Path, mode: int) -> list[Move]:
    """Move them; new folders get that mode. What was not moved as expected may be left in processing/."""
    moves = [Move(claim) for claim in claims]
    try:
        _each(moves, lambda move: (processing / move.claim.job_id).mkdir(mode=mode, exist_ok=True))
        _shared(moves, lambda _move: durable.fsync_folder(processing))
        _each(moves, lambda move: move.rename(inbox, processing / move.claim.job_id, mode))
        _each(moves, Move.sync_new_name)
        for folder in {move.old_folder for move in moves} - {None}:
            _shared([move for move in moves if move.old_folder == folder], Move.sync_old_folder)
    finally:
        for move in moves:
            move.close()
    return moves


def _each(moves: Iterable[Move], step: Callable[[Move], object]) -> None:
    """Take `step` for each that has not failed."""
    for move in moves:
        _shared([move], step)


def _shared(moves: Sequence[Move], step: Callable[[Move], object]) -> None:
    """Take `step` once, for all of them that have not failed."""
    left = [move for move in moves if move.error is None]
    if not left:
        return
    beat()
    error = None
    try:
        with durable.storage("moving a recording from inbox/ to processing/"):
            step(left[0])
    except StorageError as refused:
        error = refused
    except FileExistsError as taken:
        error = StorageError(f"moving a recording from inbox/ to processing/: {taken.strerror}")
    for move in left:
        move.error = error
