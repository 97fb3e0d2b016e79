"""A client of the stand-in API that hands back whatever comes; conftest.py imports its fixtures."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from invox_watcher.sandbox.server import Sandbox
from invox_watcher.sandbox.settings import SandboxSettings
from tests.kit.waiting import eventually


class Caller:
    """A client that does one call at a time and hands back what came, whatever it is."""

    def __init__(self, sandbox: Sandbox, token_field: str = "accessToken") -> None:
        self.base_url = sandbox.base_url
        self.sandbox = sandbox
        self.bearer = {"Authorization": f"Bearer {self.token().json()[token_field]}"}

    def token(self, key: str = "sandbox-key") -> requests.Response:
        return requests.post(
            f"{self.base_url}/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=("sandbox-app", key),
            timeout=5,
        )

    def presign(self, **body: Any) -> requests.Response:
        return requests.post(
            f"{self.base_url}/api/v1/generate-presigned-url",
            json=body or {"mimeType": "audio/wav"},
            headers=self.bearer,
            timeout=5,
        )

    def put(
        self, url: str, content: bytes | Iterator[bytes], mime_type: str = "audio/wav", **headers: str
    ) -> requests.Response:
        return requests.put(url, data=content, headers={"Content-Type": mime_type} | headers, timeout=5)

    def status(self, request_id: str, *, stream: bool = False) -> requests.Response:
        """With `stream`, it returns once the head of the answer is there."""
        return requests.post(
            f"{self.base_url}/api/v1/get-transcription",
            json={"requestId": request_id},
            headers=self.bearer,
            stream=stream,
            timeout=5,
        )

    def upload(self, content: bytes) -> str:
        granted = self.presign().json()
        assert self.put(granted["presignedUrl"], content).status_code == 200
        return granted["requestId"]

    def result(self, request_id: str, within_seconds: float = 5) -> dict[str, Any]:
        body: dict[str, Any] = {}

        def settled() -> bool:
            nonlocal body
            body = self.status(request_id).json()
            return "PENDING" not in body.values()

        eventually(settled, within=within_seconds)
        return body

    def request(self, request_id: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = self.sandbox.stats()["requests"]
        return next(request for request in found if request["id"] == request_id)


def raw_request(
    caller: Caller, target: str, *header_lines: str, body: bytes = b"", method: str = "PUT"
) -> socket.socket:
    host, port = caller.base_url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}:{port}", *header_lines, "", ""]
    connection.sendall("\r\n".join(head).encode() + body)
    return connection


def settings(folder: Path, **changes: Any) -> SandboxSettings:
    return SandboxSettings(folder, **({"recognizer": "none", "result_delay_seconds": 0} | changes))


@pytest.fixture(scope="module")
def shared_caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    with Sandbox(settings(tmp_path_factory.mktemp("uploads"))) as sandbox:
        yield Caller(sandbox)


@pytest.fixture
def caller(shared_caller: Caller) -> Iterator[Caller]:
    """A caller of the sandbox that the module's tests share, without the faults of the one before."""
    yield shared_caller
    shared_caller.sandbox.clear_faults()
