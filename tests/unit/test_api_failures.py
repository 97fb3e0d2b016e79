"""Statuses and bodies outside 2xx: class, code, the key that the hint leads to, and what is quoted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from invox_watcher.errors import (
    ApiError,
    ApiRefusedError,
    ApiRejectedError,
    ApiUnavailableError,
    UploadUrlRefusedError,
)
from invox_watcher.invox.failures import (
    call_failure,
    quoted,
    set_up_failure,
    storage_failure,
    token_failure,
)
from invox_watcher.net import HttpReply

SECRETS = ("K3y-0f", "Y2xpbmljOks=")
HTML = b"\n<!DOCTYPE html><title>Blocked</title>"


def reply(status: int, body: object = b"", **headers: str) -> HttpReply:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpReply(status, "api.example.com", CaseInsensitiveDict(names), sent)


def of_call(answer: HttpReply, setting: str = "api.presign_path") -> ApiError:
    return call_failure(answer, "Asking", setting, secrets=SECRETS, max_seconds=300)


def of_token(answer: HttpReply) -> ApiError:
    return token_failure(answer, secrets=SECRETS, max_seconds=300)


def of_storage(answer: HttpReply) -> ApiError:
    return storage_failure(answer, 300)


CALLS: list[tuple[int, Any, type[ApiError], str, list[str]]] = [
    *[(status, {}, ApiUnavailableError, "api_unavailable", []) for status in (408, 425, 429, 500, 502, 599)],
    (503, HTML, ApiUnavailableError, "api_unavailable", []),
    (404, {}, ApiRefusedError, "not_found", ["api.presign_path", "api.base_url"]),
    (404, HTML, ApiRefusedError, "not_found", ["api.presign_path", "api.base_url"]),
    (405, b"", ApiRefusedError, "not_found", ["api.presign_path"]),
    *[
        (403, {"message": message}, ApiRefusedError, "not_found", ["api.presign_path", "api.base_url"])
        for message in ("Missing Authentication Token", "Forbidden", " forbidden ")
    ],
    (403, {}, ApiRefusedError, "forbidden", ["BATCH-TRANSCRIBE", "api.presign_path", "api.headers"]),
    (403, {"Message": "explicit deny"}, ApiRefusedError, "forbidden", ["BATCH-TRANSCRIBE", "api.headers"]),
    (403, {"messsage": "needs Batch-Transcribe"}, ApiRefusedError, "forbidden", ["BATCH-TRANSCRIBE"]),
    (403, HTML, ApiRefusedError, "web_filter", ["api.proxy", "api.base_url"]),
    (401, HTML, ApiRefusedError, "web_filter", ["api.proxy"]),
    (403, b"<html><body>no", ApiRefusedError, "web_filter", ["api.proxy"]),
    (401, {}, ApiRefusedError, "unauthorized", ["api.base_url", "api.token.url", "api.headers"]),
    (400, {"message": "Unknown Version"}, ApiRejectedError, "api_rejected", ["api.version"]),
    (400, {"messsage": "mimeType is not allowed"}, ApiRejectedError, "api_rejected", ["api.mime_types"]),
    (
        400,
        {"message": "language is required"},
        ApiRejectedError,
        "api_rejected",
        ["api.presign_fields", "api.version", "api.headers"],
    ),
    *[
        (status, {}, ApiRejectedError, "api_rejected", ["api.presign_fields"])
        for status in (400, 409, 413, 422)
    ],
    *[(status, {}, ApiUnavailableError, "api_protocol", ["--try"]) for status in (101, 304)],
]


@pytest.mark.parametrize(("status", "body", "kind", "code", "named"), CALLS)
def test_a_call(status: int, body: Any, kind: type[ApiError], code: str, named: list[str]) -> None:
    error = of_call(reply(status, body))
    assert (type(error), error.code, error.status) == (kind, code, status)
    assert f"api.example.com answered {status}" in error.message
    for key in named:
        assert key in error.hint


def test_a_wrong_path_by_its_header() -> None:
    answer = reply(403, b"", x_amzn_ErrorType="MissingAuthenticationTokenException")
    assert of_call(answer, "api.status_path").code == "not_found"
    assert "api.status_path" in of_call(answer, "api.status_path").hint
    assert of_token(answer).code == "token_not_found"


def test_a_web_page_is_known_by_its_type_too() -> None:
    answer = reply(403, b"Blocked", Content_Type="Text/HTML; charset=utf-8")
    assert of_call(answer).code == of_token(answer).code == "web_filter"


@pytest.mark.parametrize("status", [400, 401, 403, 409, 422])
def test_a_host_does_not_mislead_the_hint(status: int) -> None:
    answer = HttpReply(status, "mime-conversion.batch-transcribe.example", {}, b"{}")
    assert "which version" not in of_call(answer).hint
    assert "which types" not in of_call(answer).hint
    assert of_token(answer).hint == of_token(reply(status)).hint
    assert of_call(answer).hint == of_call(reply(status)).hint


TOKENS: list[tuple[int, Any, type[ApiError], str, list[str]]] = [
    *[(status, {}, ApiUnavailableError, "api_unavailable", []) for status in (408, 425, 429, 500, 503)],
    (404, {}, ApiRefusedError, "token_not_found", ["api.token", "url", "method"]),
    (404, HTML, ApiRefusedError, "token_not_found", ["api.token", "url", "method"]),
    (405, {}, ApiRefusedError, "token_request", ["api.token.method, then"]),
    (403, {"message": "Missing Authentication Token"}, ApiRefusedError, "token_not_found", ["url"]),
    (403, {"message": "Forbidden"}, ApiRefusedError, "token_not_found", ["api.headers, api.token.url"]),
    (403, HTML, ApiRefusedError, "web_filter", ["api.proxy"]),
    *[
        (
            status,
            {},
            ApiRefusedError,
            "token_request",
            ["api.token.json, api.token.form and api.token.headers"],
        )
        for status in (406, 411, 415, 422)
    ],
    (400, {"message": "No"}, ApiRefusedError, "token_request", ["check api.token.form, api.token.json"]),
    (400, {"error": "unsupported_grant_type"}, ApiRefusedError, "token_request", ["check api.token.form"]),
    (400, {"message": "No such header."}, ApiRefusedError, "token_request", ["check api.token.headers"]),
    (400, {"error": "invalid_client"}, ApiRefusedError, "credentials", ["credentials.api_key"]),
    (400, {"message": "version is not supported"}, ApiRefusedError, "token_request", ["api.version"]),
    *[
        (
            status,
            {"message": "No"},
            ApiRefusedError,
            "credentials",
            ["credentials.app_id", "credentials.api_key", "api.token.json", "api.headers"],
        )
        for status in (401, 403, 409, 413)
    ],
]


@pytest.mark.parametrize(("status", "body", "kind", "code", "named"), TOKENS)
def test_a_token(status: int, body: Any, kind: type[ApiError], code: str, named: list[str]) -> None:
    error = of_token(reply(status, body))
    assert (type(error), error.code, error.status) == (kind, code, status)
    for key in named:
        assert key in error.hint


@pytest.mark.parametrize("status", range(400, 600))
def test_no_status_of_a_token_rejects_a_recording(status: int) -> None:
    assert isinstance(of_token(reply(status)), ApiRefusedError | ApiUnavailableError)


def test_a_rejection_of_the_set_up_keeps_its_words() -> None:
    rejected = of_call(reply(400, {"message": "Unknown version"}))
    assert isinstance(rejected, ApiRejectedError)
    error = set_up_failure(rejected)
    assert (type(error), error.code, error.status) == (ApiRefusedError, "rejected", 400)
    assert (error.message, error.hint) == (rejected.message, rejected.hint)


def xml(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>s3cr3t</Message></Error>".encode()


STORAGE: list[tuple[int, str, type[ApiError]]] = [
    *[(status, "", UploadUrlRefusedError) for status in (401, 403)],
    (403, "SignatureDoesNotMatch", UploadUrlRefusedError),
    (400, "ExpiredToken", UploadUrlRefusedError),
    *[(400, code, ApiUnavailableError) for code in ("RequestTimeout", "IncompleteBody")],
    *[(status, "", ApiUnavailableError) for status in (408, 429, 500, 503, 304)],
    (503, "SlowDown", ApiUnavailableError),
    *[(status, "", ApiRejectedError) for status in (400, 404, 411, 413, 501)],
]


@pytest.mark.parametrize(("status", "code", "kind"), STORAGE)
def test_an_upload(status: int, code: str, kind: type[ApiError]) -> None:
    error = of_storage(reply(status, xml(code) if code else b""))
    assert (type(error), error.status) == (kind, status)
    assert error.message == f"The upload: api.example.com answered {status}{f' ({code})' if code else ''}."
    if kind is not ApiUnavailableError:
        assert "upload.headers" in error.hint
        assert "api.mime_types" in error.hint


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("86400", 300.0),
        ("-5", 0.0),
        ("nonsense", None),
        ("", None),
        ("date", 60.0),
        ("nan", None),
    ],
)
def test_retry_after_is_clamped(header: str, seconds: float | None) -> None:
    if header == "date":
        header = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    for read in (of_call, of_token, of_storage):
        error = read(reply(429, b"", Retry_After=header))
        assert isinstance(error, ApiUnavailableError)
        expected = None if seconds is None else pytest.approx(seconds, abs=3)
        assert error.retry_after_seconds == expected


class TestQuotes:
    @pytest.mark.parametrize(
        ("body", "shown"),
        [
            ({"message": "No"}, ": “No”"),
            ({"messsage": "No"}, ": “No”"),
            ({"Message": "No"}, ": “No”"),
            ({"error": "invalid_client"}, ": “invalid_client”"),
            (
                {"error": "invalid_client", "error_description": "Unknown client"},
                ": “invalid_client: Unknown client”",
            ),
            ({"message": "No", "error": "bad"}, ": “No”"),
            ({"message": {"a": "b"}, "error": "bad"}, ": “bad”"),
            ({"details": [{"text": "secret words"}], "errorType": "x"}, ""),
            *[(body, "") for body in (b"", b"<html>No</html>", [], "No", {"message": 5}, {"message": " \n"})],
        ],
    )
    def test_the_message_or_oauths_error(self, body: object, shown: str) -> None:
        assert quoted(reply(400, body), SECRETS) == shown

    @pytest.mark.parametrize(
        "secret",
        [
            *SECRETS,
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
            "https://storage.example/x?X-Amz-Signature=abcdef",
        ],
    )
    @pytest.mark.parametrize("key", ["message", "messsage", "error", "error_description"])
    def test_secrets_never(self, key: str, secret: str) -> None:
        for read in (of_call, of_token):
            for status in (400, 401, 403, 500):
                error = read(reply(status, {key: f"Key '{secret}', or key={secret} is bad"}))
                assert secret not in error.message + error.hint
                assert "is bad" in error.message

    def test_short_and_on_one_line(self) -> None:
        said = quoted(reply(400, {"message": "a\n\x1b[31mb\u2028" + "blah " * 100}), SECRETS)
        assert said.startswith(": “a [31mb blah")
        assert said.isprintable()
        assert len(said) < 210


@given(st.integers(100, 599), st.binary() | st.dictionaries(st.sampled_from(["message", "error"]), st.text()))
def test_any_answer_is_an_error_with_a_hint(status: int, body: object) -> None:
    for read in (of_call, of_token, of_storage):
        error = read(reply(status, body))
        assert error.message.isprintable()
        assert error.hint
