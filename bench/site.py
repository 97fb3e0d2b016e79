"""A clinic whose daemon is measured: folders, and the default configuration but for what a scenario names."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.processes import Usage, run, spawn, stopped_at_the_end
from bench.server import API_KEY, APP_ID, APP_SECRET
from tests.kit.clinic import free_port

_SUFFIXES = (".wav", ".mp3", ".flac")
# The API answers at once, so the daemon asks at once, and takes a file as soon as it is closed.
AT_ONCE: Mapping[str, Mapping[str, Any]] = {
    "watch": {"grace_seconds": 0.001},
    "polling": {"first_seconds": 0.01},
}


def wait_for(what: str, condition: Callable[[], bool], *, seconds: float, pause: float = 0.02) -> None:
    """Wait until `condition` holds; fail naming `what` if it never does."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"did not happen within {seconds:.0f} s: {what}")
        time.sleep(pause)


class Site:
    """Folders, a configuration, and what a daemon with it did."""

    def __init__(self, root: Path, base_url: str, **changes: Mapping[str, Any]) -> None:
        self.root = root
        self.inbox, self.outbox, self.done, self.failed = (
            root / name for name in ("inbox", "outbox", "done", "failed")
        )
        self.state = root / "state"
        self.log = root / "daemon.log"
        self.port = free_port()
        self._config = root / "config.yaml"
        keys: dict[str, dict[str, Any]] = {
            "api": {"base_url": base_url},
            "credentials": {"app_id": APP_ID, "api_key": API_KEY, "app_secret": APP_SECRET},
            "folders": {"root": str(root)},
            "http": {"listen": f"127.0.0.1:{self.port}"},
            "state": {"directory": str(self.state)},
        }
        for section, values in changes.items():
            keys[section] = keys.get(section, {}) | dict(values)
        self.inbox.mkdir(parents=True)
        self._config.write_text(yaml.safe_dump(keys))

    def command(self, *arguments: str) -> list[str]:
        """One command of invox-watcher with this configuration."""
        return [sys.executable, "-m", "invox_watcher", *arguments, "--config", str(self._config)]

    def once(self, *, tree: Path | None = None, seconds: float = 600) -> Usage:
        """`run --once`, with the code of another checkout if `tree` names one."""
        return run(self.command("run", "--once"), log=self.log, tree=tree, seconds=seconds)

    @contextlib.contextmanager
    def daemon(self, *, wait_seconds: float = 60, kill: bool = False) -> Iterator[subprocess.Popen[bytes]]:
        """A running daemon that watches by now; stopped at the end of the block, or with `kill` killed."""
        seen = self.count("watching")
        process = spawn(self.command("run"), log=self.log)
        with stopped_at_the_end(process, kill=kill):
            wait_for(
                "the daemon watches",
                lambda: self.count("watching") > seen or process.poll() is not None,
                seconds=wait_seconds,
            )
            if process.poll() is not None:
                raise RuntimeError(f"The daemon ended: {self.log.read_text()[-2000:]}")
            yield process

    def count(self, event: str) -> int:
        """How often an event has been logged."""
        return self.log.read_text().count(f'"event": "{event}"') if self.log.exists() else 0

    def events(self, *names: str) -> list[dict[str, Any]]:
        """The logged events of these names."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [event for event in found if event["event"] in names]


def files(folder: Path) -> list[Path]:
    """All recordings below a folder."""
    found = []
    for current, _folders, names in os.walk(folder):
        found += [Path(current, name) for name in names if name.endswith(_SUFFIXES)]
    return found
