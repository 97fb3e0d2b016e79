"""The mark in each folder that an instance uses: a hidden file by which other instances find out about it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from invox_watcher.files import durable
from invox_watcher.files.state_directory import Instance, instance_in, object_from
from invox_watcher.host import mount_of, other_paths

# What the identity of a fleet, several hosts that share the folders, begins with.
FLEET_PREFIX = "fleet-"
# On the inbox's ignore list because of its dot; without a suffix that a program might wait for in the outbox.
MARK_FILE = ".invox-watcher.mark"

_NOTE = "invox-watcher uses this folder. docs/install.md, 'Several on one machine', says how to free it."
_MOST_BYTES = 65_536
_NO_MARK = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO})
_MOST_ENTRIES = 20_000  # that a search for marks inside a folder reads
# Here the link count of a folder says how many folders are in it: one with none need not be read.
_COUNT_FOLDERS = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs"})
_NO_FOLDERS_IN_IT = 2


@dataclass(frozen=True)
class Mark:
    """Which instance uses a folder, and as what; without an `instance` if the mark can't be read."""

    instance: str
    role: str  # the configuration's key: folders.inbox, …, state.directory
    path: str  # of the folder when it was marked, without links
    inode: int | None  # of the folder; None on a network share, where others may see another number
    state_directory: str
    state_mount: str  # the mount point that the state directory is on
    host: str

    @property
    def is_of_fleet(self) -> bool:
        """Whether several hosts use the folder together, of which the mark names one."""
        return self.instance.startswith(FLEET_PREFIX)


UNREADABLE = Mark("", "", "", None, "", "", "")


def host_name() -> str:
    """The name of this host, as marks have it."""
    return os.uname().nodename


def mark_of(folder: int) -> Mark | None:
    """The mark in the folder with this descriptor; None if there is none, or only nonsense."""
    try:
        with os.fdopen(os.open(MARK_FILE, durable.FILE, dir_fd=folder), "rb") as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return _mark_from(object_from(file.read(_MOST_BYTES)))
    except OSError as error:
        # A folder that may not be entered can't be used either, so its mark, if any, is no concern of ours.
        may_enter = os.access(".", os.X_OK, dir_fd=folder, effective_ids=True)
        return UNREADABLE if may_enter and error.errno not in _NO_MARK else None
    return None


def _mark_from(fields: Mapping[str, Any]) -> Mark | None:
    inode = fields.get("inode")
    texts = {name: str(fields.get(name) or "") for name in vars(UNREADABLE) if name != "inode"}
    return Mark(**texts, inode=inode if isinstance(inode, int) else None) if all(texts.values()) else None


def write_mark(folder: int, mark: Mark, mode: int) -> None:
    """Put `mark` into the folder with this descriptor, in place of another one.

    Raises:
        OSError: it can't be written.
    """
    content = json.dumps({"note": _NOTE} | asdict(mark), indent=2) + "\n"
    readable = os.open(".", durable.FOLDER, dir_fd=folder)
    try:
        durable.replace_in(readable, MARK_FILE, content.encode(), mode, by=_writer_of(mark))
    finally:
        os.close(readable)


def _writer_of(mark: Mark) -> str:
    """What tells the hosts of a fleet apart, which may mark a folder at the same time."""
    if not mark.is_of_fleet:
        return ""
    return hashlib.sha256(f"{mark.host}\n{mark.state_directory}".encode()).hexdigest()[:8]


def remove_mark(folder: Path, instance: str) -> None:
    """Remove the mark of `instance` from `folder`, if it is there.

    Raises:
        OSError: it can't be removed.
    """
    with open_folder(folder) as descriptor:
        mark = mark_of(descriptor)
        if mark is not None and mark.instance == instance:
            os.unlink(MARK_FILE, dir_fd=descriptor)


def version_of(folder: int) -> tuple[int, int]:
    """Inode and time of the mark in the folder with this descriptor; zeros if there is none."""
    with suppress(FileNotFoundError):
        status = os.stat(MARK_FILE, dir_fd=folder, follow_symlinks=False)
        return (status.st_ino, status.st_mtime_ns)
    return (0, 0)


def stands(mark: Mark, folder: int, own: Instance) -> bool:
    """Whether `mark`, found in the folder with this descriptor, is of another instance that uses that folder.

    False only if that is certain: for a copy of a marked folder, and for an instance that was removed or no
    longer uses the folder. Nothing is certain about other hosts, and a fleet has some.
    """
    if not mark.instance:
        return True
    if mark.instance == own.id or _was_copied(mark, folder):
        return False
    if mark.host != host_name() or mark.is_of_fleet:
        return True
    # With the same state directory it is the instance that was here before the directory was deleted.
    return mark.state_directory != own.directory and not _is_given_up(mark)


def _was_copied(mark: Mark, folder: int) -> bool:
    inode = inode_of(folder)
    return None not in (mark.inode, inode) and mark.inode != inode


def inode_of(folder: int) -> int | None:
    """The inode of the folder with this descriptor; None on a network share: it says nothing there."""
    with suppress(OSError):
        if not mount_of(os.readlink(f"/proc/self/fd/{folder}")).remote:
            return os.fstat(folder).st_ino
    return None


def _is_given_up(mark: Mark) -> bool:
    """Whether the state directory of `mark` proves that its instance no longer uses the folder."""
    try:
        instance = instance_in(mark.state_directory)
    except OSError:
        return False
    if instance is not None and instance.id == mark.instance:
        return mark.path not in instance.folders
    # Gone, or replaced; unless what is seen here is not the disk that it was on.
    return mount_of(os.path.realpath(mark.state_directory)).point == mark.state_mount


# ---- finding them ------------------------------------------------------------------------------------------


def around(folder: Path) -> Iterator[tuple[Path, int]]:
    """`folder`, or the first one above it that exists, and all above that, each with a descriptor.

    On every path that leads there, through bind mounts, too. Those that may not be entered are left out.
    """
    real = Path(os.path.realpath(folder))
    left = deque([next(place for place in (real, *real.parents) if os.path.isdir(place))])
    seen: set[tuple[int, int]] = set()
    while left:
        place = left.popleft()
        with suppress(OSError), open_folder(place) as descriptor:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                left.extend(Path(path).parent for path in (str(place), *other_paths(str(place))))
                yield place, descriptor


def inside(folder: Path) -> Iterator[tuple[Path, int, Mark]]:
    """The marked folders inside `folder`, each with a descriptor; nearest first, by a bounded search."""
    counts_folders = mount_of(os.path.realpath(folder)).type in _COUNT_FOLDERS
    left, entries = deque([folder]), 0
    while left and entries < _MOST_ENTRIES:
        place = left.popleft()
        with suppress(OSError), open_folder(place, os.O_NOFOLLOW) as descriptor:
            mark = mark_of(descriptor) if place != folder else None
            if mark is not None:
                yield place, descriptor, mark
            if counts_folders and os.fstat(descriptor).st_nlink == _NO_FOLDERS_IN_IT:
                continue
            with os.scandir(place) as found:
                for entry in islice(found, _MOST_ENTRIES):
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        left.append(Path(entry.path))


@contextmanager
def open_folder(folder: Path, flags: int = 0) -> Iterator[int]:
    """A descriptor of `folder`, to find names in it; that needs no read permission.

    Raises:
        OSError: it can't be opened.
    """
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
