"""The only module that renames, fsyncs or deletes: claim, publish, file away; and the names that come of it.

Three rules hold everywhere. A file changes its place by one rename that never overwrites; only where a folder
is on another file system it is copied, verified and then removed. What must survive a power cut is fsynced,
the file first and then the folders that name it. Every path is walked from the tree's root, component by
component and without following links, so that a folder swapped for a link while we work leads nowhere.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from invox_watcher.errors import FolderError, RecordingChangingError, RecordingVanishedError, StorageError
from invox_watcher.files import crossing, durable
from invox_watcher.files.durable import make_root
from invox_watcher.files.names import ERROR_SUFFIX, numbered, output_path
from invox_watcher.recording import FileIdentity

APART_HINT = (
    "Recordings are copied there, verified and then removed, which takes longer and room for both. Put the "
    "folders on one file system, under one mount (bind mounts of the same one count as two)."
)
# Always the same name, so that the probe of a killed start is cleared away by the next one.
_PROBE = ".invox-watcher.tmp"
_NEW_PROBE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Deletion(StrEnum):
    """What became of a file that was to be deleted."""

    DELETED = "deleted"
    GONE = "gone"
    CHANGED = "changed"  # somebody has written to it, or put another in its place: it stays


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
            FolderError: a folder can't be written, is a link, or lies inside another one.
        """
        for name, folder in self._named():
            if folder.is_symlink():  # none is ever followed: somebody might change where it leads
                raise FolderError(
                    f"folders.{name}: {folder} is a symbolic link",
                    hint=f"Name the folder itself in the configuration: {name}: {folder.resolve()}",
                )
            try:
                make_root(folder, self.directory_mode)
                _probe_writable(folder)
            except OSError as error:
                if (obstacle := _in_the_way_of(folder)) is not None:
                    raise FolderError(
                        f"folders.{name}: {obstacle} is not a folder",
                        hint="Move it away, or name another folder in the configuration.",
                    ) from None
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

    def apart(self) -> list[str]:
        """The folders that no rename leads to from processing/, so that recordings have to be copied.

        Tried out, since bind mounts of one file system count as two.
        """
        found = []
        for name, folder in self._named():
            if name in ("processing", "outbox"):  # outputs are written in their place
                continue
            with durable.storage(f"trying out {folder.name}/"):
                probe = self.processing / _PROBE
                os.close(os.open(probe, _NEW_PROBE, 0o600))
                try:
                    os.rename(probe, folder / _PROBE)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                    found.append(name)
                finally:
                    for left in (probe, folder / _PROBE):
                        left.unlink(missing_ok=True)
        return found

    def _named(self) -> Sequence[tuple[str, Path]]:
        return (
            ("inbox", self.inbox),
            ("processing", self.processing),
            ("outbox", self.outbox),
            ("done", self.done),
            ("failed", self.failed),
        )

    # ---- claim -------------------------------------------------------------------------------------------

    def claim(self, job_id: str, path: str, seen: FileIdentity) -> bool:
        """Move inbox/`path` to processing/`job_id`/`path`. False where it is gone or no longer what was seen.

        Raises:
            StorageError: the disk refused; the recording is still in the inbox.
        """
        with durable.storage("moving a recording from inbox/ to processing/"):
            try:
                if self._move(self.inbox, path, self.processing / job_id, path, seen) == seen:
                    return True
            except (FileNotFoundError, RecordingChangingError):
                pass
            except (OSError, StorageError):
                with suppress(OSError, StorageError):
                    self.unclaim(job_id)
                raise
            self.unclaim(job_id)
        return False

    def unclaim(self, job_id: str) -> list[str]:
        """Move every file under processing/`job_id` back into the inbox; return their names there.

        A name that is taken by now gets a suffix. Empty folders and unfinished copies are removed: what they
        were copied from is still in the inbox.
        """
        returned = []
        with durable.storage("returning to the inbox"):
            for path in durable.files_below(self.processing / job_id):
                if crossing.is_part(os.path.basename(path)):
                    with durable.parent(self.processing / job_id, path) as (folder, name):
                        os.unlink(name, dir_fd=folder)
                    continue
                for candidate in numbered(path):
                    with suppress(FileExistsError):
                        self._move(self.processing / job_id, path, self.inbox, candidate)
                        returned.append(candidate)
                        break
            self._remove_job_folder(job_id)
        return returned

    def processing_ids(self) -> list[str]:
        """The folders in processing/: one per job, whether or not the journal knows it."""
        with durable.storage("reading processing/"):
            return sorted(entry.name for entry in os.scandir(self.processing) if entry.is_dir())

    # ---- read --------------------------------------------------------------------------------------------

    def has_recording(self, job_id: str, path: str) -> bool:
        """Whether the claimed recording is still in processing/."""
        return durable.exists(self.processing / job_id, path)

    @contextmanager
    def open_recording(self, job_id: str, path: str) -> Iterator[BinaryIO]:
        """The claimed recording, opened for reading.

        Raises:
            RecordingVanishedError: it is no longer in processing/.
        """
        try:
            with durable.parent(self.processing / job_id, path) as (folder, name):
                descriptor = os.open(name, durable.FILE, dir_fd=folder)
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
        return not any(durable.exists(root, path) for root, path in [*names, (self.done, filed_as)])

    def failure_free(self, filed_as: str) -> bool:
        """Whether failed/ has neither a recording nor an error file of that name."""
        return not any(durable.exists(self.failed, path) for path in (filed_as, filed_as + ERROR_SUFFIX))

    def publish(self, job_id: str, root: Path, path: str, content: bytes) -> None:
        """Make `root`/`path` appear with `content`, whole or not at all; harmless when it is there already.

        Raises:
            NameTakenError: a file with other content has that name.
            StorageError: the disk refused; nothing is visible.
        """
        temporary = f".{job_id}{PurePosixPath(path).suffix}.tmp"
        with (
            durable.storage(f"writing in {root.name}/"),
            durable.parent(root, path, self.directory_mode) as (folder, name),
        ):
            try:
                durable.write_durably(folder, temporary, content, self.file_mode)
                durable.rename_new(folder, temporary, folder, name)
            except FileExistsError:
                os.unlink(temporary, dir_fd=folder)
                if not durable.holds(folder, name, content):
                    raise NameTakenError(name) from None
            except OSError:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            os.fsync(folder)

    def retract(self, root: Path, path: str, content: bytes) -> None:
        """Take `root`/`path` away again if it is ours: a later file of its set found its name taken."""
        with durable.storage(f"writing in {root.name}/"), durable.parent(root, path) as (folder, name):
            if durable.holds(folder, name, content):
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)

    # ---- file away ---------------------------------------------------------------------------------------

    def file_away(
        self, job_id: str, path: str, root: Path, filed_as: str, seen: FileIdentity, *, exactly: bool = False
    ) -> str:
        """Move the recording from processing/ to `root`/`filed_as`, clear its folder; return its name there.

        Harmless when a killed attempt has moved it already. If another file took the name since it was
        reserved, the recording gets the next suffix: nothing is ever overwritten.

        Raises:
            RecordingVanishedError: it is neither here nor there.
            NameTakenError: it was to get `exactly` that name.
        """
        with durable.storage(f"moving a recording to {root.name}/"):
            for candidate in numbered(filed_as):
                try:
                    self._move(self.processing / job_id, path, root, candidate)
                except FileExistsError:
                    if exactly:
                        raise NameTakenError(candidate) from None
                    continue
                except FileNotFoundError:
                    settled = self._filed_as(root, filed_as, seen)
                    if settled is not None:  # the killed attempt may not have come to it
                        self._make_names_durable(root, settled)
                        with suppress(FileNotFoundError):
                            self._make_names_durable(self.processing / job_id, path)
                    self._remove_job_folder(job_id)
                    if settled is None:
                        raise RecordingVanishedError("The recording is no longer in processing/.") from None
                    return settled
                self._remove_job_folder(job_id)
                return candidate
        raise AssertionError("numbered() never ends")

    def _filed_as(self, root: Path, filed_as: str, seen: FileIdentity) -> str | None:
        """Under which name a killed attempt has moved the recording that was `seen`; None if it has not."""
        with suppress(FileNotFoundError):
            for candidate in numbered(filed_as):
                there = self._status(root, candidate)
                same = (there.st_dev, there.st_ino) == (seen.device, seen.inode)
                if same or crossing.is_copy_of(there, seen.size_bytes, seen.mtime_ns):
                    return candidate
        return None

    def move_back(self, job_id: str, filed_as: str, error_file_sha256: str | None) -> str:
        """Drop the error file of failed/`filed_as`, move it into the inbox; return its name there.

        In this order, since a kill in between must not leave an error file without a recording. What has its
        name but not that SHA-256 is somebody else's, and where the recording can't be moved, it is put back.

        Raises:
            RecordingVanishedError: it is no longer in failed/.
            StorageError: the disk refused; the recording is still in failed/.
        """
        with durable.storage("returning to the inbox"), suppress(FileNotFoundError):
            self._status(self.failed, filed_as)  # first: of one that is gone, nothing is dropped
            reason = self._drop_error_file(filed_as + ERROR_SUFFIX, error_file_sha256)
            try:
                for candidate in numbered(filed_as):
                    with suppress(FileExistsError):
                        self._move(self.failed, filed_as, self.inbox, candidate)
                        return candidate
            except (OSError, StorageError):
                if reason is not None:
                    with suppress(NameTakenError, StorageError):
                        self.publish(job_id, self.failed, filed_as + ERROR_SUFFIX, reason)
                raise
        raise RecordingVanishedError(
            "The recording is no longer in failed/.",
            hint="Was it put back before? See `invox-watcher jobs --all`.",
        )

    def _drop_error_file(self, path: str, sha256: str | None) -> bytes | None:
        with suppress(FileNotFoundError), durable.parent(self.failed, path) as (folder, name):
            if sha256 is not None and durable.sha256(folder, name) == sha256:
                content = durable.read(folder, name)
                os.unlink(name, dir_fd=folder)
                return content
        return None

    # ---- delete ------------------------------------------------------------------------------------------

    def delete(
        self, root: Path, path: str, unchanged: FileIdentity | str, before: Callable[[], None]
    ) -> Deletion:
        """Delete `root`/`path` if it is what was filed there; call `before` once that is certain.

        `unchanged` is a recording's identity, of which size and time must be the same, or a file's SHA-256.
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
                    before()  # which may take its time
                    if FileIdentity.of(
                        os.stat(name, dir_fd=folder, follow_symlinks=False)
                    ) != FileIdentity.of(status):
                        return Deletion.CHANGED
                    os.unlink(name, dir_fd=folder)
                    os.fsync(folder)
            except FileNotFoundError:
                return Deletion.GONE
        return Deletion.DELETED

    # ---- the parts ---------------------------------------------------------------------------------------

    def _move(
        self, root: Path, path: str, new_root: Path, new_path: str, seen: FileIdentity | None = None
    ) -> FileIdentity | None:
        """Move a file; where to another file system, only if it is the one that was `seen`.

        With `seen`, returns what it was that moved, or would have; else it may be gone from there already.
        """
        if new_root.parent == self.processing:
            new_root.mkdir(mode=self.directory_mode, exist_ok=True)
            durable.fsync_folder(self.processing)
        with (
            durable.parent(root, path) as (folder, name),
            durable.parent(new_root, new_path, self.directory_mode) as (new_folder, new_name),
        ):
            try:
                durable.rename_new(folder, name, new_folder, new_name)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                before = FileIdentity.of(os.stat(name, dir_fd=folder, follow_symlinks=False))
                if seen is None or before == seen:
                    crossing.cross(folder, name, new_folder, new_name)
                return before
            # The new name first: a power cut between the two leaves both, never neither.
            os.fsync(new_folder)
            os.fsync(folder)
            if seen is None:
                return None
            return FileIdentity.of(os.stat(new_name, dir_fd=new_folder, follow_symlinks=False))

    def _make_names_durable(self, root: Path, path: str) -> None:
        with durable.parent(root, path) as (folder, _name):
            os.fsync(folder)

    def _status(self, root: Path, path: str) -> os.stat_result:
        with durable.parent(root, path) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def _remove_job_folder(self, job_id: str) -> None:
        """Remove processing/`job_id` and the empty folders in it; one that still holds a file stays."""
        top = self.processing / job_id
        with suppress(OSError):
            for _path, folders, _names, descriptor in os.fwalk(top, topdown=False):
                for folder in folders:
                    with suppress(OSError):
                        os.rmdir(folder, dir_fd=descriptor)
            os.rmdir(top)


def _in_the_way_of(folder: Path) -> Path | None:
    """What has the name of `folder`, or of one above it, and is no folder."""
    found = (place for place in (folder, *folder.parents) if os.path.lexists(place))
    nearest = next(found)
    return None if os.path.isdir(nearest) else nearest


def _probe_writable(folder: Path) -> None:
    os.close(os.open(folder / _PROBE, _NEW_PROBE, 0o600))
    (folder / _PROBE).unlink(missing_ok=True)
