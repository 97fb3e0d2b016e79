"""What one check found."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from invox_watcher.errors import ExitStatus
from invox_watcher.host import mount_of

_VOLATILE = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True)
class Finding:
    """What one check found; `status` is the exit status of a run with this problem."""

    check: str
    level: Literal["ok", "warning", "failed"] = "ok"
    problem: str | None = None
    hint: str = ""
    status: ExitStatus = ExitStatus.OK
    seen: str = ""  # what is in order


def warning(check: str, problem: str, hint: str) -> Finding:
    """A problem that does not keep the daemon from running."""
    return Finding(check, "warning", problem, hint)


def lasting(check: str, folder: Path) -> Finding:
    """Does the content of `folder` survive a restart?"""
    mount = mount_of(os.path.realpath(folder))
    if mount.type in _VOLATILE:
        problem = f"{folder} is on {mount.type}, which does not survive a restart"
        return warning(check, problem, "Put it on a disk.")
    return Finding(check, seen=f"{folder} ({mount.type})")
