"""The gateway in front of the API, and the presigned URL."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any
from urllib.parse import urlsplit

from tests.acceptance.readings.client import (
    CREDENTIALS,
    ENCRYPTION,
    FORBIDDEN,
    FORM,
    GRANT,
    MISSING_TOKEN,
    PRESIGN,
    STATUS,
    TOKEN,
    VERSION,
    Check,
    Client,
    bearer,
    check,
    raw,
)

# --- the gateway in front of the API ---


@check("stage")
def _(client: Client) -> None:
    assert client.call("POST", TOKEN, GRANT, FORM | CREDENTIALS).status == 404
    assert client.api.api_url == f"{client.api.base_url}/uat"
    assert client.api.token_url == f"{client.api.api_url}{TOKEN}"
    token = client.call("POST", client.api.token_url, GRANT, FORM | CREDENTIALS).json()["accessToken"]
    assert client.presign(headers=bearer(token)).status == 404
    granted = client.call("POST", f"/uat{PRESIGN}", '{"mimeType": "audio/wav"}', bearer(token)).json()
    assert client.put(granted["presignedUrl"]).status == 200


def unknown_paths_are(client: Client, answer: tuple[int, Any]) -> None:
    assert client.call("POST", "/nowhere").outcome() == answer
    assert client.call("GET", TOKEN).outcome() == answer
    assert client.api.stats()["unknown_paths"] == 1
    assert client.presign().status == 200


@check("gateway")
def _(client: Client) -> None:
    unknown_paths_are(client, MISSING_TOKEN)


@check("gateway-forbidden")
def _(client: Client) -> None:
    unknown_paths_are(client, FORBIDDEN)


def paths_are_v1(client: Client, answer: tuple[int, Any]) -> None:
    assert client.presign().outcome() == answer
    assert client.status("x").outcome() == answer
    headers = client.bearer()
    granted = client.call("POST", "/v1/generate-presigned-url", '{"mimeType": "audio/wav"}', headers).json()
    assert client.put(granted["presignedUrl"]).status == 200
    body = json.dumps({"requestId": granted["requestId"]})
    assert client.call("POST", "/v1/get-transcription", body, headers).status == 200
    assert client.api.stats()["unknown_paths"] == 2


@check("paths-v1")
def _(client: Client) -> None:
    paths_are_v1(client, MISSING_TOKEN)


@check("paths-v1-forbidden")
def _(client: Client) -> None:
    paths_are_v1(client, FORBIDDEN)


@check("api-key-header")
def _(client: Client) -> None:
    key = {"x-api-key": "sandbox-key"}
    assert client.token().outcome() == FORBIDDEN
    assert client.token(CREDENTIALS | {"x-api-key": "sandbox-kex"}).outcome() == FORBIDDEN
    headers = bearer(client.token(CREDENTIALS | key).json()["accessToken"])
    assert client.presign(headers=headers).outcome() == FORBIDDEN
    granted = client.presign(headers=headers | key).json()
    assert client.put(granted["presignedUrl"]).status == 200
    body = json.dumps({"requestId": granted["requestId"]})
    assert client.call("POST", STATUS, body, headers).outcome() == FORBIDDEN
    assert client.call("POST", STATUS, body, headers | key).status == 200


@check("version-2026")
def _(client: Client) -> None:
    for version in ({}, {VERSION: "2025-11-01"}):
        refused = client.presign(headers=client.bearer() | version)
        assert (refused.status, refused.json()["errorType"]) == (400, "invalidVersion")
    assert client.presign(headers=client.bearer() | {VERSION: "2026-03-01"}).status == 200


@check("version-required")
def _(client: Client) -> None:
    assert client.presign().status == 400
    assert client.presign(headers=client.bearer() | {VERSION: "2027-01-01"}).status == 400
    assert client.presign(headers=client.bearer() | {VERSION: "2025-10-01"}).status == 200
    assert client.status("x").status == 400
    assert client.status("x", {VERSION: "2025-10-01"}).status == 404


@check("no-permission")
def _(client: Client) -> None:
    refused = client.presign()
    assert refused.status == 403
    assert "BATCH-TRANSCRIBE" in refused.json()["message"]
    assert client.status("x").status == 404


@check("web-filter")
def _(client: Client) -> None:
    blocked = client.token()
    assert (blocked.status, blocked.headers.get_content_type()) == (403, "text/html")
    assert blocked.body.startswith(b"<!DOCTYPE html>")
    assert client.call("POST", PRESIGN).body == blocked.body
    assert client.api.stats()["tokens"] == 0


@check("web-filter-storage")
def _(client: Client) -> None:
    blocked = client.put(client.presign().json()["presignedUrl"])
    assert (blocked.status, blocked.headers.get_content_type()) == (403, "text/html")
    assert client.api.stats()["uploads"] == 0


@check("gzip")
def _(client: Client) -> None:
    reply = client.token()
    assert reply.headers["Content-Encoding"] == "gzip"
    assert int(reply.headers["Content-Length"]) == len(reply.body)
    headers = bearer(json.loads(gzip.decompress(reply.body))["accessToken"])
    granted = json.loads(gzip.decompress(client.presign(headers=headers).body))
    stored = client.put(granted["presignedUrl"])
    assert (stored.status, stored.headers["Content-Encoding"]) == (200, None)
    refused = client.presign("audio/aac", headers=headers)
    assert (refused.status, refused.headers["Content-Encoding"]) == (400, "gzip")


@check("no-content-type")
def _(client: Client) -> None:
    for answer in (client.token(), client.presign(), client.status("x")):
        assert answer.json()
        assert answer.headers["Content-Type"] is None


@check("early-hints")
def _(client: Client) -> None:
    answered = raw(client, "POST", client.api.base_url + TOKEN, FORM | CREDENTIALS, GRANT.encode())
    assert answered.startswith(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b'"accessToken"' in answered


# --- the presigned URL ---


@check("presign-language")
def _(client: Client) -> None:
    refused = client.presign()
    assert (refused.status, "language" in refused.json()["message"]) == (400, True)
    assert client.presign(language="es-ES").status == 200


@check("presign-201")
def _(client: Client) -> None:
    granted = client.presign()
    assert granted.status == 201
    assert client.put(granted.json()["presignedUrl"]).status == 200


def presigned_under(url_field: str, id_field: str) -> Check:
    def holds(client: Client) -> None:
        granted = client.presign().json()
        assert set(granted) == {url_field, id_field}
        assert client.put(granted[url_field]).status == 200
        assert client.status(granted[id_field]).status == 200

    return holds


for _field in ("signedUrl", "uploadUrl", "url"):
    check(f"presign-{_field}")(presigned_under(_field, "requestId"))
for _field in ("id", "jobId"):
    check(f"presign-{_field}")(presigned_under("presignedUrl", _field))


@check("presign-data")
def _(client: Client) -> None:
    reply = client.presign().json()
    assert (set(reply), set(reply["data"])) == ({"data"}, {"presignedUrl", "requestId"})
    assert client.put(reply["data"]["presignedUrl"]).status == 200


def needs_named_header(client: Client, granted: dict[str, Any]) -> None:
    url = granted["presignedUrl"]
    assert b"SignatureDoesNotMatch" in client.put(url).body
    assert client.put(url, headers={"x-amz-server-side-encryption": "aws:kms"}).status == 403
    assert client.put(url, headers=ENCRYPTION).status == 200


@check("presign-headers")
def _(client: Client) -> None:
    granted = client.presign().json()
    assert granted["headers"] == ENCRYPTION
    needs_named_header(client, granted)


@check("presign-signedHeaders")
def _(client: Client) -> None:
    granted = client.presign().json()
    assert granted["signedHeaders"] == {
        "host": [urlsplit(client.api.base_url).netloc],
        "content-type": ["audio/wav"],
        "x-amz-server-side-encryption": ["AES256"],
    }
    needs_named_header(client, granted)


@check("presign-requiredHeaders")
def _(client: Client) -> None:
    granted = client.presign().json()
    assert granted["requiredHeaders"] == ENCRYPTION
    needs_named_header(client, granted)


@check("presign-header-names")
def _(client: Client) -> None:
    granted = client.presign().json()
    assert granted["signedHeaders"] == "host;content-type"
    assert client.put(granted["presignedUrl"]).status == 200


@check("odd-ids")
def _(client: Client) -> None:
    request_id = client.upload()
    assert re.fullmatch(r"job#[0-9a-f-]{36}\+é %2B\?=", request_id)
    assert client.status(request_id).status == 200
    assert client.status(request_id.replace("+", " ")).status == 404


@check("odd-url")
def _(client: Client) -> None:
    url = client.presign().json()["presignedUrl"]
    assert "/storage/in%2bbox/./a..b/../%7euploads/" in url
    for plain, changed in (("%2b", "%2B"), ("/./", "/"), ("/a..b/..", ""), ("%7e", "~"), ("%2F", "/")):
        assert url != url.replace(plain, changed)
        assert b"SignatureDoesNotMatch" in client.put(url.replace(plain, changed)).body
    assert client.put(url).status == 200


@check("mime-iana")
def _(client: Client) -> None:
    for mime_type, status in (
        ("audio/mp3", 400),
        ("audio/m4a", 400),
        ("audio/mpeg", 200),
        ("audio/mp4", 200),
    ):
        assert client.presign(mime_type).status == status


@check("mime-any")
def _(client: Client) -> None:
    granted = client.presign("audio/x-made-up").json()
    assert client.put(granted["presignedUrl"], headers={"Content-Type": "audio/wav"}).status == 403
    assert client.put(granted["presignedUrl"], headers={"Content-Type": "audio/x-made-up"}).status == 200
    blank = client.presign(" audio/mpeg").json()["presignedUrl"]  # which no header can begin with
    assert client.put(blank, headers={"Content-Type": " audio/mpeg"}).status == 403
    assert client.put(blank, headers={"Content-Type": "audio/mpeg"}).status == 403


@check("mime-leading-blank")
def _(client: Client) -> None:
    assert [client.presign(kind).status for kind in ("audio/mpeg", "audio/mp3", "audio/wav")] == [
        400,
        400,
        200,
    ]
    url = client.presign(" audio/mpeg").json()["presignedUrl"]
    assert client.put(url, headers={"Content-Type": "audio/mpeg"}).status == 200
