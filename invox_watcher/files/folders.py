"""The five folders: claim, publish, file away. The rules that hold here are those of the package."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from invox_watcher.baton import waiting
from invox_watcher.errors import RecordingVanishedError, StorageError
from invox_watcher.files import crossing, durable
from invox_watcher.files.claims import Claim, Move, move_all
from invox_watcher.files.crossing import PART_SUFFIX, SLOWEST_BYTES_PER_SECOND
from invox_watcher.files.names import ERROR_SUFFIX, numbered, output_path
from invox_watcher.files.unchanged import delete_unchanged
from invox_watcher.heartbeat import beat
from invox_watcher.recording import FileIdentity

_NEW_PAYLOAD = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_PAYLOAD_PREFIX = f"{crossing.PART_PREFIX}prepared"


class NameTakenError(Exception):
    """Another file has the name to publish or file under: the caller reserves the next one."""


@dataclass(frozen=True)
class Folders:
    """The five folders, and the moves between them. Path arguments are relative and POSIX."""

    inbox: Path
    processing: Path
    outbox: Path
    done: Path
    failed: Path
    directory_mode: int = 0o700
    host: str | None = None  # of several that share them

    @property
    def file_mode(self) -> int:
        """The mode of new files: that of folders without the x bits."""
        return self.directory_mode & 0o666

    def by_name(self) -> dict[str, Path]:
        """The five folders by their names in the configuration."""
        return {name: getattr(self, name) for name in ("inbox", "processing", "outbox", "done", "failed")}

    def _of_job(self, job_id: str) -> str:
        return os.path.join(self.processing, job_id)

    # ---- claim -------------------------------------------------------------------------------------------

    def claim(self, job_id: str, path: str, expected: FileIdentity) -> bool:
        """Move inbox/`path` to processing/`job_id`/`path`. False if it is gone, or not the `expected` file.

        Raises:
            StorageError: it could not be moved; the recording is still in the inbox.
        """
        (outcome,) = self.claim_all([Claim(job_id, path, expected)])
        if isinstance(outcome, StorageError):
            raise outcome
        return outcome

    def claim_all(self, claims: Sequence[Claim]) -> list[bool | StorageError]:
        """`claim` them all, which is cheaper together: for each what that would return, or raise."""
        moves = move_all(claims, self.inbox, self.processing, self.directory_mode)
        return [True if move.is_as_expected else self._give_back(move) for move in moves]

    def _give_back(self, move: Move) -> bool | StorageError:
        try:
            self.unclaim(move.claim.job_id)
        except (OSError, StorageError) as error:
            if move.error is None and isinstance(error, StorageError):
                return error
        return move.error if move.error is not None else False

    def unclaim(self, job_id: str) -> list[str]:
        """Return every file in processing/`job_id` to the inbox; return their names there.

        If a name is in use by now, the file gets a numbered one. Empty folders and incomplete copies are
        removed, the originals of copies being still in the inbox, and so is what was prepared for an upload.
        """
        returned = []
        with durable.storage("returning to the inbox"):
            for path in durable.files_below(self.processing / job_id):
                if crossing.is_part(os.path.basename(path)) or _is_payload(path):
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

    def is_unclaimed(self, job_id: str, path: str, expected: FileIdentity) -> bool:
        """Whether the `expected` recording is in the inbox, and not in processing/.

        As another host may have seen it, whose device numbers are different ones.
        """
        if self.has_recording(job_id, path):
            return False
        with durable.storage("reading inbox/"), suppress(FileNotFoundError):
            found = FileIdentity.of(self._status(self.inbox, path))
            return dataclasses.replace(found, device=expected.device) == expected
        return False

    def processing_ids(self) -> list[str]:
        """The folders in processing/: one per job, including jobs unknown to the journal."""
        with durable.storage("reading processing/"):
            return sorted(entry.name for entry in os.scandir(self.processing) if entry.is_dir())

    # ---- read --------------------------------------------------------------------------------------------

    def has_recording(self, job_id: str, path: str) -> bool:
        """Whether the claimed recording is still in processing/."""
        return durable.exists(self._of_job(job_id), path)

    def open_recording(self, job_id: str, path: str) -> AbstractContextManager[BinaryIO]:
        """The claimed recording, opened for reading.

        Raises:
            RecordingVanishedError: it is no longer in processing/.
        """
        return _opened(self._of_job(job_id), path, "processing")

    def open_filed(self, filed_as: str) -> AbstractContextManager[BinaryIO]:
        """A recording in done/, opened for reading.

        Raises:
            RecordingVanishedError: it is no longer there, but perhaps a link or a folder.
        """
        return _opened(self.done, filed_as, "done", vanished=(errno.ELOOP, errno.ENOTDIR))

    # ---- prepare -----------------------------------------------------------------------------------------

    @contextmanager
    def new_payload(self, job_id: str, path: str) -> Iterator[BinaryIO]:
        """A file to write what is uploaded instead of a claimed recording, beside that, named `path`.

        When the block ends it appears under its name, whole and durable; after an error there is none.

        Raises:
            StorageError: it could not be written.
        """
        assert _is_payload(path)  # noqa: S101 - or else it would be taken for a recording
        root, part = self._of_job(job_id), f"{path}{PART_SUFFIX}"
        with durable.storage("writing to processing/"), durable.parent(root, path) as (folder, name):
            try:
                with os.fdopen(os.open(part, _NEW_PAYLOAD, self.file_mode, dir_fd=folder), "wb") as file:
                    yield file
                    beat(os.fstat(file.fileno()).st_size / SLOWEST_BYTES_PER_SECOND)
                    durable.sync(file.fileno())
                os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
                durable.sync(folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(part, dir_fd=folder)
                raise

    def remove_payload(self, job_id: str) -> None:
        """Delete what was prepared for an upload, if anything was."""
        with durable.storage("deleting in processing/"), suppress(FileNotFoundError):
            for entry in list(os.scandir(self._of_job(job_id))):
                if _is_payload(entry.name):
                    os.unlink(entry.path)

    # ---- publish -----------------------------------------------------------------------------------------

    def outputs_free(self, filed_as: str, formats: Sequence[str]) -> bool:
        """Whether all names of the set are free: every output in the outbox and the recording in done/."""
        outputs = [output_path(filed_as, suffix) for suffix in formats]
        return not (durable.any_exists(self.outbox, outputs) or durable.any_exists(self.done, [filed_as]))

    def failure_free(self, filed_as: str) -> bool:
        """Whether failed/ contains neither a recording nor an error file of that name."""
        return not durable.any_exists(self.failed, [filed_as, filed_as + ERROR_SUFFIX])

    def publish(self, job_id: str, root: Path, path: str, content: bytes) -> None:
        """Write `root`/`path` atomically; does nothing if it exists with this `content`.

        Raises:
            NameTakenError: a file with other content has that name.
            StorageError: it could not be written; nothing is visible.
        """
        self.publish_all(job_id, root, {path: content})

    def publish_all(self, job_id: str, root: Path, contents: Mapping[str, bytes]) -> None:
        """`publish` each of them, path → content. All lie in one folder, which is synced once.

        After an error some of them may have been written; so after NameTakenError, those before that name.
        """
        parts = {path: f".{job_id}{os.path.splitext(path)[1]}.tmp" for path in contents}
        left, appeared = list(parts.values()), False
        with (
            durable.storage(f"writing to {root.name}/"),
            durable.parent(root, next(iter(contents)), self.directory_mode) as (folder, _name),
            waiting,
        ):
            try:
                durable.write_all(
                    folder, {parts[path]: one for path, one in contents.items()}, self.file_mode
                )
                for path, content in contents.items():
                    _appear(folder, parts[path], os.path.basename(path), content)
                    left.remove(parts[path])
                    appeared = True
            finally:
                for part in left:
                    with suppress(OSError):
                        os.unlink(part, dir_fd=folder)
                if appeared:
                    durable.sync(folder)

    def retract(self, root: Path, path: str, content: bytes) -> None:
        """Remove `root`/`path` if it has this `content`: the name of another file of its set is in use."""
        with durable.storage(f"writing to {root.name}/"), durable.parent(root, path) as (folder, name):
            if durable.holds(folder, name, content):
                os.unlink(name, dir_fd=folder)
                durable.sync(folder)

    def withdraw(self, outputs: Mapping[str, str]) -> None:
        """Delete these files of the outbox, path → SHA-256: their words are of a part of the recording.

        One that was changed since it was written is kept.
        """
        for path, sha256 in outputs.items():
            delete_unchanged(self.outbox, path, sha256)

    # ---- file away ---------------------------------------------------------------------------------------

    def file_away(
        self,
        job_id: str,
        path: str,
        root: Path,
        filed_as: str,
        expected: FileIdentity,
        *,
        exactly: bool = False,
        copy: bool = True,
    ) -> str:
        """Move the recording from processing/ to `root`/`filed_as`, clear its folder; return its name there.

        Safe to repeat after a killed attempt. If another file took the name after it was reserved, the
        recording gets the next numbered one: nothing is ever overwritten. Without `copy` it is an error that
        they are on two file systems.

        Raises:
            RecordingVanishedError: it is in neither folder.
            NameTakenError: `exactly` that name was required.
        """
        with durable.storage(f"moving a recording to {root.name}/"):
            for candidate in numbered(filed_as):
                try:
                    self._move(self._of_job(job_id), path, root, candidate, copy=copy)
                except FileExistsError:
                    if exactly:
                        raise NameTakenError(candidate) from None
                    continue
                except FileNotFoundError:
                    settled = self._filed_as(root, filed_as, expected)
                    if settled is not None:  # the killed attempt may have ended before this
                        self._make_names_durable(root, settled)
                        with suppress(FileNotFoundError):
                            self._make_names_durable(self._of_job(job_id), path)
                    self._remove_job_folder(job_id)
                    if settled is None:
                        raise RecordingVanishedError("The recording is no longer in processing/.") from None
                    return settled
                self._remove_job_folder(job_id)
                return candidate
        raise AssertionError("numbered() never ends")

    def _filed_as(self, root: Path, filed_as: str, expected: FileIdentity) -> str | None:
        """The name to which a killed attempt has moved the `expected` recording; None if it has not."""
        with suppress(FileNotFoundError):
            for candidate in numbered(filed_as):
                there = self._status(root, candidate)
                same = (there.st_dev, there.st_ino) == (expected.device, expected.inode)
                if same or crossing.is_copy_of(there, expected.size_bytes, expected.mtime_ns):
                    return candidate
        return None

    def take_back(self, job_id: str, path: str, filed_as: str, expected: FileIdentity) -> None:
        """Undo a `file_away` to done/`filed_as` that the journal does not know of, if there was one."""
        if self.has_recording(job_id, path):
            return
        with durable.storage("returning to processing/"):
            settled = self._filed_as(self.done, filed_as, expected)
            if settled is not None:
                with durable.parent(self.processing, job_id) as (folder, name):
                    durable.make_folder(folder, name, self.directory_mode)
                self._move(self.done, settled, self.processing / job_id, path)

    def move_back(self, job_id: str, filed_as: str, error_file_sha256: str | None) -> str:
        """Delete the error file of failed/`filed_as`, move the recording to the inbox; return its new name.

        In this order, since a kill in between must not leave an error file without a recording. A file of
        that name with another SHA-256 is not the daemon's and is kept. If the recording can't be moved, the
        error file is restored.

        Raises:
            RecordingVanishedError: it is no longer in failed/.
            StorageError: it could not be moved; the recording is still in failed/.
        """
        with durable.storage("returning to the inbox"), suppress(FileNotFoundError):
            self._status(self.failed, filed_as)  # first: without a recording nothing is deleted
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
            hint="It may have been retried before: see `invox-watcher jobs --all`.",
        )

    def return_filed(self, filed_as: str, path: str) -> str:
        """Move a recording from done/ to inbox/`path`, or a numbered name; return its name there.

        Raises:
            RecordingVanishedError: it is no longer in done/.
        """
        with durable.storage("returning to the inbox"), suppress(FileNotFoundError):
            for candidate in numbered(path):
                with suppress(FileExistsError):
                    self._move(self.done, filed_as, self.inbox, candidate)
                    return candidate
        raise RecordingVanishedError("The recording is no longer in done/.")

    def _drop_error_file(self, path: str, sha256: str | None) -> bytes | None:
        with suppress(FileNotFoundError), durable.parent(self.failed, path) as (folder, name):
            if sha256 is not None and durable.sha256(folder, name) == sha256:
                content = durable.read(folder, name)
                os.unlink(name, dir_fd=folder)
                return content
        return None

    def discard(self, job_id: str, path: str) -> None:
        """Delete a claimed recording, which lies in done/ already, and its folder. Safe to repeat."""
        with durable.storage("deleting in processing/"):
            with (
                suppress(FileNotFoundError),
                durable.parent(self._of_job(job_id), path) as (folder, name),
            ):
                os.unlink(name, dir_fd=folder)
                durable.sync(folder)
            self._remove_job_folder(job_id)

    # ---- the parts ---------------------------------------------------------------------------------------

    def _move(self, root: Path | str, path: str, new_root: Path, new_path: str, *, copy: bool = True) -> None:
        """Move a file; to another file system by copying it."""
        with (
            durable.parent(root, path) as (folder, name),
            durable.parent(new_root, new_path, self.directory_mode) as (new_folder, new_name),
        ):
            try:
                durable.rename_new(folder, name, new_folder, new_name)
            except OSError as error:
                if error.errno != errno.EXDEV or not copy:
                    raise
                crossing.cross(folder, name, new_folder, new_name)
                return
            # The new name first: a power cut between the two leaves both, never neither.
            with waiting:
                durable.sync(new_folder)
                durable.sync(folder)

    def _make_names_durable(self, root: Path | str, path: str) -> None:
        with durable.parent(root, path) as (folder, _name):
            durable.sync(folder)

    def _status(self, root: Path, path: str) -> os.stat_result:
        with durable.parent(root, path) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def _remove_job_folder(self, job_id: str) -> None:
        """Remove processing/`job_id` with what was prepared, and its folders; one with a file is kept."""
        top = self._of_job(job_id)
        with suppress(OSError):
            os.rmdir(top)
            return
        with suppress(OSError):
            for _path, folders, names, descriptor in os.fwalk(top, topdown=False):
                for name in filter(_is_payload, names):
                    with suppress(OSError):
                        os.unlink(name, dir_fd=descriptor)
                for folder in folders:
                    with suppress(OSError):
                        os.rmdir(folder, dir_fd=descriptor)
            os.rmdir(top)


def _opened(root: Path | str, path: str, where: str, *, vanished: Collection[int] = ()) -> FileIO:
    try:
        with durable.parent(root, path) as (folder, name):
            descriptor = os.open(name, durable.FILE, dir_fd=folder)
    except FileNotFoundError:
        raise RecordingVanishedError(f"The recording is no longer in {where}/.") from None
    except OSError as error:
        if error.errno in vanished:
            raise RecordingVanishedError(f"The recording is no longer in {where}/.") from None
        raise StorageError(f"opening a recording in {where}/: {error.strerror}") from None
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):  # a folder has its name by now
        os.close(descriptor)
        raise RecordingVanishedError(f"The recording is no longer in {where}/.")
    return FileIO(descriptor)


def _appear(folder: int, part: str, name: str, content: bytes) -> None:
    """Give a file of that `content` its final name, or remove it if there is one like it.

    Raises:
        NameTakenError: another file has that name.
    """
    try:
        durable.rename_new(folder, part, folder, name)
    except FileExistsError:
        if not durable.holds(folder, name, content):
            raise NameTakenError(name) from None
        os.unlink(part, dir_fd=folder)


def _is_payload(path: str) -> bool:
    """Whether that is, in a job's folder, what was prepared for an upload, or part of it."""
    return path.startswith(_PAYLOAD_PREFIX)
