"""The watcher: events that are lost, folders filled at once, a watch that dies, limits, clocks that jump."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults.promises import assert_kept, hashes
from tests.kit.clinic import Clinic, running, sandbox, stop
from tests.kit.daemon_server import get, problems
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

DAY_SECONDS = 86400
# libfaketime 0.9.10 breaks sleeps until a monotonic moment, which watchdog's threads do, and we don't.
UNDER_FAKETIME = {"mode": "polling", "polling_seconds": 0.2, "settle_seconds": 0.3, "patience_seconds": 600}
# With these only the kernel's events, or what is done when they are lost, lead to a recording in time.
EVENTS_ONLY = {"settle_seconds": 60, "rescan_seconds": 3600, "patience_seconds": 3600}


def tiny_wav(number: int) -> bytes:
    """A whole WAV of 60 bytes, another for each number."""
    samples = struct.pack("<I", number) * 4
    header = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + len(samples)) + header + b"data" + struct.pack("<I", 16) + samples


@contextlib.contextmanager
def daemon(clinic: Clinic, command: Sequence[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon started by `command`, which may be wrapped around it; killed if it still runs in the end."""
    seen = len(clinic.events("watching"))
    with clinic.log.open("ab") as log:
        process = subprocess.Popen(command, stderr=log, env=os.environ | environment, start_new_session=True)
    try:
        wait_for("the daemon watches", lambda: len(clinic.events("watching")) > seen, seconds=60)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def move_in_while_stopped(process: subprocess.Popen[bytes], clinic: Clinic, names: Sequence[str]) -> set[str]:
    """Move tiny recordings in, one by one, while the daemon can't read a single event; their SHA-256s."""
    source = clinic.root / "source"
    contents = {name: tiny_wav(number) for number, name in enumerate(names)}
    for name, content in contents.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    process.send_signal(signal.SIGSTOP)
    for name in names:
        os.rename(source / name, clinic.inbox / name)
    process.send_signal(signal.SIGCONT)
    return {hashlib.sha256(content).hexdigest() for content in contents.values()}


