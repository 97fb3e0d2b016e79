"""What the acceptance tests share: recordings made from nothing, and a clinic with a real daemon process."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import functools
import importlib
import json
import math
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from invox_watcher.sandbox.server import Sandbox
from invox_watcher.sandbox.settings import SandboxSettings
from tests.kit import event_page


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


def free_port() -> int:
    """A TCP port of loopback that nobody listens on, and that the kernel gives to nobody who asks for any."""
    given_to_any = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(given_to_any // 2, given_to_any)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


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


# What takes long to import, and what one who has become another user can't where only root reads it.
PRELOADED = (
    *("encodings.idna", "encodings.utf_8_sig", "sqlalchemy.dialects.sqlite"),
    *("invox_watcher.cli", "invox_watcher.diagnostics.check", "invox_watcher.daemon.process"),
    *("invox_watcher.cli._explain", "invox_watcher.cli._jobs", "invox_watcher.cli._retry"),
    *("invox_watcher.cli._run", "invox_watcher.cli._show"),
)


class Forks:
    """Runs commands in forks of a process that has everything imported: none of them is slow to start."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.clinic"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._one_at_a_time = threading.Lock()

    def run(self, arguments: Sequence[str], *, stdout: Path, stderr: Path, seconds: float) -> int:
        """The exit status of `invox-watcher` with these arguments; minus the signal that killed it.

        After `seconds` it ends with status 1 and every thread's traceback in `stderr`.
        """
        request = {"arguments": arguments, "stdout": str(stdout), "stderr": str(stderr), "seconds": seconds}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._one_at_a_time:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return os.waitstatus_to_exitcode(int(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@functools.cache
def _forks() -> Forks:
    forks = Forks()
    atexit.register(forks.close)
    return forks


def _serve_forks() -> None:
    for module in PRELOADED:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
            faulthandler.dump_traceback_later(request["seconds"], exit=True)
            status: object = 1
            try:
                status = sys.modules["invox_watcher.cli"].main(request["arguments"])
            except SystemExit as ended:
                status = ended.code
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status if isinstance(status, int) else 1)
        print(os.waitpid(child, 0)[1], flush=True)


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
        with tempfile.TemporaryDirectory() as folder:
            stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
            command = [*arguments, "--config", str(self.config)]
            status = _forks().run(command, stdout=stdout, stderr=stderr, seconds=seconds)
            return subprocess.CompletedProcess(command, status, stdout.read_text(), stderr.read_text())

    def once(self, *, seconds: float = 60) -> int:
        """`run --once`, its log appended to `self.log`; the exit status."""
        command = ["run", "--once", "--config", str(self.config)]
        return _forks().run(command, stdout=Path(os.devnull), stderr=self.log, seconds=seconds)

    def start(
        self, command: Sequence[str] | None = None, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start the daemon, by default as `run`, with these variables too, and wait until it watches."""
        seen = self.events("watching")
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


@contextlib.contextmanager
def running(clinic: Clinic) -> Iterator[None]:
    """The clinic's daemon for as long as the block lasts; then SIGTERM, upon which it has to end well.

    And whatever it has logged has to be as docs/events.md says.
    """
    process = clinic.start()
    try:
        yield
        assert stop(process) == 0
        event_page.check(clinic.events())
    finally:
        process.kill()
        process.wait()


def stop(process: subprocess.Popen[bytes], *, seconds: float = 10) -> int:
    """SIGTERM, and the exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(seconds)


if __name__ == "__main__":
    _serve_forks()
