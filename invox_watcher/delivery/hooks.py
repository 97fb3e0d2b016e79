"""The operator's own commands, run after a recording is filed, one at a time, without delaying it.

What is due is in the journal, so a command that was interrupted by a kill or a stop is run again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from invox_watcher.errors import JournalError
from invox_watcher.events import Event, log
from invox_watcher.job import Job, State
from invox_watcher.journal import Finished, Receipt
from invox_watcher.times import rfc3339, utc_now

# Not the daemon's whole environment, which may contain the credentials.
_PASSED_ON = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ")
_POLL_SECONDS = 1.0
_STOP_SECONDS = 2.0
_EXIT_POLL_SECONDS = 0.05
_MAX_OUTPUT_BYTES = 8 << 10
_OUTPUT_SECONDS = 1.0  # for what an ended command left in its pipe


@dataclass(frozen=True)
class Commands:
    """What to run, as a program and its arguments; None for nothing."""

    on_done: Sequence[str] | None
    on_failed: Sequence[str] | None  # also for recordings that vanished
    timeout_seconds: float

    @property
    def states(self) -> frozenset[State]:
        """The states whose jobs have a command."""
        after = {State.DONE: self.on_done, State.FAILED: self.on_failed, State.VANISHED: self.on_failed}
        return frozenset(state for state, command in after.items() if command)

    def after(self, state: State) -> Sequence[str]:
        """The command for a job that ended in `state`, one of `states`."""
        command = self.on_done if state is State.DONE else self.on_failed
        assert command is not None  # noqa: S101 - the journal marks only jobs in `states`
        return command


class Hooks:
    """Runs the commands that are due until it is stopped; `run` is the body of a thread."""

    def __init__(
        self, commands: Commands, finished: Finished, folders: Mapping[State, Path], outbox: Path
    ) -> None:
        """`folders`: where the recordings of each final state are filed."""
        self._commands = commands
        self._finished = finished
        self._folders = folders
        self._outbox = outbox
        self._ran: dict[str, Receipt | None] = {}  # not yet recorded, as the journal could not be written

    def run(self, stop: threading.Event) -> None:
        """Run every command that is due, and poll the journal for more, until `stop` is set."""
        while not stop.is_set():
            with contextlib.suppress(JournalError):  # the journal's own check reports it
                for job in self._finished.hooks_due():
                    if job.id in self._ran or self._has_run(job, stop):
                        self._finished.hook_ran(job, self._ran[job.id])
                        del self._ran[job.id]
            stop.wait(_POLL_SECONDS)

    def _has_run(self, job: Job, stop: threading.Event) -> bool:
        """Run the command of `job`; False if the daemon stopped before the command exited."""
        if job.state not in self._commands.states:  # the configuration has changed since
            self._ran[job.id] = None
            return True
        command = self._commands.after(job.state)
        folder = self._folders.get(job.state)
        recording = folder / (job.filed_as or job.path) if folder else None
        facts = facts_of(job, recording, self._transcripts(job))
        receipt = run_command(command, facts, self._commands.timeout_seconds, stop)
        if receipt is None:
            return False
        self._ran[job.id] = receipt
        if receipt.problem:
            log.error(Event.HOOK_FAILED, job=job.id, command=command[0], reason=receipt.problem)
        else:
            log.info(Event.HOOK_RAN, job=job.id, command=command[0])
        return True

    def _transcripts(self, job: Job) -> list[Path]:
        if job.state is not State.DONE:
            return []
        return [self._outbox / path for path in self._finished.outputs(job.id)]


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
) -> Receipt | None:
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
        return Receipt(rfc3339(utc_now()), None, problem, "")
    output = _Output(process)
    problem = _problem(process, timeout_seconds, stop)
    if problem is None:
        return None
    return Receipt(rfc3339(utc_now()), process.returncode, problem, output.text())


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
            return f"{how} after {timeout_seconds:g} seconds (hooks.timeout_seconds)"


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
