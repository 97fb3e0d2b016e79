"""A small FHIR server: conditional creation, and every DocumentReference is validated by fhir.resources.

That is R4B, whose DocumentReference is the one of R4.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fhir.resources.R4B.documentreference import DocumentReference
from pydantic import ValidationError

from tests.kit.loopback import Peer, Request

TOKEN = "a-token"
_CAPABILITIES = {
    "resourceType": "CapabilityStatement",
    "fhirVersion": "4.0.1",
    "rest": [{"mode": "server", "resource": [{"type": "DocumentReference", "conditionalCreate": True}]}],
}


@dataclass
class FhirServer:
    """What it has been given; `serve(server.handler)` runs it."""

    resources: list[DocumentReference] = field(default_factory=list)
    capabilities: dict[str, Any] = field(default_factory=lambda: dict(_CAPABILITIES))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def handler(self, peer: Peer) -> None:
        while (request := peer.request()) is not None:
            status, body, headers = self.answer(request)
            peer.answer(status, json.dumps(body).encode() if body else b"", **headers)

    def answer(self, request: Request) -> tuple[int, dict[str, Any] | None, dict[str, str]]:
        """By https://hl7.org/fhir/R4/http.html."""
        method, target, _ = request.line.split(" ")
        path = urlsplit(target).path
        if (method, path) == ("GET", "/r4/metadata"):
            return 200, self.capabilities, {}
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, None, {}
        if path != "/r4/DocumentReference":
            return 404, None, {}
        if method == "GET":
            found = self.found(urlsplit(target).query)
            return 200, {"resourceType": "Bundle", "type": "searchset", "total": len(found)}, {}
        return self.create(request)

    def create(self, request: Request) -> tuple[int, dict[str, Any] | None, dict[str, str]]:
        if request.headers["content-type"] != "application/fhir+json":
            return 415, None, {}
        try:
            resource = DocumentReference.model_validate_json(request.body)
        except ValidationError as error:
            return 422, {"resourceType": "OperationOutcome", "text": str(error)}, {}
        with self.lock:
            found = self.found(request.headers["if-none-exist"])
            if len(found) > 1:
                return 412, None, {}
            if not found:
                self.resources.append(resource)
            number = self.resources.index(found[0] if found else resource) + 1
        place = f"http://127.0.0.1/r4/DocumentReference/{number}/_history/1"
        return 200 if found else 201, None, {"Location": place}

    def found(self, query: str) -> list[DocumentReference]:
        """Search by a token: `identifier=system|value`."""
        system, _, value = unquote(parse_qs(query)["identifier"][0]).partition("|")
        return [
            resource
            for resource in self.resources
            if any((one.system, one.value) == (system, value) for one in resource.identifier)
        ]
