"""The only module that renames, fsyncs or deletes: claim, publish, file away; and the names that come of it.

Three rules hold everywhere. A file changes its place by one rename that never overwrites. What must survive a
power cut is fsynced, the file first and then the folders that name it. Every path is walked from the tree's
root, component by component and without following links, so that a folder swapped for a link while we work
leads nowhere.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from invox_watcher.errors import (
    DiskFullError,
    FolderBlockedError,
    FolderError,
    RecordingVanishedError,
    StorageError,
)

ERROR_SUFFIX = ".error.json"
_NAME_MAX_BYTES = 255
_EXTENSION_MAX_BYTES = 64  # a stem must always have room beside it
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RENAME_NOREPLACE = 1  # linux/fs.h
_libc = ctypes.CDLL(None, use_errno=True)
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Identity:
    """Which file it is and which content it had: what a claim compares before and after its rename."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """The identity that a stat shows."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class NameTakenError(Exception):
    """The name to publish or file under belongs to another file: the caller reserves the next one."""


@dataclass(frozen=True)
class Folders:
    """The five folders, and what may happen between them. Paths given are relative and POSIX."""

    inbox: Path
    processing: Path
    outbox: Path
    done: Path
    failed: Path
    directory_mode: int = 0o700

    @property
    def file_mode(self) -> int:
        """The mode of files that we write: the folders' without the right to search."""
        return self.directory_mode & 0o666

    def prepare(self) -> None:
        """Create what is missing and check what is there.

        Raises:
            FolderError: a folder can't be written, lies inside the inbox, or on another file system than
                the inbox. (The outbox may: its files are written there, not moved there.)
        """
        for name, folder in self._named():
            try:
                if not folder.exists():
                    folder.mkdir(parents=True)
                    folder.chmod(self.directory_mode)  # whatever the umask
                _probe_writable(folder)
            except OSError as error:
                raise FolderError(
                    f"folders.{name}: can't write in {folder}: {error.strerror}",
                    hint=f"Create it and give it to the daemon's user: install -d -m 700 -o USER {folder}",
                ) from None
        for (name, folder), (other_name, other) in itertools.permutations(self._named(), 2):
            if folder.resolve().is_relative_to(other.resolve()):
                raise FolderError(
                    f"folders.{name}: {folder} is, or lies inside, folders.{other_name}",
                    hint="Put the folders side by side under folders.root.",
                )
        for name, folder in self._named():
            if name != "outbox" and folder.stat().st_dev != self.inbox.stat().st_dev:
                raise FolderError(
                    f"folders.{name}: {folder} is on another file system than the inbox, "
                    "so a recording could not move there in one step",
                    hint="Put inbox, processing, done and failed on one file system (bind mounts count "
                    "as different ones).",
                )

    def _named(self) -> Sequence[tuple[str, Path]]:
        return (
            ("inbox", self.inbox),
            ("processing", self.processing),
            ("outbox", self.outbox),
            ("done", self.done),
            ("failed", self.failed),
        )

    # ---- claim -------------------------------------------------------------------------------------------

    def claim(self, job_id: str, path: str, seen: Identity) -> bool:
        """Move inbox/`path` to processing/`job_id`/`path`. False where it is gone or no longer what was seen.

        Raises:
            StorageError: the disk refused; the recording is still in the inbox.
        """
        with _storage("moving a recording from inbox/ to processing/"):
            try:
                self._move(self.inbox, path, self.processing / job_id, path)
                if self._identity(self.processing / job_id, path) == seen:
                    return True
            except FileNotFoundError:
                pass
            except OSError:
                with suppress(OSError, StorageError):
                    self.unclaim(job_id)
                raise
            self.unclaim(job_id)
        return False

    def unclaim(self, job_id: str) -> list[str]:
        """Move every file under processing/`job_id` back into the inbox; return their names there.

        A name that is taken by now gets a suffix. Left-over empty folders are removed.
        """
        returned = []
        with _storage("returning to the inbox"):
            for path in _files_below(self.processing / job_id):
                for candidate in numbered(path):
                    with suppress(FileExistsError):
                        self._move(self.processing / job_id, path, self.inbox, candidate)
                        returned.append(candidate)
                        break
            self._remove_job_folder(job_id)
        return returned

    def processing_ids(self) -> list[str]:
        """The folders in processing/: one per job, whether or not the journal knows it."""
        with _storage("reading processing/"):
            return sorted(entry.name for entry in os.scandir(self.processing) if entry.is_dir())

    # ---- read --------------------------------------------------------------------------------------------

    @contextmanager
    def open_recording(self, job_id: str, path: str) -> Iterator[BinaryIO]:
        """The claimed recording, opened for reading.

        Raises:
            RecordingVanishedError: it is no longer in processing/.
        """
        try:
            with _parent(self.processing / job_id, path) as (folder, name):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(name, flags, dir_fd=folder)
        except FileNotFoundError:
            raise RecordingVanishedError("The recording is no longer in processing/.") from None
        except OSError as error:
            raise StorageError(f"opening a recording in processing/: {error.strerror}") from None
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            yield file

    # ---- publish -----------------------------------------------------------------------------------------

    def outputs_free(self, filed_as: str, formats: Sequence[str]) -> bool:
        """Whether no name of the set is taken: every output in the outbox and the recording in done/."""
        names = [(self.outbox, output_path(filed_as, suffix)) for suffix in formats]
        return not any(_exists(root, path) for root, path in [*names, (self.done, filed_as)])

    def failure_free(self, filed_as: str) -> bool:
        """Whether failed/ has neither a recording nor an error file of that name."""
        return not any(_exists(self.failed, path) for path in (filed_as, filed_as + ERROR_SUFFIX))

    def publish(self, job_id: str, root: Path, path: str, content: bytes) -> None:
        """Make `root`/`path` appear with `content`, whole or not at all; harmless when it is there already.

        Raises:
            NameTakenError: a file with other content has that name.
            StorageError: the disk refused; nothing is visible.
        """
        temporary = f".{job_id}{PurePosixPath(path).suffix}.tmp"
        with _storage(f"writing in {root.name}/"), _parent(root, path, self.directory_mode) as (folder, name):
            try:
                _write_durably(folder, temporary, content, self.file_mode)
                _rename_new(folder, temporary, folder, name)
            except FileExistsError:
                os.unlink(temporary, dir_fd=folder)
                if not _holds(folder, name, content):
                    raise NameTakenError(name) from None
            except OSError:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            os.fsync(folder)

    def retract(self, root: Path, path: str, content: bytes) -> None:
        """Take `root`/`path` away again if it is ours: a later file of its set found its name taken."""
        with _storage(f"writing in {root.name}/"), _parent(root, path) as (folder, name):
            if _holds(folder, name, content):
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)

    # ---- file away ---------------------------------------------------------------------------------------

    def file_away(self, job_id: str, path: str, root: Path, filed_as: str, seen: Identity) -> str:
        """Move the recording from processing/ to `root`/`filed_as`, clear its folder; return its name there.

        Harmless when a killed attempt has moved it already. If another file took the name since it was
        reserved, the recording gets the next suffix: nothing is ever overwritten.

        Raises:
            RecordingVanishedError: it is neither here nor there.
        """
        with _storage(f"moving a recording to {root.name}/"):
            for candidate in numbered(filed_as):
                try:
                    self._move(self.processing / job_id, path, root, candidate)
                except FileExistsError:
                    continue
                except FileNotFoundError:
                    settled = self._filed_as(root, filed_as, seen)
                    self._remove_job_folder(job_id)
                    if settled is None:
                        raise RecordingVanishedError("The recording is no longer in processing/.") from None
                    return settled
                self._remove_job_folder(job_id)
                return candidate
        raise AssertionError("numbered() never ends")

    def _filed_as(self, root: Path, filed_as: str, seen: Identity) -> str | None:
        """Under which name a killed attempt has moved the recording that was `seen`; None if it has not."""
        with suppress(OSError):
            for candidate in numbered(filed_as):
                there = self._identity(root, candidate)
                if (there.device, there.inode) == (seen.device, seen.inode):
                    return candidate
        return None

    def move_back(self, filed_as: str) -> str:
        """Move failed/`filed_as` into the inbox for another try, drop its error file; return its name there.

        Raises:
            RecordingVanishedError: it is no longer in failed/.
        """
        with _storage("returning to the inbox"):
            for candidate in numbered(filed_as):
                try:
                    self._move(self.failed, filed_as, self.inbox, candidate)
                except FileExistsError:
                    continue
                except FileNotFoundError:
                    raise RecordingVanishedError(
                        "The recording is no longer in failed/.",
                        hint="Was it put back before? See `invox-watcher jobs --all`.",
                    ) from None
                with suppress(FileNotFoundError), _parent(self.failed, filed_as) as (folder, name):
                    os.unlink(name + ERROR_SUFFIX, dir_fd=folder)
                return candidate
        raise AssertionError("numbered() never ends")

    # ---- the parts ---------------------------------------------------------------------------------------

    def _move(self, root: Path, path: str, new_root: Path, new_path: str) -> None:
        if new_root.parent == self.processing:
            new_root.mkdir(mode=self.directory_mode, exist_ok=True)
            _fsync_folder(self.processing)
        with (
            _parent(root, path) as (folder, name),
            _parent(new_root, new_path, self.directory_mode) as (new_folder, new_name),
        ):
            _rename_new(folder, name, new_folder, new_name)
            # The new name first: a power cut between the two leaves both, never neither.
            os.fsync(new_folder)
            os.fsync(folder)

    def _identity(self, root: Path, path: str) -> Identity:
        with _parent(root, path) as (folder, name):
            return Identity.of(os.stat(name, dir_fd=folder, follow_symlinks=False))

    def _remove_job_folder(self, job_id: str) -> None:
        """Remove processing/`job_id` and the empty folders in it; one that still holds a file stays."""
        for current, _folders, _files in os.walk(self.processing / job_id, topdown=False):
            with suppress(OSError):
                os.rmdir(current)


