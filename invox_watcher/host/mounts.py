"""Which mount a folder is on, whether that is a network share, and whether it is still the same.

The source is `/proc/self/mountinfo`, see proc_pid_mountinfo(5).
"""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

MOUNTINFO = "/proc/self/mountinfo"

# File systems that other machines write to without this kernel's knowledge: no inotify, no leases.
_REMOTE = frozenset(
    {"9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "fuse", "fuseblk", "gfs2"}
    | {"glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs"}
    | {"pvfs2", "smb3", "smbfs", "sshfs", "vboxsf", "virtiofs", "vmhgfs"}
)
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of the mount table: where the file system is mounted, and its type (`ext4`, `cifs`, …)."""

    point: str
    type: str

    @property
    def remote(self) -> bool:
        """True for network and FUSE file systems, which have to be polled."""
        return self.type in _REMOTE or self.type.startswith("fuse.")


@dataclass(frozen=True)
class Place:
    """A folder as it was found: its file system, inode and mount."""

    device: int
    inode: int
    mount: Mount


def mount_of(path: str, mountinfo: str = MOUNTINFO) -> Mount:
    """The mount that `path` (absolute, without links) is on; type `unknown` if there is no /proc."""
    entry = _entry_of(path, _table(mountinfo))
    return Mount(entry.point, entry.type) if entry is not None else Mount("/", "unknown")


def other_paths(folder: str, mountinfo: str = MOUNTINFO) -> list[str]:
    """The other paths that lead to `folder` (absolute, without links): through bind mounts.

    Only those that can be seen and entered from here.
    """
    table = _table(mountinfo)
    entry = _entry_of(folder, table)
    if entry is None:
        return []
    inside = _join(entry.root, os.path.relpath(folder, entry.point))
    paths = {
        _join(other.point, os.path.relpath(inside, other.root))
        for other in table
        if other.device == entry.device and is_beneath(inside, other.root)
    }
    return sorted(path for path in paths - {folder} if _is_same_folder(path, folder))


@dataclass(frozen=True)
class _Entry:
    """One line of the mount table: `root` is the folder of the file system that is shown at `point`."""

    device: str
    root: str
    point: str
    type: str


def _table(mountinfo: str) -> Sequence[_Entry]:
    try:
        with open(mountinfo, "rb") as table:
            return _parsed(table.read())
    except OSError:
        return ()


@functools.lru_cache(maxsize=1)
def _parsed(table: bytes) -> Sequence[_Entry]:
    """A start reads the table a hundred times, and it rarely changes in between."""
    found = []
    for line in table.splitlines():
        before, _, after = line.partition(b" - ")
        fields, tail = before.split(b" "), after.split(b" ")
        if len(fields) >= 5:
            device, root, point = map(_decoded, fields[2:5])
            found.append(_Entry(device, root, point, os.fsdecode(tail[0])))
    return found


def _decoded(field: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field))


def _entry_of(path: str, table: Sequence[_Entry]) -> _Entry | None:
    """The mount that `path` is on, without those that only show again what lies there anyway.

    systemd makes such a mount of each folder of `ReadWritePaths`, which only the service sees.
    """
    best = _nearest(path, table)
    while best is not None and best.point != "/":
        around = _nearest(os.path.dirname(best.point), table)
        if around is None or around.device != best.device:
            break
        if _join(around.root, os.path.relpath(best.point, around.point)) != best.root:
            break
        best = around
    return best


def _nearest(path: str, table: Sequence[_Entry]) -> _Entry | None:
    best = None
    for entry in table:
        # Of two mounts on one point the later line covers the earlier one.
        if is_beneath(path, entry.point) and (best is None or len(entry.point) >= len(best.point)):
            best = entry
    return best


def _join(folder: str, path: str) -> str:
    return os.path.normpath(os.path.join(folder, path))


def _is_same_folder(path: str, folder: str) -> bool:
    try:
        return os.path.samefile(path, folder)
    except OSError:
        return False


def open_root(root: str, before: Place | None) -> tuple[int, Place]:
    """Open the folder `root` and return its place, too; `before` is its place last time.

    A share that comes back may have another device number, and an inbox may become a mount point while the
    daemon runs: both are the inbox. But if a mount is missing that was there before, what remains is the
    empty mount point, which is not the inbox.

    Raises:
        OSError: the folder can't be opened; ENODEV if the share that it was on is not mounted.
    """
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return fd, _place_of(root, os.fstat(fd), before)
    except BaseException:
        os.close(fd)
        raise


def _place_of(root: str, stat: os.stat_result, before: Place | None) -> Place:
    if before is not None and stat.st_dev == before.device:
        return Place(stat.st_dev, stat.st_ino, before.mount)
    mount = mount_of(os.path.realpath(root))
    if before is not None and not is_beneath(mount.point, before.mount.point):
        raise OSError(errno.ENODEV, f"{before.mount.point} is not mounted")
    return Place(stat.st_dev, stat.st_ino, mount)


def is_beneath(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or inside it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
