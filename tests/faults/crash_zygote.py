"""Has everything imported and forks one process per request, so that a thousand kills take minutes.

A fork may kill itself at a chosen step (it counts the moments before and after every call of ours that
changes something outside of it), or be watched by `tracing` and struck at a chosen system call.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from invox_watcher import cli
from invox_watcher.daemon import process
from invox_watcher.files import durable
from invox_watcher.formats.decoder import Decoder
from invox_watcher.invox.client import InvoxApi
from invox_watcher.journal.fleet import Fleet
from invox_watcher.journal.journal import Journal
from tests.faults.tracing import Call, Fault, Trace, follow
from tests.kit import forks
from tests.kit.clinic import Clinic

NEVER = -1
_SECONDS = 90
# Everything that a recording's way does to the disk, the journal or the API.
STEPS: list[tuple[Any, str]] = [
    (durable, "rename_new"),
    (durable, "make_folder"),
    (durable, "written"),
    (durable.os, "fsync"),
    (durable.os, "rmdir"),
    (durable.os, "unlink"),
    (durable.os, "replace"),
    (subprocess, "Popen"),
    (Decoder, "decode"),
    (Path, "mkdir"),
    (Journal, "add_all"),
    (Journal, "move"),
    (Journal, "identify"),
    (Journal, "discard"),
    # Of several hosts only:
    (Journal, "reserve_all"),
    (Journal, "withdraw_all"),
    (Fleet, "give"),
    (Fleet, "take"),
    (Fleet, "take_over"),
    (InvoxApi, "presign"),
    (InvoxApi, "upload"),
    (InvoxApi, "result"),
]


class Zygote:
    """The process that forks."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.faults.crash_zygote"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def once(self, clinic: Clinic, *, kill_at_step: int = NEVER) -> int:
        """`run --once`, killed at that step; its exit status, or minus the signal."""
        return self._ask(clinic, ["run", "--once"], kill_at_step=kill_at_step).status

    def traced(self, clinic: Clinic, fault: Fault, *arguments: str) -> Trace:
        """A command, by default `run --once`, watched and struck by `fault`."""
        facts = dataclasses.asdict(fault) | {"calls": sorted(fault.calls)}
        return self._ask(clinic, arguments or ["run", "--once"], fault=facts)

    def _ask(self, clinic: Clinic, arguments: Sequence[str], **what: Any) -> Trace:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"arguments": [*arguments, "--config", str(clinic.config)], "log": str(clinic.log), **what}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        facts = json.loads(self._process.stdout.readline())
        facts["calls"] = [Call(**call) for call in facts["calls"]]
        facts["hit"] = facts["hit"] and Call(**facts["hit"])
        return Trace(**facts)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


# ---- in the process that forks -----------------------------------------------------------------------------


def _serve() -> None:
    forks.warm_up()
    for line in sys.stdin:
        request = json.loads(line)
        gate, opener = os.pipe()
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        child = os.fork()
        if child == 0:
            os.read(gate, 1)
            _be_the_command(request, log)
        if (fault := request.get("fault")) is not None:
            trace = follow(child, opener, Fault(**fault))
        else:
            os.write(opener, b"\n")
            trace = Trace(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        for descriptor in (gate, opener, log):
            os.close(descriptor)
        print(json.dumps(dataclasses.asdict(trace)), flush=True)


def _be_the_command(request: dict[str, Any], log: int) -> None:
    status = 1
    try:
        signal.alarm(_SECONDS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(log, 2)
        process._keep_memory_private = lambda: None  # nobody but root could watch it
        if "kill_at_step" in request:
            kill_at_step_of_this_process(request["kill_at_step"])
        status = cli.main(request["arguments"])
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def kill_at_step_of_this_process(kill_at: int) -> None:
    moments = itertools.count(1)

    def moment() -> None:
        if next(moments) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    for owner, name in STEPS:
        setattr(owner, name, _between(getattr(owner, name), moment))


def _between(function: Callable[..., Any], moment: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(function)
    def stepped(*args: Any, **kwargs: Any) -> Any:
        moment()
        result = function(*args, **kwargs)
        moment()
        return result

    return stepped


if __name__ == "__main__":
    _serve()
