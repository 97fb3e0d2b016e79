"""A clinic that has its results sent, and what it takes to send it something else."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, free_port
from tests.kit.daemon_server import address

REFUSED = (403, b'{"status":"refused"}')
TAKEN = (200, b'{"status":"taken"}')


def webhook_clinic(root: Path, api: Sandbox, *, confirm: str = "auto", **changes: Any) -> Clinic:
    """A clinic that has its results sent. Asking without a webhook would come after a minute."""
    port = free_port()
    polling = {"first_seconds": 0.1, "max_seconds": 60, "unknown_seconds": 0.3}
    return Clinic(
        root,
        api.base_url,
        credentials={"app_secret": api.settings.app_secret},
        webhook={"enabled": True, "public_url": f"http://127.0.0.1:{port}/webhook", "confirm": confirm},
        http={"listen": f"127.0.0.1:{port}"},
        **({"polling": polling} | changes),
    )


def send(clinic: Clinic, body: bytes, *, seconds: float = 20) -> tuple[int, bytes]:
    """POST a body to the daemon; its status and answer."""
    connection = http.client.HTTPConnection(address(clinic), timeout=seconds)
    try:
        connection.request("POST", "/webhook", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def altered(body: bytes, **changes: Any) -> bytes:
    """A genuine body with other words, or whatever else."""
    payload = json.loads(body)
    words = [{"speakerId": "Speaker_00", "text": "Give ten times the dose.", "start": 0.0, "end": 2.0}]
    return json.dumps(payload | {"transcription": words} | changes).encode()


def everything_written(clinic: Clinic) -> str:
    folders = (clinic.outbox, clinic.failed)
    return "".join(
        path.read_text(errors="replace") for folder in folders for path in folder.rglob("*") if path.is_file()
    )
