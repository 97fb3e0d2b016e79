"""What the kernel says of processes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


def children(pid: int) -> list[int]:
    """Those that the main thread of a process has started; empty if it has ended."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def family(pid: int) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for parent in found:
        found += children(parent)
    return found
