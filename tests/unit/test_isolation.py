"""The unit tests' own rule, held by their conftest.py: no process and no connection."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest


def bind() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))


def connect() -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", 9))


@pytest.mark.parametrize(
    ("event", "forbidden"),
    [
        ("subprocess.Popen", lambda: subprocess.run([sys.executable, "--version"], check=False)),
        ("os.fork", os.fork),
        ("os.posix_spawn", lambda: os.posix_spawn("/bin/true", ["true"], {})),
        ("os.system", lambda: os.system("true")),
        ("socket.bind", bind),
        ("socket.connect", connect),
    ],
)
def test_a_process_or_connection_fails_a_unit_test(
    event: str, forbidden: Callable[[], object], attempts: list[str]
) -> None:
    with pytest.raises(AssertionError, match="move it to tests/acceptance"):
        forbidden()
    assert attempts == [event]
    attempts.clear()
