"""Two instances on one machine: folders that overlap are refused by name, by check, start and reload."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from invox_watcher.files import MARK_FILE
from tests.faults.mounts import bind, tmpfs
from tests.faults.witness import everything_in
from tests.kit.clinic import Clinic, reload, running
from tests.kit.commands import NOBODY, as_nobody, give, public_folder
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

API = "http://127.0.0.1:9"  # no instance of these tests is to call it


@dataclass
class Two:
    """An instance that has its folders, and another one that is configured to overlap with them."""

    base: Path
    first: Clinic
    second: Clinic
    mounts: ExitStack = field(default_factory=ExitStack)

    def configure(self, section: str, **keys: Any) -> None:
        content = yaml.safe_load(self.second.config.read_text())
        content[section] = content.get(section, {}) | {key: str(value) for key, value in keys.items()}
        self.second.config.write_text(yaml.safe_dump(content))

    def root(self, path: Path | str) -> None:
        self.configure("folders", root=path)

    def folder(self, role: str, path: Path | str) -> None:
        self.configure("folders", **{role: path})

    def bound(self, source: Path, point: Path) -> Path:
        source.mkdir(parents=True, exist_ok=True)
        return self.mounts.enter_context(bind(source, point))


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    first, second = Clinic(tmp_path / "first", API), Clinic(tmp_path / "second", API)
    (second.root / "state").mkdir(mode=0o700)  # root's, not to be guessed
    with ExitStack() as mounts:
        yield Two(tmp_path, first, second, mounts)


def link(to: Path, name: Path) -> Path:
    to.mkdir(parents=True, exist_ok=True)
    name.symlink_to(to)
    return name


def same(role: str, of: str | None = None) -> Callable[[Two], str]:
    def lay(two: Two) -> str:
        place = two.first.root / (of or role)
        two.folder(role, place)
        return f"folders.{role}: {place} is used as folders.{of or role} by BY"

    return lay


def root_inside(role: str) -> Callable[[Two], str]:
    def lay(two: Two) -> str:
        place = two.first.root / role
        two.root(place / "ward" / "b")
        return f"folders.inbox: {place}/ward/b/inbox lies inside {place}, which BY uses as folders.{role}"

    return lay


def around(role: str) -> Callable[[Two], str]:
    def lay(two: Two) -> str:
        two.folder(role, two.first.root)
        return f"folders.{role}: {two.first.root} contains {two.first.root}/"

    return lay


def same_root(two: Two) -> str:
    two.root(two.first.root)
    return f"folders.inbox: {two.first.inbox} is used as folders.inbox by BY"


def state_inside(two: Two) -> str:
    two.configure("state", directory=two.first.inbox / "state")
    return f"state.directory: {two.first.inbox}/state lies inside {two.first.inbox}, which BY uses"


def inside_state(two: Two) -> str:
    two.folder("done", two.first.root / "state" / "done")
    state = two.first.root / "state"
    return f"folders.done: {state}/done lies inside {state}, which BY uses as state.directory"


def linked_parent(two: Two) -> str:
    two.root(link(two.first.inbox / "ward", two.base / "link") / "b")
    return f"folders.inbox: {two.base}/link/b/inbox lies inside {two.first.inbox}, which BY uses"


def linked_same(two: Two) -> str:
    two.folder("failed", link(two.first.root, two.base / "link") / "failed")
    return f"folders.failed: {two.base}/link/failed is used as folders.failed by BY"


def spelt_otherwise(two: Two) -> str:
    two.folder("outbox", f"{two.first.root}//done/../done/")
    return " is used as folders.done by BY"


def bound_inside(two: Two) -> str:
    two.root(two.bound(two.first.inbox / "ward", two.base / "bound"))
    return f"folders.inbox: {two.base}/bound/inbox lies inside {two.first.inbox}, which BY uses"


def bound_same(two: Two) -> str:
    two.folder("done", two.bound(two.first.done, two.base / "bound"))
    return f"folders.done: {two.base}/bound is used as folders.done by BY"


def bound_root(two: Two) -> str:
    two.root(two.bound(two.first.root, two.base / "bound"))
    return f"folders.inbox: {two.base}/bound/inbox is used as folders.inbox by BY"


def bound_into(two: Two) -> str:
    """The second's root is shown in the first's inbox, by a mount that its own path does not lead through."""
    two.bound(two.second.root, two.first.inbox / "shown")
    state = two.second.root / "state"
    return f"state.directory: {state} lies inside {two.first.inbox}, which BY uses as folders.inbox"


def bound_around(two: Two) -> str:
    two.folder("inbox", two.bound(two.first.root, two.base / "bound"))
    return f"folders.inbox: {two.base}/bound contains {two.base}/bound/"


def own_disk_inside(two: Two) -> str:
    two.root(two.mounts.enter_context(tmpfs(two.first.inbox / "disk")))
    return f"folders.inbox: {two.first.inbox}/disk/inbox lies inside {two.first.inbox}, which BY uses"


ROLES = ("inbox", "processing", "outbox", "done", "failed")
OVERLAPS: dict[str, Callable[[Two], str]] = {
    **{f"the same {role}": same(role) for role in ROLES},
    "its inbox is the other's outbox": same("inbox", "outbox"),
    "its inbox is the other's done": same("inbox", "done"),
    "its failed is the other's inbox": same("failed", "inbox"),
    "its outbox is the other's processing": same("outbox", "processing"),
    **{f"its root is inside the other's {role}": root_inside(role) for role in ROLES},
    **{f"its {role} is around the other's root": around(role) for role in ROLES},
    "the same root": same_root,
    "its state is inside the other's inbox": state_inside,
    "its done is inside the other's state": inside_state,
    "a linked parent": linked_parent,
    "a linked root": linked_same,
    "another spelling": spelt_otherwise,
}
OVER_MOUNTS: dict[str, Callable[[Two], str]] = {
    "a bind mount of a folder inside": bound_inside,
    "a bind mount of a folder": bound_same,
    "a bind mount of a root": bound_root,
    "a bind mount into the inbox": bound_into,
    "a bind mount around": bound_around,
    "a disk in the inbox": own_disk_inside,
}
# One of each kind; tests/unit/test_occupancy.py has the table, and `make test-systemd` runs all of these.
KINDS = (
    "the same inbox",
    "its inbox is the other's outbox",
    "its root is inside the other's done",
    "its outbox is around the other's root",
    "its state is inside the other's inbox",
    "a linked parent",
)
CASES = [
    *(
        pytest.param(lay, id=name, marks=() if name in KINDS else pytest.mark.needs)  # minutes, together
        for name, lay in OVERLAPS.items()
    ),
    *(pytest.param(lay, id=name, marks=pytest.mark.needs("root")) for name, lay in OVER_MOUNTS.items()),
]


def expected(two: Two, problem: str, pid: int | None = None) -> re.Pattern[str]:
    state = two.first.root / "state"
    by = f"the invox-watcher instance with state directory {state}" + (f" (pid {pid})" if pid else "")
    return re.compile(re.escape(problem.replace("BY", by)))


def checked(clinic: Clinic) -> tuple[int, str]:
    """The exit status of `check` apart from the API's, and what it says is wrong."""
    done = clinic.run("check", "--json")
    rows = [row for row in json.loads(done.stdout) if row["level"] == "failed" and row["check"] != "API"]
    return (rows[0]["status"] if rows else 0), "\n".join(f"{row['problem']} {row['hint']}" for row in rows)


