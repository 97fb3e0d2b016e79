"""`start`, for hosts without systemd: a daemon that detaches itself, by python-daemon.

It waits until the daemon is ready, and reports what goes wrong before that as `run` would.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from daemon import DaemonContext

from invox_watcher import logs
from invox_watcher.config import Config
from invox_watcher.daemon.control import in_brackets
from invox_watcher.daemon.process import Process, log_file_refused
from invox_watcher.errors import ExitStatus, InvoxError, JournalError
from invox_watcher.files import LOCK_FILE, check_state_directory, prepare_state
from invox_watcher.host import Holder, holder_of

PID_FILE = "invox-watcher.pid"
LOG_FILE = "invox-watcher.log"
_START_SECONDS = 60.0
# They come from a terminal, which the daemon no longer has. python-daemon's default would also take SIGTERM,
# which is `Process`'s.
_IGNORED: Mapping[int, None] = dict.fromkeys((signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU))


class _NotStartedError(InvoxError):
    """The daemon that was started has ended, or is not ready; `exit_status` is its own."""

    def __init__(self, outcome: Mapping[str, Any]) -> None:
        super().__init__(outcome["message"], code=outcome["code"], hint=outcome["hint"])
        self.exit_status = ExitStatus(outcome["status"])


def start(load: Callable[[], Config]) -> Holder | None:
    """Start a daemon with the configuration that `load` gives, wait until it is ready, return its process.

    Raises:
        InvoxError: it could not be started, or is not ready after a minute; `exit_status` says which.
    """
    config = _with_log_file(load())
    directory = config.state.directory
    check_state_directory(directory)
    prepare_state(directory, config.folders.inbox)
    lock = directory / LOCK_FILE
    if (holder := holder_of(lock)) is not None:
        raise JournalError(
            f"A daemon is already running on {directory}{in_brackets(holder)}.",
            code="already_running",
            hint="`invox-watcher stop` stops it.",
        )
    with _open_log(config) as errors:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _run(lambda: _with_log_file(load()), directory, errors, _Report(writing))
    os.close(writing)
    os.waitpid(child, 0)  # it exits at once: the daemon is its child's child
    with os.fdopen(reading, "rb") as report:
        _raise_unless_ready(report, config)
    return holder_of(lock)


def _with_log_file(config: Config) -> Config:
    """The configuration with a log file, which is needed without a terminal."""
    file = config.logging.file or config.state.directory / LOG_FILE
    return config.model_copy(update={"logging": config.logging.model_copy(update={"file": file})})


def _open_log(config: Config) -> IO[bytes]:
    """The log as standard error, for messages of Python itself."""
    file = config.logging.file
    assert file is not None  # noqa: S101 - see `_with_log_file`
    try:
        return os.fdopen(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")
    except OSError as error:
        raise log_file_refused(file, error) from None


def _run(load: Callable[[], Config], directory: Path, errors: IO[bytes], report: _Report) -> NoReturn:
    """The daemon, from detaching to its exit."""
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
            errors.close()  # it is standard error now, and must not keep a rotated file open
            ending = Process(load).run(on_ready=report.ready)
    except InvoxError as error:
        ending = error.exit_status
        report.failed(error)
    except BaseException:  # noqa: BLE001 - the process ends: no caller could handle it
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        logs.flush()
        os._exit(ending)  # not by `sys.exit`: the callers are those of the command that was forked


class _Report:
    """Reports to the waiting command how the start went, over a pipe, and once."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._sent = False

    def ready(self) -> None:
        self._send({})

    def failed(self, error: InvoxError) -> None:
        status = int(error.exit_status)
        self._send({"message": error.message, "code": error.code, "hint": error.hint, "status": status})

    def _send(self, outcome: Mapping[str, Any]) -> None:
        if not self._sent:
            self._sent = True
            with suppress(BrokenPipeError):  # the command no longer waits
                os.write(self.descriptor, json.dumps(outcome).encode())
            os.close(self.descriptor)


def _raise_unless_ready(report: IO[bytes], config: Config) -> None:
    hint = f"See {config.logging.file}."
    late = not select.select([report], [], [], _START_SECONDS)[0]
    if late:
        message = f"The daemon is not ready after {_START_SECONDS:g} s; it is still starting."
        raise _NotStartedError({"message": message, "code": "late", "hint": hint, "status": 75})
    outcome = report.read()
    if not outcome:
        message = "The daemon exited before it was ready."
        raise _NotStartedError({"message": message, "code": "died", "hint": hint, "status": 70})
    if failure := json.loads(outcome):
        raise _NotStartedError(failure)


class _PidFile:
    """The file that holds the daemon's process id for other programs: locked while it runs, then removed.

    One left behind by a daemon that was killed is not locked, whatever process has that id now.
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
                    f"Another daemon has {self._path} locked.", code="already_running", hint="Stop it first."
                ) from None
            except FileNotFoundError:
                pass
            os.close(self._descriptor)  # its last owner has just removed it
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def __exit__(self, *_exception: object) -> None:
        os.unlink(self._path)
        os.close(self._descriptor)
