"""The operator's own commands, run after a recording is filed: a kind of target.

A command that was interrupted by a kill or a stop is run again. One that fails is not, unless an operator
asks for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from invox_watcher.errors import TargetRefusedError
from invox_watcher.job import Job, State
from invox_watcher.journal import Receipt
from invox_watcher.times import rfc3339, utc_now

# Not the daemon's whole environment, which may contain the credentials.
_PASSED_ON = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ")
_POLL_SECONDS = 1.0
_STOP_SECONDS = 2.0
_EXIT_POLL_SECONDS = 0.05
_MAX_OUTPUT_BYTES = 8 << 10
_OUTPUT_SECONDS = 1.0  # for what an ended command left in its pipe


@dataclass(frozen=True)
class CommandResult:
    """How a command ended."""

    problem: str  # what went wrong; "" if nothing did
    output: str  # the end of what it printed

    @property
    def receipt(self) -> Receipt:
        """What the journal keeps of it."""
        return Receipt(rfc3339(utc_now()), self.problem or "ended with status 0", self.output)


class CommandFailedError(TargetRefusedError):
    """The command ran, and did not succeed."""

    code = "command_failed"
    hint = (
        "`invox-watcher show ID` has what it printed. `invox-watcher retry ID --target NAME` runs it again."
    )

    def __init__(self, result: CommandResult) -> None:
        super().__init__(f"The command {result.problem}.")
        self.receipt = result.receipt


class Command:
    """One command of the operator's, run after recordings that ended in some state."""

    def __init__(
        self,
        command: Sequence[str],
        timeout_seconds: float,
        *,
        folders: Mapping[State, Path],
        transcripts: Callable[[Job], Sequence[Path]],
    ) -> None:
        """`folders`: where recordings are filed, by their final state; `transcripts`: the files of a job."""
        self._command = command
        self._timeout_seconds = timeout_seconds
        self._folders = folders
        self._transcripts = transcripts

    def run(self, job: Job, stop: threading.Event) -> Receipt | None:
        """Run it after `job`; None if `stop` was set before it ended.

        Raises:
            CommandFailedError: it could not be started, or did not succeed.
        """
        folder = self._folders.get(job.state)
        recording = folder / (job.filed_as or job.path) if folder else None
        facts = facts_of(job, recording, self._transcripts(job) if job.state is State.DONE else ())
        result = run_command(self._command, facts, self._timeout_seconds, stop)
        if result is None:
            return None
        if result.problem:
            raise CommandFailedError(result)
        return result.receipt


def facts_of(job: Job, recording: Path | None, transcripts: Sequence[Path]) -> dict[str, object]:
    """What a command is given: its environment variables' names in lower case, without the prefix."""
    return {
        "job": job.id,
        "state": job.state,
        "recording": str(recording) if recording else None,
        "name": job.path,
        "transcripts": [str(path) for path in transcripts],
        "request_id": job.request_id,
        "sha256": job.sha256,
        "size_bytes": job.size_bytes,
        "duration_seconds": job.duration_seconds,
        "received_at": rfc3339(job.received_at),
        "code": job.failure.reason.code if job.failure else None,
        "message": job.failure.reason.message if job.failure else None,
    }


def run_command(
    command: Sequence[str], facts: Mapping[str, object], timeout_seconds: float, stop: threading.Event
) -> CommandResult | None:
    """Run a command and wait for its exit; None if `stop` was set before."""
    try:
        with os.fdopen(os.memfd_create("facts"), "w+b") as stdin:
            stdin.write(json.dumps(facts).encode())
            stdin.seek(0)
            process = subprocess.Popen(  # noqa: S603 - the operator's own command, without a shell
                list(command),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(facts),
                start_new_session=True,
            )
    except (OSError, ValueError) as error:  # ValueError: what this locale can't put into an environment
        problem = getattr(error, "strerror", None) or type(error).__name__
        return CommandResult(f"could not be started: {problem}", "")
    output = _Output(process)
    problem = _problem(process, timeout_seconds, stop)
    if problem is None:
        return None
    return CommandResult(problem, output.text())


def _problem(process: subprocess.Popen[bytes], timeout_seconds: float, stop: threading.Event) -> str | None:
    """Wait for its exit; return what failed, "" if nothing did. None if the daemon stopped first."""
    left = timeout_seconds
    while True:
        try:
            process.wait(min(left, _POLL_SECONDS))
            return _wrong_with(process.returncode)
        except subprocess.TimeoutExpired:
            left -= _POLL_SECONDS
        if stop.is_set():
            _end(process)
            return None
        if left <= 0:
            how = "killed" if _end(process) else "could not be killed"
            return f"{how} after {timeout_seconds:g} seconds (timeout_seconds)"


class _Output:
    """The end of what a command prints; reads all of it, so that no process ever waits for us.

    Processes that outlive the command may keep its pipe open: what they print is read and discarded.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - a pipe
        self._pipe = process.stdout
        self._lock = threading.Lock()
        self._end = bytearray()
        self._left_out = 0
        self._thread = threading.Thread(target=self._read, name="hook-output", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """What was printed until the command ended, at most the last 8 KiB of it."""
        self._thread.join(_OUTPUT_SECONDS)
        with self._lock:
            text = self._end.decode("utf-8", "replace")
            return f"[{self._left_out} bytes left out] {text}" if self._left_out else text

    def _read(self) -> None:
        with self._pipe:
            while part := os.read(self._pipe.fileno(), 1 << 16):
                with self._lock:
                    self._end += part
                    excess = max(len(self._end) - _MAX_OUTPUT_BYTES, 0)
                    self._left_out += excess
                    del self._end[:excess]


def _environment(facts: Mapping[str, object]) -> dict[bytes, bytes]:
    """The daemon's plain variables, and each fact as INVOX_WATCHER_…; lists have one entry per line."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    named = {
        f"INVOX_WATCHER_{name.upper()}": "\n".join(value) if isinstance(value, list) else str(value)
        for name, value in facts.items()
        if value not in (None, [])
    }
    return {os.fsencode(name): os.fsencode(value) for name, value in (passed_on | named).items()}


def _wrong_with(status: int) -> str:
    """What a process's `returncode` says has failed; "" if nothing has."""
    if status >= 0:
        return f"ended with status {status}" if status else ""
    names = {number.value: f" ({number.name})" for number in signal.Signals}  # not those for real time
    return f"killed by signal {-status}{names.get(-status, '')}"


def _end(process: subprocess.Popen[bytes]) -> bool:
    """Kill the command and all that it has started; False if it may not be killed and still runs."""
    _signal_group(process, signal.SIGTERM)
    give_up = time.monotonic() + _STOP_SECONDS
    while not _has_ended(process) and time.monotonic() < give_up:
        time.sleep(_EXIT_POLL_SECONDS)
    # Even if the command itself has exited: its children may have ignored the first signal.
    _signal_group(process, signal.SIGKILL)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        # It runs as another user, or hangs in the kernel. The thread reaps it once it exits.
        threading.Thread(target=process.wait, name="hook-left", daemon=True).start()
        return False
    return True


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # PermissionError: another user's
        os.killpg(process.pid, number)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has exited, without reaping it: its process id, which is also its group's, stays in use."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
