"""The reply to the request for an upload address: each spelling is read, and nothing unusable is taken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invox_watcher.invox.presign import PresignedUpload, read_presigned
from tests.kit.strategies import JSON

URL = "https://storage.example/a%2Fb?X-Amz-Signature=s3cr3t"
GOOD = {"presignedUrl": URL, "requestId": "r-1"}


def presigned(payload: dict[str, Any]) -> PresignedUpload:
    found = read_presigned(payload)
    assert isinstance(found, PresignedUpload)
    return found


@pytest.mark.parametrize(
    "key", ["presignedUrl", "signedUrl", "uploadUrl", "presigned_url", "signed_url", "upload_url", "url"]
)
def test_the_url_under_any_name(key: str) -> None:
    assert presigned({key: URL, "requestId": "r-1"}).url == URL
    assert presigned({"data": {key: f" {URL}\n"}, "requestId": "r-1"}).url == URL


@pytest.mark.parametrize("key", ["requestId", "request_id", "jobId", "job_id", "id"])
@pytest.mark.parametrize(("sent", "read"), [("r-1", "r-1"), (" r-1 ", "r-1"), (7, "7"), (0, "0")])
def test_the_id_under_any_name(key: str, sent: object, read: str) -> None:
    assert presigned({"presignedUrl": URL, key: sent}).request_id == read
    assert presigned({"presignedUrl": URL, "job": {key: sent}}).request_id == read


@pytest.mark.parametrize(
    "payload",
    [
        {"data": GOOD},
        {"requestId": "r-1", "upload": {"url": URL}},
        {"presignedUrl": {"url": URL}, "requestId": "r-1"},
        {"upload": {"url": URL}, "job": {"id": "r-1"}},
        GOOD | {"url": "https://other.example", "id": "other"},
        GOOD | {"data": {"presignedUrl": "https://other.example", "requestId": "other"}},
        {"presignedUrl": None, "signedUrl": URL, "requestId": "", "jobId": "r-1"},
    ],
)
def test_each_in_a_place_of_its_own(payload: dict[str, Any]) -> None:
    assert presigned(payload) == PresignedUpload(URL, "r-1")


@pytest.mark.parametrize("unusable", [None, "", " ", True, 1.5, [], {}, "a\nb", "a\x1bb"])
@pytest.mark.parametrize("key", ["presignedUrl", "requestId"])
def test_what_is_missing_is_named_and_not_quoted(key: str, unusable: object) -> None:
    assert read_presigned(GOOD | {key: unusable}) == f"has no usable {key}"
    assert read_presigned({}) == "has no usable presignedUrl"


@pytest.mark.parametrize("key", ["headers", "signedHeaders", "requiredHeaders"])
def test_headers_that_the_reply_names(key: str) -> None:
    headers = {"x-amz-acl": "private", "x-list": ["a", 1], "x-number": 5}
    kept = {"x-amz-acl": "private", "x-list": "a,1", "x-number": "5"}
    assert presigned(GOOD | {key: headers}).headers == kept
    assert presigned({"data": GOOD | {key: headers}}).headers == kept
    assert presigned({"requestId": "r-1", "upload": {"url": URL, key: headers}}).headers == kept


@pytest.mark.parametrize(
    "name", ["Content-Type", "content-length", "HOST", "Transfer-Encoding", "Connection"]
)
def test_headers_of_the_upload_itself_are_not_taken(name: str) -> None:
    assert presigned(GOOD | {"headers": {name: "x", "x-own": "y"}}).headers == {"x-own": "y"}


@pytest.mark.parametrize("headers", [None, "host;content-type", ["host"], {"x": None}, {"x": {"y": 1}}, {}])
def test_headers_that_are_none(headers: object) -> None:
    assert presigned(GOOD | {"headers": headers}).headers == {}


def test_url_and_headers_are_hidden_from_repr() -> None:
    shown = repr(presigned(GOOD | {"headers": {"x-secret": "s3cr3t"}}))
    assert shown == "PresignedUpload(request_id='r-1')"


FIELDS = st.dictionaries(st.sampled_from(["presignedUrl", "url", "requestId", "id", "headers"]), JSON)


@given(FIELDS, FIELDS)
def test_any_reply_is_usable_or_says_why_not(outer: dict[str, Any], inner: dict[str, Any]) -> None:
    found = read_presigned(outer | {"data": inner})
    if isinstance(found, str):
        assert found in ("has no usable presignedUrl", "has no usable requestId")
    else:
        for word in (found.url, found.request_id):
            assert word.isascii()
            assert word.isprintable()
            assert " " not in word