# ---- 20: the event queue overflows ----


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_20_recordings_with_lost_events_are_found_by_a_rescan(tmp_path: Path, api: Sandbox) -> None:
    """The kernel keeps 16,384 events: those of the recordings come last, after 20,000 of no interest."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=EVENTS_ONLY)
    names = [f"{number}.wav.part" for number in range(20_000)] + [f"{number}.wav" for number in range(100)]
    process = clinic.start()
    try:
        move_in_while_stopped(process, clinic, names)
        wait_for("all are done", lambda: len(clinic.files(clinic.done)) == 100, seconds=100)
        assert stop(process) == 0
    finally:
        process.kill()
        process.wait()
    [said] = clinic.events("watch_overflowed")
    assert said["level"] == "warning"
    assert len(clinic.events("claimed")) == api.stats()["uploads"] == 100
    assert clinic.events("watch_missed") == []  # the kernel said it, so the watch is not to blame


@contextlib.contextmanager
def short_queues() -> Iterator[None]:
    """What begins to watch meanwhile, anywhere on this host, gets a queue of 100 events."""
    limit = Path("/proc/sys/fs/inotify/max_queued_events")
    before = limit.read_text()
    limit.write_text("100")
    try:
        yield
    finally:
        limit.write_text(before)


@pytest.mark.needs("root")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_20_recordings_past_a_full_queue_are_all_transcribed(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=EVENTS_ONLY)
    names = [f"ward {number % 10}/{number}.wav" for number in range(300)]
    for number in range(10):
        (clinic.inbox / f"ward {number}").mkdir()
    with short_queues():
        process = clinic.start()
    try:
        contents = move_in_while_stopped(process, clinic, names)
        wait_for("all are done", lambda: len(clinic.files(clinic.done)) == 300, seconds=200)
        wait_for("nothing is left", lambda: not clinic.under_way())
        assert stop(process) == 0
    finally:
        process.kill()
        process.wait()
    assert len(clinic.events("watch_overflowed")) == 1
    assert_kept(clinic, api, contents)


@pytest.mark.needs("root")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_20_twenty_thousand_recordings_at_once_are_all_taken(tmp_path: Path) -> None:
    """With the API away, so that it takes minutes and not an hour; in memory, for the same reason."""
    root = tmp_path / "clinic"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(root)], check=True)
    try:
        clinic = Clinic(
            root,
            "http://127.0.0.1:9",  # the discard port: nobody listens
            watch=EVENTS_ONLY,
            intake={"max_in_flight": 30_000},
            logging={"level": "info"},
        )
        names = [f"{number:05}.wav" for number in range(20_000)]
        process = clinic.start()
        try:
            move_in_while_stopped(process, clinic, names)
            wait_for("the inbox is empty", lambda: not clinic.files(clinic.inbox), seconds=800)
            assert stop(process, seconds=30) == 0
        finally:
            process.kill()
            process.wait()
        assert sorted(os.path.basename(path) for path in clinic.files(clinic.processing)) == names
        assert len(clinic.events("watch_overflowed")) == 1
        assert len(clinic.events("claimed")) == 20_000
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True)


# ---- 21: folders that are filled at once ----


def test_21_new_folders_and_folders_moved_in_are_found(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=EVENTS_ONLY)
    for number in range(40):
        write_wav(clinic.root / "tree" / f"ward {number % 5}" / "deep" / f"{number}.wav", pitch=300 + number)
    for number in range(20):
        write_wav(clinic.root / "recordings" / f"{number}.wav", pitch=700 + number)
    script = "for n in $(seq 0 19); do mkdir -p a$n/b/c && cp ../recordings/$n.wav a$n/b/c/; done"
    with running(clinic):
        subprocess.run(["/bin/sh", "-c", script], cwd=clinic.inbox, check=True)
        os.rename(clinic.root / "tree", clinic.inbox / "tree")
        wait_for("all are done", lambda: len(clinic.files(clinic.done)) == 60, seconds=60)
    filed = clinic.files(clinic.done)
    assert filed == sorted(
        [f"a{number}/b/c/{number}.wav" for number in range(20)]
        + [f"tree/ward {number % 5}/deep/{number}.wav" for number in range(40)]
    )
    assert api.stats()["uploads"] == 60
    assert clinic.events("watch_missed") == []


# ---- 22: a watch that dies ----


@pytest.mark.needs("root", "strace")
def test_22_an_unreadable_watch_ends_the_daemon(tmp_path: Path, api: Sandbox) -> None:
    """An error of the disk in reading events kills watchdog's reader: the thread dies, and so must we."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=EVENTS_ONLY)
    inject = ["-P", "anon_inode:inotify", "-e", "trace=read", "-e", "inject=read:error=EIO"]
    strace = ["strace", "-f", "-qq", "-o", str(tmp_path / "strace"), *inject]
    with daemon(clinic, [*strace, *clinic.command("run")]) as process:
        write_wav(clinic.inbox / "smith.wav")
        assert process.wait(60) == 70
    assert [event["level"] for event in clinic.events("thread_died")] == ["error"]
    assert "watch" in clinic.events("thread_died")[0]["error"]
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["smith.wav"]
    assert len(clinic.files(clinic.outbox)) == 2


@pytest.mark.needs("root", "strace")
def test_22_folders_that_can_not_be_watched_are_scanned(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch={"settle_seconds": 0.2, "rescan_seconds": 1})
    (clinic.inbox / "ward 3").mkdir()
    inject = ["-e", "trace=inotify_add_watch", "-e", "inject=inotify_add_watch:error=ENOMEM:when=2"]
    strace = ["strace", "-f", "-qq", "-o", str(tmp_path / "strace"), *inject]
    with daemon(clinic, [*strace, *clinic.command("run")]):
        for number in range(3):
            write_wav(clinic.inbox / "ward 3" / f"{number}.wav", pitch=300 + number)
            count = number + 1
            wait_for("it is done", lambda n=count: len(clinic.files(clinic.done)) == n, seconds=60)  # type: ignore[misc]
            wait_for("it is said", lambda n=count: len(clinic.events("watch_missed")) == n)  # type: ignore[misc]
        wait_for("it is polled", lambda: clinic.events("watching")[-1]["mode"] == "polling")
        assert clinic.events("watching")[-1]["level"] == "warning"
        os.kill(clinic.events("started")[0]["pid"], signal.SIGTERM)
        wait_for("it stops", lambda: clinic.events("stopped") != [])


