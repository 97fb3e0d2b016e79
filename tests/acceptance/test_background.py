"""`start`, `stop` and `status`: a daemon of its own, on a host without systemd."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.host.locks import holder_of
from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, locked_journal, sandbox
from tests.kit.recordings import write_sparse_wav, write_wav
from tests.kit.waiting import wait_for


@pytest.fixture
def clinic(tmp_path: Path, api: Sandbox) -> Iterator[Clinic]:
    """A clinic whose log is the one that `start` makes; what still runs in the end is killed."""
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    clinic.log = clinic.root / "state" / "invox-watcher.log"
    yield clinic
    kill(clinic)


def named_in_lock(clinic: Clinic) -> int | None:
    """The process that has the state directory locked, as soon as it has written its name there."""
    holder = holder_of(clinic.root / "state" / "lock")
    return None if holder is None else holder.pid


def kill(clinic: Clinic) -> None:
    """SIGKILL for the daemon, if there is one, and wait until it is gone."""
    if (pid := named_in_lock(clinic)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_for("it is gone", lambda: holder_of(clinic.root / "state" / "lock") is None)


def alive(pid: int) -> bool:
    """Whether there is such a process, other than one that has ended and that nobody has asked about yet."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def pid_file(clinic: Clinic) -> Path:
    return clinic.root / "state" / "invox-watcher.pid"


def start(clinic: Clinic) -> int:
    """`start`, which has to succeed; the daemon's process id."""
    run = clinic.run("start")
    assert (run.returncode, run.stderr) == (0, "")
    pid = int(pid_file(clinic).read_text())
    assert run.stdout == f"invox-watcher is running, pid {pid}.\n"
    return pid


def status(clinic: Clinic) -> dict[str, Any]:
    run = clinic.run("status", "--json")
    known: dict[str, Any] = json.loads(run.stdout)
    assert run.returncode == (3 if not known["running"] else 0 if known["ready"] else 4)
    return known


# ---- its life ----------------------------------------------------------------------------------------------


def test_start_status_and_stop(clinic: Clinic) -> None:
    before = datetime.now(UTC)
    pid = start(clinic)
    assert clinic.events("watching"), "it is ready when `start` returns"
    known = status(clinic)
    assert (known["running"], known["pid"]) == (True, pid)
    assert before.timestamp() - 1 <= datetime.fromisoformat(known["since"]).timestamp() <= time.time()

    write_wav(clinic.inbox / "smith.wav")
    wait_for("it is done", lambda: bool(clinic.events("done")))
    assert status(clinic)["jobs"] == {"done": 1}
    told = clinic.run("status").stdout
    assert told.startswith("invox-watcher is running, and ready.\n")
    assert f"pid {pid}, since {before.astimezone():%Y-%m-%d}" in told
    for line in ("under way +0", "done +1", "failed +none in the failed folder", "inbox +nothing is waiting"):
        assert re.search(rf"^{line}$", told, re.MULTILINE), told

    stopped = clinic.run("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "invox-watcher has stopped.\n")
    assert not alive(pid)
    assert clinic.events("stopped")
    assert not pid_file(clinic).exists()
    known = status(clinic)
    assert (known["running"], known["pid"], known["since"], known["ready"]) == (False, None, None, None)
    assert known["jobs"] == {"done": 1}
    assert clinic.run("stop").stdout == "invox-watcher was not running.\n"


def files_open_in(pid: int) -> set[str]:
    """What a process has open; it goes on meanwhile, and closes some of it."""
    links = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    return links


def test_it_is_detached_and_inherits_nothing(clinic: Clinic, tmp_path: Path) -> None:
    script = f"exec 9>{tmp_path}/inherited; {' '.join(clinic.command('start'))}; echo over"
    run = subprocess.run(
        ["setsid", "sh", "-c", script], check=False, capture_output=True, text=True, timeout=30, cwd=tmp_path
    )
    assert run.stdout.endswith("over\n"), run.stderr  # and its pipes are closed, else this would still wait
    pid = int(pid_file(clinic).read_text())
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    parent, session, terminal = int(fields[1]), int(fields[3]), int(fields[4])
    assert terminal == 0
    assert session not in (pid, os.getsid(0)), "a session leader could get a terminal"
    assert parent != os.getpid()
    with contextlib.suppress(PermissionError):  # the daemon keeps what follows from its own user
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert str(tmp_path / "inherited") not in files_open_in(pid)
        assert [os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)] == [
            "/dev/null",
            "/dev/null",
            str(clinic.log),
        ]
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert "Max core file size        0                    0" in limits


