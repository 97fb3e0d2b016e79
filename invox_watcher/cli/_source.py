"""The clone that the program runs from, if it does: its version is that of when it was installed there."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path


def clone_used() -> str | None:
    """The folder of the clone and the commit there; None for an installation of its own."""
    folder, commit = Path(__file__).parent.parent.parent, "unknown"
    if not (folder / ".git").exists():
        return None
    with suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
        commit = subprocess.run(  # noqa: S603 - git
            command, check=True, capture_output=True, text=True, timeout=5
        ).stdout.strip()
    return f"runs from {folder}, now at commit {commit}"
