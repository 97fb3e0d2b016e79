"""Commands in forks of a process that has imported everything, so that none of them is slow to start."""

from __future__ import annotations

import atexit
import faulthandler
import functools
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tests.kit.patience import Patience

# What takes long to import, and what another user can not import if only root may read it.
PRELOADED = (
    *("encodings.idna", "encodings.utf_8_sig", "Crypto.Cipher.AES", "regex", "rich.console", "shtab"),
    *("daemon", "structlog"),
    *("invox_watcher.cli", "invox_watcher.diagnostics.check", "invox_watcher.daemon.process"),
    *("invox_watcher.daemon.background", "invox_watcher.daemon.serving", "invox_watcher.net.client"),
    *("invox_watcher.cli._explain", "invox_watcher.cli._extras", "invox_watcher.cli._inbox"),
    *("invox_watcher.cli._jobs", "invox_watcher.cli._page", "invox_watcher.cli._retry"),
    *("invox_watcher.cli._run", "invox_watcher.cli._show", "invox_watcher.cli._status"),
    *("invox_watcher.cli._transcribe", "invox_watcher.page.serve"),
    *("uvicorn.lifespan.off", "uvicorn.loops.auto"),
)

_DUMP_SECONDS = 1  # enough to write the tracebacks

_LOOK_SECONDS = 0.5


class Fork:
    """A command under way: to a test what `subprocess.Popen` is, except that it has no pipes."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._forks = forks
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """The exit status, or minus the signal that killed it; None while it runs."""
        return self._status_within(0)

    def wait(self, timeout: float | None = None) -> int:
        """The same once it has ended; `subprocess.TimeoutExpired` after so many seconds."""
        status = self._status_within(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("invox-watcher", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._descriptor, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def complete(self, seconds: float) -> int:
        """The status with which it ends; after so many seconds it is killed, and the test fails."""
        try:
            return self.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
            raise

    def _status_within(self, seconds: float | None) -> int | None:
        if self.returncode is None and self._ends_within(seconds):
            self.returncode = os.waitstatus_to_exitcode(self._forks.ask({"reap": self.pid}))
            os.close(self._descriptor)
        return self.returncode

    def _ends_within(self, seconds: float | None) -> bool:
        patience = Patience(seconds or 0)
        look = seconds if seconds is None else min(seconds, _LOOK_SECONDS)
        while not select.select([self._descriptor], [], [], look)[0]:
            if patience.is_over:
                return False
        return True


class Forks:
    """Runs commands in forks of a process that has everything imported: none of them is slow to start."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._one_at_a_time = threading.Lock()

    def start(
        self,
        arguments: Sequence[str],
        *,
        stdout: Path,
        stderr: Path,
        seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Fork:
        """Begin `invox-watcher` with these arguments, by default in this process's environment and folder.

        After `seconds` every thread's traceback is written to `stderr`.
        """
        request = {
            "arguments": arguments,
            "environment": dict(os.environ if environment is None else environment),
            "folder": str(folder or os.getcwd()),
            "stdout": str(stdout),
            "stderr": str(stderr),
            "seconds": seconds,
        }
        return Fork(self, self.ask(request))

    def run(
        self,
        arguments: Sequence[str],
        *,
        stdout: Path,
        stderr: Path,
        seconds: float,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> int:
        """Run it to its end: the exit status; minus the signal that killed it.

        After `seconds` every thread's traceback is written to `stderr`, and it is killed:
        `subprocess.TimeoutExpired`.
        """
        started = self.start(
            arguments, stdout=stdout, stderr=stderr, seconds=seconds, environment=environment, folder=folder
        )
        return started.complete(seconds + _DUMP_SECONDS)

    def complete(
        self,
        arguments: Sequence[str],
        *,
        seconds: float = 60,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end, and say what it printed, too."""
        with tempfile.TemporaryDirectory() as written:
            stdout, stderr = Path(written, "stdout"), Path(written, "stderr")
            try:
                status = self.run(
                    arguments,
                    stdout=stdout,
                    stderr=stderr,
                    seconds=seconds,
                    environment=environment,
                    folder=folder,
                )
            except subprocess.TimeoutExpired as error:
                error.add_note(stderr.read_text())
                raise
            return subprocess.CompletedProcess(arguments, status, stdout.read_text(), stderr.read_text())

    def ask(self, request: Mapping[str, Any]) -> int:
        """One line there, one number back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._one_at_a_time:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@functools.cache
def forks() -> Forks:
    """The one process of this test run; it ends with the run."""
    started = Forks()
    atexit.register(started.close)
    return started


def warm_up() -> None:
    """Import and build what every command needs, so that none of this process's forks has to."""
    for module in PRELOADED:
        importlib.import_module(module)
    entry = sys.modules["invox_watcher.cli._main"]
    parser = entry.build()
    setattr(entry, "build", lambda: parser)  # noqa: B010 - it is no attribute that a module declares
    sections = [sys.modules["invox_watcher.config._types"].Section]
    while sections:
        section = sections.pop()
        section.model_rebuild()
        sections += section.__subclasses__()
    gc.freeze()  # what is never collected is never copied to a fork


def _serve() -> None:
    warm_up()
    for line in sys.stdin:
        request = json.loads(line)
        if "reap" in request:
            answer = os.waitpid(request["reap"], 0)[1]
        elif (answer := os.fork()) == 0:
            _be_the_command(request)
        print(answer, flush=True)


def _be_the_command(request: Mapping[str, Any]) -> NoReturn:
    """It ends as every interpreter does, by joining threads and calling what is registered.

    Only memory is not freed, which takes longer than most commands.
    """
    status: object = 1
    try:
        _become(request)
        status = sys.modules["invox_watcher.cli"].main(request["arguments"])
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined] # as multiprocessing does
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)


def _become(request: Mapping[str, Any]) -> None:
    appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, file, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["stdout"], appended),
        (2, request["stderr"], appended),
    ):
        opened = os.open(file, flags)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    if request["seconds"] is not None:
        faulthandler.dump_traceback_later(request["seconds"])


if __name__ == "__main__":
    _serve()
