"""What one check found, and for whom: the user that the daemon runs as."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from invox_watcher.config import Config
from invox_watcher.errors import ExitStatus
from invox_watcher.inbox.mounts import mount_of
from invox_watcher.permissions import User

_VOLATILE = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True)
class Finding:
    """What one check found; `status` is the exit status of a run that meets the problem."""

    check: str
    level: Literal["ok", "warning", "failed"] = "ok"
    problem: str | None = None
    hint: str = ""
    status: ExitStatus = ExitStatus.OK
    seen: str = ""  # what is well


def warning(check: str, problem: str, hint: str) -> Finding:
    """Something that a run survives."""
    return Finding(check, "warning", problem, hint)


def lasting(check: str, folder: Path) -> Finding:
    """Whether what is put into `folder` is still there after a restart."""
    mount = mount_of(os.path.realpath(folder))
    if mount.type in _VOLATILE:
        problem = f"{folder} lies on {mount.type}, which does not survive a restart"
        return warning(check, problem, "Put it on a disk.")
    return Finding(check, seen=f"{folder} ({mount.type})")


def daemons_user(config: Config) -> User:
    """Whose rights count: our own, but for root those of the user that the state directory belongs to."""
    if os.geteuid() == 0 and config.state.directory.exists():
        return User.of(os.stat(config.state.directory).st_uid)
    return User.current()
