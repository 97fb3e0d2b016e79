"""Which folders this instance uses, and that no other instance uses one of them, or one inside or around it.

The hosts of one fleet are one instance as far as the five folders are concerned: their marks name the fleet,
and they share the locks. The state directory is always one host's own.

Marks stay when an instance ends, and are seen from other hosts. Locks hold while it runs, whatever the marks
say, and decide between two that start at once. While it runs, it checks that its marks are still there: a
mirror that deletes what its source lacks also deletes them.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from invox_watcher.errors import FolderError, FoldersGoneError, InvoxError, NotPermittedError
from invox_watcher.files import durable, marks
from invox_watcher.files.marks import MARK_FILE, Mark, open_folder
from invox_watcher.files.state_directory import LOCK_FILE, Instance, instance_in, write_instance
from invox_watcher.host import LockedFolderError, Locks, Probe, holder_of, mount_of

STATE_KEY = "state.directory"
_SEPARATE = "Use other folders: instances must neither share folders nor nest them."
_RELEASE_SECONDS = 2.0
# How long the other one of two that start at once may take to mark its folders, so that it can be named.
_NAME_TRIES, _NAME_TRY_SECONDS = 10, 0.1

_Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True)
class _Standing:
    """A mark of ours as it was last seen: in which folder, and its inode and time."""

    folder: _Identity
    mark: tuple[int, int]


class Occupancy:
    """The folders of one instance, by their keys in the configuration, and the marks in them."""

    def __init__(
        self,
        directory: Path,
        folders: Mapping[str, Path],
        *,
        mode: int = 0o600,
        locks: Locks | None = None,
        fleet: str | None = None,
    ) -> None:
        """`directory` is the state directory; marks get the permissions `mode`.

        `locks` are those of this process: it may have used the folders with another state directory before.
        `fleet` identifies the hosts that share the folders; None for an instance that has them to itself.
        """
        self._directory = directory
        self._folders = {STATE_KEY: directory, **folders}
        self._mode = mode
        self._locks = locks or Locks()
        self._fleet = fleet
        self._standing: dict[str, _Standing] = {}

    # ---- before the start --------------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse folders that another instance uses, that lie inside one of its folders, or contain one.

        Raises:
            FolderError: one does; the message says which, and of which instance.
        """
        self.check_around()
        own = self._own()
        for key, folder in self._folders.items():
            for place, descriptor, mark in marks.inside(folder):
                if self._stands(mark, descriptor, own):
                    raise _refusal(f"{key}: {folder} contains {place}, which", place, mark)

    def check_around(self) -> None:
        """As `check`, except for what is inside the folders, which need not exist yet.

        Raises:
            FolderError: as `check`.
        """
        own, used = self._own(), self._identities()
        for key, folder in self._folders.items():
            if folder.is_symlink():  # refused by `Folders.prepare`
                continue
            for place, descriptor in marks.around(folder):
                identity = _identity_of(descriptor)
                self._refuse_own_overlap(key, identity, used)
                mark = marks.mark_of(descriptor)
                if mark is not None and self._stands(mark, descriptor, own):
                    itself = identity == used.get(key)
                    problem = f"{key}: {folder}" if itself else f"{key}: {folder} lies inside {place}, which"
                    raise _refusal(problem, place, mark)

    def _refuse_own_overlap(self, key: str, identity: _Identity, used: Mapping[str, _Identity]) -> None:
        """Two folders of ours that overlap over a bind mount. A state directory may contain the others."""
        if key == STATE_KEY:
            if identity == used.get("folders.inbox"):
                raise FolderError(
                    f"{key}: {self._folders[key]} lies inside the inbox",
                    hint="Put it elsewhere, by default /var/lib/invox-watcher.",
                )
            return
        for other in used.keys() - {key, STATE_KEY}:
            if used[other] == identity:
                raise FolderError(
                    f"{key}: {self._folders[key]} is the same as, or inside, {other}",
                    hint="Use separate folders next to each other, for example all in folders.root.",
                )

    def _stands(self, mark: Mark, folder: int, own: Instance) -> bool:
        if mark.instance == self._fleet or self._is_of_this_process(mark):
            return False
        return marks.stands(mark, folder, own)

    def _is_of_this_process(self, mark: Mark) -> bool:
        """Whether it is this very process's, with another state directory.

        Not because this host wrote it last: the mark of a fleet is that of all its hosts.
        """
        here = mark.host == marks.host_name()
        if mark.is_of_fleet or not here or not self._locks.holds(Path(mark.state_directory, LOCK_FILE)):
            return False
        with suppress(OSError):
            recorded = instance_in(mark.state_directory)
            return recorded is not None and recorded.id == mark.instance
        return False

    def _identities(self) -> dict[str, _Identity]:
        found = {}
        for key, folder in self._folders.items():
            with suppress(OSError), open_folder(folder) as descriptor:
                found[key] = _identity_of(descriptor)
        return found

    def _own(self) -> Instance:
        """This instance as far as it has been recorded."""
        directory = os.path.realpath(self._directory)
        with suppress(OSError):
            recorded = instance_in(directory)
            if recorded is not None and not _was_copied(recorded, directory):
                return dataclasses.replace(recorded, directory=directory)
        return Instance("", directory, frozenset())

    # ---- the start ---------------------------------------------------------------------------------------

    def claim(self) -> None:
        """Lock and mark the folders, which exist, for this instance.

        Raises:
            FolderError: another instance uses one of them, or one inside or around it.
            StorageError: one can't be marked.
        """
        with self._locked():
            self.check()
            self._mark()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """No two instances whose folders overlap get past this at the same time; on shares, marks must do."""
        with ExitStack() as sharing:
            for key, folder in self._folders.items():
                # An open folder would keep a share from being unmounted.
                if not mount_of(os.path.realpath(folder)).remote:
                    with self._naming(key, folder):
                        self._locks.hold(folder, shared=self._is_shared(key))
            for key, folder in self._folders.items():
                with self._naming(key, folder):
                    above = [place for place, _descriptor in marks.around(folder)][1:]
                    sharing.enter_context(self._locks.share(above))
            yield

    @contextmanager
    def _naming(self, key: str, folder: Path) -> Iterator[None]:
        try:
            yield
        except LockedFolderError as error:
            raise self._locked_out(key, folder, error.folder) from None
        except OSError as error:
            raise FolderError(f"{key}: can't use {folder}: {error.strerror}") from None

    def _locked_out(self, key: str, folder: Path, place: Path) -> FolderError:
        """The error to raise if a process has locked `place`, which is `folder` or above it."""
        for _ in range(_NAME_TRIES):
            self.check()  # names the other instance
            time.sleep(_NAME_TRY_SECONDS)
        where = "" if place == folder else f" lies inside {place}, which"
        return FolderError(
            f"{key}: {folder}{where} is locked by another process, or a folder inside it is",
            code="folder_in_use",
            hint=f"{_SEPARATE} Another one is running, or starting at this moment.",
        )

    def _mark(self) -> None:
        before, paths = self._own(), self._paths()
        # The folders of last time stay recorded until `release_others` has removed their marks.
        identity = before.id or secrets.token_hex(16)
        own = Instance(identity, before.directory, before.folders | paths, self._fleet or "")
        with durable.storage("writing to the state directory"):
            write_instance(self._directory, own)
        for key, folder in self._folders.items():
            with durable.storage(f"marking {folder.name}/"), open_folder(folder) as descriptor:
                mark = self._mark_for(key, own, descriptor)
                if marks.mark_of(descriptor) != mark:
                    marks.write_mark(descriptor, mark, self._mode)

    def _mark_for(self, key: str, own: Instance, descriptor: int) -> Mark:
        return Mark(
            instance=self._fleet if self._fleet is not None and self._is_shared(key) else own.id,
            role=key,
            path=os.path.realpath(self._folders[key]),
            inode=marks.inode_of(descriptor),
            state_directory=own.directory,
            state_mount=mount_of(own.directory).point,
            host=marks.host_name(),
        )

    def _is_shared(self, key: str) -> bool:
        """Whether the other hosts of the fleet use the folder with that key, too."""
        return self._fleet is not None and key != STATE_KEY

    def _paths(self) -> frozenset[str]:
        return frozenset(map(os.path.realpath, self._folders.values()))

    def release_others(self) -> None:
        """Remove the marks of this instance from folders that it used before, and no longer does.

        A reload that was refused may have marked folders for another state directory: that is undone.

        Raises:
            StorageError: a mark, or the state directory, can't be written.
        """
        self._mark()
        own, paths = self._own(), self._paths()
        for path in own.folders - paths:
            # It may be on a share that hangs. A mark that stays is harmless once it is no longer recorded.
            probe = Probe("release", partial(marks.remove_mark, Path(path), own.id))
            probe.begin()
            probe.wait(time.monotonic() + _RELEASE_SECONDS)
        with durable.storage("writing to the state directory"):
            write_instance(self._directory, dataclasses.replace(own, folders=paths))

    # ---- while it runs -----------------------------------------------------------------------------------

    def contested(self) -> InvoxError | None:
        """Check the marks now, and restore missing ones: what is wrong if one is another instance's."""
        for key, folder in self._folders.items():
            with suppress(OSError), open_folder(folder) as descriptor:
                if (problem := self._contested(key, descriptor)) is not None:
                    return problem
        return None

    def _contested(self, key: str, descriptor: int) -> InvoxError | None:
        before, identity = self._standing.get(key), _identity_of(descriptor)
        # Its version before it is read: what another instance writes meanwhile has another one.
        standing = _Standing(identity, marks.version_of(descriptor))
        if before == standing:
            return None
        own, mark = self._own(), marks.mark_of(descriptor)
        if mark is None or mark.instance != self._mark_for(key, own, descriptor).instance:
            if before is not None and before.folder != identity:
                return None  # perhaps the empty mount point of a share
            if mark is not None and self._stands(mark, descriptor, own):
                refused = _refusal(f"{key}: {self._folders[key]}", self._folders[key], mark)
                return FoldersGoneError(refused.message, code="folder_in_use", hint=refused.hint)
            marks.write_mark(descriptor, self._mark_for(key, own, descriptor), self._mode)
            return None  # the next check reads what stands there then
        self._standing[key] = standing
        return None

    def user_of(self, folder: int) -> str | None:
        """Which other instance uses the folder with this descriptor, as a sentence; None if none does."""
        mark = marks.mark_of(folder)
        if mark is None or not self._stands(mark, folder, self._own()):
            return None
        return f"{_who(mark)[0]} uses this folder{_as(mark)}."


