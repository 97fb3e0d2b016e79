"""The watch of an inbox: by kernel events or polling, at the limits, and while the folder is unavailable."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invox_watcher import events
from invox_watcher.errors import InvoxError
from tests.kit.inbox import Intake, wav
from tests.kit.waiting import eventually

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_local_folders_are_watched_and_polling_can_be_chosen(intake: Intake) -> None:
    intake.start_and_scan()
    assert intake.status.watching == "native"
    assert intake.logged(events.Event.WATCHING)[0]["mode"] == "native"
    intake.stop()


def test_polling_sets_up_no_watch_and_finds_what_comes(intake: Intake) -> None:
    intake.start_and_scan(mode="polling", settle_seconds=0.1)
    assert not [thread.name for thread in threading.enumerate() if "inotify" in type(thread).__name__.lower()]
    assert intake.status.watching == "polling"
    (intake.root / "x.wav").write_bytes(wav())
    eventually(lambda: "x.wav" in intake.claimed)


def break_inotify(intake: Intake) -> None:
    """Make the next read of every inotify descriptor of this process fail, as a broken kernel would."""
    folder = os.open("/", os.O_RDONLY)
    for fd in os.listdir("/proc/self/fd"):
        if os.path.islink(f"/proc/self/fd/{fd}") and "inotify" in os.readlink(f"/proc/self/fd/{fd}"):
            os.dup2(folder, int(fd))
    os.close(folder)
    (intake.root / ".nudge").write_bytes(b"")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_watch_ends_the_run(intake: Intake) -> None:
    intake.start_and_scan()
    break_inotify(intake)
    eventually(lambda: not intake.running)
    assert isinstance(intake.error, InvoxError)
    assert intake.error.code == "watch_died"


def test_a_watch_without_events_is_replaced_by_polling(intake: Intake, tmp_path: Path) -> None:
    # What another machine writes to a share that passes for a local folder looks the same.
    intake.start_and_scan(rescan_seconds=0.1, settle_seconds=0.05)
    deafen(intake)
    for number in range(3):
        (intake.root / f"{number}.wav").write_bytes(wav())
        eventually(lambda count=number + 1: len(intake.logged(events.Event.WATCH_MISSED)) == count)  # type: ignore[misc]
    eventually(lambda: intake.status.watching == "polling")
    assert intake.logged(events.Event.WATCHING)[-1]["level"] == "warning"
    (intake.root / "after.wav").write_bytes(wav())
    eventually(lambda: len(intake.claimed) == 4)


def deafen(intake: Intake) -> None:
    """Take the folder's watch out of every inotify descriptor of this process."""
    libc = ctypes.CDLL(None)
    for fd in os.listdir("/proc/self/fd"):
        if os.path.islink(f"/proc/self/fd/{fd}") and "inotify" in os.readlink(f"/proc/self/fd/{fd}"):
            for watch in range(1, 10):
                libc.inotify_rm_watch(int(fd), watch)


AT_A_LIMIT = """
import os, sys, threading, time
from pathlib import Path
from invox_watcher import events, logs
from invox_watcher.inbox import Inbox, ScreeningRules, Waits

root, limit, value = Path(sys.argv[1]), *sys.argv[2:]
Path("/proc/sys/user", limit).write_text(value)
logs.configure(stream=sys.stderr)
stop, busy, filled = threading.Event(), threading.Event(), threading.Event()
rules = ScreeningRules(10**9, ["audio/wav"], Waits(0.05, 0.1, 0.1, 30))
inbox = Inbox(
    root, rules, mode="auto", recursive=True, ignore=[], rescan_seconds=30, polling_seconds=0.1
)

class Intake:
    def take(self, candidate):
        os.unlink(root / candidate.path)
        if candidate.path == "first.wav":
            busy.set()
            filled.wait()
        else:
            print(candidate.path, inbox.status.watching)
            stop.set()
        return True

    def claim_taken(self):
        return {}

thread = threading.Thread(target=inbox.run, args=(Intake(), stop))
thread.start()
while inbox.status.scans == 0:
    time.sleep(0.01)
os.rename(root / ".x", root / "first.wav")
busy.wait()
os.mkdir(root / "ward")
os.rename(root / ".y", root / "ward" / "second.wav")
filled.set()
thread.join(10)
stop.set()
"""


