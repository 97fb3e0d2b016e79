"""Waiting for what another thread or process does."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from tests.kit.forks import Fork
from tests.kit.patience import Patience

Process: TypeAlias = subprocess.Popen[bytes] | Fork

# A look may cost as much as the daemon that is looked at: what takes long is looked at less often.
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.1


def wait_for(what: str, condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait until `condition` holds; fail naming `what` if it never does."""
    patience, pause = Patience(seconds), _SHORTEST_PAUSE_SECONDS
    while not condition():
        assert not patience.is_over, f"never happened: {what}"
        time.sleep(pause)
        pause = min(pause * 1.2, _LONGEST_PAUSE_SECONDS)


def eventually(condition: Callable[[], Any], *, within: float = 5.0) -> float:
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
