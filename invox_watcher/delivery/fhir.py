"""Transcripts as DocumentReference of FHIR R4 (https://hl7.org/fhir/R4/documentreference.html).

Created conditionally (`If-None-Exist`, http.html#ccreate) on an identifier made of the shipment's key: a
repeat makes no second one. `docStatus` is preliminary: no person has read the text yet.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from invox_watcher.delivery.connecting import secret_in
from invox_watcher.delivery.posting import HttpOptions, Poster
from invox_watcher.delivery.target import Document, Shipment, attributes_of, filled, one_line, valid
from invox_watcher.errors import ApiUnavailableError, TargetUnavailableError, UnsendableError
from invox_watcher.net import HttpReply, read_object
from invox_watcher.patterns import Pattern
from invox_watcher.times import rfc3339

_URI = "urn:ietf:rfc:3986"  # the system of identifiers that are URIs themselves
_NAMESPACE = uuid.UUID("8f0ec1d6-3f9b-5a46-9a5e-0a6f1c4de2b7")  # of our own keys: RFC 9562 §5.5
_JSON = "application/fhir+json"


@dataclass(frozen=True)
class FhirOptions:
    """The keys of a target of kind `fhir`, besides those of the connection."""

    token_file: Path | None
    patient_id: str
    patient_system: str | None
    type_system: str
    type_code: str
    author: str
    encounter_id: str
    formats: tuple[str, ...]


class Fhir:
    """A FHIR server."""

    def __init__(self, http: HttpOptions, options: FhirOptions) -> None:
        self.formats = options.formats
        self._base = http.url.rstrip("/")
        self._options = options
        self._poster = Poster(http, retried=frozenset({409}))
        self._patient, self._code = Pattern(options.patient_id), Pattern(options.type_code)
        self._author, self._encounter = Pattern(options.author), Pattern(options.encounter_id)

    @property
    def attributes(self) -> frozenset[str]:
        return attributes_of(self._patient, self._code, self._author, self._encounter)

    def send(self, shipment: Shipment) -> str:
        body = json.dumps(self.resource(shipment), ensure_ascii=False).encode()
        condition = f"identifier={quote(f'{_URI}|{identifier_of(shipment.key)}', safe=':')}"
        headers = {
            "Content-Type": _JSON,
            "Accept": _JSON,
            "If-None-Exist": condition,
            "Prefer": "return=minimal",
            **self._authorization(),
        }
        return _receipt(self._poster.post(f"{self._base}/DocumentReference", headers, body))

    def probe(self) -> None:
        """Also checks the server's CapabilityStatement: a server may leave out conditional creation."""
        headers = {"Accept": _JSON, **self._authorization()}
        _check_capabilities(self._poster.get(f"{self._base}/metadata", headers))
        unknown = quote(f"{_URI}|{identifier_of('invox-watcher check')}", safe=":")
        self._poster.get(f"{self._base}/DocumentReference?identifier={unknown}&_summary=count", headers)
        self.close()

    def abort(self) -> None:
        self._poster.abort()

    def close(self) -> None:
        self._poster.close()

    def _authorization(self) -> dict[str, str]:
        if self._options.token_file is None:
            return {}
        return {"Authorization": f"Bearer {secret_in(self._options.token_file, 'token_file')}"}

    def resource(self, shipment: Shipment) -> dict[str, Any]:
        """The DocumentReference, the same for equal shipments. Raises UnsendableError."""
        values = shipment.fields
        recorded = rfc3339(shipment.recorded_at or shipment.received_at)
        resource: dict[str, Any] = {
            "resourceType": "DocumentReference",
            "identifier": [{"system": _URI, "value": identifier_of(shipment.key)}],
            "status": "current",
            "docStatus": "preliminary",
            "type": {
                "coding": [
                    {"system": self._options.type_system, "code": filled(self._code, values, one_line)}
                ]
            },
            "subject": self._subject(values),
            "date": rfc3339(shipment.completed_at),
            "content": [{"attachment": _attachment(document, recorded)} for document in shipment.documents],
        }
        if author := filled(self._author, values, one_line):
            resource["author"] = [{"display": author}]
        if encounter := filled(self._encounter, values, _id):
            resource["context"] = {"encounter": [{"reference": f"Encounter/{encounter}"}]}
        return resource

    def _subject(self, values: Mapping[str, str]) -> dict[str, Any]:
        """The patient by the server's own id, or by an identifier of the clinic's."""
        if self._options.patient_system is None:
            return {"reference": f"Patient/{_not_empty(filled(self._patient, values, _id))}"}
        patient = _not_empty(filled(self._patient, values, one_line).strip())
        identifier = {"system": self._options.patient_system, "value": patient}
        return {"type": "Patient", "identifier": identifier}


def identifier_of(key: str) -> str:
    """The value of `identifier` for a shipment's key."""
    return uuid.uuid5(_NAMESPACE, key).urn


def _attachment(document: Document, recorded: str) -> dict[str, str]:
    kind = document.media_type
    return {
        "contentType": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
        "data": base64.b64encode(document.content).decode(),
        "title": one_line(document.name),
        "creation": recorded,
    }


def _id(value: str) -> str:
    """A resource's id in a reference (datatypes.html#id), or a refusal: it must lead nowhere else."""
    if all(character.isascii() and (character.isalnum() or character in "-.") for character in value):
        return value[:64]
    raise UnsendableError(
        "An id of the recording has characters that FHIR does not allow in ids.",
        code="bad_id",
        hint="Is it an identifier of the clinic's? Set patient_system for those.",
    )


def _not_empty(patient: str) -> str:
    if patient:
        return patient
    raise UnsendableError(
        "The recording's patient id is empty.",
        code="missing_attribute",
        hint="Check patient_id, and the attributes in it.",
    )


def _receipt(reply: HttpReply) -> str:
    """The new resource's path (201), or "exists" (200): the server had it already."""
    path = urlsplit(valid(reply.headers.get("Location", ""))).path
    at = path.find("DocumentReference/")
    place = one_line(path[at:])[:100] if at >= 0 else "DocumentReference"
    return place if reply.status == 201 else f"{place} exists"


def _check_capabilities(reply: HttpReply) -> None:
    problem = ""
    try:
        statement = read_object(reply)
    except ApiUnavailableError:
        statement = {}
    resources = [
        resource
        for rest in statement.get("rest") or []
        for resource in rest.get("resource") or []
        if resource.get("type") == "DocumentReference"
    ]
    if statement.get("resourceType") != "CapabilityStatement":
        problem = "does not answer as a FHIR server"
    elif not str(statement.get("fhirVersion", "")).startswith("4.0"):
        problem = "is not a server of FHIR R4 (4.0)"
    elif not any(resource.get("conditionalCreate") for resource in resources):
        problem = (
            "does not say that it creates a DocumentReference conditionally: a repeat might make a second one"
        )
    if problem:
        raise TargetUnavailableError(
            f"{reply.where} {problem}.",
            code="capabilities",
            hint="Check url: it is what comes before /metadata.",
        )
