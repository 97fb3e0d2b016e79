"""FAULTS.md 47–49: signals, a second daemon, and what must not be seen by those whom it does not concern."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, running, sandbox, stop
from tests.kit.recordings import write_sparse_wav, write_wav
from tests.kit.waiting import status_of, wait_for

OPERATIONS = ("token", "presign", "upload", "status")

# ---- 47: signals -------------------------------------------------------------------------------------------


def test_47_sigterm_during_an_upload_stops_and_restart_resumes(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", upload_bytes_per_second=8 << 20) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        daemon = clinic.start()
        write_sparse_wav(clinic.root / "big.wav", 24 << 20)
        os.rename(clinic.root / "big.wav", clinic.inbox / "big.wav")
        wait_for("the upload runs", lambda: api.stats()["upload_attempts"] == 1)
        assert stop(daemon, seconds=5) == 0
        assert api.stats()["uploads"] == 0
        assert clinic.once() == 0
        assert clinic.files(clinic.done) == ["big.wav"]
        assert api.stats()["uploads"] == 1


@pytest.mark.parametrize(
    ("operation", "count"),
    [
        ("token", "token_calls"),
        ("presign", "presign_calls"),
        ("upload", "upload_attempts"),
        ("status", "status_calls"),
    ],
)
def test_47_sigterm_during_a_call_stops_and_restart_resumes(
    clinic: Clinic, api: Sandbox, operation: str, count: str
) -> None:
    api.fault({"on": operation, "do": "silence"})
    daemon = clinic.start()
    write_wav(clinic.inbox / "smith.wav")
    wait_for("the call is under way", lambda: api.stats()[count] > 0)
    assert stop(daemon, seconds=5) == 0
    assert clinic.files(clinic.failed) == clinic.files(clinic.outbox) == []
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["smith.wav"]
    assert api.stats()["uploads"] == 1


def test_47_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api") as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        daemon = clinic.start()
        api.fault({"on": "upload", "do": "silence"})
        write_sparse_wav(clinic.inbox / "big.wav", 8 << 20)
        wait_for("the upload runs", lambda: api.stats()["upload_attempts"] == 1)
        os.kill(daemon.pid, signal.SIGSTOP)  # so that both signals are there when it looks
        os.kill(daemon.pid, signal.SIGTERM)
        os.kill(daemon.pid, signal.SIGINT)
        os.kill(daemon.pid, signal.SIGCONT)
        assert status_of(daemon, seconds=5) in (128 + signal.SIGTERM, 128 + signal.SIGINT)
        api.clear_faults()
        assert clinic.once() == 0
        assert clinic.files(clinic.done) == ["big.wav"]


# ---- 48: two daemons ---------------------------------------------------------------------------------------


def test_48_a_second_daemon_on_the_same_state_is_refused(clinic: Clinic) -> None:
    with running(clinic):
        second = clinic.run("run")
        assert second.returncode == 75
        assert "Another daemon is running" in second.stderr
        write_wav(clinic.inbox / "smith.wav")
        wait_for("the first goes on", lambda: clinic.files(clinic.done) == ["smith.wav"])


def test_48_a_second_daemon_on_the_same_folders_is_refused(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    other = Clinic(tmp_path / "other", api.base_url, folders={"root": str(clinic.root)})
    with running(clinic):
        result = other.run("run", "--once")
        assert result.returncode == 78
        by = f"the invox-watcher instance with state directory {clinic.root}/state"
        assert f"is used as folders.inbox by {by}" in result.stderr


def test_48_of_many_that_start_at_once_one_runs(clinic: Clinic, api: Sandbox) -> None:
    write_wav(clinic.inbox / "smith.wav")
    daemons = [clinic.launch("run") for _ in range(4)]
    try:
        wait_for("all but one end", lambda: sum(daemon.poll() is None for daemon in daemons) == 1)
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        (first,) = (daemon for daemon in daemons if daemon.poll() is None)
        assert stop(first) == 0
    finally:
        for daemon in daemons:
            daemon.kill()
            daemon.wait()
    assert sorted(daemon.returncode for daemon in daemons) == [0, 75, 75, 75]
    assert api.stats()["uploads"] == 1


def test_48_the_lock_of_a_killed_daemon_is_free(clinic: Clinic) -> None:
    daemon = clinic.start()
    daemon.kill()
    daemon.wait()
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["smith.wav"]


# ---- 49: modes ---------------------------------------------------------------------------------------------


def modes_below(root: Path) -> Iterator[tuple[Path, int]]:
    """The path and mode of everything below `root` that is still there when looked at."""
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                yield path, path.lstat().st_mode


@pytest.mark.slow
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_49_everything_written_is_private_to_the_daemons_user(
    tmp_path: Path, api: Sandbox, umask: int
) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    subprocess.run(clinic.command("check"), umask=umask, stdout=subprocess.DEVNULL, check=True)
    for number in range(8):
        write_wav(clinic.inbox / "ward" / f"{number}.wav", pitch=300 + number).chmod(0o640)
    (clinic.inbox / "ward" / "letter.wav").write_text("not audio")
    (clinic.inbox / "ward" / "letter.wav").chmod(0o640)
    seen: dict[Path, int] = {}
    with clinic.log.open("ab") as log:
        daemon = subprocess.Popen(clinic.command("run", "--once"), stderr=log, umask=umask)
    running = True
    while running:  # what is there only for a moment counts as well
        running = daemon.poll() is None
        for folder in (clinic.processing, clinic.outbox, clinic.done, clinic.failed, clinic.root / "state"):
            seen |= dict(modes_below(folder))
    assert daemon.returncode == 1
    recordings = {path for path in seen if path.suffix == ".wav"}
    assert {stat.S_IMODE(seen[path]) for path in recordings} == {0o640}  # as its owner gave it
    folders = {path for path, mode in seen.items() if stat.S_ISDIR(mode)}
    assert {oct(seen[path]) for path in folders} == {oct(stat.S_IFDIR | 0o700)}
    files = set(seen) - recordings - folders
    assert {oct(seen[path]) for path in files} == {oct(stat.S_IFREG | 0o600)}
    assert {"7.json", "7.srt", "letter.wav.error.json", "lock", "journal.sqlite"} <= {p.name for p in files}
    assert any(path.name.startswith("journal.sqlite-") for path in files)


# ---- 49: memory --------------------------------------------------------------------------------------------


def wait_status(
    command: Sequence[str], number: signal.Signals, folder: Path, ready: Callable[[], bool]
) -> int:
    """How it ends, as wait(2) tells it, by that signal; in `folder`, and with no limit on core files."""
    unlimited = ["sh", "-c", 'ulimit -c unlimited && exec "$@"', "sh", *command]
    process = subprocess.Popen(unlimited, cwd=folder, stderr=subprocess.DEVNULL)
    try:
        wait_for("it runs", ready)
        os.kill(process.pid, number)
        _, status = os.waitpid(process.pid, 0)
        process.returncode = -number
        return status
    finally:
        process.kill()
        process.wait()


@pytest.mark.needs("root")
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_49_a_crash_leaves_no_memory_behind(tmp_path: Path, api: Sandbox, number: signal.Signals) -> None:
    for name in ("control", "daemon"):
        (tmp_path / name).mkdir()
    started = tmp_path / "started"
    sleeper = [sys.executable, "-c", f"open({str(started)!r}, 'w'); import time; time.sleep(60)"]
    control = wait_status(sleeper, number, tmp_path / "control", started.exists)
    assert os.WCOREDUMP(control), "this machine writes no cores at all, so that the test says nothing"
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    command = ["sh", "-c", f'exec "$@" 2>{clinic.log}', "sh", *clinic.command("run")]
    status = wait_status(command, number, tmp_path / "daemon", lambda: clinic.events("watching") != [])
    assert os.WTERMSIG(status) == number
    assert not os.WCOREDUMP(status)
    assert os.listdir(tmp_path / "daemon") == []


def unprivileged(command: Sequence[str]) -> list[str]:
    """The command, for root without root's rights, one of which is to look into any process."""
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]


