"""Where an editable installation has its code from: its version is that of when it was installed."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from importlib.metadata import distribution
from pathlib import Path


def clone_used() -> str | None:
    """For an installation by `pip install -e`, its folder and the commit there; None for any other."""
    origin = json.loads(distribution("invox-watcher").read_text("direct_url.json") or "{}")  # PEP 610
    if not origin.get("dir_info", {}).get("editable"):
        return None
    folder, commit = Path(__file__).parent.parent.parent, "unknown"
    with suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
        commit = subprocess.run(  # noqa: S603 - git
            command, check=True, capture_output=True, text=True, timeout=5
        ).stdout.strip()
    return f"runs from {folder}, now at commit {commit}"