def test_what_it_writes_is_for_its_user_only(clinic: Clinic) -> None:
    start(clinic)
    for path in (pid_file(clinic), clinic.log, clinic.root / "state" / "lock"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_relative_configuration_is_found_again_by_a_reload(clinic: Clinic) -> None:
    command = [*clinic.command("start")[:-1], clinic.config.name]
    subprocess.run(command, check=True, cwd=clinic.root, timeout=30, stdout=subprocess.DEVNULL)
    pid = int(pid_file(clinic).read_text())
    rotated = clinic.log.rename(clinic.log.with_suffix(".1"))
    os.kill(pid, signal.SIGHUP)
    wait_for("it has reloaded, in a new log", lambda: bool(clinic.events("reloaded")))
    with contextlib.suppress(PermissionError):
        links = files_open_in(pid)
        assert str(rotated) not in links
        assert str(clinic.log) in links
    assert clinic.run("stop").returncode == 0


def test_the_log_is_where_the_configuration_says(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, logging={"file": str(tmp_path / "the.log")})
    clinic.log = tmp_path / "the.log"
    try:
        start(clinic)
        assert clinic.events("watching")
        assert not (clinic.root / "state" / "invox-watcher.log").exists()
    finally:
        kill(clinic)


def test_an_upload_under_way_resumes_after_stop_and_start(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", upload_bytes_per_second=500_000) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        clinic.log = clinic.root / "state" / "invox-watcher.log"
        write_sparse_wav(clinic.inbox / "smith.wav", 1_000_000)
        try:
            start(clinic)
            wait_for("the upload begins", lambda: bool(clinic.events("upload_started")))
            assert clinic.run("stop").returncode == 0
            start(clinic)
            wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        finally:
            kill(clinic)
        assert api.stats()["uploads"] == 1


def test_stop_works_with_a_configuration_broken_meanwhile(clinic: Clinic) -> None:
    pid = start(clinic)
    with clinic.config.open("a") as config:
        config.write("nonsense: 1\n")
    asked = clinic.run("status")
    assert asked.returncode == 0
    assert f"pid {pid}" in asked.stdout
    assert "nonsense: is not a known key" in asked.stderr
    stopped = clinic.run("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "invox-watcher has stopped.\n")
    assert "nonsense: is not a known key" in stopped.stderr
    assert not alive(pid)


@pytest.mark.parametrize(
    "mistake",
    ["state: [", "sate: {directory: /srv}", "state: {directroy: /srv}", "directory: /srv", "state: 7"],
)
def test_no_other_daemon_is_stopped_by_mistake(clinic: Clinic, mistake: str) -> None:
    """Where it is not clear which state directory is meant, it is not the default one."""
    lines = clinic.config.read_text().splitlines()
    at = lines.index("state:")
    clinic.config.write_text("\n".join([*lines[:at], *lines[at + 2 :], mistake, ""]))
    for command in ("status", "stop"):
        refused = clinic.run(command)
        assert (refused.returncode, refused.stdout) == (78, "")
        assert str(clinic.config) in refused.stderr


# ---- not twice ---------------------------------------------------------------------------------------------


def test_a_second_start_is_refused(clinic: Clinic) -> None:
    pid = start(clinic)
    second = clinic.run("start")
    assert second.returncode == 75
    assert f"is already running on {clinic.root / 'state'} (pid {pid})" in second.stderr
    assert "invox-watcher stop" in second.stderr
    assert status(clinic)["pid"] == pid
    assert int(pid_file(clinic).read_text()) == pid


def test_many_starts_at_once_give_one_daemon(clinic: Clinic) -> None:
    starting = [
        subprocess.Popen(clinic.command("start"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    outcomes = [process.communicate(timeout=60) and process.returncode for process in starting]
    assert sorted(outcomes) == [0, 75, 75, 75]
    assert len(clinic.events("started")) == 1


def test_start_is_refused_beside_run_and_stop_ends_it(clinic: Clinic) -> None:
    clinic.log = clinic.root / "run.log"
    daemon = clinic.start()
    try:
        assert clinic.run("start").returncode == 75
        assert status(clinic)["pid"] == daemon.pid
        waiting = subprocess.Popen(clinic.command("stop"), stdout=subprocess.PIPE, text=True)
        assert daemon.wait(20) == 0
        assert waiting.communicate(timeout=20)[0] == "invox-watcher has stopped.\n"
        assert waiting.returncode == 0
    finally:
        daemon.kill()
        daemon.wait()


def test_run_is_refused_beside_start(clinic: Clinic) -> None:
    start(clinic)
    run = clinic.run("run", "--once")
    assert run.returncode == 75
    assert "Another daemon is running" in run.stderr


# ---- what is left over -------------------------------------------------------------------------------------


def test_after_a_kill_it_is_not_running_and_starts_again(clinic: Clinic) -> None:
    killed = start(clinic)
    kill(clinic)
    assert int(pid_file(clinic).read_text()) == killed, "nobody has tidied up"
    assert status(clinic)["running"] is False
    assert clinic.run("stop").stdout == "invox-watcher was not running.\n"
    assert start(clinic) != killed


def test_a_process_that_reuses_the_pid_is_left_alone(clinic: Clinic) -> None:
    start(clinic)
    kill(clinic)
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        for left_over in (pid_file(clinic), clinic.root / "state" / "lock"):
            words = left_over.read_text().split()
            left_over.write_text(" ".join([str(bystander.pid), *words[1:]]) + "\n")
        assert status(clinic)["running"] is False
        assert clinic.run("stop").returncode == 0
        pid = start(clinic)
        assert pid != bystander.pid
        assert bystander.poll() is None
        # Even where the lock is held, but by someone who has not said yet who it is.
        (clinic.root / "state" / "lock").write_text(f"{bystander.pid} 1 2026-11-23T18:50:56.000Z\n")
        known = status(clinic)
        assert (known["running"], known["pid"], known["ready"], known["jobs"]) == (True, None, None, {})
        refused = clinic.run("stop")
        assert refused.returncode != 0
        assert "can't be seen from here" in refused.stderr
        assert bystander.poll() is None
        os.kill(pid, signal.SIGKILL)
        wait_for("it is gone", lambda: holder_of(clinic.root / "state" / "lock") is None)
    finally:
        bystander.kill()
        bystander.wait()


# ---- what goes wrong ---------------------------------------------------------------------------------------


def test_a_wrong_configuration_is_reported_at_once(clinic: Clinic) -> None:
    clinic.config.write_text("nonsense: 1")
    run = clinic.run("start")
    assert run.returncode == 78
    assert "nonsense" in run.stderr
    assert not clinic.log.exists()


def test_unusable_folders_journal_and_port_are_reported_at_once(
    clinic: Clinic, tmp_path: Path, api: Sandbox
) -> None:
    clinic.outbox.write_text("in the way")
    run = clinic.run("start")
    assert run.returncode == 78
    assert "outbox" in run.stderr
    clinic.outbox.unlink()

    journal = clinic.root / "state" / "journal.sqlite"
    journal.write_bytes(b"no journal at all, " * 1000)
    run = clinic.run("start")
    assert run.returncode in (75, 78)
    assert f"The journal {journal} can't be used" in run.stderr
    journal.unlink()

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        other = Clinic(clinic.root, api.base_url, http={"listen": address})
        run = other.run("start")
    assert run.returncode == 78
    assert f"can't listen on {address}" in run.stderr
    assert status(clinic)["running"] is False
    assert not pid_file(clinic).exists()


def test_a_log_that_cannot_be_written_is_reported_at_once(tmp_path: Path, api: Sandbox) -> None:
    file = tmp_path / "nowhere" / "the.log"
    clinic = Clinic(tmp_path / "clinic", api.base_url, logging={"file": str(file)})
    run = clinic.run("start")
    assert run.returncode == 78
    assert f"logging.file: can't write {file}: No such file or directory" in run.stderr


def test_start_does_not_wait_for_a_daemon_that_died(clinic: Clinic) -> None:
    """Its journal is locked, so that it waits half a minute; meanwhile it is killed."""
    assert clinic.run("run", "--once").returncode == 0
    with (
        locked_journal(clinic),
        subprocess.Popen(clinic.command("start"), stderr=subprocess.PIPE, text=True) as starting,
    ):
        wait_for("it has begun", lambda: named_in_lock(clinic) is not None)
        kill(clinic)
        message = starting.communicate(timeout=20)[1]
    assert starting.returncode == 70
    assert "The daemon exited before it was ready." in message
    assert str(clinic.log) in message


@pytest.mark.needs  # minutes
@pytest.mark.slow
def test_a_daemon_slow_to_stop_is_reported_as_still_stopping(clinic: Clinic) -> None:
    pid = start(clinic)
    os.kill(pid, signal.SIGSTOP)
    run = clinic.run("stop")
    assert run.returncode == 75
    assert f"(pid {pid}) did not exit within 30 s; it is still shutting down" in run.stderr
    os.kill(pid, signal.SIGCONT)
    wait_for("it ends", lambda: not alive(pid))


@pytest.mark.needs("root", "setpriv")
def test_another_user_is_told_which_user_to_be(api: Sandbox) -> None:
    with tempfile.TemporaryDirectory() as folder:  # others can't reach those of pytest
        clinic = Clinic(Path(folder, "clinic"), api.base_url)
        try:
            start(clinic)
            for path, mode in ((folder, 0o755), (clinic.root, 0o755), (clinic.root / "state", 0o711)):
                os.chmod(path, mode)
            os.chmod(clinic.config, 0o644)
            for command in ("status", "stop"):
                as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
                run = subprocess.run(
                    as_nobody + clinic.command(command),
                    check=False,
                    capture_output=True,
                    text=True,
                    timeout=30,
                )
                assert run.returncode == 77, command
                assert "Run this as root or as the daemon's user." in run.stderr
            assert status(clinic)["running"] is True
        finally:
            kill(clinic)
