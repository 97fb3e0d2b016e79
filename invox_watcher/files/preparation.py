"""The five folders before they are used: created if they are missing, and checked."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

from invox_watcher.errors import FolderError
from invox_watcher.files import durable
from invox_watcher.files.folders import Folders

APART_HINT = (
    "Recordings are copied there, verified and then removed, which is slower and needs space for both. To "
    "avoid it, put the folders on one file system and one mount (bind mounts count as separate)."
)
_NEW_PROBE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def prepare_folders(folders: Folders) -> None:
    """Create missing folders and check existing ones.

    Raises:
        FolderError: a folder is not writable, is a symbolic link, or is inside another one.
    """
    for name, folder in folders.by_name().items():
        if folder.is_symlink():  # links are never followed: their target might be changed
            raise FolderError(
                f"folders.{name}: {folder} is a symbolic link",
                hint=f"Set the folder itself in the configuration: {name}: {folder.resolve()}",
            )
        try:
            durable.make_root(folder, folders.directory_mode)
            _probe_writable(folder / _probe_of(folders))
        except OSError as error:
            if (obstacle := _obstacle_of(folder)) is not None:
                raise FolderError(
                    f"folders.{name}: {obstacle} is not a folder",
                    hint="Move that file elsewhere, or configure another folder.",
                ) from None
            raise FolderError(
                f"folders.{name}: can't write to {folder}: {error.strerror}",
                hint=f"Create it, owned by the daemon's user: install -d -m 700 -o USER {folder}",
            ) from None
    for (name, folder), (other_name, other) in itertools.permutations(folders.by_name().items(), 2):
        if folder.resolve().is_relative_to(other.resolve()):
            raise FolderError(
                f"folders.{name}: {folder} is the same as, or inside, folders.{other_name}",
                hint="Use separate folders next to each other, for example all in folders.root.",
            )


def folders_apart(folders: Folders) -> list[str]:
    """The folders that can't be reached from processing/ by a rename, so that recordings are copied.

    Found by trying, since bind mounts of one file system count as two.
    """
    found = []
    for name, folder in folders.by_name().items():
        if name in ("processing", "outbox"):  # outputs are written directly to the outbox
            continue
        with durable.storage(f"testing {folder.name}/"):
            probe = folders.processing / _probe_of(folders)
            os.close(os.open(probe, _NEW_PROBE, 0o600))
            try:
                os.rename(probe, folder / _probe_of(folders))
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                found.append(name)
            finally:
                for left in (probe, folder / _probe_of(folders)):
                    left.unlink(missing_ok=True)
    return found


def _probe_of(folders: Folders) -> str:
    """Always the same name, so that the next start removes the probe of a killed one."""
    return ".invox-watcher.tmp" if folders.host is None else f".invox-watcher.{folders.host}.tmp"


def _obstacle_of(folder: Path) -> Path | None:
    """What has the name of `folder`, or of one above it, but is not a folder."""
    found = (place for place in (folder, *folder.parents) if os.path.lexists(place))
    nearest = next(found)
    return None if os.path.isdir(nearest) else nearest


def _probe_writable(probe: Path) -> None:
    os.close(os.open(probe, _NEW_PROBE, 0o600))
    probe.unlink(missing_ok=True)