@pytest.mark.parametrize("lay", CASES)
def test_an_overlap_is_refused_by_every_command(two: Two, lay: Callable[[Two], str]) -> None:
    assert two.first.once() == 0  # it was here once; it need not run
    problem = expected(two, lay(two))
    for place in (two.first.inbox, two.second.inbox):
        (place / "letter.txt").write_text("not yet\n")
    before = everything_in(two.first.root)
    status, said = checked(two.second)
    assert status == 78
    assert problem.search(said), said
    for command in (("run", "--once"), ("run",), ("start",)):
        refused = two.second.run(*command)
        assert refused.returncode == 78
        assert problem.search(refused.stderr), refused.stderr
        assert f"delete {two.base}" in refused.stderr
    assert everything_in(two.first.root) == before
    assert marks_of(two.second) == {}


@pytest.mark.parametrize("lay", CASES)
def test_an_overlap_is_refused_by_a_reload(two: Two, lay: Callable[[Two], str]) -> None:
    first, second = two.first.start(), two.second.start()
    try:
        problem = expected(two, lay(two), first.pid)
        refused = reload(two.second, second)
        assert (refused["event"], refused["code"]) == ("reload_refused", "folder_in_use")
        assert problem.search(refused["error"]), refused["error"]
        assert (second.poll(), first.poll()) == (None, None)
        assert len(two.second.events("watching")) == 1, "it was interrupted"
    finally:
        for daemon in (first, second):
            daemon.kill()
            daemon.wait()


@pytest.mark.parametrize("lay", CASES[: len(OVERLAPS)])
def test_a_folder_in_use_is_named_with_its_process(two: Two, lay: Callable[[Two], str]) -> None:
    with running(two.first):
        pid = int((two.first.root / "state" / "lock").read_text().split()[0])
        problem = expected(two, lay(two), pid)
        status, said = checked(two.second)
        assert status == 78
        assert problem.search(said), said


def test_neighbours_are_not_refused(two: Two) -> None:
    two.root(two.first.root / "cardiology")
    with running(two.first):
        assert checked(two.second) == (0, "")
        with running(two.second):
            assert checked(two.first) == (0, "")
            assert checked(two.second) == (0, "")


