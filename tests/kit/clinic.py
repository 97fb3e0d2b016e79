"""A clinic: folders, a configuration, a stand-in API and a real daemon process."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from invox_watcher.files import MARK_FILE
from invox_watcher.sandbox.recognition import Recognize
from invox_watcher.sandbox.server import Sandbox
from invox_watcher.sandbox.settings import SandboxSettings
from tests.kit import event_page
from tests.kit.forks import forks
from tests.kit.waiting import Process, status_of, wait_for

# How a reload may end.
RELOADS = ("reloaded", "reload_refused", "reload_failed")


def free_port() -> int:
    """A TCP port of loopback without a listener, outside the range from which the kernel assigns ports."""
    assigned_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(assigned_from // 2, assigned_from)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def sandbox(directory: Path, recognize: Recognize | None = None, **settings: Any) -> Sandbox:
    """A stand-in API that answers at once with text made from the content's hash, or by `recognize`."""
    chosen: dict[str, Any] = {"recognizer": "none", "result_delay_seconds": 0.05} | settings
    directory.mkdir(parents=True, exist_ok=True)
    return Sandbox(SandboxSettings(data_directory=directory, **chosen), recognize)


class Clinic:
    """Folders, a configuration and a daemon that is a process of its own.

    Its commands are forks of a process that has everything imported, unless they are run by another program:
    `through` is its command line, to which that of the command is added.
    """

    through: Sequence[str] = ()

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
            "watch": {
                "grace_seconds": 0.05,
                "settle_seconds": 0.3,
                "unproven_seconds": 0.3,
                "rescan_seconds": 2,
                "patience_seconds": 1.5,
            },
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
        interpreter = [*self.through, sys.executable]
        return [*interpreter, "-m", "invox_watcher", *arguments, "--config", str(self.config)]

    def run(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        if self.through:
            return subprocess.run(
                self.command(*arguments), check=False, capture_output=True, text=True, timeout=seconds
            )
        return forks().complete([*arguments, "--config", str(self.config)], seconds=seconds)

    def once(self, *, seconds: float = 60) -> int:
        """`run --once`, its log appended to `self.log`; the exit status."""
        if self.through:
            with self.log.open("ab") as log:
                command = self.command("run", "--once")
                return subprocess.run(command, check=False, stderr=log, timeout=seconds).returncode
        command = ["run", "--once", "--config", str(self.config)]
        return forks().run(command, stdout=Path(os.devnull), stderr=self.log, seconds=seconds)

    def launch(self, *arguments: str, stderr: Path | None = None) -> Process:
        """Begin one command and wait for nothing; by default its log is appended to `self.log`."""
        written = stderr or self.log
        if self.through:
            with written.open("ab") as log:
                return subprocess.Popen(self.command(*arguments), stdout=subprocess.DEVNULL, stderr=log)
        command = [*arguments, "--config", str(self.config)]
        return forks().start(command, stdout=Path(os.devnull), stderr=written)

    def start(
        self, command: Sequence[str] | None = None, environ: Mapping[str, str] | None = None
    ) -> Process:
        """Start the daemon, by default as `run`, and wait until it watches.

        By a `command`, or with variables of its own in `environ`, it is no fork.
        """
        seen = self.events("watching")
        process: Process
        if command is None and environ is None:
            process = self.launch("run")
        else:
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    command or self.command("run"), stderr=log, env={**os.environ, **(environ or {})}
                )
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
        """Every file below `folder`, hidden ones too, except for marks, as sorted relative paths."""
        return sorted(
            os.path.relpath(os.path.join(current, name), folder)
            for current, _folders, names in os.walk(folder)
            for name in names
            if name != MARK_FILE
        )

    def under_way(self) -> list[str]:
        """The jobs that have a folder in processing/."""
        return [folder.name for folder in self.processing.glob("[!.]*")]

    def audit_log(self) -> list[dict[str, Any]]:
        """The audit log, line by line."""
        return [json.loads(line) for line in (self.root / "state" / "audit.jsonl").read_text().splitlines()]

    def transcript(self, path: str) -> dict[str, Any]:
        """One JSON transcript of the outbox."""
        content: dict[str, Any] = json.loads((self.outbox / path).read_text())
        return content


@contextlib.contextmanager
def running(clinic: Clinic, environ: Mapping[str, str] | None = None) -> Iterator[Process]:
    """The clinic's daemon for as long as the block lasts; then SIGTERM, which has to end it with status 0.

    It gets the variables of `environ`, too. All that it has logged has to be as docs/events.md says.
    """
    process = clinic.start(environ=environ)
    try:
        yield process
        assert stop(process) == 0
        event_page.check(clinic.events())
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def locked_journal(clinic: Clinic) -> Iterator[None]:
    """The journal, for the time of the block, held by another program, as a backup might."""
    journal = clinic.root / "state" / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


def reload(clinic: Clinic, daemon: Process) -> dict[str, Any]:
    """SIGHUP, and the event that says how it ended."""
    before = len(clinic.events(*RELOADS))
    daemon.send_signal(signal.SIGHUP)
    wait_for("the reload ends", lambda: len(clinic.events(*RELOADS)) > before)
    return clinic.events(*RELOADS)[before]


def stop(process: Process, *, seconds: float = 10) -> int:
    """SIGTERM, and the exit status."""
    process.send_signal(signal.SIGTERM)
    return status_of(process, seconds=seconds)


def peak_kib(pid: int) -> int:
    """The most memory that a process has had resident so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
