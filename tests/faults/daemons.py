"""Forks commands of a process that has everything imported; each may meet its fate: a kill, or another clock.

Unlike those of `crash_zygote`, a command goes on while the test does something else, and can be frozen in the
middle of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from invox_watcher import cli
from tests.faults import crash_zygote
from tests.kit import forks
from tests.kit.clinic import Clinic
from tests.kit.patience import Patience
from tests.kit.waiting import wait_for

# Steps between which two of our four places (folders, journal, API, memory) disagree.
CRUCIAL = ["create_file", "rename_new", "move", "identify", "add_all", "presign", "upload", "result"]
_OF_A_FLEET = {"reserve_all": "add_all"}  # what takes the place of one of them there
_LONGEST_SECONDS = 120
_AT_A_STANDSTILL = {"T", "Z", "X"}  # stopped, or dead: proc_pid_stat(5)
_open = os.open


@dataclass(frozen=True)
class Death:
    """SIGKILL by its own hand at that moment: each call of a step has one before it and one after it.

    Counted are the calls of one of CRUCIAL, or of every step; see `crash_zygote`.
    """

    at: str | None
    moment: int


@dataclass(frozen=True)
class Fate:
    """What befalls a command.

    Its wall clock is wrong by `clock_seconds`, and once it was looked at `step_after` times by
    `stepped_seconds` instead.
    """

    death: Death | None = None
    clock_seconds: float = 0.0
    stepped_seconds: float = 0.0
    step_after: int = 0


class Process:
    """One command under way."""

    def __init__(self, daemons: Daemons, pid: int) -> None:
        self._daemons = daemons
        self.pid = pid

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped between any two instructions, for as long as the block lasts."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_for("the daemon is frozen", lambda: _states(self.pid) <= _AT_A_STANDSTILL, seconds=60)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send that signal, and go on."""
        os.kill(self.pid, number)

    def has_ended(self, *, within_seconds: float) -> bool:
        """Whether it ends by itself within that time."""
        patience = Patience(within_seconds)
        while not (ended := _states(self.pid) <= {"Z", "X"}) and not patience.is_over:
            time.sleep(0.01)
        return ended

    def end(self, number: int) -> int:
        """Send that signal; the exit status, or minus the signal that killed it."""
        os.kill(self.pid, number)
        return self.status()

    def status(self) -> int:
        """Wait for its end: the exit status, or minus the signal that killed it."""
        return self._daemons.ask({"wait_for": self.pid})


class Daemons:
    """The process that forks."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.faults.daemons"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, clinic: Clinic, *arguments: str, fate: Fate | None = None) -> Process:
        """Begin a command; what it says goes into the clinic's log."""
        request = {
            "arguments": [*arguments, "--config", str(clinic.config)],
            "log": str(clinic.log),
            "fate": dataclasses.asdict(fate or Fate()),
        }
        return Process(self, self.ask(request))

    def run(self, clinic: Clinic, *arguments: str, fate: Fate | None = None) -> int:
        """Run a command to its end: the exit status, or minus the signal that killed it."""
        return self.start(clinic, *arguments, fate=fate).status()

    def ask(self, request: dict[str, Any]) -> int:
        """One line there, one number back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _states(pid: int) -> set[str]:
    """The state letters of all threads of a process; see proc_pid_stat(5)."""
    states = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            states.add((task / "stat").read_text().rpartition(")")[2].split()[0])
    return states


# ---- in the process that forks -----------------------------------------------------------------------------


def _serve() -> None:
    forks.warm_up()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait_for" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait_for"], 0)[1])
        elif (answer := os.fork()) == 0:
            _be_the_command(request)
        print(answer, flush=True)


def _be_the_command(request: dict[str, Any]) -> None:
    status = 1
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number, descriptor in ((0, nothing), (1, nothing), (2, log)):
            os.dup2(descriptor, number)
        faulthandler.dump_traceback_later(_LONGEST_SECONDS, exit=True)
        fate = request["fate"]
        if (death := fate.pop("death")) is not None:
            _await_death(Death(**death))
        _turn_the_clock(Fate(**fate))
        status = cli.main(request["arguments"])
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def create_file(*arguments: Any, **more: Any) -> int:
    """`os.open` where it makes a file beneath one of the folders: a step of its own."""
    return _open(*arguments, **more)


def _await_death(death: Death) -> None:
    def seen(path: str, flags: int, *more: Any, **options: Any) -> int:
        creates = flags & os.O_CREAT and "dir_fd" in options  # beneath one of the folders
        return (create_file if creates else _open)(path, flags, *more, **options)

    os.open = seen
    steps = [*crash_zygote.STEPS, (sys.modules[__name__], "create_file")]
    crash_zygote.STEPS[:] = [step for step in steps if death.at in (None, step[1], _OF_A_FLEET.get(step[1]))]
    crash_zygote.kill_at_step_of_this_process(death.moment)


def _turn_the_clock(fate: Fate) -> None:
    looks = itertools.count()
    real_time, real_gmtime = time.time, time.gmtime

    def wrong_by() -> float:
        return fate.clock_seconds if next(looks) < fate.step_after else fate.stepped_seconds

    def utc_now() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=wrong_by())

    def wrong_time() -> float:
        return real_time() + wrong_by()

    time.time = wrong_time
    time.gmtime = lambda seconds=None: real_gmtime(wrong_time() if seconds is None else seconds)
    for name, module in sys.modules.items():
        if name.startswith("invox_watcher.") and hasattr(module, "utc_now"):
            vars(module)["utc_now"] = utc_now


if __name__ == "__main__":
    _serve()