# ---- 23: a folder goes away (shares proper: test_shares) ----


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["inbox", "processing", "outbox", "done"])
def test_23_an_unavailable_folder_is_waited_for(tmp_path: Path, api: Sandbox, folder: str) -> None:
    clinic = Clinic(
        tmp_path / "clinic",
        api.base_url,
        retry={"base_seconds": 0.05, "max_seconds": 0.2, "max_attempts": 2},
        http={"listen": "127.0.0.1:0"},
    )
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    for number in range(3):
        write_wav(clinic.inbox / f"{number}.wav", pitch=300 + number)
    contents = hashes(clinic)
    with running(clinic):
        wait_for("all are uploaded", lambda: api.stats()["uploads"] == 3)
        away = clinic.root / "away"
        os.rename(clinic.root / folder, away)
        api.clear_faults()
        wait_for("it is not ready", lambda: "folders_unavailable" in problems(clinic))
        time.sleep(2)  # more than all attempts take
        assert f"{folder}/" in problems(clinic)["folders_unavailable"]
        assert get(clinic, "/healthz")[0] == 200
        assert not (clinic.root / folder).exists()
        os.rename(away, clinic.root / folder)
        wait_for("all are done", lambda: len(clinic.files(clinic.done)) == 3, seconds=40)
        wait_for("it is ready", lambda: not problems(clinic), seconds=40)
    assert_kept(clinic, api, contents)
    assert clinic.events("vanished", "failing") == []


# ---- 24: inotify's limits ----


@pytest.mark.needs("root", "unshare")
def test_24_without_an_inotify_instance_the_inbox_is_polled(tmp_path: Path, api: Sandbox) -> None:
    watch = {"settle_seconds": 0.2, "rescan_seconds": 3600, "polling_seconds": 0.5, "patience_seconds": 30}
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=watch)
    with daemon(clinic, _limited("max_inotify_instances", 0, clinic)) as process:
        write_wav(clinic.inbox / "ward 3" / "smith.wav")
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["ward 3/smith.wav"])
        assert stop(process) == 0
    [limit] = clinic.events("watch_limit")
    assert (limit["level"], limit["code"]) == ("warning", "EMFILE")
    assert "max_user_instances" in limit["hint"]
    assert clinic.events("watching")[-1]["mode"] == "polling"


@pytest.mark.needs("root", "unshare")
def test_24_with_too_few_inotify_watches_the_inbox_is_polled(tmp_path: Path, api: Sandbox) -> None:
    watch = {"settle_seconds": 0.2, "rescan_seconds": 1, "polling_seconds": 0.5, "patience_seconds": 30}
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=watch)
    for number in range(5):
        (clinic.inbox / f"ward {number}").mkdir()
    with daemon(clinic, _limited("max_inotify_watches", 2, clinic)) as process:
        names = []
        while clinic.events("watching")[-1]["mode"] == "native":
            names = [f"ward {number}/{len(names)}-{number}.wav" for number in range(5)] + names
            for place, name in enumerate(names[:5]):
                write_wav(clinic.inbox / name, pitch=300 + 7 * len(names) + place)
            wait_for("they are done", lambda: clinic.files(clinic.done) == sorted(names), seconds=60)  # noqa: B023
            assert len(names) < 50, "it never goes over to polling"
            time.sleep(1.5)  # the grace for events that come late
        assert stop(process) == 0
    assert [event["level"] for event in clinic.events("watch_missed")] == ["warning"] * 3
    assert clinic.events("watching")[-1]["level"] == "warning"


def _limited(limit: str, value: int, clinic: Clinic) -> list[str]:
    """The daemon in a user namespace, whose limits are its own."""
    script = f'echo {value} > /proc/sys/user/{limit} && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", *clinic.command("run")]


# ---- 25: the clock jumps ----


class WallClock:
    """The wall clock of a process, which can be set; time since the boot goes on as it does."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump_to(0)
        [library] = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def jump_to(self, seconds: int) -> None:
        """Let it be so many seconds fast."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        os.replace(new, self._file)


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path / "faketimerc")


