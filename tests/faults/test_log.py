"""FAULTS.md 69: a log that nobody reads, or whose disk hangs, stops nothing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import socket
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults.shares import sshfs
from tests.kit.clinic import Clinic, stop
from tests.kit.recordings import write_wav
from tests.kit.waiting import status_of, wait_for


@dataclass
class Unread:
    """A standard error that nobody reads until `read` is called."""

    end: int  # the daemon's
    read_block: Callable[[], bytes]
    resume: Callable[[], object] = lambda: None
    content: bytes = field(default=b"", init=False)

    def read(self) -> None:
        """From now on somebody reads it, in a thread."""
        self.resume()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # a terminal that its last program has closed
            while block := self.read_block():
                self.content += block

    def lines(self) -> list[dict[str, Any]]:
        """All lines that have come; the last may still be on its way."""
        return [json.loads(line) for line in self.content.splitlines(keepends=True) if line.endswith(b"\n")]


@pytest.fixture(params=["pipe", "socket", "terminal"])
def unread(request: pytest.FixtureRequest) -> Iterator[Unread]:
    """Small enough to be full after a few lines."""
    if request.param == "pipe":
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        yield Unread(writing, lambda: os.read(reading, 65536))
        os.close(reading)
    elif request.param == "socket":  # as systemd gives one
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        yield Unread(theirs.detach(), lambda: ours.recv(65536))
        ours.close()
    else:  # somebody has typed Ctrl-S
        ours, theirs = pty.openpty()
        termios.tcflow(theirs, termios.TCOOFF)
        yield Unread(theirs, lambda: os.read(ours, 65536), lambda: termios.tcflow(theirs, termios.TCOON))
        os.close(ours)


@pytest.fixture
def clinic(tmp_path: Path, api: Sandbox) -> Clinic:
    """One that logs JSON to a terminal, too."""
    return Clinic(tmp_path / "clinic", api.base_url, logging={"format": "json"})


def started(clinic: Clinic, stderr: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(clinic.command("run"), stderr=stderr)


def test_69_a_log_that_nobody_reads_stops_nothing(clinic: Clinic, unread: Unread) -> None:
    daemon = started(clinic, unread.end)
    try:
        for number in range(5):
            write_wav(clinic.inbox / f"{number}.wav", pitch=300 + number)
        wait_for("all are done", lambda: len(clinic.files(clinic.done)) == 5, seconds=60)
        assert stop(daemon, seconds=5) == 0
    finally:
        daemon.kill()
        daemon.wait()
    assert len(clinic.files(clinic.outbox)) == 10


def test_69_its_lines_come_once_it_is_read_again(clinic: Clinic, unread: Unread) -> None:
    daemon = started(clinic, unread.end)
    try:
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"], seconds=60)
        unread.read()
        wait_for("its lines come", lambda: "done" in [line["event"] for line in unread.lines()])
        write_wav(clinic.inbox / "miller.wav", pitch=500)
        wait_for("more come", lambda: [line["event"] for line in unread.lines()].count("done") == 2)
        assert stop(daemon) == 0
    finally:
        daemon.kill()
        daemon.wait()
    wait_for("the last comes", lambda: unread.lines()[-1]["event"] == "stopped")
    assert unread.lines()[0]["event"] == "started"
    times = [line["at"] for line in unread.lines()]
    assert times == sorted(times)


def test_69_a_second_signal_is_heard_too(clinic: Clinic, api: Sandbox, unread: Unread) -> None:
    daemon = started(clinic, unread.end)
    try:
        api.fault({"on": "upload", "do": "silence"})
        write_wav(clinic.inbox / "smith.wav")
        wait_for("its upload begins", lambda: api.stats()["upload_attempts"] == 1, seconds=60)
        daemon.terminate()
        daemon.terminate()
        assert status_of(daemon, seconds=5) in (0, 128 + 15)
    finally:
        daemon.kill()
        daemon.wait()


@pytest.mark.slow
@pytest.mark.needs("root", "sshfs", "sshd", "ssh-keygen")
def test_69_a_log_file_on_a_disk_that_hangs_stops_nothing(tmp_path: Path, api: Sandbox) -> None:
    far, near = tmp_path / "far", tmp_path / "near"
    far.mkdir()
    with sshfs(far, near) as share:
        clinic = Clinic(tmp_path / "clinic", api.base_url, logging={"file": str(near / "daemon.log")})
        clinic.log = far / "daemon.log"
        daemon = subprocess.Popen(clinic.command("run"))
        try:
            wait_for("it watches", lambda: clinic.events("watching") != [])
            share.hang()
            for number in range(3):
                write_wav(clinic.inbox / f"{number}.wav", pitch=300 + number)
            wait_for("all are done", lambda: len(clinic.files(clinic.done)) == 3, seconds=60)
            daemon.terminate()
            time.sleep(3)  # what its log has in the kernel can't be ended; all else has by now
            share.answer()
            assert daemon.wait(20) == 0
            assert len(clinic.events("done")) == 3
            assert clinic.events()[-1]["event"] == "stopped"
        finally:
            daemon.kill()
            share.kill()
            daemon.wait()
