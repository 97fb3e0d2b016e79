"""FHIR and signed webhooks, delivered as docs/delivery.md configures them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from invox_watcher.delivery import Document, Target
from invox_watcher.errors import (
    DeliveryUncertainError,
    TargetError,
    TargetRefusedError,
    TargetUnavailableError,
)
from tests.kit.clinic import free_port
from tests.kit.fhir_server import TOKEN, FhirServer
from tests.kit.loopback import Peer, make_certificate, never_answer, one_reply, serve
from tests.kit.shipments import WORDS, assert_discreet, shipment
from tests.kit.targets import PAGE, ended_by, target

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
KINDS = pytest.mark.parametrize("kind", ["fhir", "http"])


def of(kind: str, url: str, tmp_path: Path, /, **changes: Any) -> Target:
    """The page's, with the secret or token of these tests."""
    key = {"fhir": "token_file", "http": "secret_file"}[kind]
    secret = tmp_path / key
    secret.write_text({"fhir": TOKEN, "http": SECRET}[kind] + "\n")
    path = {"fhir": "/r4", "http": "/transcripts"}[kind]
    place = {"url": url + path, key: str(secret), "ca_bundle": None}
    return target(tmp_path, kind, **(place | changes))


def refused(target: Target, kind: type[TargetError]) -> TargetError:
    with pytest.raises(kind) as caught:
        target.send(shipment())
    target.close()
    assert_discreet(caught.value.message, caught.value.hint)
    return caught.value


def test_fhir_the_recipe_creates_each_document_once(tmp_path: Path) -> None:
    certificate, context = make_certificate(tmp_path)
    fhir = FhirServer()
    with serve(fhir.handler, tls=context) as server:
        record = of("fhir", server.url, tmp_path, ca_bundle=str(certificate))
        record.probe()
        receipts = [record.send(shipment(number)) for number in (1, 1, 2)]
        record.close()
    place = "DocumentReference/{}/_history/1"
    assert receipts == [place.format(1), place.format(1) + " exists", place.format(2)]
    first, _ = fhir.resources
    assert (first.status, first.docStatus) == ("current", "preliminary")
    assert first.subject.identifier.value == "4711"
    assert first.author[0].display == "Dr. Weiß"
    (content,) = first.content
    assert content.attachment.contentType == "text/plain; charset=utf-8"
    sent = json.loads(server.requests[-1].body)["content"][0]["attachment"]
    assert base64.b64decode(sent["data"]).decode() == WORDS


def test_fhir_what_check_finds(tmp_path: Path) -> None:
    fhir = FhirServer()
    wrong = tmp_path / "wrong"
    wrong.write_text("another")
    with serve(fhir.handler) as server:
        for changes, code in (
            ({"token_file": str(wrong)}, "http_401"),
            ({"token_file": str(tmp_path / "missing")}, "secret"),
            ({"url": f"{server.url}/elsewhere"}, "http_404"),
        ):
            with pytest.raises(TargetUnavailableError) as caught:
                of("fhir", server.url, tmp_path, **changes).probe()
            assert caught.value.code == code
        for capabilities in (
            {},
            {"resourceType": "CapabilityStatement", "fhirVersion": "5.0.0"},
            {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [{"resource": []}]},
        ):
            fhir.capabilities = capabilities
            with pytest.raises(TargetUnavailableError) as caught:
                of("fhir", server.url, tmp_path).probe()
            assert caught.value.code == "capabilities"
    assert fhir.resources == []