def readable(pid: int, what: str) -> bool:
    """Whether another process of the same user sees anything of it there; refused, it may find it empty."""
    command = unprivileged(["head", "-c", "1", f"/proc/{pid}/{what}"])
    return subprocess.run(command, capture_output=True, check=False).stdout != b""


def limits(pid: int) -> str:
    """The limits of a process, one a line, with single spaces."""
    return re.sub(" +", " ", Path(f"/proc/{pid}/limits").read_text())


@pytest.mark.parametrize("what", ["environ", "maps"])
def test_49_other_processes_can_not_read_the_daemons_memory(clinic: Clinic, what: str) -> None:
    with clinic.log.open("ab") as log:
        daemon = subprocess.Popen(unprivileged(clinic.command("run")), stdin=subprocess.DEVNULL, stderr=log)
    control = subprocess.Popen(unprivileged(["sleep", "60"]), stdin=subprocess.DEVNULL)
    try:
        wait_for("the daemon watches", lambda: clinic.events("watching") != [])
        assert "Max core file size 0 0" in limits(daemon.pid)
        assert readable(control.pid, what)
        assert not readable(daemon.pid, what)
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it works all the same", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert stop(daemon) == 0
    finally:
        for process in (control, daemon):
            process.kill()
            process.wait()


# ---- 49: logs, errors, tracebacks --------------------------------------------------------------------------

