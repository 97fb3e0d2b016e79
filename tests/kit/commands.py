"""Commands as a person or a script gives them: without a configuration, in a clinic of two, on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.kit.clinic import Clinic, sandbox
from tests.kit.forks import PRELOADED, forks
from tests.kit.recordings import write_wav
from tests.kit.waiting import status_of

NOBODY = 65534
QUICK = {"settle_seconds": 0.05, "patience_seconds": 1.5}
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def run(
    *arguments: str, environ: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """One command without any configuration given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("INVOX_")}
    return forks().complete(arguments, environment=inherited | (environ or {}), folder=cwd)


def as_nobody(clinic: Clinic, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command of a clinic as a user without any rights; for root alone."""
    code = (
        f"import os, sys, {', '.join(PRELOADED)}\n"
        "from invox_watcher import cli\n"
        f"os.setgroups([]); os.setegid({NOBODY}); os.seteuid({NOBODY})\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, *arguments, "--config", str(clinic.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@contextlib.contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that every user can reach; those of pytest only their owner can."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def give(*paths: Path) -> None:
    """Make them nobody's."""
    for path in paths:
        os.chown(path, NOBODY, NOBODY)


def clinic_of_two(folder: Path) -> Clinic:
    """A clinic after one good recording and one bad one."""
    with sandbox(folder / "api") as api:
        clinic = Clinic(folder / "clinic", api.base_url, watch=QUICK)
        write_wav(clinic.inbox / "ward 3" / "smith.wav")
        (clinic.inbox / "letter.wav").write_text("Dear colleague,\nthank you for referring this patient.\n")
        assert clinic.once() == 1
    return clinic


def ids(clinic: Clinic) -> dict[str, str]:
    """The id of each recording."""
    return {job["path"]: job["id"] for job in listed(clinic, "--all")}


def listed(clinic: Clinic, *arguments: str) -> list[dict[str, Any]]:
    """What `jobs --json` says."""
    done = clinic.run("jobs", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    jobs: list[dict[str, Any]] = json.loads(done.stdout)
    return jobs


class Terminal:
    """A pseudo-terminal, and on it one command whose output is read as it comes."""

    def __init__(self, command: Sequence[str], *, columns: int, lines: int) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        # In a session of its own, whose terminal this is: only then Ctrl-C is a signal.
        own_session = ["setsid", "--ctty", *command]
        self.process = subprocess.Popen(
            own_session, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        self._output = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other side is closed
            while block := os.read(self._ours, 65536):
                self._output += block

    @property
    def raw(self) -> str:
        """All that was written, with what controls the terminal."""
        return self._output.decode("utf-8", "replace")

    @property
    def screen(self) -> list[str]:
        """The lines of the frame that was drawn last: a live table erases the one before line by line."""
        return _CONTROL.sub("", self.raw.rpartition("\x1b[2K")[2]).splitlines()

    def types(self, keys: str) -> None:
        """Keys, as a person presses them."""
        os.write(self._ours, keys.encode())

    def ended(self, *, seconds: float = 10) -> int:
        """Wait for its end: the exit status."""
        status = status_of(self.process, seconds=seconds)
        self._reader.join(10)
        return status

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self._reader.join(10)
        os.close(self._ours)


@contextlib.contextmanager
def terminal(command: Sequence[str], *, columns: int = 130, lines: int = 50) -> Iterator[Terminal]:
    """A command on a terminal of that size for as long as the block lasts."""
    opened = Terminal(command, columns=columns, lines=lines)
    try:
        yield opened
    finally:
        opened.close()
