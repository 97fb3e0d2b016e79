"""FAULTS 30: the power is cut after any operation, and of what was not synced anything may be gone.

A daemon's way is recorded system call by system call; the trees that a power cut may leave are built from
that, and on each of them a daemon is started again.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.files import MARK_FILE
from invox_watcher.sandbox.server import Sandbox
from tests.faults.rebuild import Disk, State
from tests.faults.recorder import WAL_INDEX, Kind, Operation, record
from tests.kit.clinic import Clinic, sandbox
from tests.kit.forks import Forks
from tests.kit.recordings import write_wav

_SEED = 2026
_DRAWS = 4
_AT_ONCE = 4
_SHOWN = 10
_QUICK: dict[str, dict[str, Any]] = {
    "watch": {"settle_seconds": 0.05, "patience_seconds": 0.2},
    "polling": {"first_seconds": 0.05, "max_seconds": 0.2, "unknown_seconds": 0.1},
}
_FOLDERS = ("inbox", "processing", "outbox", "done", "failed")
_MOUNTS = "state/mounts.json"
# `invox-watcher` that kills itself instead of the nth fsync in a tree.
_MORTAL = """
import itertools, os, signal, sys
from invox_watcher import cli
count, fsync = itertools.count(1), os.fsync
def fsync_or_die(descriptor):
    inside = os.readlink(f"/proc/self/fd/{descriptor}").startswith(sys.argv[1])
    if inside and next(count) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
os.fsync = fsync_or_die
sys.exit(cli.main(sys.argv[3:]))
"""
# What differs between two runs, in a transcript or an error file.
_OF_THE_RUN = {"job_id", "request_id", "received_at", "uploaded_at", "completed_at", "failed_at", "api_reply"}

# What a daemon that has ended leaves of none of its files.
_LEFT = (".tmp", ".part", "-journal", "-wal", WAL_INDEX)
Lay = Callable[[Clinic], None]


def a_recording(clinic: Clinic) -> None:
    """Before the very first start: the daemon makes its folders and its journal."""
    write_wav(clinic.inbox / "ward" / "smith.wav", seconds=0.05)


def a_failure(clinic: Clinic) -> None:
    """No audio, and folders that are there."""
    assert clinic.once() == 0
    (clinic.inbox / "letter.wav").write_text("not audio\n")


def a_duplicate(clinic: Clinic) -> None:
    """The same content for the second time."""
    write_wav(clinic.inbox / "smith.wav", seconds=0.05)
    assert clinic.once() == 0
    write_wav(clinic.inbox / "ward" / "again.wav", seconds=0.05)


@dataclass(frozen=True)
class Way:
    """What happened on the disk until the inbox was empty, and what a person found before and then."""

    disk: Disk
    since: int  # the power is cut after so many operations, or more
    before: dict[str, object]
    end: dict[str, object]
    custody: Counter[str]
    mounts: bytes
    knew_mounts: bool

    @property
    def uploading(self) -> tuple[float, float]:
        """The API may have the recording after so many operations, and has it after so many."""
        numbered = list(enumerate(self.disk.operations, 1))
        puts = [at for at, done in numbered if done.data.startswith(b"PUT ")]
        if not puts:
            return float("inf"), float("inf")
        assert len(puts) == 1
        return puts[0], next(at for at, done in numbered if at > puts[0] and done.kind is not Kind.SEND)

    def states(self, *, draws: int = _DRAWS, torn_renames: bool = False, least: bool = False) -> list[State]:
        """Every tree that may be left, once for each thing that the API may know then.

        With `least`, only those in which nothing is that was not synced.
        """
        chance = random.Random(_SEED)
        states: dict[object, State] = {}
        for point in self.disk.points():
            known = [point >= at for at in self.uploading]
            if point >= self.since:
                left = self.disk.states(point, chance, draws=draws, torn_renames=torn_renames)
                for state in itertools.islice(left, 1 if least else None):
                    states.setdefault((*known, state.digest), state)
        return list(states.values())


@dataclass(frozen=True)
class Site:
    """Where daemons are started again, and against which API: as it was before an upload, or after it."""

    root: Path
    before: Sandbox
    after: Sandbox
    idle: queue.SimpleQueue[Forks]


@pytest.fixture(scope="module")
def processes() -> Iterator[queue.SimpleQueue[Forks]]:
    """Several that have everything imported, to start daemons quickly."""
    idle: queue.SimpleQueue[Forks] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        for _ in range(_AT_ONCE):
            forks = Forks()
            stack.callback(forks.close)
            idle.put(forks)
        yield idle


@pytest.fixture
def site(tmp_path: Path, api: Sandbox, processes: queue.SimpleQueue[Forks]) -> Iterator[Site]:
    """A place for this test's restarts."""
    # An API that knows nothing is the same as one that gave out an id and then got nothing under it.
    with sandbox(tmp_path / "api before") as before:
        yield Site(tmp_path, before, api, processes)


