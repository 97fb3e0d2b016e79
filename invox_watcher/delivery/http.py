"""Transcripts to a web address of the operator's, signed by Standard Webhooks (version 1.0.0).

`webhook-id` is the shipment's key, by which the receiver recognises a repeat; the signature is HMAC-SHA256 of
id, time and body (https://github.com/standard-webhooks/standard-webhooks, "Webhook Headers").
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from invox_watcher.delivery.connecting import secret_in
from invox_watcher.delivery.posting import HttpOptions, Poster
from invox_watcher.delivery.target import Shipment, attributes_of, filled, valid
from invox_watcher.errors import TargetUnavailableError
from invox_watcher.patterns import Pattern
from invox_watcher.times import rfc3339

_PREFIX = "whsec_"


@dataclass(frozen=True)
class WebhookOptions:
    """The keys of a target of kind `http`, besides those of the connection."""

    secret_file: Path
    fields: Mapping[str, str]
    text: bool
    formats: tuple[str, ...]


class Webhook:
    """A receiver of webhooks."""

    def __init__(self, http: HttpOptions, options: WebhookOptions) -> None:
        self.formats = options.formats
        self._url = http.url
        self._options = options
        self._poster = Poster(http)
        self._fields = {name: Pattern(text) for name, text in options.fields.items()}

    @property
    def attributes(self) -> frozenset[str]:
        return attributes_of(*self._fields.values())

    def send(self, shipment: Shipment) -> str:
        body = self.body(shipment)
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": shipment.key,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self._secret(), shipment.key, now, body),
        }
        return f"{self._poster.post(self._url, headers, body).status} {shipment.key}"

    def probe(self) -> None:
        self._secret()
        self._poster.reach()
        self.close()

    def abort(self) -> None:
        self._poster.abort()

    def close(self) -> None:
        self._poster.close()

    def body(self, shipment: Shipment) -> bytes:
        """Type, time and data, as the specification recommends; the same for equal shipments."""
        data: dict[str, object] = {
            "job_id": shipment.job_id,
            "received_at": rfc3339(shipment.received_at),
            "recorded_at": rfc3339(shipment.recorded_at) if shipment.recorded_at else None,
            "fields": {
                name: filled(pattern, shipment.fields, valid) for name, pattern in self._fields.items()
            },
        }
        if self._options.text:
            data["text"] = valid(shipment.text)
        data["documents"] = [
            {
                "name": valid(document.name),
                "media_type": document.media_type,
                "content_base64": base64.b64encode(document.content).decode(),
            }
            for document in shipment.documents
        ]
        event = {
            "type": "transcript.completed",
            "timestamp": rfc3339(shipment.completed_at),
            "data": data,
        }
        return json.dumps(event, ensure_ascii=False).encode()

    def _secret(self) -> bytes:
        text = secret_in(self._options.secret_file, "secret_file")
        try:
            secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            secret = b""
        if text.startswith(_PREFIX) and len(secret) >= 24:  # what the specification asks for
            return secret
        raise TargetUnavailableError(
            f"secret_file: {self._options.secret_file} does not hold a secret of Standard Webhooks.",
            code="secret",
            hint=f"It must be {_PREFIX} and base64 of 24 random bytes or more: "
            f"(printf {_PREFIX}; openssl rand -base64 32) makes one.",
        )


def signature(secret: bytes, key: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`."""
    content = f"{key}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()