def numbered(path: str) -> Iterator[str]:
    """`ward/smith.wav`, `ward/smith-2.wav`, `ward/smith-3.wav`, …: each with room for every suffix we add."""
    folder, name = os.path.split(path)
    stem, extension = os.path.splitext(name)
    extension = _shortened(extension, _EXTENSION_MAX_BYTES)
    room = _NAME_MAX_BYTES - len(os.fsencode(extension)) - len(ERROR_SUFFIX)
    number = 1
    while True:
        suffix = "" if number == 1 else f"-{number}"
        yield os.path.join(folder, _shortened(stem, room - len(suffix)) + suffix + extension)
        number += 1


def numbered_folders(path: str) -> Iterator[str]:
    """`ward/smith.wav`, `ward-2/smith.wav`, …: for when something that is no folder has the folder's name."""
    first, slash, rest = path.partition("/")
    yield path
    for number in itertools.count(2):
        if not slash:
            return
        yield f"{_shortened(first, _NAME_MAX_BYTES - 12)}-{number}/{rest}"


def output_path(filed_as: str, suffix: str) -> str:
    """The path of one output of the set: the recording's stem with another suffix."""
    return f"{os.path.splitext(filed_as)[0]}.{suffix}"


def _shortened(part: str, max_bytes: int) -> str:
    while len(os.fsencode(part)) > max_bytes:
        part = part[:-1]
    return part


