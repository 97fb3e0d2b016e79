"""What the acceptance tests share: recordings made from nothing, and a clinic with a real daemon process."""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from invox_watcher.sandbox.server import Sandbox
from invox_watcher.sandbox.settings import SandboxSettings


def write_wav(path: Path, *, seconds: float = 0.5, pitch: float = 440.0, rate: int = 8000) -> Path:
    """A mono 16-bit tone; another pitch is other content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = (int(9000 * math.sin(2 * math.pi * pitch * n / rate)) for n in range(int(seconds * rate)))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return path


def write_sparse_wav(path: Path, size_bytes: int) -> Path:
    """A valid PCM WAV of that size whose samples are all zero and take no room on the disk."""
    header = b"RIFF" + struct.pack("<I", size_bytes - 8) + b"WAVEfmt "
    header += struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data"
    header += struct.pack("<I", size_bytes - len(header) - 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(size_bytes)
    return path


def sandbox(directory: Path, **settings: Any) -> Sandbox:
    """A stand-in API that answers at once with text made from the content's hash."""
    chosen: dict[str, Any] = {"recognizer": "none", "result_delay_seconds": 0.05} | settings
    directory.mkdir(parents=True, exist_ok=True)
    return Sandbox(SandboxSettings(data_directory=directory, **chosen))


def wait_for(what: str, condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait until `condition` holds; fail naming `what` where it never does."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"never happened: {what}"
        time.sleep(0.02)


class Clinic:
    """Folders, a configuration and a daemon that is a process of its own."""

    def __init__(self, root: Path, base_url: str, **changes: Mapping[str, Any]) -> None:
        self.root = root
        self.inbox, self.outbox = root / "inbox", root / "outbox"
        self.done, self.failed, self.processing = root / "done", root / "failed", root / "processing"
        self.inbox.mkdir(parents=True, exist_ok=True)
        self.config = root / "config.yaml"
        self.log = root / "daemon.log"
        keys: dict[str, dict[str, Any]] = {
            "api": {"base_url": base_url},
            "credentials": {"app_id": "sandbox-app", "api_key": "sandbox-key"},
            "folders": {"root": str(root)},
            "watch": {"settle_seconds": 0.3, "rescan_seconds": 2, "patience_seconds": 1.5},
            "polling": {"first_seconds": 0.1, "max_seconds": 1, "unknown_seconds": 0.3},
            "retry": {"base_seconds": 0.1, "max_seconds": 1},
            "http": {"listen": None},
            "state": {"directory": str(root / "state")},
            "logging": {"level": "debug"},
        }
        for section, values in changes.items():
            keys[section] = keys.get(section, {}) | dict(values)
        self.config.write_text(yaml.safe_dump(keys))

    def command(self, *arguments: str) -> list[str]:
        """The command line of one command with this clinic's configuration."""
        return [sys.executable, "-m", "invox_watcher", *arguments, "--config", str(self.config)]

    def run(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=seconds, check=False
        )

    def once(self, *, seconds: float = 60) -> int:
        """`run --once`, its log appended to `self.log`; the exit status."""
        with self.log.open("a") as log:
            return subprocess.run(
                self.command("run", "--once"), stderr=log, timeout=seconds, check=False
            ).returncode

    def start(self) -> subprocess.Popen[bytes]:
        """Start the daemon and wait until it watches."""
        seen = self.events("watching")
        with self.log.open("ab") as log:
            process = subprocess.Popen(self.command("run"), stderr=log)
        wait_for(
            "the daemon watches",
            lambda: len(self.events("watching")) > len(seen) or process.poll() is not None,
        )
        assert process.poll() is None, self.log.read_text()
        return process

    def events(self, *names: str) -> list[dict[str, Any]]:
        """The log's events, all or those of these names."""
        if not self.log.exists():
            return []
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        found = [json.loads(line) for line in lines if line.endswith("}")]
        return [event for event in found if not names or event["event"] in names]

    def files(self, folder: Path) -> list[str]:
        """Every file below `folder`, hidden ones too, as sorted relative paths."""
        return sorted(
            os.path.relpath(os.path.join(current, name), folder)
            for current, _folders, names in os.walk(folder)
            for name in names
        )

    def transcript(self, path: str) -> dict[str, Any]:
        """One JSON transcript of the outbox."""
        content: dict[str, Any] = json.loads((self.outbox / path).read_text())
        return content


def stop(process: subprocess.Popen[bytes], *, seconds: float = 10) -> int:
    """SIGTERM, and the exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(seconds)
