"""Waiting for what another thread or process does."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from tests.kit.forks import Fork

Process: TypeAlias = subprocess.Popen[bytes] | Fork

# A look that takes longer was held up by the machine, which may stand still for a minute.
_LONGEST_LOOK_SECONDS = 1.0
# A look may cost as much as the daemon that is looked at: what takes long is looked at less often.
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.1


class Patience:
    """Some seconds, of which none passes while the whole machine stands still."""

    def __init__(self, seconds: float) -> None:
        self._left, self._before = seconds, time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether that much time has passed; to be asked again and again."""
        now = time.monotonic()
        self._left -= min(now - self._before, _LONGEST_LOOK_SECONDS)
        self._before = now
        return self._left <= 0


def wait_for(what: str, condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait until `condition` holds; fail naming `what` if it never does."""
    patience, pause = Patience(seconds), _SHORTEST_PAUSE_SECONDS
    while not condition():
        assert not patience.is_over, f"never happened: {what}"
        time.sleep(pause)
        pause = min(pause * 1.2, _LONGEST_PAUSE_SECONDS)


def eventually(condition: Callable[[], Any], *, within: float = 20.0) -> float:
    """Wait until `condition` holds; how long that took, in seconds."""
    started, patience = time.monotonic(), Patience(within)
    while not condition():
        if patience.is_over:
            pytest.fail(f"not within {within} s")
        time.sleep(0.005)
    return time.monotonic() - started


def status_of(process: Process, *, seconds: float) -> int:
    """Wait for its end: the exit status, or minus the signal that killed it; fail if it goes on."""
    wait_for(f"the end of process {process.pid}", lambda: process.poll() is not None, seconds=seconds)
    assert process.returncode is not None
    return process.returncode
