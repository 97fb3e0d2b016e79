"""Folders in use: marks, what they prove, where they are searched for; two instances in one process."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from invox_watcher.errors import FolderError
from invox_watcher.files import LOCK_FILE, MARK_FILE, Occupancy, marks
from invox_watcher.files.marks import Mark, around, inside, mark_of, open_folder, stands, write_mark
from invox_watcher.files.state_directory import Instance, instance_in
from invox_watcher.host import LockedFolderError, Locks
from invox_watcher.host.mounts import other_paths

ROLES = ("inbox", "processing", "outbox", "done", "failed")
KEYS = (*(f"folders.{role}" for role in ROLES), "state.directory")


def mine(folder: Path) -> Mark:
    """The mark of an instance that is there: its state directory is beside `folder`."""
    state = folder.parent / "their state"
    state.mkdir(exist_ok=True)
    record = {"id": "them", "directory": str(state), "folders": [str(folder)]}
    (state / "instance.json").write_text(json.dumps(record))
    inode = folder.stat().st_ino
    return Mark("them", "folders.inbox", str(folder), inode, str(state), "/", marks.host_name())


class Site:
    """An instance with all its folders, and locks of its own, as if it were another process."""

    def __init__(
        self, root: Path, locks: Locks | None = None, fleet: str | None = None, **changes: Path
    ) -> None:
        self.locks = locks or Locks()
        self.folders = {key: root / key.partition(".")[2] for key in KEYS} | {
            key.replace("_", "."): folder for key, folder in changes.items()
        }
        self.state = self.folders["state.directory"]
        self.occupancy = Occupancy(
            self.state,
            {key: folder for key, folder in self.folders.items() if key != "state.directory"},
            locks=self.locks,
            fleet=fleet,
        )

    def start(self) -> Site:
        for folder in self.folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        self.occupancy.claim()
        return self

    def stop(self) -> None:
        self.locks.close()

    def mark(self, key: str = "folders.inbox") -> dict[str, object]:
        content: dict[str, object] = json.loads((self.folders[key] / MARK_FILE).read_text())
        return content


# ---- overlaps: every role with every role ------------------------------------------------------------------


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize(("key", "other"), [*itertools.product(KEYS, KEYS)])
def test_no_two_folders_of_two_instances_overlap(tmp_path: Path, key: str, other: str, running: bool) -> None:
    first = Site(tmp_path / "first").start()
    if not running:
        first.stop()
    place = first.folders[other]
    name = key.replace(".", "_")
    by = rf"the invox-watcher instance with state directory {first.state}"
    overlaps = {place / "a" / "b": rf"{key}: {place}/a/b lies inside {place}, which {by} uses as {other}"}
    if place != first.state or key != "state.directory":  # with its state directory it would be the first
        overlaps[place] = rf"{key}: {place} is used as {other} by {by}"
    for folder, problem in overlaps.items():
        with pytest.raises(FolderError, match=problem) as refused:
            Site(tmp_path / "second", **{name: folder}).occupancy.check()
        assert refused.value.code == "folder_in_use"
    around_it = tmp_path / "around"
    moved = Site(tmp_path / "third", **{other.replace(".", "_"): around_it / "x" / "y"}).start()
    if not running:
        moved.stop()
    with pytest.raises(FolderError, match=rf"{key}: {around_it} contains {around_it}/x/y, which the invox"):
        Site(tmp_path / "fourth", **{name: around_it}).occupancy.check()


def test_neighbours_in_one_root_are_fine(tmp_path: Path) -> None:
    sites = [Site(tmp_path / name).start() for name in ("", "cardiology", "cardiology 2")]
    for site in sites:
        site.occupancy.check()
    assert len({site.mark()["instance"] for site in sites}) == 3


def test_a_restart_finds_its_own_marks(tmp_path: Path) -> None:
    first = Site(tmp_path).start()
    mark = first.mark()
    first.stop()
    assert Site(tmp_path).start().mark() == mark


def test_a_running_instance_is_named_with_its_process(tmp_path: Path) -> None:
    first = Site(tmp_path / "first").start()
    first.locks.hold(first.state / LOCK_FILE)
    second = Site(tmp_path / "second", folders_done=first.folders["folders.done"])
    with pytest.raises(FolderError, match=rf"{first.state} \(pid {os.getpid()}\)$") as refused:
        second.occupancy.check()
    assert "delete" not in refused.value.hint
    first.stop()
    with pytest.raises(FolderError, match=rf"{first.state}$") as refused:
        second.occupancy.check()
    assert f"delete {first.folders['folders.done']}/{MARK_FILE}" in refused.value.hint


def test_a_refused_start_leaves_no_marks(tmp_path: Path) -> None:
    first = Site(tmp_path / "first").start()
    second = Site(tmp_path / "second", folders_failed=first.folders["folders.failed"])
    with pytest.raises(FolderError):
        second.start()
    assert [key for key in KEYS if (second.folders[key] / MARK_FILE).exists()] == ["folders.failed"]
    assert first.mark("folders.failed")["instance"] == first.mark()["instance"]


@pytest.mark.parametrize("nested", [lambda inbox: inbox, lambda inbox: inbox / "a"], ids=["same", "nested"])
def test_locks_decide_if_the_marks_are_missing(tmp_path: Path, nested: Callable[[Path], Path]) -> None:
    first = Site(tmp_path / "first").start()
    for folder in first.folders.values():
        (folder / MARK_FILE).unlink()
    folder = nested(first.folders["folders.inbox"])
    second = Site(tmp_path / "second", folders_outbox=folder)
    with pytest.raises(FolderError, match=r"^folders.outbox: .* is locked by another process"):
        second.start()
    first.stop()
    second.start()


@pytest.mark.parametrize("outer_first", [True, False])
def test_of_two_that_start_at_once_the_second_is_refused(tmp_path: Path, outer_first: bool) -> None:
    outer, inner = Site(tmp_path / "outer"), Site(tmp_path / "outer" / "inbox" / "inner")
    for site in (outer, inner):
        for folder in site.folders.values():
            folder.mkdir(parents=True, exist_ok=True)
    first, second = (outer, inner) if outer_first else (inner, outer)
    with first.occupancy._locked(), pytest.raises(FolderError, match="is locked by another process"):
        second.occupancy.claim()  # the first one has marked nothing yet


def test_folders_of_one_instance_may_not_be_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, folders_done=tmp_path / "bound")
    (tmp_path / "inbox" / "x").mkdir(parents=True)
    (tmp_path / "bound").mkdir()
    there = {str(tmp_path / "bound"): [str(tmp_path / "inbox" / "x" / "bound")]}
    monkeypatch.setattr(marks, "other_paths", lambda path: there.get(path, []))
    with pytest.raises(FolderError, match=r"folders.done: .*/bound is the same as, or inside, folders.inbox"):
        site.occupancy.check_around()


# ---- what a mark proves ------------------------------------------------------------------------------------


def gone(mark: Mark) -> Mark:
    shutil.rmtree(mark.state_directory)
    return mark


def recorded(**fields: object) -> Callable[[Mark], Mark]:
    def change(mark: Mark) -> Mark:
        file = Path(mark.state_directory, "instance.json")
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))
        return mark

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda mark: mark, True),
        (lambda mark: replace(mark, instance="me"), False),
        (lambda mark: replace(mark, inode=1), False),  # of another folder: it was copied here
        (lambda mark: replace(mark, inode=None), True),  # written over a share
        (lambda mark: gone(replace(mark, host="another")), True),
        (lambda mark: replace(mark, state_directory="/my/state"), False),  # which was deleted
        (gone, False),
        (lambda mark: gone(replace(mark, state_mount="/mnt/disk")), True),  # that disk is not mounted here
        (recorded(id="someone else"), False),
        (recorded(folders=["/srv/elsewhere"]), False),
        (lambda _mark: marks.UNREADABLE, True),
    ],
    ids=[
        *("another's", "own", "copied", "unknown inode", "other host", "own state directory"),
        *("removed", "not mounted", "replaced", "moved on", "unreadable"),
    ],
)
def test_a_mark_stands_unless_it_is_disproved(
    tmp_path: Path, change: Callable[[Mark], Mark], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    mount = replace(marks.mount_of("/"), point="/", type="ext4")
    monkeypatch.setattr(marks, "mount_of", lambda _path: mount)
    mark = change(mine(folder))
    with open_folder(folder) as descriptor:
        assert stands(mark, descriptor, Instance("me", "/my/state", frozenset())) is expected


def test_on_a_share_the_inode_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = marks.mount_of("/")
    monkeypatch.setattr(marks, "mount_of", lambda _path: replace(mount, point="/", type="cifs"))
    mark = replace(mine(tmp_path), inode=1)
    with open_folder(tmp_path) as descriptor:
        assert stands(mark, descriptor, Instance("me", "/my/state", frozenset()))
        assert marks.inode_of(descriptor) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"instance": "x"}', b"\xff\xfe", b"[" * 60_000])
def test_nonsense_is_no_mark(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MARK_FILE).write_bytes(content)
    with open_folder(tmp_path) as descriptor:
        assert mark_of(descriptor) is None


@pytest.mark.parametrize(
    "make",
    [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd"), lambda path: path.symlink_to("x")],
    ids=["folder", "pipe", "link", "dangling"],
)
def test_what_is_not_a_file_is_no_mark(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / MARK_FILE)
    with open_folder(tmp_path) as descriptor:
        assert mark_of(descriptor) is None


def test_a_mark_is_read_as_it_was_written(tmp_path: Path) -> None:
    mark = replace(mine(tmp_path), path="/srv/bytes \udcff", state_directory="/var/lib/größe")
    with open_folder(tmp_path) as descriptor:
        write_mark(descriptor, mark, 0o640)
        assert mark_of(descriptor) == mark
    assert (tmp_path / MARK_FILE).stat().st_mode & 0o777 == 0o640
    assert MARK_FILE in os.listdir(tmp_path)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


# ---- identity ----------------------------------------------------------------------------------------------


def test_a_copied_state_directory_becomes_an_instance_of_its_own(tmp_path: Path) -> None:
    first = Site(tmp_path / "first").start()
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    second = Site(tmp_path / "second").start()
    assert second.mark()["instance"] != first.mark()["instance"]
    with pytest.raises(FolderError):
        Site(tmp_path / "second", folders_done=first.folders["folders.done"]).occupancy.check()


def test_a_moved_instance_stays_the_same(tmp_path: Path) -> None:
    first = Site(tmp_path / "first").start()
    identity = first.mark()["instance"]
    first.stop()
    os.rename(tmp_path / "first", tmp_path / "second")
    second = Site(tmp_path / "second").start()
    assert second.mark()["instance"] == identity
    assert second.mark()["path"] == str(tmp_path / "second" / "inbox")


def test_a_new_state_directory_in_the_old_place_takes_over(tmp_path: Path) -> None:
    first = Site(tmp_path).start()
    identity = first.mark()["instance"]
    first.stop()
    shutil.rmtree(first.state)
    second = Site(tmp_path).start()
    assert second.mark()["instance"] != identity


def test_another_state_directory_in_the_same_process_takes_over(tmp_path: Path) -> None:
    first, locks = Site(tmp_path).start(), Locks()
    first.stop()
    first = Site(tmp_path, locks).start()
    locks.hold(first.state / LOCK_FILE)
    second = Site(tmp_path, locks, state_directory=tmp_path / "new").start()
    locks.hold(second.state / LOCK_FILE)
    assert second.mark()["state_directory"] == str(second.state)
    assert first.occupancy.contested() is None
    first.occupancy.release_others()  # the reload was refused
    assert first.mark()["state_directory"] == str(first.state)


def test_folders_that_are_left_are_free(tmp_path: Path) -> None:
    first = Site(tmp_path / "first").start()
    first.stop()
    later = Site(tmp_path / "first", folders_done=tmp_path / "elsewhere").start()
    old = first.folders["folders.done"]
    record = instance_in(first.state)
    assert record is not None
    assert {str(old), str(tmp_path / "elsewhere")} <= record.folders
    later.occupancy.release_others()
    assert not (old / MARK_FILE).exists()
    record = instance_in(first.state)
    assert record is not None
    assert str(old) not in record.folders
    Site(tmp_path / "second", folders_done=old).start()


# ---- while it runs -----------------------------------------------------------------------------------------


def test_a_mark_that_was_deleted_is_restored(tmp_path: Path) -> None:
    site = Site(tmp_path).start()
    before = site.mark("folders.outbox")
    for _ in range(2):  # without, and with what the first check remembers
        (site.folders["folders.outbox"] / MARK_FILE).unlink()
        assert site.occupancy.contested() is None
        assert site.mark("folders.outbox") == before


def test_a_mark_of_another_instance_is_a_reason_to_wait(tmp_path: Path) -> None:
    site = Site(tmp_path / "site").start()
    site.locks.hold(site.state / LOCK_FILE)
    folder, state = site.folders["folders.outbox"], str(site.state)  # hosts are often set up the same
    assert site.occupancy.contested() is None
    with open_folder(folder) as descriptor:
        write_mark(descriptor, replace(mine(folder), host="elsewhere", state_directory=state), 0o600)
    problem = site.occupancy.contested()
    assert problem is not None
    assert problem.code == "folder_in_use"
    assert problem.message.endswith("on host elsewhere")
    (folder / MARK_FILE).unlink()
    assert site.occupancy.contested() is None


@pytest.mark.parametrize("moment", ["mark_of", "write_mark"])
def test_a_mark_that_comes_during_a_check_is_seen_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    site = Site(tmp_path / "site").start()
    folder = site.folders["folders.outbox"]
    foreign = replace(mine(folder), host="elsewhere")
    path = folder / MARK_FILE
    do = getattr(marks, moment)

    def do_and_let_another_mark_it(descriptor: int, *arguments: object) -> object:
        done = do(descriptor, *arguments)
        if os.fstat(descriptor).st_ino == folder.stat().st_ino:
            monkeypatch.setattr(marks, moment, do)
            write_mark(descriptor, foreign, 0o600)
        return done

    if moment == "write_mark":  # it is restored, just before the other one comes
        path.unlink()
    monkeypatch.setattr(marks, moment, do_and_let_another_mark_it)
    assert site.occupancy.contested() is None
    assert site.mark("folders.outbox")["host"] == "elsewhere"
    problem = site.occupancy.contested()
    assert problem is not None
    assert problem.code == "folder_in_use"


def test_nothing_is_marked_in_a_folder_that_was_swapped(tmp_path: Path) -> None:
    site = Site(tmp_path).start()
    assert site.occupancy.contested() is None
    os.rename(tmp_path / "done", tmp_path / "away")
    (tmp_path / "done").mkdir()  # as the empty mount point of a share
    assert site.occupancy.contested() is None
    assert os.listdir(tmp_path / "done") == []


def test_the_user_of_a_folder_is_named(tmp_path: Path) -> None:
    site = Site(tmp_path / "site").start()
    ward = site.folders["folders.inbox"] / "ward"
    ward.mkdir()
    with open_folder(ward) as descriptor:
        assert site.occupancy.user_of(descriptor) is None
        mark = mine(ward)
        write_mark(descriptor, mark, 0o600)
        user = site.occupancy.user_of(descriptor)
    assert user == (
        f"the invox-watcher instance with state directory {mark.state_directory} uses this folder as"
        " folders.inbox."
    )


# ---- finding marks -----------------------------------------------------------------------------------------


def test_other_paths_lead_through_bind_mounts(tmp_path: Path) -> None:
    (tmp_path / "data" / "ward" / "b").mkdir(parents=True)
    (tmp_path / "bound").symlink_to(tmp_path / "data" / "ward")  # as the mount that the table has
    (tmp_path / "other").mkdir()
    table = tmp_path / "mountinfo"
    table.write_text(
        "27 1 254:0 / / rw - ext4 /dev/vda rw\n"
        f"28 27 254:0 {tmp_path}/data/ward {tmp_path}/bound rw - ext4 /dev/vda rw\n"
        f"29 27 254:0 {tmp_path}/data/ward {tmp_path}/other rw - ext4 /dev/vda rw\n"  # covered since
        f"30 27 254:1 / {tmp_path}/disk rw - ext4 /dev/vdb rw\n"
    )
    ward = f"{tmp_path}/data/ward"
    assert other_paths(f"{ward}/b", str(table)) == [f"{tmp_path}/bound/b"]
    assert other_paths(f"{tmp_path}/bound/b", str(table)) == [f"{ward}/b"]
    assert other_paths(f"{tmp_path}/data", str(table)) == []
    assert other_paths(f"{ward}/b", str(tmp_path / "none")) == []


def test_around_goes_up_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "ward").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    there = {str(tmp_path / "b"): [str(tmp_path / "a" / "ward")]}
    monkeypatch.setattr(marks, "other_paths", lambda path: there.get(path, []))
    found = [place for place, _descriptor in around(tmp_path / "b" / "not" / "yet")]
    assert found[0] == tmp_path / "b"
    assert {tmp_path / "a", tmp_path, Path("/")} <= set(found)


@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
def test_inside_finds_marks_and_follows_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mount = marks.mount_of("/")
    monkeypatch.setattr(marks, "mount_of", lambda _path: replace(mount, type=kind))
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    for folder in (top, top / "a" / "b" / "c", top / ".hidden", elsewhere):
        folder.mkdir(parents=True)
    for folder in (top, top / "a" / "b", top / ".hidden", elsewhere):
        with open_folder(folder) as descriptor:
            write_mark(descriptor, mine(folder), 0o600)
    (top / "link").symlink_to(elsewhere)
    found = [place for place, _descriptor, _mark in inside(top)]
    assert found == [top / ".hidden", top / "a" / "b"]


def test_the_search_inside_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "_MOST_ENTRIES", 5)
    folder = tmp_path
    for _ in range(9):
        folder = folder / "deeper"
        folder.mkdir()
    with open_folder(folder) as descriptor:
        write_mark(descriptor, mine(folder), 0o600)
    assert list(inside(tmp_path)) == []


def test_a_shared_folder_is_not_locked_and_a_locked_one_not_shared(tmp_path: Path) -> None:
    one, two = Locks(), Locks()
    shared = one.share([tmp_path]), two.share([tmp_path, tmp_path / "missing"])
    with shared[0], shared[1], pytest.raises(LockedFolderError):
        Locks().hold(tmp_path)
    one.hold(tmp_path)
    with one.share([tmp_path]):
        pass
    with pytest.raises(LockedFolderError), two.share([tmp_path]):
        pass
    assert (one.holds(tmp_path), two.holds(tmp_path), one.holds(tmp_path / "x")) == (True, False, False)


# ---- several hosts -----------------------------------------------------------------------------------------


def test_hosts_of_a_fleet_share_folders_and_no_stranger_does(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    own = [{"state_directory": tmp_path / name} for name in ("a", "b", "stranger", "other fleet")]
    first = Site(shared, fleet="fleet-1", **own[0]).start()
    second = Site(shared, fleet="fleet-1", **own[1]).start()
    assert first.occupancy.contested() is None
    assert first.mark()["instance"] == second.mark()["instance"] == "fleet-1"
    assert first.mark("state.directory") != second.mark("state.directory")
    for stop in ([], [first, second]):
        for site in stop:
            site.stop()
        for fleet, state in ((None, own[2]), ("fleet-2", own[3])):
            with pytest.raises(
                FolderError, match=r"is used as folders\..* by a fleet of invox-watcher hosts"
            ):
                Site(shared, fleet=fleet, **state).start()
    with open_folder(shared / "inbox") as inbox:
        assert second.occupancy.user_of(inbox) is None


def test_an_instance_that_joins_a_fleet_keeps_its_folders(tmp_path: Path) -> None:
    alone = Site(tmp_path).start()
    alone.stop()
    host = Site(tmp_path, fleet="fleet-1").start()
    assert host.mark()["instance"] == "fleet-1"
    host.stop()
    with pytest.raises(FolderError) as refused:  # another host of it may be running
        Site(tmp_path).start()
    assert f"delete {tmp_path}/inbox/{MARK_FILE}" in (refused.value.hint or "")


def moved_away(site: Path) -> Path:
    os.rename(site / "directory", site / "moved")
    return site / "moved"


def emptied(site: Path) -> Path:
    shutil.rmtree(site / "directory")
    return site / "directory"


def same(site: Path) -> Path:
    return site / "directory"


@pytest.mark.parametrize("other_host", [False, True], ids=["alone", "another host runs"])
@pytest.mark.parametrize(
    ("before", "state_of", "after", "is_refused"),
    [
        (None, same, None, False),
        (None, same, "fleet-1", False),  # a copied journal: its mark becomes the fleet's
        (None, moved_away, None, False),
        (None, moved_away, "fleet-1", False),
        (None, emptied, None, False),
        ("fleet-1", same, "fleet-1", False),
        ("fleet-1", moved_away, "fleet-1", False),
        ("fleet-1", emptied, "fleet-1", False),
        ("fleet-1", same, "fleet-2", True),  # another database, or another account
        ("fleet-1", moved_away, "fleet-2", True),
        ("fleet-1", emptied, "fleet-2", True),
        ("fleet-1", same, None, True),  # `state.url` was lost
        ("fleet-1", moved_away, None, True),
        ("fleet-1", emptied, None, True),
    ],
)
def test_who_wrote_a_mark_last_may_not_use_another_journal(
    tmp_path: Path,
    *,
    before: str | None,
    state_of: Callable[[Path], Path],
    after: str | None,
    is_refused: bool,
    other_host: bool,
) -> None:
    if other_host and before is not None:
        Site(tmp_path, fleet=before, state_directory=tmp_path / "other").start()
    last = Site(tmp_path, fleet=before).start()
    last.locks.hold(last.state / LOCK_FILE)
    last.stop()
    locks, state = Locks(), state_of(tmp_path)
    state.mkdir(exist_ok=True)
    locks.hold(state / LOCK_FILE)  # as a daemon does before it looks at marks
    again = Site(tmp_path, locks, fleet=after, state_directory=state)
    if is_refused:
        marked = {key: again.mark(key) for key in KEYS if key != "state.directory"}
        with pytest.raises(FolderError, match="by a fleet of invox-watcher hosts"):
            again.start()
        assert {key: again.mark(key) for key in marked} == marked
    else:
        again.start()
        assert again.occupancy.contested() is None


def test_a_process_takes_no_mark_that_is_not_its_own(tmp_path: Path) -> None:
    locks = Locks()
    first = Site(tmp_path, locks).start()
    locks.hold(first.state / LOCK_FILE)
    for folder in (tmp_path / role for role in ROLES):
        with open_folder(folder) as descriptor:  # of a state directory that was there before, on another disk
            mark = mark_of(descriptor)
            assert mark is not None
            write_mark(descriptor, replace(mark, instance="another's", state_mount="/mnt/disk"), 0o600)
    with pytest.raises(FolderError, match="folder"):
        Site(tmp_path, locks, state_directory=tmp_path / "new").start()
    assert first.mark()["instance"] == "another's"


def test_two_hosts_of_a_fleet_need_a_state_directory_each(tmp_path: Path) -> None:
    first = Site(tmp_path / "shared", fleet="fleet-1", state_directory=tmp_path / "state").start()
    with pytest.raises((FolderError, LockedFolderError)):
        Site(tmp_path / "shared", fleet="fleet-1", state_directory=first.state).start()
