"""A client of the stand-in API that makes one call at a time, and the list of what is checked with it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from invox_watcher.sandbox.server import Sandbox
from tests.kit import loopback
from tests.kit.clinic import sandbox
from tests.kit.waiting import wait_for

BASE64 = base64.b64encode(b"sandbox-app:sandbox-key").decode()
GRANT = "grant_type=client_credentials"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
CREDENTIALS = {"Authorization": f"Basic {BASE64}"}
TOKEN, PRESIGN, STATUS = "/oauth/token", "/api/v1/generate-presigned-url", "/api/v1/get-transcription"
VERSION = "X-Invox-Medical-Api-Version"
ENCRYPTION = {"x-amz-server-side-encryption": "AES256"}
MISSING_TOKEN = (403, {"message": "Missing Authentication Token"})
NOT_FOUND = {"message": "Transcription not found."}
FORBIDDEN = (403, {"message": "Forbidden"})


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def outcome(self) -> tuple[int, Any]:
        """Status and content."""
        return self.status, self.json()


class Client:
    """Makes the calls of the default reading, and whatever differs from them."""

    def __init__(self, api: Sandbox) -> None:
        self.api = api
        self._bearer: dict[str, str] | None = None

    def call(
        self, method: str, url: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request, its target sent as it is; `url` is a path of the sandbox or a whole URL."""
        parts = urlsplit(url if "://" in url else self.api.base_url + url)
        target = url.partition(parts.netloc)[2] if "://" in url else url
        with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=5)) as connection:
            connection.request(method, target, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def token(self, headers: dict[str, str] = CREDENTIALS, body: str | None = GRANT) -> Answer:
        return self.call("POST", TOKEN, body, FORM | headers)

    def bearer(self) -> dict[str, str]:
        if self._bearer is None:
            reply = self.token().json()
            self._bearer = bearer(reply["accessToken"])
        return self._bearer

    def presign(
        self, mime_type: str = "audio/wav", headers: dict[str, str] | None = None, **fields: Any
    ) -> Answer:
        body = json.dumps({"mimeType": mime_type} | fields)
        return self.call("POST", PRESIGN, body, JSON | (self.bearer() if headers is None else headers))

    def put(self, url: str, content: bytes = b"x", headers: dict[str, str] | None = None) -> Answer:
        return self.call("PUT", url, content, {"Content-Type": "audio/wav"} | (headers or {}))

    def upload(self, content: bytes = b"x", **fields: Any) -> str:
        """Presign and PUT; the request id."""
        granted = self.presign(**fields).json()
        assert self.put(granted["presignedUrl"], content).status == 200
        request_id: str = granted["requestId"]
        return request_id

    def status(self, request_id: str, headers: dict[str, str] | None = None) -> Answer:
        return self.call(
            "POST", STATUS, json.dumps({"requestId": request_id}), JSON | self.bearer() | (headers or {})
        )

    def result(self, **fields: Any) -> Any:
        """What polling returns for a recording once the result is there."""
        request_id = self.upload(**fields)
        self.recognized(request_id)
        return self.status(request_id).json()

    def recognized(self, request_id: str) -> None:
        wait_for("the result", lambda: self.request(request_id)["status"] in {"COMPLETED", "ERROR"})

    def request(self, request_id: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = self.api.stats()["requests"]
        return next(request for request in found if request["id"] == request_id)

    def webhooks(self, count: int = 1) -> list[loopback.Request]:
        """What comes to the callback address of one recording, until there are so many."""
        with loopback.serve(loopback.one_reply()) as receiver:
            request_id = self.upload(callbackUrl=f"{receiver.url}/hook")
            wait_for("the webhook", lambda: bool(self.request(request_id)["webhooks"]))
            assert len(receiver.requests) == count
            return receiver.requests

    def webhook(self) -> Any:
        (request,) = self.webhooks()
        return json.loads(request.body)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


Check = Callable[[Client], None]
CHECKS: dict[str, tuple[dict[str, Any], Check]] = {}


def check(name: str, **settings: Any) -> Callable[[Check], Check]:
    """Registers what the reading of this name has to do, in a sandbox with these settings."""

    def register(function: Check) -> Check:
        assert name not in CHECKS
        CHECKS[name] = (settings, function)
        return function

    return register


def started(folder: Path, *names: str, **settings: Any) -> Sandbox:
    quick = {"result_delay_seconds": 0, "webhook_retries": 0}
    return sandbox(folder, **{**quick, **settings, "readings": names})


def raw(client: Client, method: str, url: str, headers: dict[str, str], body: bytes) -> bytes:
    """Every byte that the sandbox answers."""
    parts = urlsplit(url)
    fields = headers | {"Host": parts.netloc, "Content-Length": str(len(body)), "Connection": "close"}
    head = [f"{method} {url.partition(parts.netloc)[2]} HTTP/1.1"]
    head += [f"{name}: {value}" for name, value in fields.items()]
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
        return b"".join(iter(lambda: connection.recv(4096), b""))
