"""Processes that are measured, with all of their children; none outlives the bench."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """What a process took, from its start to its end, its children included."""

    began: float  # seconds since the epoch
    seconds: float
    cpu_seconds: float
    peak_mib: float  # resident, of the largest process
    status: int


def spawn(command: Sequence[str], *, log: Path, tree: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a process that the kernel kills if this one dies; both its outputs are appended to `log`.

    With `tree`, Python modules are those of that checkout.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=tree,
            env=os.environ if tree is None else {**os.environ, "PYTHONPATH": str(tree)},
        )


def finish(process: subprocess.Popen[bytes], began: float, *, seconds: float) -> Usage:
    """Wait until the process ends by itself, and kill it if that takes longer than `seconds`."""
    killer = threading.Timer(seconds, process.kill)
    killer.start()
    try:
        _pid, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        killer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    return Usage(began, time.time() - began, cpu, usage.ru_maxrss / 1024, process.returncode)


def run(command: Sequence[str], *, log: Path, tree: Path | None = None, seconds: float = 600) -> Usage:
    """Run a process to its end."""
    began = time.time()
    return finish(spawn(command, log=log, tree=tree), began, seconds=seconds)


@contextlib.contextmanager
def stopped_at_the_end(process: subprocess.Popen[bytes], *, kill: bool = False) -> Iterator[None]:
    """SIGTERM at the end of the block, after which its exit status has to be 0; SIGKILL if the block fails.

    With `kill`, SIGKILL in any case.
    """
    try:
        yield
        if not kill:
            process.terminate()
            status = process.wait(60)
            if status != 0:
                raise RuntimeError(f"{process.args!r} ended with {status} after SIGTERM.")
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()


# ---- while it runs ---------------------------------------------------------------------------------------


def tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """CPU of the process so far, its children included, be they alive or not."""
    ticks = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


def resident_mib(pid: int) -> float:
    """Memory of the process itself that is resident now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20


def peak_mib(pid: int) -> float:
    """The most memory that the process itself has had resident so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def threads(pid: int) -> int:
    """How many threads it has."""
    return len(os.listdir(f"/proc/{pid}/task"))


def descriptors(pid: int) -> int:
    """How many descriptors it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
