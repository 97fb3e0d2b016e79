"""The HTTP client of `net` in tests: fixtures, and short ways to call it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.errors import (
    InvoxError,
)
from invox_watcher.net import HttpClient, HttpReply
from tests.kit.loopback import make_certificate

MIB = 1024 * 1024
SECRET = "Sup3rS3cret"


@pytest.fixture
def client() -> Iterator[HttpClient]:
    client = HttpClient(connect_timeout_seconds=2, max_reply_bytes=MIB)
    yield client
    client.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def post(client: HttpClient, url: str, *, deadline_seconds: float = 10.0, **headers: str) -> HttpReply:
    return client.call("POST", url, headers=headers, body=b"ask", deadline_seconds=deadline_seconds)


def upload(client: HttpClient, url: str, file: Any, size_bytes: int, **options: Any) -> HttpReply:
    headers = {"Content-Type": "audio/wav"}
    options = {"deadline_seconds": 10.0, "silence_seconds": 10.0, "headers": headers, **options}
    return client.upload(url, file, size_bytes=size_bytes, **options)


def failure_of(call: Callable[[], object]) -> InvoxError:
    with pytest.raises(InvoxError) as caught:
        call()
    return caught.value