@contextmanager
def _storage(doing: str) -> Iterator[None]:
    """Turn what the file system says into ours. The message names a folder, never a recording."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        kind: type[StorageError] = StorageError
        hint = None
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            kind = DiskFullError
        elif error.errno in (errno.ENOTDIR, errno.ELOOP):
            kind = FolderBlockedError
        elif error.errno in (errno.EACCES, errno.EPERM):
            hint = "The daemon's user must be able to write in all five folders and in those inside them."
        raise kind(f"{doing}: {error.strerror}", hint=hint) from None


@contextmanager
def _parent(root: Path, path: str, create_mode: int | None = None) -> Iterator[tuple[int, str]]:
    """A descriptor of the folder that holds `root`/`path`, reached without following links, and the name.

    With `create_mode`, folders that are missing below `root` are created with that mode and made durable.
    """
    *folders, name = _components(path)
    current = os.open(root, _FOLDER)
    try:
        for folder in folders:
            if create_mode is not None:
                _make_folder(current, folder, create_mode)
            inner = os.open(folder, _FOLDER, dir_fd=current)
            os.close(current)
            current = inner
        yield current, name
    finally:
        os.close(current)


def _components(path: str) -> list[str]:
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise StorageError("A path of the journal would leave its folder; it is not followed.")
    return parts


def _make_folder(parent: int, name: str, mode: int) -> None:
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        return
    made = os.open(name, _FOLDER, dir_fd=parent)
    try:
        # Under a shared folder the kernel hands the group on by this bit, which chmod would take away.
        os.fchmod(made, mode | (os.fstat(made).st_mode & stat.S_ISGID))
    finally:
        os.close(made)
    os.fsync(parent)


def _write_durably(folder: int, name: str, content: bytes, mode: int) -> None:
    # A temporary of a killed attempt is ours by its name: truncated and written again.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, mode, dir_fd=folder), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _rename_new(folder: int, name: str, new_folder: int, new_name: str) -> None:
    """Rename, failing with FileExistsError where the new name is taken (Linux renameat2(2))."""
    arguments = (folder, os.fsencode(name), new_folder, os.fsencode(new_name), _RENAME_NOREPLACE)
    if _libc.renameat2(*arguments) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(code, os.strerror(code))
    # A file system without RENAME_NOREPLACE (some FUSE and network ones). We are the only daemon on this
    # tree, so what is left open is the instant between the look and the rename, for other programs.
    with _one_at_a_time:
        os.stat(
            name, dir_fd=folder, follow_symlinks=False
        )  # like the system call: one that is gone comes first
        try:
            os.stat(new_name, dir_fd=new_folder, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=new_folder)
        else:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _exists(root: Path, path: str) -> bool:
    with _storage(f"looking into {root.name}/"):
        try:
            with _parent(root, path) as (folder, name):
                os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True


def _holds(folder: int, name: str, content: bytes) -> bool:
    with suppress(OSError):
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode) and status.st_size == len(content):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as file:
                return file.read() == content
    return False


def _files_below(root: Path) -> list[str]:
    found = []
    for current, _folders, names in os.walk(root):
        found += [os.path.relpath(os.path.join(current, name), root) for name in names]
    return sorted(found)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, _FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _probe_writable(folder: Path) -> None:
    # Always the same name, so that the probe of a killed start is cleared away by the next one.
    probe = folder / ".invox-watcher.tmp"
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    os.unlink(probe)
