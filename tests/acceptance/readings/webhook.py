"""Webhooks."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from typing import Any

from invox_watcher.sandbox import signing
from tests.acceptance.readings.client import (
    Client,
    check,
)
from tests.kit import loopback
from tests.kit.waiting import wait_for


@check("webhook-no-status")
def _(client: Client) -> None:
    assert set(client.webhook()) == {"requestId", "transcription", "signature", "createdAt"}


@check("webhook-requestSignature")
def _(client: Client) -> None:
    sent = client.webhook()
    assert list(sent) == [
        *("eventName", "requestId", "transcription", "status", "createdAt", "requestSignature")
    ]
    signed_by_request(client, sent)


@check("webhook-both-signatures")
def _(client: Client) -> None:
    sent = client.webhook()
    assert len(base64.b64decode(sent["signature"])) > 16
    signed_by_request(client, sent)


def signed_by_request(client: Client, sent: dict[str, Any]) -> None:
    secret = client.api.settings.app_secret
    assert sent["requestSignature"] == signing.request_signature(sent, secret, "sandbox-key")
    assert sent["requestSignature"] != signing.request_signature(
        sent | {"status": "x"}, secret, "sandbox-key"
    )


@check("webhook-unsigned")
def _(client: Client) -> None:
    assert set(client.webhook()) == {"requestId", "transcription", "status", "createdAt"}


@check("webhook-salted")
def _(client: Client) -> None:
    assert base64.b64decode(client.webhook()["signature"]).startswith(b"Salted__")


@check("webhook-test")
def _(client: Client) -> None:
    test, real = client.webhooks(2)
    assert json.loads(test.body) == {"eventName": "webhook.test"}
    assert (test.line, test.headers["content-type"]) == (real.line, real.headers["content-type"])
    assert json.loads(real.body)["status"] == "COMPLETED"
    refused_tests(client, webhooks=1)


@check("webhook-test-required")
def _(client: Client) -> None:
    test, real = client.webhooks(2)
    assert json.loads(test.body) == {"eventName": "webhook.test"}
    assert json.loads(real.body)["status"] == "COMPLETED"
    refused_tests(client, webhooks=0)


def refused_tests(client: Client, *, webhooks: int) -> None:
    """How many real webhooks follow a test that was answered 401."""
    with loopback.serve(loopback.one_reply(401)) as receiver:
        request_id = client.upload(callbackUrl=f"{receiver.url}/hook")
        wait_for("the test and what follows", lambda: len(receiver.requests) > webhooks)
        wait_for("they are counted", lambda: len(client.request(request_id)["webhooks"]) >= webhooks)
        time.sleep(0.2)
        assert len(client.request(request_id)["webhooks"]) == webhooks


@check("webhook-milliseconds")
def _(client: Client) -> None:
    assert abs(client.webhook()["createdAt"] / 1000 - time.time()) < 60


@check("webhook-iso")
def _(client: Client) -> None:
    age = datetime.now(UTC) - datetime.fromisoformat(client.webhook()["createdAt"])
    assert abs(age.total_seconds()) < 60


@check("webhook-text")
def _(client: Client) -> None:
    (request,) = client.webhooks()
    assert request.headers["content-type"] == "text/plain;charset=UTF-8"
    assert json.loads(request.body)["status"] == "COMPLETED"


@check("webhook-chunked")
def _(client: Client) -> None:
    bodies: list[bytes] = []

    def receiver(peer: loopback.Peer) -> None:
        head = peer.head()
        assert head is not None
        if head.headers.get("transfer-encoding") == "chunked":
            bodies.append(peer._incoming.readline() + peer._incoming.readline())
        peer.answer()

    with loopback.serve(receiver) as server:
        request_id = client.upload(callbackUrl=f"{server.url}/hook")
        wait_for("the webhook", lambda: bool(client.request(request_id)["webhooks"]))
    (body,) = bodies
    size, content, _rest = body.split(b"\r\n")
    assert (int(size, 16), json.loads(content)["status"]) == (len(content), "COMPLETED")
    assert "content-length" not in server.requests[0].headers
