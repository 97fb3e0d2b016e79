"""A target of kind http: its section, a receiver for it, and how its deliveries stand."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit.clinic import Clinic
from tests.kit.loopback import Peer, Server, serve

SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()


def http_target(root: Path, port: int, **keys: Any) -> dict[str, Any]:
    secret = root / "secret"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    return {"kind": "http", "url": f"http://127.0.0.1:{port}/in", "secret_file": str(secret), **keys}


class Receiver:
    """Takes what is posted; `refuse` is the status for the next requests instead."""

    def __init__(self) -> None:
        self.refuse: int | None = None
        self.keys: list[str] = []
        self.texts: list[str] = []
        self._lock = threading.Lock()

    def answer(self, peer: Peer) -> None:
        while (request := peer.request()) is not None:
            if len(request.body) != int(request.headers["content-length"]):  # the line was cut
                return
            if self.refuse is not None:
                peer.answer(self.refuse)
                continue
            with self._lock:
                self.keys.append(request.headers["webhook-id"])
                self.texts.append(json.loads(request.body)["data"]["text"])
            peer.answer(204)


@contextmanager
def receiving(receiver: Receiver, port: int = 0) -> Iterator[Server]:
    with serve(receiver.answer, port=port) as server:
        yield server


def deliveries(clinic: Clinic, job: str) -> Mapping[str, Mapping[str, Any]]:
    shown = json.loads(clinic.run("show", job, "--json").stdout)
    return {one["target"]: one for one in shown["deliveries"]}