@pytest.mark.parametrize(
    ("limit", "value", "watching", "codes"),
    [("max_inotify_instances", "0", "polling", ["EMFILE"]), ("max_inotify_watches", "1", "native", [])],
)
def test_at_the_kernels_limits_recordings_are_still_found(
    intake: Intake, limit: str, value: str, watching: str, codes: list[str]
) -> None:
    # In a user namespace, whose limits are its own.
    isolated = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*isolated, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are not allowed here")
    for name in (".x", ".y"):
        (intake.root / name).write_bytes(wav())
    command = [*isolated, sys.executable, "-c", AT_A_LIMIT, str(intake.root), limit, value]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == f"ward/second.wav {watching}\n"
    limits = [line for line in map(json.loads, done.stderr.splitlines()) if line["event"] == "watch_limit"]
    assert [line["code"] for line in limits] == codes


# ---- the folder goes away ----


@pytest.mark.parametrize("mode", ["native", "polling"])
def test_a_folder_that_becomes_unavailable_is_waited_for(intake: Intake, tmp_path: Path, mode: str) -> None:
    intake.start_and_scan(mode=mode, settle_seconds=0.05)
    intake.root.rename(tmp_path / "away")
    eventually(lambda: not intake.status.available)
    (tmp_path / "away" / "x.wav").write_bytes(wav())
    (tmp_path / "away").rename(intake.root)
    eventually(lambda: intake.status.available)
    eventually(lambda: "x.wav" in intake.claimed)
    (intake.root / "y.wav").write_bytes(wav())
    eventually(lambda: "y.wav" in intake.claimed)
    assert len(intake.logged(events.Event.INBOX_UNAVAILABLE)) == 1
    assert len(intake.logged(events.Event.INBOX_AVAILABLE)) == 1


def test_a_recreated_folder_is_watched_again(intake: Intake) -> None:
    intake.start_and_scan(settle_seconds=30)
    intake.root.rmdir()
    intake.root.mkdir()
    eventually(lambda: intake.status.scans >= 2)
    (intake.root / "x.wav").write_bytes(wav())
    eventually(lambda: "x.wav" in intake.claimed, within=1)
    assert intake.error is None


def test_a_missing_folder_is_waited_for(intake: Intake) -> None:
    intake.root.rmdir()
    intake.start()
    eventually(lambda: intake.logged(events.Event.INBOX_UNAVAILABLE))
    eventually(lambda: not intake.status.available)
    intake.root.mkdir()
    (intake.root / "x.wav").write_bytes(wav())
    eventually(lambda: "x.wav" in intake.claimed)
    assert len(intake.logged(events.Event.INBOX_UNAVAILABLE)) == 1
    assert len(intake.logged(events.Event.INBOX_AVAILABLE)) == 1


@pytest.fixture
def share(intake: Intake) -> Iterator[Callable[[], None]]:
    """Mounts an empty file system of its own on the inbox; nothing is left mounted in the end."""

    def mount() -> None:
        command = ["mount", "-t", "tmpfs", "tmpfs", str(intake.root)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting is not allowed here")

    yield mount
    while intake.root.is_mount():
        subprocess.run(["umount", "--lazy", str(intake.root)], check=True)


@ROOT_ONLY
def test_an_empty_mount_point_is_not_the_inbox(intake: Intake, share: Callable[[], None]) -> None:
    share()
    (intake.root / "waits.wav").write_bytes(b"")
    intake.start_and_scan(settle_seconds=0.05)
    eventually(lambda: intake.status.unfinished == 1)
    subprocess.run(["umount", str(intake.root)], check=True)
    eventually(lambda: not intake.status.available)
    assert intake.logged(events.Event.INBOX_UNAVAILABLE)[0]["code"] == "ENODEV"
    assert intake.status.unfinished == 1
    share()
    (intake.root / "x.wav").write_bytes(wav())
    # Offered is enough: a rename out of another file system can't work.
    eventually(lambda: intake.offers)
    eventually(lambda: intake.status.available)
