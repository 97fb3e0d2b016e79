"""SIGHUP: the log opened anew, the configuration changed in a running process, or the old one kept."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from invox_watcher.host.locks import holder_of
from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import RELOADS, Clinic, free_port, reload, sandbox, stop
from tests.kit.manager import managed, manager
from tests.kit.recordings import write_sparse_wav, write_wav
from tests.kit.waiting import Process, wait_for


def change(clinic: Clinic, section: str, **keys: Any) -> None:
    """Change the configuration file."""
    content = yaml.safe_load(clinic.config.read_text())
    content[section] = content.get(section, {}) | keys
    clinic.config.write_text(yaml.safe_dump(content))


@contextlib.contextmanager
def started(clinic: Clinic) -> Iterator[Process]:
    """The daemon, which has to live until the end and then to end well."""
    daemon = clinic.start()
    try:
        yield daemon
        assert daemon.poll() is None, "it has ended"
        assert stop(daemon) == 0
    finally:
        daemon.kill()
        daemon.wait()


def passes(clinic: Clinic, name: str, pitch: float) -> None:
    """A recording goes through."""
    write_wav(clinic.inbox / f"{name}.wav", pitch=pitch)
    wait_for(f"{name} is done", lambda: f"{name}.wav" in clinic.files(clinic.done))


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except ConnectionRefusedError:
        return False
    finally:
        connection.close()


# ---- a new configuration -----------------------------------------------------------------------------------


def test_changes_apply_in_the_same_process(clinic: Clinic) -> None:
    with started(clinic) as daemon:
        passes(clinic, "smith", 440)
        change(clinic, "outputs", formats=["txt", "vtt"])
        assert reload(clinic, daemon)["event"] == "reloaded"
        passes(clinic, "jones", 700)
        assert clinic.files(clinic.outbox) == ["jones.txt", "jones.vtt", "smith.json", "smith.srt"]
        assert [event["pid"] for event in clinic.events("started")] == [daemon.pid]


def test_the_port_is_changed_too(tmp_path: Path, api: Sandbox) -> None:
    first, second = free_port(), free_port()
    clinic = Clinic(tmp_path / "clinic", api.base_url, http={"listen": f"127.0.0.1:{first}"})
    with started(clinic) as daemon:
        assert answers(first)
        change(clinic, "http", listen=f"127.0.0.1:{second}")
        reload(clinic, daemon)
        assert (answers(first), answers(second)) == (False, True)
        reload(clinic, daemon)  # the same port once more
        assert answers(second)
        change(clinic, "http", listen=None)
        reload(clinic, daemon)
        assert not answers(second)


def test_the_folders_are_changed_and_jobs_under_way_stay(clinic: Clinic) -> None:
    with started(clinic) as daemon:
        change(clinic, "folders", inbox=str(clinic.root / "other"))
        assert reload(clinic, daemon)["event"] == "reloaded"
        clinic.inbox = clinic.root / "other"
        passes(clinic, "smith", 440)


def test_an_upload_under_way_is_sent_again_and_paid_for_once(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", upload_bytes_per_second=500_000) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        write_sparse_wav(clinic.inbox / "smith.wav", 1_500_000)
        with started(clinic) as daemon:
            wait_for("the upload begins", lambda: bool(clinic.events("upload_started")))
            assert reload(clinic, daemon)["event"] == "reloaded"
            assert not clinic.events("uploaded"), "it proves nothing"
            wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"], seconds=40)
        assert api.stats()["uploads"] == 1
        assert clinic.files(clinic.outbox) == ["smith.json", "smith.srt"]


def test_many_recordings_under_way_and_many_reloads(clinic: Clinic, api: Sandbox) -> None:
    names = [f"smith{number}.wav" for number in range(12)]
    with started(clinic) as daemon:
        for number, name in enumerate(names):
            write_wav(clinic.inbox / name, pitch=300 + 40 * number)
            if number % 3 == 0:
                reload(clinic, daemon)
        wait_for("all are done", lambda: clinic.files(clinic.done) == sorted(names), seconds=60)
    assert clinic.files(clinic.failed) == clinic.files(clinic.inbox) == []
    assert api.stats()["uploads"] == len(names)


def test_a_manager_is_notified_of_begin_and_end(clinic: Clinic) -> None:
    with manager() as systemd, managed(clinic, systemd) as daemon:
        (first,) = systemd.wait_for("READY")
        for broken in (False, True):
            if broken:
                clinic.config.write_text("nonsense: 1")
            asked_at = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            heard = len(systemd.messages("RELOADING"))
            daemon.send_signal(signal.SIGHUP)
            reloading = systemd.wait_for("RELOADING", count=heard + 1)[heard]
            told_at = int(reloading.fields["MONOTONIC_USEC"])
            assert asked_at <= told_at <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            assert systemd.wait_for("READY", count=heard + 2)[-1].at >= reloading.at > first.at
        assert [event["event"] for event in clinic.events(*RELOADS)] == ["reloaded", "reload_refused"]


def test_hooks_start_with_no_signal_blocked(tmp_path: Path, api: Sandbox) -> None:
    masks = tmp_path / "masks"
    # Not by a shell, which may clear the mask itself.
    script = f"import signal; print(len(signal.pthread_sigmask(0, [])), file=open('{masks}', 'a'))"
    command = [sys.executable, "-c", script]
    clinic = Clinic(tmp_path / "clinic", api.base_url, hooks={"on_done": command})
    with started(clinic) as daemon:
        passes(clinic, "smith", 440)
        wait_for("the command has run", masks.exists)
        reload(clinic, daemon)
        passes(clinic, "jones", 700)
        wait_for("it has run again", lambda: len(masks.read_text().splitlines()) == 2)
    assert masks.read_text().split() == ["0", "0"]


# ---- the lock ----------------------------------------------------------------------------------------------


def test_no_other_daemon_takes_over_during_a_reload(clinic: Clinic) -> None:
    with started(clinic) as daemon:
        lock, free = clinic.root / "state" / "lock", []
        watching = threading.Event()

        def look() -> None:
            while not watching.is_set():
                holder = holder_of(lock)
                if holder is None or holder.pid != daemon.pid:
                    free.append(holder)

        looker = threading.Thread(target=look)
        looker.start()
        for _ in range(3):
            assert reload(clinic, daemon)["event"] == "reloaded"
        watching.set()
        looker.join()
        assert free == []
        other = clinic.run("run", "--once")
        assert other.returncode == 75
        assert "Another daemon is running" in other.stderr


def test_a_state_directory_that_is_left_is_free_again(clinic: Clinic, api: Sandbox) -> None:
    old, new = clinic.root / "state", clinic.root / "elsewhere"
    with started(clinic) as daemon:
        change(clinic, "state", directory=str(new))
        assert reload(clinic, daemon)["event"] == "reloaded"
        assert holder_of(old / "lock") is None
        holder = holder_of(new / "lock")
        assert holder is not None
        assert holder.pid == daemon.pid
        # The folders are the same, and still nobody else's.
        change(clinic, "state", directory=str(old))
        assert clinic.run("run", "--once").returncode == 78


def test_no_reload_forgets_what_was_uploaded(clinic: Clinic, api: Sandbox) -> None:
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    write_wav(clinic.inbox / "smith.wav")
    with started(clinic) as daemon:
        wait_for("it is uploaded", lambda: api.stats()["uploads"] == 1)
        before = clinic.config.read_text()
        for change_of, said in (
            ({"directory": str(clinic.root / "elsewhere")}, "has recordings under way (1)"),
            ({"url": "postgresql://nowhere.invalid/x"}, "state.url was added"),
        ):
            change(clinic, "state", **change_of)
            refused = reload(clinic, daemon)
            assert (refused["event"], refused["code"]) == ("reload_refused", "journal_other")
            assert said in refused["error"]
            clinic.config.write_text(before)
        api.clear_faults()
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
    assert api.stats()["uploads"] == 1


# ---- refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("upload: {workers: none}", "upload.workers"),
        ("not: [yaml", "config.yaml"),
        (None, "config.yaml"),
    ],
)
def test_a_wrong_configuration_changes_nothing(clinic: Clinic, content: str | None, said: str) -> None:
    with started(clinic) as daemon:
        if content is None:
            clinic.config.unlink()
        else:
            clinic.config.write_text(content)
        refused = reload(clinic, daemon)
        assert refused["event"] == "reload_refused"
        assert refused["code"] == "configuration"
        assert said in refused["error"]
        passes(clinic, "smith", 440)
        assert len(clinic.events("watching")) == 1, "it was interrupted"


def test_a_refused_configuration_is_a_warning_until_it_is_mended(tmp_path: Path, api: Sandbox) -> None:
    port = free_port()
    clinic = Clinic(tmp_path / "clinic", api.base_url, http={"listen": f"127.0.0.1:{port}"})

    def warned() -> tuple[list[str], list[str]]:
        """By /readyz, which stays ready, and by `status`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as reply:
            answer = json.loads(reply.read())
        shown = clinic.run("status", "--json")
        assert (answer["status"], answer["problems"], shown.returncode) == ("ready", {}, 0)
        told = json.loads(shown.stdout)["warnings"]
        return list(answer.get("warnings", {}).values()), [one["message"] for one in told]

    with started(clinic) as daemon:
        change(clinic, "upload", workers="none")
        reload(clinic, daemon)
        [told], [shown] = warned()
        assert told == shown
        assert f"{clinic.config}: 1 problem." in told
        assert "warning        configuration_refused, since 20" in clinic.run("status").stdout
        change(clinic, "upload", workers=2)
        assert reload(clinic, daemon)["event"] == "reloaded"
        assert warned() == ([], [])


