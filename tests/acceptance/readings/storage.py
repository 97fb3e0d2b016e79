"""Uploads."""

from __future__ import annotations

from tests.acceptance.readings.client import (
    Check,
    Client,
    check,
    raw,
)


@check("upload-header")
def _(client: Client) -> None:
    granted = client.presign().json()
    assert set(granted) == {"presignedUrl", "requestId"}
    refused = client.put(granted["presignedUrl"])
    assert (refused.status, b"AccessDenied" in refused.body) == (403, True)
    acl = {"x-amz-acl": "bucket-owner-full-control"}
    assert client.put(granted["presignedUrl"], headers=acl).status == 200


def interim_comes_first(head: bytes) -> Check:
    def holds(client: Client) -> None:
        url = client.presign().json()["presignedUrl"]
        answered = raw(client, "PUT", url, {"Content-Type": "audio/wav"}, b"x")
        assert answered.startswith(b"HTTP/1.1 " + head + b"\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert client.api.stats()["uploads"] == 1

    return holds


check("upload-102")(interim_comes_first(b"102 Processing"))
check("upload-103")(interim_comes_first(b"103 Early Hints"))


def storage_answers(status: int, *, stored: int = 1, acknowledged: int = 0, page: bool = False) -> Check:
    def holds(client: Client) -> None:
        granted = client.presign().json()
        answer = client.put(granted["presignedUrl"], b"a recording")
        assert answer.status == status
        assert answer.body.startswith(b"<!DOCTYPE html>") if page else answer.body == b""
        counted = list(client.api.stats()["recordings"].values())
        assert counted == [{"stored": stored, "acknowledged": acknowledged}] * stored
        assert client.api.stats()["upload_attempts"] == 1
        assert client.status(granted["requestId"]).status == (200 if stored else 404)

    return holds


check("upload-201")(storage_answers(201, acknowledged=1))
check("upload-204")(storage_answers(204, acknowledged=1))
check("upload-500-taken")(storage_answers(500))
check("upload-502-taken")(storage_answers(502, page=True))
check("upload-500-lost")(storage_answers(500, stored=0))


@check("upload-once")
def _(client: Client) -> None:
    url = client.presign().json()["presignedUrl"]
    assert client.put(url).status == 200
    refused = client.put(url)
    assert (refused.status, b"PreconditionFailed" in refused.body) == (412, True)
