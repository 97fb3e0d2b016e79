"""`start`, `stop` and `status` for hosts without systemd: a process that detaches itself, by python-daemon.

What is wrong before the daemon is ready, `start` says as if it had been run in the foreground. `stop` and
`status` are for any daemon on the state directory, whoever started it.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from daemon import DaemonContext

from invox_watcher.config import Config
from invox_watcher.daemon.control import _IGNORED, _pid
from invox_watcher.daemon.process import Process, log_file_refused
from invox_watcher.errors import ExitStatus, InvoxError, JournalError
from invox_watcher.files import LOCK_FILE, prepare_state
from invox_watcher.host import Holder, holder_of

PID_FILE = "invox-watcher.pid"
LOG_FILE = "invox-watcher.log"
_START_SECONDS = 60.0


class _NotStartedError(InvoxError):
    """The daemon that was started has ended, or is not ready; `exit_status` is its own."""

    def __init__(self, word: Mapping[str, Any]) -> None:
        super().__init__(word["message"], code=word["code"], hint=word["hint"])
        self.exit_status = ExitStatus(word["status"])


# ---- start -------------------------------------------------------------------------------------------------


def start(load: Callable[[], Config]) -> Holder | None:
    """Start a daemon with the configuration that `load` gives, and wait until it is ready: who it is now.

    Raises:
        InvoxError: it could not be started, or is not ready after a minute; `exit_status` says which.
    """
    config = _with_log_file(load())
    lock = prepare_state(config) / LOCK_FILE
    if (holder := holder_of(lock)) is not None:
        raise JournalError(
            f"A daemon is running on {config.state.directory} already{_pid(holder)}.",
            code="already_running",
            hint="`invox-watcher stop` stops it.",
        )
    with _open_log(config) as errors:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _live(lambda: _with_log_file(load()), config.state.directory, errors, _Report(writing))
    os.close(writing)
    os.waitpid(child, 0)  # it ends at once: what lives on is its child's child
    with os.fdopen(reading, "rb") as answer:
        _raise_unless_ready(answer, config)
    return holder_of(lock)


def _with_log_file(config: Config) -> Config:
    """Without a terminal a log needs a file."""
    file = config.logging.file or config.state.directory / LOG_FILE
    return config.model_copy(update={"logging": config.logging.model_copy(update={"file": file})})


def _open_log(config: Config) -> IO[bytes]:
    """The log as standard error, for what Python itself has to say."""
    file = config.logging.file
    assert file is not None  # noqa: S101 - see `_with_log_file`
    try:
        return os.fdopen(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")
    except OSError as error:
        raise log_file_refused(file, error) from None


def _live(load: Callable[[], Config], directory: Path, errors: IO[bytes], report: _Report) -> NoReturn:
    """The life of the daemon, from detaching to its end."""
    ending = ExitStatus.SOFTWARE
    context = DaemonContext(
        detach_process=True,
        prevent_core=True,
        umask=0o077,
        working_directory="/",
        signal_map=_IGNORED,
        files_preserve=[report.descriptor],
        stderr=errors,
        pidfile=_PidFile(directory / PID_FILE),
    )
    try:
        with context:
            errors.close()  # it is standard error now, and must not keep a file that is rotated away
            ending = Process(load).run(on_ready=report.ready)
    except InvoxError as error:
        ending = error.exit_status
        report.failed(error)
    except BaseException:  # noqa: BLE001 - the end of the process: nobody above could handle it
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(ending)  # not by `sys.exit`: above is the command that has started us


class _Report:
    """Tells the command that waits for it what became of the daemon: one word over a pipe, then silence."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._said = False

    def ready(self) -> None:
        self._say({})

    def failed(self, error: InvoxError) -> None:
        status = int(error.exit_status)
        self._say({"message": error.message, "code": error.code, "hint": error.hint, "status": status})

    def _say(self, word: Mapping[str, Any]) -> None:
        if not self._said:
            self._said = True
            with suppress(BrokenPipeError):  # nobody waits any more
                os.write(self.descriptor, json.dumps(word).encode())
            os.close(self.descriptor)


def _raise_unless_ready(answer: IO[bytes], config: Config) -> None:
    hint = f"See {config.logging.file}."
    late = not select.select([answer], [], [], _START_SECONDS)[0]
    if late:
        message = f"The daemon is not ready after {_START_SECONDS:g} s; it goes on trying."
        raise _NotStartedError({"message": message, "code": "late", "hint": hint, "status": 75})
    word = answer.read()
    if not word:
        message = "The daemon ended before it was ready."
        raise _NotStartedError({"message": message, "code": "died", "hint": hint, "status": 70})
    if failure := json.loads(word):
        raise _NotStartedError(failure)


class _PidFile:
    """The file that says the daemon's process id to other programs: locked for its life, then removed.

    One that is left over from a daemon that was killed is not locked, whatever process has that id now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> None:
        while True:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(self._descriptor), os.stat(self._path)):
                    break
            except BlockingIOError:
                os.close(self._descriptor)
                raise JournalError(
                    f"A daemon holds {self._path}.", code="already_running", hint="Stop it first."
                ) from None
            except FileNotFoundError:
                pass
            os.close(self._descriptor)  # its last owner has just removed it
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def __exit__(self, *_exception: object) -> None:
        os.unlink(self._path)
        os.close(self._descriptor)
