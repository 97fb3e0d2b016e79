"""Starting and stopping the stand-in API, in a test's background and in a person's foreground."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml

from invox_watcher.sandbox.configuration import client_configuration
from invox_watcher.sandbox.server import Sandbox
from invox_watcher.sandbox.settings import SandboxSettings
from tests.kit.caller import Caller, raw_request, settings
from tests.kit.waiting import eventually


def test_it_stops_quickly_with_connections_open(tmp_path: Path) -> None:
    with Sandbox(settings(tmp_path, upload_bytes_per_second=1)) as sandbox:
        caller = Caller(sandbox)
        sandbox.fault({"on": "token", "do": "silence"})
        sandbox.fault({"on": "status", "do": "latency", "seconds": 60})
        target = caller.presign().json()["presignedUrl"].removeprefix(caller.base_url)
        idle = raw_request(caller, "/healthz", method="GET")
        silent = raw_request(caller, "/oauth/token", "Content-Length: 0", method="POST")
        late = raw_request(caller, "/api/v1/get-transcription", "Content-Length: 0", method="POST")
        slow = raw_request(caller, target, "Content-Type: audio/wav", "Content-Length: 99", body=b"x" * 50)
        eventually(lambda: any(tmp_path.glob("incoming-*")))
        eventually(lambda: sandbox.stats()["status_calls"] == 1)
        stopping_at = time.monotonic()
    assert time.monotonic() - stopping_at < 2
    for connection in (silent, late, slow):
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""  # dropped, not answered
    for connection in (idle, silent, late, slow):
        connection.close()
    assert not any(tmp_path.glob("incoming-*"))
    with pytest.raises(requests.ConnectionError):
        caller.token()


def test_it_can_come_back_on_the_same_port(tmp_path: Path) -> None:
    with Sandbox(settings(tmp_path)) as sandbox:
        port = int(sandbox.base_url.rpartition(":")[2])
        Caller(sandbox)
    with Sandbox(settings(tmp_path, port=port)) as sandbox:
        assert Caller(sandbox).base_url.endswith(f":{port}")


def test_a_port_that_is_taken_is_named(caller: Caller, tmp_path: Path) -> None:
    port = int(caller.base_url.rpartition(":")[2])
    with (
        pytest.raises(OSError, match=f"127.0.0.1:{port}: Address already in use"),
        Sandbox(settings(tmp_path, port=port)),
    ):
        pass
    assert caller.token().status_code == 200


@contextlib.contextmanager
def started(script: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that serves a stand-in API from `folder`, and the address that it has printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    script = """
import sys
from pathlib import Path
from invox_watcher import events, logs
from invox_watcher.sandbox.server import serve
from invox_watcher.sandbox.settings import SandboxSettings
logs.configure()
serve(SandboxSettings(Path(sys.argv[1]), recognizer="none"), lambda url: print(url, flush=True))
print("stopped")
"""
    with started(script, tmp_path) as (process, base_url):
        response = requests.post(f"{base_url}/oauth/token", timeout=5)
        os.kill(process.pid, number)
        output, log = process.communicate(timeout=10)
    assert (response.status_code, process.returncode, output) == (401, 0, "stopped\n")
    assert '"event": "sandbox_answered", "operation": "token", "status": 401' in log
    assert "Traceback" not in log


def test_the_configuration_it_prints_reads_back(tmp_path: Path) -> None:
    root = tmp_path / "with: colon # and hash"
    text = client_configuration(settings(tmp_path, api_key="0123"), "http://127.0.0.1:1", root)
    assert yaml.safe_load(text) == {
        "api": {"base_url": "http://127.0.0.1:1"},
        "credentials": {"app_id": "sandbox-app", "api_key": "0123"},
        "folders": {"root": str(root)},
        "state": {"directory": str(root / "state")},
        "http": {"listen": None},
        "logging": {"format": "console", "filenames": "plain"},
    }


def test_a_large_upload_is_taken_in_constant_memory(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from invox_watcher.sandbox.server import serve
from invox_watcher.sandbox.settings import SandboxSettings
serve(SandboxSettings(Path(sys.argv[1]), recognizer="none"), lambda url: print(url, flush=True))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
    with started(script, tmp_path) as (process, base_url):
        sandbox = Sandbox(SandboxSettings(tmp_path))
        sandbox.base_url = base_url
        caller = Caller(sandbox)
        size_bytes = 200 * 2**20
        with (tmp_path / "sparse").open("wb+") as recording:
            recording.truncate(size_bytes)
            granted = caller.presign().json()
            requests.put(
                granted["presignedUrl"], data=recording, headers={"Content-Type": "audio/wav"}, timeout=30
            ).raise_for_status()
        assert caller.request(granted["requestId"])["bytes"] == size_bytes
        process.send_signal(signal.SIGTERM)
        peak_kib = int(process.communicate(timeout=10)[0].splitlines()[-1])
    assert process.returncode == 0
    assert peak_kib < 120 * 1024
