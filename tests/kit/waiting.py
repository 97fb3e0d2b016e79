"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest


def eventually(condition: Callable[[], Any], *, within: float = 5.0) -> float:
    """Wait until `condition` holds; how long that took, in seconds."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > within:
            pytest.fail(f"not within {within} s")
        time.sleep(0.005)
    return time.monotonic() - started