def test_http_the_recipe_is_verified_by_the_specifications_library(tmp_path: Path) -> None:
    certificate, context = make_certificate(tmp_path)
    documents = (Document("smith.json", "application/json", b'{"a": 1}'),)
    with serve(one_reply(204), tls=context) as server:
        portal = of("http", server.url, tmp_path, ca_bundle=str(certificate))
        portal.probe()
        receipts = [portal.send(shipment(number, documents=documents)) for number in (1, 1, 2)]
        portal.close()
    assert_discreet(*receipts)
    requests = server.requests
    events = [Webhook(SECRET).verify(request.body, request.headers) for request in requests]
    ids = [request.headers["webhook-id"] for request in requests]
    assert ids[0] == ids[1] == shipment(1).key != ids[2]
    assert requests[0].body == requests[1].body
    example = json.loads(PAGE.read_text().rpartition("```json\n")[2].partition("```")[0])
    assert events[0]["data"]["text"] == WORDS
    assert events[0]["data"]["documents"][0]["content_base64"] == base64.b64encode(b'{"a": 1}').decode()
    events[0]["data"]["text"] = events[0]["data"]["documents"][0]["content_base64"] = "…"
    assert events[0] == example
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(requests[0].body + b" ", requests[0].headers)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!", SECRET.removeprefix("whsec_")])
def test_http_a_secret_that_is_none(tmp_path: Path, secret: str) -> None:
    (tmp_path / "bad").write_text(secret)
    portal = of("http", "http://127.0.0.1:9", tmp_path, secret_file=str(tmp_path / "bad"))
    assert refused(portal, TargetUnavailableError).code == "secret"


@KINDS
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, TargetRefusedError),
        (413, TargetRefusedError),
        (422, TargetRefusedError),
        (301, TargetUnavailableError),
        (401, TargetUnavailableError),
        (404, TargetUnavailableError),
        (429, TargetUnavailableError),
        (503, TargetUnavailableError),
        (504, DeliveryUncertainError),
    ],
)
def test_what_an_answer_means(tmp_path: Path, kind: str, status: int, error: type[TargetError]) -> None:
    with serve(one_reply(status, b"Qvist", Retry_After="7")) as server:
        found = refused(of(kind, server.url, tmp_path), error)
    if isinstance(found, TargetUnavailableError) and status != 301:
        assert found.retry_after_seconds == 7
        assert found.code == f"http_{status}"
    assert len(server.requests) == 1  # it is for the engine to try again


def hang_up(peer: Peer) -> None:
    peer.request()


def cut_within(peer: Peer) -> None:
    peer.head()
    peer.reset()


@KINDS
@pytest.mark.parametrize("handler", [hang_up, never_answer])
def test_no_answer_after_the_last_byte_is_uncertain(
    tmp_path: Path, kind: str, handler: Callable[[Peer], None]
) -> None:
    with serve(handler) as server:
        refused(of(kind, server.url, tmp_path, timeout_seconds=1.0), DeliveryUncertainError)
    assert len(server.requests) == 1


@KINDS
def test_what_can_not_be_reached(tmp_path: Path, kind: str) -> None:
    _, context = make_certificate(tmp_path)
    absent = of(kind, f"http://127.0.0.1:{free_port()}", tmp_path)
    assert refused(absent, TargetUnavailableError).code == "network"
    with serve(one_reply(), tls=context) as server:
        untrusted = of(kind, server.url, tmp_path)
        assert refused(untrusted, TargetUnavailableError).code == "tls"
        with pytest.raises(TargetUnavailableError):
            untrusted.probe()
    not_pem = of(kind, server.url, tmp_path, ca_bundle=str(tmp_path / "config.yaml"))
    assert "Can't load certificates" in refused(not_pem, TargetUnavailableError).message
    with serve(cut_within) as server:
        large = of(kind, server.url, tmp_path)
        with pytest.raises(TargetUnavailableError):
            large.send(shipment(documents=(Document("a.bin", "a/b", bytes(30_000_000)),)))
        large.close()


@KINDS
def test_a_delivery_can_be_aborted(tmp_path: Path, kind: str) -> None:
    with serve(never_answer) as server:
        it = of(kind, server.url, tmp_path)
        with ended_by(it.abort, after=0.1, once=lambda: server.requests != []):
            assert refused(it, TargetError).code == "delivery_uncertain"
