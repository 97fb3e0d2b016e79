"""Since when incomplete files are unchanged, for the next process: `run --once` never waits for that long.

Times are those of the kernel's monotonic clock, which all processes share until the next boot; files are
identified by their snapshots, so that no name is written down.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from invox_watcher.errors import InvoxError
from invox_watcher.inbox.stability import Snapshot

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Notes:
    """What is noted, and what is new since it was last written."""

    def __init__(self, read: Callable[[], bytes], write: Callable[[bytes], None]) -> None:
        self._write = write
        self._boot = _boot_id()
        self._since: dict[Snapshot, float] = {}
        with suppress(OSError, InvoxError):
            self._since = _parsed(read(), self._boot)
        self._changed = False

    def since(self, snapshot: Snapshot, now: float) -> float:
        """Since when a file that looks like this is unchanged: from now on, if nothing is noted."""
        return min(now, self._since.get(snapshot, now))

    def add(self, snapshot: Snapshot, since: float) -> None:
        """An incomplete file, and since when it is unchanged."""
        if self._since.get(snapshot) != since:
            self._since[snapshot] = since
            self._changed = True

    def keep(self, present: Callable[[], Collection[Snapshot]]) -> None:
        """Forget all files except those that look like these, which are asked for if any file is noted."""
        if not self._since:
            return
        found = present()
        kept = {snapshot: since for snapshot, since in self._since.items() if snapshot in found}
        self._changed = self._changed or len(kept) < len(self._since)
        self._since = kept

    def save(self) -> None:
        """Write down what has changed. If that fails, the next process waits longer, which is all."""
        if not self._changed or not self._boot:
            return
        self._changed = False
        rows = [[*dataclasses.astuple(snapshot), since] for snapshot, since in self._since.items()]
        with suppress(OSError, InvoxError):
            self._write(json.dumps({"boot": self._boot, "unchanged_since": rows}).encode() + b"\n")


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _parsed(content: bytes, boot: str) -> dict[Snapshot, float]:
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        noted = json.loads(content)
        if boot and noted["boot"] == boot:
            return {Snapshot(*map(int, row[:5])): float(row[5]) for row in noted["unchanged_since"]}
    return {}
