"""On which mount a folder lies, whether that is a network share, and whether it is still the same."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from invox_watcher.host.mounts import Mount, Place, is_beneath, mount_of, open_root

TABLE = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 27 0:40 / /srv/dictation rw shared:2 master:3 - ext4 /dev/vdb rw
31 30 0:41 / /srv/dictation/inbox rw - cifs //server/share rw
32 27 0:42 / /mnt/two\040words rw - fuse.sshfs host:/ rw
33 27 0:43 / /mnt/twice rw - autofs systemd-1 rw
34 27 0:44 / /mnt/twice rw - nfs4 host:/export rw
35 27 254:0 /data/dictation /data/dictation rw,relatime shared:1 - ext4 /dev/vda rw
36 35 254:0 /data/dictation/inbox /data/dictation/inbox rw - ext4 /dev/vda rw
37 27 254:0 /elsewhere /data/moved rw - ext4 /dev/vda rw
broken
"""


@pytest.mark.parametrize(
    ("path", "point", "kind", "remote"),
    [
        ("/srv/dictation/inbox/ward", "/srv/dictation/inbox", "cifs", True),
        ("/srv/dictation/inbox2", "/srv/dictation", "ext4", False),
        ("/srv/dictation", "/srv/dictation", "ext4", False),
        ("/mnt/two words/x", "/mnt/two words", "fuse.sshfs", True),
        ("/mnt/twice", "/mnt/twice", "nfs4", True),
        ("/home", "/", "ext4", False),
        ("/data/dictation/inbox/ward", "/", "ext4", False),  # as in the namespace of a service
        ("/data/moved/ward", "/data/moved", "ext4", False),
    ],
)
def test_the_longest_mount_point_counts(
    tmp_path: Path, path: str, point: str, kind: str, remote: bool
) -> None:
    (tmp_path / "mountinfo").write_bytes(TABLE)
    mount = mount_of(path, str(tmp_path / "mountinfo"))
    assert mount == Mount(point, kind)
    assert mount.remote is remote


def test_without_a_mount_table_nothing_is_known(tmp_path: Path) -> None:
    assert mount_of("/srv", str(tmp_path / "none")) == Mount("/", "unknown")


def test_the_root_is_recognised_again(tmp_path: Path) -> None:
    fd, place = open_root(str(tmp_path), None)
    os.close(fd)
    fd, again = open_root(str(tmp_path), place)
    os.close(fd)
    assert again == place
    assert place.inode == tmp_path.stat().st_ino


@pytest.mark.parametrize(
    ("kind", "remote"),
    [
        *[(kind, True) for kind in ("nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "fuse.sshfs")],
        *[(kind, False) for kind in ("ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "unknown")],
    ],
)
def test_network_and_fuse_file_systems_are_remote(kind: str, remote: bool) -> None:
    assert Mount("/srv", kind).remote is remote


@pytest.mark.parametrize(
    ("path", "folder", "expected"),
    [
        ("/srv", "/srv", True),
        ("/srv/inbox", "/srv", True),
        ("/srv/inbox", "/srv/", True),
        ("/srv", "/", True),
        ("/srv2", "/srv", False),
        ("/", "/srv", False),
    ],
)
def test_beneath_compares_whole_names(path: str, folder: str, expected: bool) -> None:
    assert is_beneath(path, folder) is expected


OTHER_DEVICE = 1  # no file of these tests lies on it


def test_a_folder_on_the_same_device_keeps_its_mount(tmp_path: Path) -> None:
    before = Place(tmp_path.stat().st_dev, 1, Mount("/srv/share", "cifs"))
    fd, place = open_root(str(tmp_path), before)
    os.close(fd)
    assert place == Place(before.device, tmp_path.stat().st_ino, before.mount)


def test_a_share_that_returns_may_have_another_device(tmp_path: Path) -> None:
    fd, place = open_root(str(tmp_path), Place(OTHER_DEVICE, 1, Mount("/", "ext4")))
    os.close(fd)
    assert place.device == tmp_path.stat().st_dev


def test_an_empty_mount_point_is_not_the_share(tmp_path: Path) -> None:
    before = Place(OTHER_DEVICE, 1, Mount(str(tmp_path), "cifs"))
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match=f"{tmp_path} is not mounted") as refused:
        open_root(str(tmp_path), before)
    assert refused.value.errno == errno.ENODEV
    assert os.listdir("/proc/self/fd") == descriptors
