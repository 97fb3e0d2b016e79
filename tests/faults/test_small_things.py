"""FAULTS.md 74: many recordings of one name, a byte order mark in a credential, process 1 of a container."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from invox_watcher.files import Folders, prepare_folders
from invox_watcher.files.names import numbered, output_path
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal.journal import Journal
from invox_watcher.processing.reservations import Reservations
from invox_watcher.recording import FileIdentity
from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic
from tests.kit.processes import children
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

MANY = 20_000


# ---- the same name again and again -------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [None, 9_000], ids=["no gap", "gap"])
def test_74_the_twenty_thousandth_of_a_name_costs_no_more(tmp_path: Path, gap: int | None) -> None:
    folders = Folders(*(tmp_path / name for name in ("inbox", "processing", "outbox", "done", "failed")))
    prepare_folders(folders)
    for number, name in enumerate(itertools.islice(numbered("DICT0001.WAV"), MANY), start=1):
        if number != gap:
            (folders.done / name).touch()
    journal = Journal(tmp_path)
    names = Reservations(folders, journal)

    def seconds_for(path: str) -> tuple[float, str]:
        job = Job(
            new_job_id(), State.IDENTIFIED, path, FileIdentity(1, 1, 1, 1), received_at=datetime.now(UTC)
        )
        journal.add(job)
        began = time.monotonic()
        job = names.reserve_outputs(job, ["json", "srt"], reply={})
        return time.monotonic() - began, job.filed_as or ""

    pairs = [(seconds_for("DICT0001.WAV"), seconds_for(f"{number}.wav")) for number in range(9)]
    many, first = zip(*pairs, strict=True)
    journal.close()
    assert [name for _seconds, name in many] == [f"DICT0001-{MANY + 1 + n}.WAV" for n in range(9)]
    extra = statistics.median(s for s, _ in many) - statistics.median(s for s, _ in first)
    assert extra < 0.1  # it was more than a second here


def test_74_names_are_numbered_as_ever(clinic: Clinic, api: Sandbox) -> None:
    for number, name in enumerate(itertools.islice(numbered("DICT0001.WAV"), 40)):
        if number not in (0, 6):
            (clinic.outbox / output_path(name, "json")).parent.mkdir(parents=True, exist_ok=True)
            (clinic.outbox / output_path(name, "json")).touch()
    for number in range(4):
        write_wav(clinic.inbox / "DICT0001.WAV", pitch=300 + number)
        assert clinic.once() == 0
    assert clinic.files(clinic.done) == [
        "DICT0001-41.WAV",
        "DICT0001-42.WAV",
        "DICT0001-7.WAV",
        "DICT0001.WAV",
    ]


# ---- what an editor on Windows leaves ----------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_74_a_byte_order_mark_in_a_credential_file_is_no_part_of_it(
    tmp_path: Path, api: Sandbox, end: str
) -> None:
    (tmp_path / "app_id").write_text(f"\ufeffsandbox-app{end}", newline="")
    (tmp_path / "api_key").write_text(f"\ufeffsandbox-key{end}", newline="")
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    keys = "credentials:\n  api_key: sandbox-key\n  app_id: sandbox-app\n"
    text = clinic.config.read_text()
    assert keys in text
    files = f"credentials: {{app_id_file: {tmp_path}/app_id, api_key_file: {tmp_path}/api_key}}\n"
    clinic.config.write_text(text.replace(keys, files))
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["smith.wav"]


# ---- process 1 of a container ------------------------------------------------------------------------------

HOOK = """\
import json, os, subprocess, sys, time
facts = json.load(sys.stdin)
for number in range(5):  # leaves them behind
    subprocess.Popen(["sleep", "0.1"], start_new_session=True)
sys.exit(7 if facts["name"].startswith("seven") else 0)
"""


class Container:
    """A daemon that is process 1 of a PID namespace of its own."""

    def __init__(self, clinic: Clinic) -> None:
        command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *clinic.command("run")]
        self._clinic = clinic
        with clinic.log.open("ab") as log:
            self._unshare = subprocess.Popen(command, stderr=log)
        wait_for("it watches", lambda: clinic.events("watching") != [], seconds=60)
        self.first = children(self._unshare.pid)[0]

    def zombies(self) -> list[str]:
        """What has ended in it and was not waited for."""
        inside = os.stat(f"/proc/{self.first}/ns/pid").st_ino
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):
                status = (folder / "stat").read_text()
                if (
                    status.rpartition(")")[2].split()[0] == "Z"
                    and os.stat(folder / "ns/pid").st_ino == inside
                ):
                    found.append(status)
        return found

    def end(self, number: int, *, seconds: float = 15) -> int:
        """Send process 1 that signal, and wait for the exit status."""
        os.kill(self.first, number)
        return self._unshare.wait(seconds)

    def kill(self) -> None:
        """End it, however the test has."""
        self._unshare.kill()
        self._unshare.wait()


@pytest.fixture
def container(tmp_path: Path, api: Sandbox) -> Iterator[tuple[Container, Clinic]]:
    script = tmp_path / "hook.py"
    script.write_text(HOOK)
    clinic = Clinic(tmp_path / "clinic", api.base_url, hooks={"on_done": [sys.executable, str(script)]})
    made = Container(clinic)
    yield made, clinic
    made.kill()


@pytest.mark.needs("root", "unshare")
def test_74_process_1_reaps_what_others_leave(container: tuple[Container, Clinic]) -> None:
    made, clinic = container
    write_wav(clinic.inbox / "smith.wav")
    write_wav(clinic.inbox / "seven.wav", pitch=500)
    wait_for(
        "both hooks ran", lambda: len(clinic.events("delivery_sent", "delivery_failed")) == 2, seconds=60
    )
    assert [event["error"] for event in clinic.events("delivery_failed")] == [
        "The command ended with status 7."
    ]
    time.sleep(0.5)
    assert made.zombies() == []
    assert made.end(signal.SIGTERM) == 0
    assert clinic.events()[-1]["event"] == "stopped"


@pytest.mark.needs("root", "unshare")
def test_74_process_1_passes_on_signals_and_the_exit_status(container: tuple[Container, Clinic]) -> None:
    made, clinic = container
    os.kill(made.first, signal.SIGHUP)
    wait_for("it reloads", lambda: clinic.events("reloaded") != [])
    wait_for("it watches again", lambda: len(clinic.events("watching")) == 2)
    assert made.end(signal.SIGINT) == 0


@pytest.mark.needs("root", "unshare")
def test_74_process_1_ends_with_a_daemon_that_was_killed(container: tuple[Container, Clinic]) -> None:
    made, _clinic = container
    daemon = children(made.first)[0]
    os.kill(daemon, signal.SIGKILL)
    assert made._unshare.wait(15) == 128 + signal.SIGKILL


@pytest.mark.needs("root", "unshare")
def test_74_a_single_run_as_process_1_gives_its_status(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    (clinic.inbox / "letter.wav").write_text("Dear Mrs Miller")
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *clinic.command("run", "--once")]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode == 1