def _jumped(clinic: Clinic, event: str, seconds: int) -> bool:
    """Whether the log's times show that the daemon's own clock had jumped when it logged `event`."""
    shown = subprocess.run(
        ["date", "-ud", f"{seconds} seconds", "+%Y-%m-%dT"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return clinic.events(event)[-1]["at"].startswith(shown)


@pytest.mark.needs("faketime")
@pytest.mark.parametrize("jump", [DAY_SECONDS, -DAY_SECONDS])
def test_25_a_jump_does_not_change_when_a_recording_is_complete(
    tmp_path: Path, api: Sandbox, wall_clock: WallClock, jump: int
) -> None:
    """What can't say that it is whole has to be quiet for the settle time: of our time, not the clock's."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=UNDER_FAKETIME | {"settle_seconds": 3})
    content = write_wav(tmp_path / "source.wav", seconds=2).read_bytes()
    with daemon(clinic, clinic.command("run"), **wall_clock.environment) as process:
        quiet_since = time.monotonic()
        (clinic.inbox / "smith.wav").write_bytes(content)
        time.sleep(0.7)  # it has been seen
        wall_clock.jump_to(jump)
        wait_for("it is taken", lambda: clinic.events("claimed") != [])
        assert time.monotonic() - quiet_since >= 3
        wait_for("it is done", lambda: clinic.events("done") != [])
        assert _jumped(clinic, "done", jump)
        assert stop(process) == 0
    assert (clinic.done / "smith.wav").read_bytes() == content
    assert clinic.files(clinic.failed) == []


@pytest.mark.needs("faketime")
@pytest.mark.slow
@pytest.mark.parametrize("jump", [2 * DAY_SECONDS, -2 * DAY_SECONDS])
@pytest.mark.parametrize("restart", [False, True], ids=["running", "over a restart"])
def test_25_a_jump_does_not_end_the_wait_for_a_result(
    tmp_path: Path, api: Sandbox, wall_clock: WallClock, jump: int, restart: bool
) -> None:
    """The deadline for a result is a day by default; the API answers later, as if nothing had happened."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=UNDER_FAKETIME)
    write_wav(clinic.inbox / "smith.wav")
    contents = hashes(clinic)
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(daemon(clinic, clinic.command("run"), **wall_clock.environment))
        wait_for("it is asked about", lambda: clinic.events("pending") != [])
        if restart:
            assert stop(process) == 0
        wall_clock.jump_to(jump)
        if restart:
            process = stack.enter_context(daemon(clinic, clinic.command("run"), **wall_clock.environment))
        asked = len(clinic.events("pending"))
        wait_for("it is asked about again", lambda: len(clinic.events("pending")) > asked + 2)
        assert _jumped(clinic, "pending", jump)
        api.clear_faults()
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert stop(process) == 0
    assert_kept(clinic, api, contents)


@pytest.mark.needs("faketime")
@pytest.mark.slow
def test_25_after_a_jump_back_the_order_of_work_is_kept(tmp_path: Path, wall_clock: WallClock) -> None:
    nowhere = "http://127.0.0.1:9"  # the discard port: nobody listens
    clinic = Clinic(tmp_path / "clinic", nowhere, watch=UNDER_FAKETIME, upload={"workers": 1})
    names = ["first", "second", "third"]
    with daemon(clinic, clinic.command("run"), **wall_clock.environment) as process:
        for number, name in enumerate(names):
            wall_clock.jump_to(-number * DAY_SECONDS)
            write_wav(clinic.inbox / f"{name}.wav", pitch=300 + number)
            wait_for("it is taken", lambda n=number: len(clinic.events("identified")) > n)  # type: ignore[misc]
        assert stop(process) == 0
    taken = [event["job"] for event in clinic.events("claimed")]

    with sandbox(tmp_path / "api") as api:
        clinic.config.write_text(clinic.config.read_text().replace(nowhere, api.base_url))
        with daemon(clinic, clinic.command("run"), **wall_clock.environment) as process:
            wait_for("all are done", lambda: len(clinic.files(clinic.done)) == 3)
            assert stop(process) == 0
    assert [event["job"] for event in clinic.events("uploaded")] == taken