# ---- marks -------------------------------------------------------------------------------------------------


def marks_of(clinic: Clinic) -> dict[str, dict[str, Any]]:
    """The mark in each folder of a clinic that has one."""
    folders = (*ROLES, "state")
    marked = [name for name in folders if (clinic.root / name / MARK_FILE).exists()]
    return {name: json.loads((clinic.root / name / MARK_FILE).read_text()) for name in marked}


def test_each_folder_gets_one_hidden_private_file(clinic: Clinic) -> None:
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0
    found = marks_of(clinic)
    assert {name: mark["role"] for name, mark in found.items()} == {
        **{role: f"folders.{role}" for role in ROLES},
        "state": "state.directory",
    }
    assert len({mark["instance"] for mark in found.values()}) == 1
    for name in found:
        assert (clinic.root / name / MARK_FILE).stat().st_mode & 0o777 == 0o600
    names = {os.fspath(path.relative_to(clinic.root)) for path in clinic.root.rglob(".*")}
    assert names == {f"{name}/{MARK_FILE}" for name in found}


def test_a_restart_writes_no_mark_again(clinic: Clinic) -> None:
    assert clinic.once() == 0
    before = {name: (clinic.root / name / MARK_FILE).stat() for name in marks_of(clinic)}
    assert clinic.once() == 0
    assert {name: (clinic.root / name / MARK_FILE).stat() for name in marks_of(clinic)} == before


def test_check_marks_nothing(clinic: Clinic) -> None:
    assert clinic.run("check").returncode == 0
    assert marks_of(clinic) == {}


def test_a_reload_moves_the_marks(two: Two) -> None:
    daemon = two.second.start()
    try:
        two.folder("done", two.base / "elsewhere")
        assert reload(two.second, daemon)["event"] == "reloaded"
        assert not (two.second.done / MARK_FILE).exists()
        assert (two.base / "elsewhere" / MARK_FILE).exists()
        two.folder("done", two.first.inbox)  # not used by anyone yet: this is not refused …
        two.folder("failed", two.second.config)  # … but this is
        assert reload(two.second, daemon)["event"] == "reload_refused"
        assert not (two.first.inbox / MARK_FILE).exists()
    finally:
        daemon.kill()
        daemon.wait()
    assert two.first.once() == 0


def test_retry_and_jobs_work_beside_the_daemon(clinic: Clinic) -> None:
    (clinic.inbox / "letter.wav").write_text("not audio\n")
    with running(clinic):
        wait_for("it has failed", lambda: "letter.wav" in clinic.files(clinic.failed))
        assert clinic.run("jobs", "--all").returncode == 0
        assert clinic.run("retry", "--all").returncode == 0


# ---- another user ------------------------------------------------------------------------------------------


@pytest.mark.needs("root")
def test_an_instance_of_another_user_is_refused() -> None:
    with public_folder() as folder:
        two = Two(folder, Clinic(folder / "first", API), Clinic(folder / "second", API))
        assert two.first.once() == 0
        two.first.root.chmod(0o755)
        two.first.inbox.chmod(0o777)
        two.root(two.first.inbox / "b")
        give(two.second.root, *two.second.root.rglob("*"))
        two.second.config.chmod(0o600)
        for command in (("check",), ("run", "--once")):
            refused = as_nobody(two.second, *command)
            assert refused.returncode == 78
            said = refused.stdout + refused.stderr
            assert f"folders.inbox: {two.first.inbox}/b/inbox lies inside {two.first.inbox}, which" in said
            assert "whose mark can't be read uses" in said
        assert os.listdir(two.first.inbox) == [MARK_FILE]
        assert NOBODY not in {path.stat().st_uid for path in two.first.root.rglob("*")}


def test_the_daemon_waits_if_another_host_takes_a_folder(clinic: Clinic, tmp_path: Path) -> None:
    with running(clinic):
        mark = json.loads((clinic.outbox / MARK_FILE).read_text())
        foreign = mark | {"instance": "f" * 32, "host": "other-host", "inode": None}
        (tmp_path / "mark").write_text(json.dumps(foreign))
        os.replace(tmp_path / "mark", clinic.outbox / MARK_FILE)
        wait_for("it waits", lambda: clinic.events("folders_unavailable") != [])
        (event,) = clinic.events("folders_unavailable")
        assert event["code"] == "folder_in_use"
        assert "on host other-host" in event["error"]
        write_wav(clinic.inbox / "smith.wav")
        time.sleep(3)  # longer than a rescan takes
        assert clinic.files(clinic.inbox) == ["smith.wav"]
        (clinic.outbox / MARK_FILE).unlink()
        wait_for("it continues", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert json.loads((clinic.outbox / MARK_FILE).read_text()) == mark