NAMES = ["Gonzalez", "Perez"]
CREDENTIALS = ["sandbox-key", "Bearer", "Basic ", "/storage/", "expires=", "signature="]
WORDS = ["patient", "metformin", "insulin"]


def difficult_recordings(clinic: Clinic) -> None:
    """Whatever may be said about a recording, said about some whose names name patients."""
    ward = clinic.inbox / "Ward Perez"
    write_wav(ward / "Maria Gonzalez.wav")
    write_wav(ward / "Ana Gonzalez.wav", pitch=500)
    write_wav(clinic.root / "tone.wav", pitch=300)
    (ward / "Half of Gonzalez.wav").write_bytes((clinic.root / "tone.wav").read_bytes()[:5000])
    shutil.copy(ward / "Maria Gonzalez.wav", ward / "Copy of Gonzalez.wav")
    os.link(clinic.root / "tone.wav", ward / "Hard link to Gonzalez.wav")
    os.symlink(clinic.root / "tone.wav", ward / "Link to Gonzalez.wav")
    os.mkfifo(ward / "Pipe to Gonzalez.wav")
    (ward / "Empty Gonzalez.wav").touch()
    (ward / "Juan Perez.wav").write_text("not a recording, words of a patient")
    for folder in (clinic.outbox, clinic.done, clinic.failed):
        folder.mkdir()
        (folder / "Ward Perez").write_text("a file where a folder is needed")


@pytest.mark.parametrize("format", ["json", "console"])
def test_49_names_words_and_credentials_are_not_in_the_log(tmp_path: Path, api: Sandbox, format: str) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, logging={"level": "debug", "format": format})
    difficult_recordings(clinic)
    api.fault({"on": "token", "do": "status", "status": 503, "body": {"message": "sandbox-key was read"}})
    api.fault({"on": "presign", "do": "status", "status": 500})
    api.fault({"on": "upload", "do": "status", "status": 403})
    api.fault({"on": "upload", "do": "drop_reply"})
    api.fault({"on": "status", "do": "html"})
    api.fault({"on": "status", "do": "error_result", "message": "The patient spoke of insulin."})
    assert clinic.once() == 1
    log = clinic.log.read_text()
    assert "step_retry" in log
    assert "failed" in log
    transcripts = [json.loads(path.read_text()) for path in clinic.outbox.rglob("*.json")]
    words = [segment["text"] for transcript in transcripts for segment in transcript["segments"]]
    assert words != []
    assert [word for word in (*words, *NAMES, *WORDS, *CREDENTIALS) if word in log] == []
    reasons = "".join(path.read_text() for path in clinic.failed.rglob("*.error.json"))
    assert "Gonzalez" in reasons  # which lies beside the recording, and says what became of it
    assert [secret for secret in CREDENTIALS if secret in reasons] == []


def test_49_a_recording_is_logged_by_hash_unless_configured(tmp_path: Path, api: Sandbox) -> None:
    told = {}
    for filenames in ("hashed", "plain"):
        clinic = Clinic(tmp_path / filenames, api.base_url, logging={"filenames": filenames})
        write_wav(clinic.inbox / "Ward Perez" / "Maria Gonzalez.wav")
        assert clinic.once() == 0
        named = [event for event in clinic.events() if "recording" in event]
        assert [event["event"] for event in named] == ["claimed", "delivered", "done"]
        (told[filenames],) = {event["recording"] for event in named}
    assert told["plain"] == "Ward Perez/Maria Gonzalez.wav"
    assert re.fullmatch(r"name:[0-9a-f]{12}", told["hashed"])


def test_49_names_in_the_log_can_not_be_guessed_without_the_key(tmp_path: Path, api: Sandbox) -> None:
    def said(clinic: Clinic, pitch: float) -> set[str]:
        write_wav(clinic.inbox / "Maria Gonzalez.wav", pitch=pitch)
        assert clinic.once() == 0
        return {event["recording"] for event in clinic.events("done")}

    here, elsewhere = (Clinic(tmp_path / name, api.base_url) for name in ("here", "elsewhere"))
    first = said(here, 440)
    assert said(here, 500) == first  # one name, one hash, after every restart
    assert first.isdisjoint(said(elsewhere, 440))
    assert (here.root / "state" / "names.key").stat().st_mode & 0o777 == 0o600