def steps(*lines: str) -> list[Operation]:
    """Operations by name and path; what is written is "whole"."""
    done = []
    for line in lines:
        kind, *paths = line.split()
        data = b"whole" if kind == "write" else b""
        done.append(Operation(Kind(kind), *paths, data=data, after=len(done)))
    return done


# How a program that means to put "whole" into the file b loses it, or shows it by halves.
_MISTAKES = {
    "the file is not synced": ("create a", "write a", "rename a b", "sync ."),
    "its folder is not synced": ("create a", "write a", "sync a", "rename a b"),
    "its folder's name is not synced": ("mkdir d", "create d/b", "write d/b", "sync d/b", "sync d"),
    "synced too early": ("create a", "sync a", "write a", "rename a b", "sync ."),
}
_RIGHT = ("create a", "write a", "sync a", "rename a b", "sync .")


@pytest.mark.parametrize("done", [*_MISTAKES.values(), _RIGHT], ids=[*_MISTAKES, "as it should be"])
def test_30_the_model_of_a_disk_finds_the_known_mistakes(tmp_path: Path, done: Sequence[str]) -> None:
    disk = Disk(tmp_path)
    disk.add(steps(*done))
    states = list(disk.states(len(done), random.Random(_SEED), draws=50, torn_renames=False))
    kept = all(content_of(state, "b") == b"whole" for state in states)
    assert kept is (done == _RIGHT)