def test_a_folder_that_cannot_be_used_interrupts_nothing(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", upload_bytes_per_second=300_000) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        (clinic.root / "a file").write_text("in the way")
        write_sparse_wav(clinic.inbox / "smith.wav", 900_000)
        with started(clinic) as daemon:
            wait_for("the upload begins", lambda: bool(clinic.events("upload_started")))
            change(clinic, "folders", outbox=str(clinic.root / "a file"))
            refused = reload(clinic, daemon)
            assert refused["event"] == "reload_refused"
            assert "a file" in refused["error"]
            wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert len(clinic.events("upload_started")) == 1


def test_a_state_directory_of_another_daemon_is_refused(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "one", api.base_url)
    other = Clinic(tmp_path / "other", api.base_url)
    with started(other), started(clinic) as daemon:
        change(clinic, "state", directory=str(other.root / "state"))
        refused = reload(clinic, daemon)
        assert (refused["event"], refused["code"]) == ("reload_refused", "already_running")
        change(clinic, "state", directory=str(clinic.root / "new"))
        change(clinic, "folders", processing=str(other.processing))
        refused = reload(clinic, daemon)
        assert (refused["event"], refused["code"]) == ("reload_refused", "folder_in_use")
        assert holder_of(clinic.root / "new" / "lock") is None, "what it won't use it lets go of"
        passes(clinic, "smith", 440)


def test_a_port_in_use_leads_back_to_the_old_one(tmp_path: Path, api: Sandbox) -> None:
    port = free_port()
    clinic = Clinic(tmp_path / "clinic", api.base_url, http={"listen": f"127.0.0.1:{port}"})
    with started(clinic) as daemon, socket.create_server(("127.0.0.1", 0)) as taken:
        passes(clinic, "jones", 500)  # by then it has started all its threads
        threads = len(os.listdir(f"/proc/{daemon.pid}/task"))
        change(clinic, "http", listen=f"127.0.0.1:{taken.getsockname()[1]}")
        for _ in range(3):
            refused = reload(clinic, daemon)
            assert (refused["event"], refused["code"]) == ("reload_refused", "listen")
        assert answers(port)
        passes(clinic, "smith", 440)
        wait_for(
            "nothing is left of what was tried",
            lambda: len(os.listdir(f"/proc/{daemon.pid}/task")) <= threads + 1,
        )


def test_without_a_way_back_to_the_old_one_it_exits(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    daemon = clinic.start()
    try:
        journal = clinic.root / "state" / "journal.sqlite"
        journal.write_bytes(b"no journal at all, " * 1000)
        daemon.send_signal(signal.SIGHUP)
        assert daemon.wait(20) == 70
        assert [event["code"] for event in clinic.events(*RELOADS)] == ["journal", "journal"]
        assert [event["event"] for event in clinic.events(*RELOADS)] == ["reload_failed", "reload_refused"]
        assert holder_of(clinic.root / "state" / "lock") is None
    finally:
        daemon.kill()
        daemon.wait()


# ---- at any time -------------------------------------------------------------------------------------------


def test_hangups_while_it_starts_and_while_it_stops(clinic: Clinic) -> None:
    for number in range(20):
        write_wav(clinic.inbox / f"smith{number}.wav", seconds=0.1, pitch=300 + 20 * number)
    with clinic.log.open("ab") as log:
        daemon = subprocess.Popen(clinic.command("run"), stderr=log)
    try:
        lock = clinic.root / "state" / "lock"
        wait_for("it has the lock, so that it can be signalled", lambda: holder_of(lock) is not None)
        while not clinic.events("watching"):
            daemon.send_signal(signal.SIGHUP)
            time.sleep(0.002)
        wait_for("it has reloaded", lambda: bool(clinic.events("reloaded")))
        daemon.send_signal(signal.SIGTERM)
        while daemon.poll() is None:
            daemon.send_signal(signal.SIGHUP)
            time.sleep(0.002)
        assert daemon.returncode == 0
    finally:
        daemon.kill()
        daemon.wait()


def test_many_hangups_at_once_are_one_or_two(clinic: Clinic) -> None:
    with started(clinic) as daemon:
        for _ in range(50):
            daemon.send_signal(signal.SIGHUP)
        wait_for("it has reloaded", lambda: bool(clinic.events("reloaded")))
        passes(clinic, "smith", 440)
        assert len(clinic.events("reloading")) <= 5


def test_once_is_not_disturbed(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", upload_bytes_per_second=300_000) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        write_sparse_wav(clinic.inbox / "smith.wav", 600_000)
        daemon = clinic.launch("run", "--once")
        try:
            wait_for("the upload begins", lambda: bool(clinic.events("upload_started")))
            daemon.send_signal(signal.SIGHUP)
            assert daemon.wait(30) == 0
        finally:
            daemon.kill()
            daemon.wait()
        assert not clinic.events("reloading")
        assert len(clinic.events("upload_started")) == 1
        assert clinic.files(clinic.done) == ["smith.wav"]


# ---- the log file ------------------------------------------------------------------------------------------


def with_log_file(root: Path, api: Sandbox, file: Path) -> Clinic:
    clinic = Clinic(root, api.base_url, logging={"level": "debug", "file": str(file)})
    clinic.log = file
    return clinic


def test_the_log_goes_to_its_private_file(tmp_path: Path, api: Sandbox) -> None:
    clinic = with_log_file(tmp_path / "clinic", api, tmp_path / "daemon.log")
    write_wav(clinic.inbox / "smith.wav")
    run = clinic.run("run", "--once")
    assert (run.returncode, run.stderr) == (0, "")
    wait_for("it is logged", lambda: bool(clinic.events("delivered")))
    assert stat.S_IMODE(clinic.log.stat().st_mode) == 0o600


@pytest.mark.parametrize("broken", [False, True])
def test_a_rotated_log_is_reopened(tmp_path: Path, api: Sandbox, *, broken: bool) -> None:
    clinic = with_log_file(tmp_path / "clinic", api, tmp_path / "daemon.log")
    log, rotated = clinic.log, tmp_path / "daemon.log.1"
    daemon = clinic.launch("run", stderr=tmp_path / "stderr")
    try:
        wait_for("it watches", lambda: bool(clinic.events("watching")))
        log.rename(rotated)
        if broken:
            clinic.config.write_text("nonsense: 1")
        daemon.send_signal(signal.SIGHUP)
        ending = "reload_refused" if broken else "reloaded"
        wait_for("it goes on in a new file", lambda: bool(clinic.events(ending)))
        old = rotated.read_bytes()
        passes(clinic, "smith", 440)
        assert rotated.read_bytes() == old
        wait_for("it is logged", lambda: bool(clinic.events("delivered")))
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        assert str(rotated) not in _open_files(daemon)
        assert stop(daemon) == 0
        assert (tmp_path / "stderr").read_bytes() == b""
    finally:
        daemon.kill()
        daemon.wait()


def _open_files(daemon: Process) -> set[str]:
    """None where they may not be seen: the daemon keeps its memory, and so these, from its own user."""
    found = set()
    with contextlib.suppress(PermissionError):
        for descriptor in Path(f"/proc/{daemon.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since
                found.add(os.readlink(descriptor))
    return found


def test_the_log_moves_with_the_configuration_and_back(clinic: Clinic) -> None:
    stderr, file = clinic.log, clinic.root / "moved.log"
    with started(clinic) as daemon:
        change(clinic, "logging", file=str(file))
        daemon.send_signal(signal.SIGHUP)
        clinic.log = file
        wait_for("it has moved", lambda: bool(clinic.events("reloaded")))
        passes(clinic, "smith", 440)
        wait_for("it is logged", lambda: bool(clinic.events("delivered")))
        change(clinic, "logging", file=None)
        daemon.send_signal(signal.SIGHUP)
        clinic.log = stderr
        wait_for("it is back", lambda: bool(clinic.events("reloaded")))
        assert not clinic.events("delivered")


def test_a_log_that_cannot_be_written_is_refused(tmp_path: Path, api: Sandbox) -> None:
    clinic = with_log_file(tmp_path / "clinic", api, tmp_path / "nowhere" / "daemon.log")
    run = clinic.run("run", "--once")
    assert run.returncode == 78
    assert "logging.file: can't write" in run.stderr
    change(clinic, "logging", file=None)
    clinic.log = tmp_path / "stderr"
    with started(clinic) as daemon:
        change(clinic, "logging", file=str(tmp_path / "nowhere" / "daemon.log"))
        refused = reload(clinic, daemon)
        assert (refused["event"], refused["code"]) == ("reload_refused", "log_file")
        passes(clinic, "smith", 440)


def test_a_full_disk_under_the_log_stops_nothing(tmp_path: Path, api: Sandbox) -> None:
    clinic = with_log_file(tmp_path / "clinic", api, Path("/dev/full"))
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.run("run", "--once").returncode == 0
    assert clinic.files(clinic.done) == ["smith.wav"]