def test_49_the_vendors_error_is_quoted_without_what_it_echoes(clinic: Clinic, api: Sandbox) -> None:
    echo = "sandbox-key refused, Bearer " + "x1" * 20 + ", https://storage.example/?signature=" + "0f" * 20
    api.fault({"on": "presign", "do": "status", "status": 400, "body": {"message": echo}})
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 77  # before the API has accepted a recording, the set-up is at fault
    log = clinic.log.read_text()
    assert "refused, Bearer" in log
    for text in (log, clinic.run("jobs", "--all", "--json").stdout):
        assert [secret for secret in ("sandbox-key", "x1x1", "signature=", "0f0f") if secret in text] == []


def spoil(clinic: Clinic, statement: str) -> None:
    """Change the journal behind the daemon's back."""
    with contextlib.closing(sqlite3.connect(clinic.root / "state" / "journal.sqlite")) as journal, journal:
        assert journal.execute(statement).rowcount == 1


def test_49_a_defect_in_a_step_is_logged_by_place_only(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, retry={"max_attempts": 2})
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    write_wav(clinic.inbox / "first.wav")
    with running(clinic):
        wait_for("it is uploaded", lambda: clinic.events("uploaded") != [])
        spoil(clinic, "UPDATE jobs SET inode = 'the patient takes insulin'")
        write_wav(clinic.inbox / "second.wav")  # of the same content, so that the first is looked up
        wait_for("it is given up", lambda: clinic.files(clinic.failed) != [])
        wait_for("it is filed", lambda: clinic.events("failed") != [])
    assert {event["error"].split(" at ")[0] for event in clinic.events("step_crashed")} == {"ValueError"}
    reason = (clinic.failed / "second.wav.error.json").read_text()
    assert json.loads(reason)["code"] == "internal"
    assert [word for word in WORDS if word in reason + clinic.log.read_text()] == []


def test_49_a_defect_at_the_start_is_logged_by_place_only(clinic: Clinic, api: Sandbox) -> None:
    api.fault({"on": "presign", "do": "status", "status": 503, "times": None})
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 69
    spoil(clinic, "UPDATE jobs SET inode = 'the patient takes insulin'")
    result = clinic.run("run")
    assert result.returncode == 70
    assert "journal/" in result.stderr
    assert [word for word in WORDS if word in result.stderr] == []


@pytest.mark.needs("root", "strace")
def test_49_a_thread_of_a_library_that_dies_prints_no_traceback(clinic: Clinic) -> None:
    inject = ["-P", "anon_inode:inotify", "-e", "trace=read", "-e", "inject=read:error=EIO"]
    strace = ["strace", "-f", "-qq", "-o", os.devnull, *inject]
    with clinic.log.open("ab") as log:
        daemon = subprocess.Popen([*strace, *clinic.command("run")], stderr=log)
    try:
        wait_for("it watches", lambda: clinic.events("watching") != [])
        write_wav(clinic.inbox / "Maria Gonzalez.wav")
        assert daemon.wait(60) == 70
    finally:
        daemon.kill()
        daemon.wait()
    assert clinic.events("internal_error") != []
    assert all(line.startswith("{") for line in clinic.log.read_text().splitlines())


# ---- 49: the process ---------------------------------------------------------------------------------------


def test_49_credentials_from_files_are_not_in_ps_or_environ(tmp_path: Path, api: Sandbox) -> None:
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "app_id").write_text("sandbox-app\n")
    (tmp_path / "key").write_text("sandbox-key\n")
    credentials = {"api_key_file": str(tmp_path / "key")}
    clinic = Clinic(tmp_path / "clinic", api.base_url, credentials=credentials)
    text = (
        clinic.config.read_text()
        .replace("  api_key: sandbox-key\n", "")
        .replace("  app_id: sandbox-app\n", "")
    )
    clinic.config.write_text(text)
    with clinic.log.open("ab") as log:
        environment = os.environ | {"CREDENTIALS_DIRECTORY": str(tmp_path / "systemd")}
        daemon = subprocess.Popen(clinic.command("run"), stderr=log, env=environment)
    try:
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        shown = Path(f"/proc/{daemon.pid}/cmdline").read_bytes()
        with contextlib.suppress(PermissionError):  # only root may look at all
            shown += Path(f"/proc/{daemon.pid}/environ").read_bytes()
        assert stop(daemon) == 0
    finally:
        daemon.kill()
        daemon.wait()
    assert b"invox_watcher" in shown
    assert b"sandbox-key" not in shown
    assert b"sandbox-app" not in shown