def test_30_the_model_of_a_disk_finds_a_wrong_order_of_syncs(
    tmp_path: Path,
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    (tmp_path / "old" / "b").write_text("whole")
    for order, kept in (("new", "old"), True), (("old", "new"), False):
        disk = Disk(tmp_path)
        disk.add(steps("rename old/b new/b", *(f"sync {folder}" for folder in order)))
        chance = random.Random(_SEED)
        states = [
            state for point in range(4) for state in disk.states(point, chance, draws=9, torn_renames=True)
        ]
        assert all(content_of(state, "b") == b"whole" for state in states) is kept


def content_of(state: State, name: str) -> bytes | None:
    """What is in the file of that name, in whichever folder; None if it is in none."""
    found = [content for path, (_node, content) in state.files.items() if Path(path).name == name]
    return found[0] if found else None


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_30_power_cuts_after_some_operations_lose_nothing(site: Site) -> None:
    way = recorded(site, a_recording)
    assert_survived(site, way, way.states()[::12])


@pytest.mark.needs("strace")
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("lay", [a_recording, a_failure, a_duplicate])
def test_30_a_power_cut_after_any_operation_loses_nothing(site: Site, lay: Lay) -> None:
    way = recorded(site, lay)
    states = way.states()
    print(f"{len(way.disk.operations)} operations, {len(way.disk.points())} moments, {len(states)} states")
    assert len(states) > 100
    assert_survived(site, way, states)


@pytest.mark.needs("strace")
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("lay", [a_recording, a_failure])
def test_30_a_rename_that_left_both_names_loses_nothing(site: Site, lay: Lay) -> None:
    """On a file system that writes its folders one by one, after a repair that counted the links."""
    way = recorded(site, lay)
    usual = {state.digest for state in way.states()}
    states = [state for state in way.states(torn_renames=True) if state.digest not in usual]
    print(f"{len(states)} states")
    assert states
    assert_survived(site, way, states, exactly=False)


@pytest.mark.needs("strace")
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lay", [a_recording, a_failure])
def test_30_a_power_cut_after_a_kill_and_restart_loses_nothing(site: Site, lay: Lay) -> None:
    """What a killed daemon did not come to sync, the next one must."""
    unharmed = recorded(site, lay)
    count = 0
    for number in itertools.count(1):
        try:
            way = recorded(site, lay, kill_at_fsync=number)
        except UnharmedError:
            break
        assert way.end == unharmed.end
        states = way.states(least=True)
        assert_survived(site, way, states)
        count += len(states)
    print(f"{number - 1} kills, {count} states")
    assert number > 8


# ---- the recording ---------------------------------------------------------------------------------------


class UnharmedError(Exception):
    """There were fewer fsyncs than that."""


def recorded(site: Site, lay: Lay, *, kill_at_fsync: int | None = None) -> Way:
    """The way of what `lay` puts into the inbox, which is on the disk like all that was there before.

    With a kill, it is the way of the daemon after that.

    Raises:
        UnharmedError: the daemon that was to be killed came through.
    """
    root = Path(tempfile.mkdtemp(prefix="recorded-", dir=site.root))
    clinic = Clinic(root / "clinic", site.after.base_url, **_QUICK)
    clinic.log, trace = root / "daemon.log", root / "trace"
    lay(clinic)
    disk, before = Disk(clinic.root), found(clinic)
    knew_mounts = (clinic.root / _MOUNTS).exists()
    arguments = ["run", "--once", "--config", str(clinic.config)]
    if kill_at_fsync is not None:
        mortal = [sys.executable, "-c", _MORTAL, str(clinic.root), str(kill_at_fsync), *arguments]
        status, operations = record(mortal, clinic.root, log=clinic.log, trace=trace)
        disk.add(operations)
        if status != -signal.SIGKILL:
            raise UnharmedError
    since = len(disk.operations)
    status, operations = record(clinic.command(*arguments[:2]), clinic.root, log=clinic.log, trace=trace)
    assert status in (0, 1), clinic.log.read_text()
    disk.add(operations)
    # The model of the disk is right as far as it can be compared: with nothing lost, it is what is there.
    live = {path: content for path, content in disk.live().items() if Path(path).name != MARK_FILE}
    there = {path: (clinic.root / path).read_bytes() for path in clinic.files(clinic.root)}
    assert not [path for path in live if path.endswith(("-wal", WAL_INDEX))]  # it was closed
    assert live == there
    return Way(
        disk=disk,
        since=since,
        before=before,
        end=found(clinic),
        custody=custody(clinic),
        mounts=(clinic.root / _MOUNTS).read_bytes(),
        knew_mounts=knew_mounts,
    )


def found(clinic: Clinic, *folders: str) -> dict[str, object]:
    """The files in these folders, by default in all five, and what a person cares for in them."""
    paths = [
        f"{folder}/{path}" for folder in folders or _FOLDERS for path in clinic.files(clinic.root / folder)
    ]
    return {path: telling(clinic.root / path) for path in paths}


def telling(path: Path) -> object:
    """A file's content without what differs from one run to the next."""
    content = path.read_bytes()
    if path.suffix == ".json":
        with contextlib.suppress(ValueError):
            return {key: value for key, value in json.loads(content).items() if key not in _OF_THE_RUN}
    return content


def custody(clinic: Clinic) -> Counter[str]:
    """How often each step is in the audit log; what a power cut has left of a line is none."""
    steps: Counter[str] = Counter()
    for line in (clinic.root / "state" / "audit.jsonl").read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            steps[json.loads(line)["what"]] += 1
    return steps


# ---- what becomes of it ----------------------------------------------------------------------------------


def assert_survived(site: Site, way: Way, states: Sequence[State], *, exactly: bool = True) -> None:
    """A daemon started on any of these states comes to the end that it came to without a power cut.

    Unless `exactly`, it is enough that nothing is lost, nothing is seen by halves, nothing is paid for twice.
    """
    maybe, surely = way.uploading
    restarts = [(state, site.before) for state in states if state.point < surely]
    first_uploads = len(restarts) if surely < float("inf") else 0
    restarts += [(state, site.after) for state in states if state.point >= maybe]
    before, after = site.before.stats()["uploads"], site.after.stats()["uploads"]

    def one(number: int) -> list[str]:
        state, api = restarts[number]
        done = way.disk.operations[state.point - 1] if state.point else "nothing"
        wrong = restart(site, way, state, api, exactly=exactly)
        return [f"{state.how}, after {state.point}: {done}: {what}" for what in wrong]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        wrong = list(itertools.chain.from_iterable(pool.map(one, range(len(restarts)))))
    assert not wrong, f"{len(wrong)} troubles in {len(restarts)} restarts:\n" + "\n".join(wrong[:_SHOWN])
    assert site.after.stats()["uploads"] == after
    uploads = site.before.stats()["uploads"] - before
    assert uploads == first_uploads if exactly else uploads <= first_uploads


def restart(site: Site, way: Way, state: State, api: Sandbox, *, exactly: bool) -> list[str]:
    """What is wrong with the state, or with what a daemon makes of it."""
    root = Path(tempfile.mkdtemp(prefix="restarted-", dir=site.root)) / "clinic"
    with_inodes_of(root, state.write(root))
    clinic = Clinic(root, api.base_url, **_QUICK)
    wrong = [*half_files(clinic, way), *lost(clinic, way)]
    forks = site.idle.get()
    try:
        command = ["run", "--once", "--config", str(clinic.config)]
        status = forks.run(command, stdout=root / "stdout", stderr=clinic.log, seconds=60)
    finally:
        site.idle.put(forks)
    if status not in (0, 1):
        wrong.append(f"exit status {status}, see {clinic.log}")
    wrong += lost(clinic, way)
    end = found(clinic)
    if exactly and end != way.end:
        what = f"found {sorted(end)}" if end.keys() != way.end.keys() else "other content"
        wrong.append(f"{what}, see {clinic.log}")
    if exactly and not custody(clinic) >= way.custody:
        wrong.append(f"the audit log has only {custody(clinic)}, see {clinic.log}")
    wrong += [f"left {path}" for path in clinic.files(root) if path.endswith(_LEFT)]
    if len(clinic.events("upload_started")) > (api is site.before):
        wrong.append("uploaded once more")
    if not wrong:
        shutil.rmtree(root.parent)
    return wrong


def with_inodes_of(root: Path, now: dict[int, Any]) -> None:
    """Tell the journal which files the recordings are now.

    After a power cut they would be what they were; a copy of the tree can't give them their inode numbers.
    """
    journal = root / "state" / "journal.sqlite"
    if not journal.exists():
        return
    damaged = contextlib.suppress(sqlite3.DatabaseError)  # for the daemon to find
    with contextlib.closing(sqlite3.connect(journal)) as connection, damaged:
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'jobs'").fetchone():
            for inode, status in now.items():
                values = (str(status.st_dev), str(status.st_ino), str(inode))
                connection.execute("UPDATE jobs SET device = ?, inode = ? WHERE inode = ?", values)
            connection.commit()


def half_files(clinic: Clinic, way: Way) -> Iterator[str]:
    """What is not whole, of what other programs or the next start would read."""
    for path, content in found(clinic, "outbox", "failed").items():
        if not Path(path).name.startswith(".") and content != way.end.get(path):
            yield f"{path} is not whole"
    mounts = clinic.root / _MOUNTS
    if mounts.exists() and mounts.read_bytes() != way.mounts:
        yield f"{_MOUNTS} is not whole"
    if way.knew_mounts and not mounts.exists():
        yield f"{_MOUNTS} is lost"


def lost(clinic: Clinic, way: Way) -> list[str]:
    """What was there before the recording and is nowhere now."""
    there = list(found(clinic).values())
    return [f"{path} is lost" for path, content in way.before.items() if content not in there]