def check_state_directory(directory: Path, locks: Locks | None = None) -> None:
    """Refuse a state directory, which need not exist, that another instance uses or has folders around.

    Raises:
        FolderError: it does.
    """
    Occupancy(directory, {}, locks=locks).check_around()


def _identity_of(descriptor: int) -> _Identity:
    status = os.fstat(descriptor)
    return (status.st_dev, status.st_ino)


def _was_copied(recorded: Instance, directory: str) -> bool:
    """Whether the state directory is a copy of one that still exists: the identity is that one's."""
    if recorded.directory == directory:
        return False
    try:
        if os.path.samefile(recorded.directory, directory):
            return False
        original = instance_in(recorded.directory)
    except (FileNotFoundError, NotADirectoryError):
        return False  # it was moved
    except OSError:
        return True
    return original is not None and original.id == recorded.id


# ---- naming the other instance -----------------------------------------------------------------------------


def _refusal(problem: str, place: Path, mark: Mark) -> FolderError:
    """The error for a `problem` that ends where the other instance is to be named; it has marked `place`."""
    who, running = _who(mark)
    itself = not problem.endswith("which")
    verb = f" is used{_as(mark)} by {who}" if itself else f" {who} uses{_as(mark)}"
    hint = _SEPARATE
    if mark.is_of_fleet:
        hint = (
            "To join it, use the same state.url and app_id as its hosts: see docs/fleet.md. Only if the last "
            f"of them has left for good, delete {place / MARK_FILE} and its other marks."
        )
    elif not running:
        hint += f" If that instance was removed for good, delete {place / MARK_FILE} and its other marks."
    return FolderError(problem + verb, code="folder_in_use", hint=hint)


def _as(mark: Mark) -> str:
    return f" as {mark.role}" if mark.role else ""


def _who(mark: Mark) -> tuple[str, bool]:
    """The instance of `mark`, for a person, and whether it is known to run."""
    if not mark.instance:
        return "an invox-watcher instance whose mark can't be read", False
    if mark.is_of_fleet:
        return f"a fleet of invox-watcher hosts, one of them on the machine {mark.host}", False
    who = f"the invox-watcher instance with state directory {mark.state_directory}"
    if mark.host != marks.host_name():
        return f"{who} on host {mark.host}", False
    holder = None
    with suppress(NotPermittedError):
        holder = holder_of(Path(mark.state_directory, LOCK_FILE))
    process = f" (pid {holder.pid})" if holder is not None and holder.pid is not None else ""
    return who + process, holder is not None
