"""The parts of the inbox that are pure: the tracker on a fake clock, the mount table, the ignore list."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invox_watcher.host.mounts import Mount, mount_of, open_root
from invox_watcher.inbox.stability import Snapshot, Stage, Tracker, Writer, writer_of
from invox_watcher.inbox.tree import Filter, NotAFileError, open_file, open_folder


def snapshot(size_bytes: int = 1) -> Snapshot:
    return Snapshot(device=1, inode=2, size_bytes=size_bytes, mtime_ns=3, ctime_ns=4)


# ---- the tracker ----


def test_a_file_settles_only_while_nothing_about_it_changes() -> None:
    tracker = Tracker(settle_seconds=2, patience_seconds=10)
    assert tracker.see("a", snapshot(1), now=100)
    assert not tracker.see("a", snapshot(1), now=101.5)
    assert not tracker.settled("a", 101.9)
    assert tracker.settled("a", 102)
    assert not tracker.see("a", snapshot(2), now=102)
    assert not tracker.settled("a", 103.9)
    assert tracker.settled("a", 104)


def test_a_look_falls_due_once() -> None:
    tracker = Tracker(settle_seconds=2, patience_seconds=10)
    tracker.see("a", snapshot(1), now=100)
    assert tracker.next_due() == 102
    assert tracker.pop_due(101.9) is None
    assert tracker.pop_due(102) == "a"
    assert tracker.pop_due(102) is None
    tracker.settle("a")
    assert tracker.next_due() == 102


def test_a_file_that_changes_all_the_time_is_looked_at_all_the_same() -> None:
    tracker = Tracker(settle_seconds=2, patience_seconds=10)
    for now in range(5):
        tracker.see("a", snapshot(now), now)
    assert tracker.pop_due(2) == "a"
    assert not tracker.settled("a", 5)


@pytest.mark.parametrize("field", ["device", "inode", "size_bytes", "mtime_ns", "ctime_ns"])
def test_each_part_of_the_snapshot_counts(field: str) -> None:
    tracker = Tracker(settle_seconds=2, patience_seconds=10)
    before = {"device": 1, "inode": 1, "size_bytes": 1, "mtime_ns": 1, "ctime_ns": 1}
    tracker.see("a", Snapshot(**before), now=0)
    tracker.see("a", Snapshot(**(before | {field: 0})), now=5)
    assert not tracker.settled("a", 6)


def test_patience_counts_from_the_last_change_and_overdue_from_the_first_sight() -> None:
    tracker = Tracker(settle_seconds=2, patience_seconds=10)
    tracker.see("a", snapshot(1), now=0)
    tracker.see("a", snapshot(2), now=5)
    assert tracker.overdue("a", 10)
    assert not tracker.patient("a", 14)
    assert tracker.patient("a", 15)


def test_time_spent_waiting_for_room_does_not_make_a_file_overdue() -> None:
    tracker = Tracker(settle_seconds=2, patience_seconds=10)
    tracker.see("a", snapshot(1), now=0)
    tracker.hold("a")
    tracker.see("a", snapshot(2), now=100)
    assert not tracker.overdue("a", 101)


def test_those_without_room_come_back_in_their_order() -> None:
    tracker = Tracker(settle_seconds=2, patience_seconds=10)
    for path in "abc":
        tracker.see(path, snapshot(), now=0)
        tracker.hold(path)
    tracker.forget("b")
    assert tracker.pop_held() == "a"
    tracker.hold("a", first=True)
    assert tracker.pop_held() == "a"
    tracker.forget("a")
    assert tracker.pop_held() == "c"


def test_a_file_held_open_is_looked_at_soon_and_then_less_often() -> None:
    tracker = Tracker(settle_seconds=30, patience_seconds=600)
    tracker.see("a", snapshot(), now=100)
    tracker.hold_open("a", 100)
    assert tracker.next_due() == pytest.approx(100.05)
    tracker.hold_open("a", 100.4)
    assert tracker.next_due() == pytest.approx(100.8)
    tracker.hold_open("a", 500)
    assert tracker.next_due() == 501


def test_what_is_troubled_waits_to_be_asked_for() -> None:
    tracker = Tracker(settle_seconds=2, patience_seconds=10)
    tracker.mark_error("unknown", now=0)
    assert tracker.count(Stage.ERROR) == 1
    assert tracker.pop_due(1000) is None
    tracker.retry_errors(1000)
    assert tracker.pop_due(1000) == "unknown"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.integers(0, 3)), max_size=60))
def test_counts_and_due_times_stay_true(steps: list[tuple[str, int, int]]) -> None:
    tracker = Tracker(settle_seconds=1, patience_seconds=3)
    for now, (path, action, size) in enumerate(steps):
        if action == 0:
            tracker.see(path, snapshot(size), now)
        elif action == 1:
            tracker.forget(path)
        elif action == 2:
            tracker.pop_due(now)
        elif action == 3:
            tracker.mark_error(path, now)
        elif path in tracker.paths():
            (tracker.settle, tracker.hold_unfinished, tracker.hold)[action - 4](path)
        assert sum(tracker.count(stage) for stage in Stage) == len(tracker.paths())
        assert all(tracker.count(stage) >= 0 for stage in Stage)
    end = len(steps) + 10
    due = {path for _ in range(4) if (path := tracker.pop_due(end)) is not None}
    assert due <= tracker.paths()
    assert tracker.next_due() is None


# ---- the lease ----


def test_the_lease_tells_whether_anyone_writes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb"):
        reader = os.open(path, os.O_RDONLY)
        assert writer_of(reader) is Writer.OPEN
    assert writer_of(reader) is Writer.NONE
    with path.open("ab") as file:  # the lease was given back, so nobody waits for it
        file.write(b"x")
    os.close(reader)


def test_where_no_lease_is_to_be_had_nothing_is_claimed() -> None:
    reader, writer = os.pipe()
    try:
        assert writer_of(reader) is Writer.UNKNOWN
    finally:
        os.close(reader)
        os.close(writer)


# ---- mounts ----

TABLE = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 27 0:40 / /srv/dictation rw shared:2 master:3 - ext4 /dev/vdb rw
31 30 0:41 / /srv/dictation/inbox rw - cifs //server/share rw
32 27 0:42 / /mnt/two\040words rw - fuse.sshfs host:/ rw
33 27 0:43 / /mnt/twice rw - autofs systemd-1 rw
34 27 0:44 / /mnt/twice rw - nfs4 host:/export rw
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


# ---- names ----


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("smith.wav", None),
        ("ward3/smith.wav", None),
        ("ward3/.smith.wav", ".*"),
        (".hidden/smith.wav", ".*"),
        ("SMITH.WAV.PART", "*.part"),
        ("~$smith.docx", "~$*"),
        ("@eaDir/smith.wav", "@eaDir/"),
        ("@eaDir", None),
        ("ward3/old/x.wav", "ward3/old/*"),
        ("new\nline.part", "*.part"),
    ],
)
def test_the_filter_names_its_reason(path: str, reason: str | None) -> None:
    names = Filter(["ward3/old/*"])
    assert names.why_ignored(path) == reason


def test_nothing_is_opened_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_bytes(b"secret")
    root = tmp_path / "inbox"
    root.mkdir()
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "file").symlink_to(tmp_path / "outside" / "x")
    root_fd = os.open(root, os.O_RDONLY)
    try:
        with pytest.raises(NotADirectoryError):
            open_file(root_fd, "folder/x")
        with pytest.raises(NotADirectoryError):
            open_folder(root_fd, "folder")
        with pytest.raises(NotAFileError):
            open_file(root_fd, "file")
    finally:
        os.close(root_fd)
