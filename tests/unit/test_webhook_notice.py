"""Webhook bodies: what may be believed of one, by which of the two signatures, and why another is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invox_watcher.invox.webhook import (
    Credentials,
    Receiver,
    read_notice,
    refusal_of,
)
from invox_watcher.notice import NoticeOutcome, WebhookNotice
from tests.kit.logged import captured

VECTORS = Path(__file__).parent.parent / "vectors"
VECTOR = json.loads((VECTORS / "openssl.json").read_text(encoding="utf-8"))[0]
CREDENTIALS = Credentials(VECTOR["app_id"], VECTOR["api_key"], VECTOR["app_secret"])
SIGNATURE = VECTOR["signature"]
RESULT = {"requestId": "r-1", "transcription": [{"text": "Secret words.", "start": 0, "end": 1}]}


def plain(payload: dict[str, Any]) -> bytes:
    """With the signature that does not cover the body."""
    return json.dumps(payload | {"signature": SIGNATURE}).encode()


def covered(payload: dict[str, Any]) -> bytes:
    """With the signature that does; by the vendor's rule, for values that need no care."""
    values = [value for key, value in payload.items() if key != "eventName"]
    texts = [v if isinstance(v, str) else json.dumps(v, separators=(",", ":")) for v in values]
    text = "|".join([*texts, CREDENTIALS.api_key])
    digest = hmac.new(CREDENTIALS.app_secret.encode(), text.encode(), hashlib.sha256).digest()
    return json.dumps(payload | {"requestSignature": base64.b64encode(digest).decode()}).encode()


def notice_in(body: bytes) -> WebhookNotice:
    notice = read_notice(body, CREDENTIALS)
    assert notice is not None
    return notice


@pytest.mark.parametrize("sign", [plain, covered])
class TestBothSignatures:
    def test_a_result(self, sign: Any) -> None:
        notice = notice_in(sign(RESULT))
        assert (notice.request_id, notice.payload) == ("r-1", RESULT)
        assert notice.covers_body is (sign is covered)

    @pytest.mark.parametrize("key", ["requestId", "request_id", "jobId", "id"])
    @pytest.mark.parametrize(("sent", "read"), [("r-1", "r-1"), (7, "7")])
    def test_the_id_under_any_name(self, sign: Any, key: str, sent: object, read: str) -> None:
        payload = {key: sent, "status": "FAILED", "errorMessage": "no"}
        assert notice_in(sign(payload)).request_id == read

    def test_slashes_may_be_escaped(self, sign: Any) -> None:
        assert notice_in(sign(RESULT).replace(b"/", b"\\/")).request_id == "r-1"

    def test_the_time_of_sending_is_no_content(self, sign: Any) -> None:
        one, later = (notice_in(sign(RESULT | {"createdAt": at})) for at in (1, 2))
        assert one.content_sha256 == later.content_sha256 == notice_in(sign(RESULT)).content_sha256
        assert one.content_sha256 != notice_in(sign(RESULT | {"status": "DONE"})).content_sha256

    def test_an_empty_list_is_a_result(self, sign: Any) -> None:
        assert notice_in(sign(RESULT | {"transcription": []})).request_id == "r-1"

    @pytest.mark.parametrize(
        "payload",
        [
            {},
            {"eventName": "webhook.test"},
            {"transcription": []},
            {"requestId": "r-1"},
            {"requestId": "r-1", "status": "PENDING"},
            {"requestId": "", "transcription": []},
            {"requestId": "x" * 257, "transcription": []},
        ],
    )
    def test_one_without_id_or_result_has_no_id(self, sign: Any, payload: dict[str, Any]) -> None:
        notice = notice_in(sign(payload))
        assert (notice.request_id, notice.payload) == ("", {})
        assert notice.signature_sha256
        assert notice.content_sha256 == hashlib.sha256(sign(payload)).hexdigest()

    def test_other_credentials_make_it_a_forgery(self, sign: Any) -> None:
        for change in ("api_key", "app_secret"):
            other = replace(CREDENTIALS, **{change: "another-one-0000"})
            assert read_notice(sign(RESULT), other) is None


@pytest.mark.parametrize("more", [b"", b"]", b'{"a":', b"\xff"])
def test_a_signature_in_a_body_that_is_no_object_has_no_id(more: bytes) -> None:
    body = f'"signature": "{SIGNATURE}"'.encode() + more
    assert notice_in(body).request_id == ""


@pytest.mark.parametrize("wrap", ['[{"signature": "%s"}]', '{"a": {"signature": "%s"}}'])
def test_a_signature_elsewhere_in_the_body_has_no_id(wrap: str) -> None:
    assert notice_in((wrap % SIGNATURE).encode()).request_id == ""


def test_a_signature_beside_another_of_its_name_has_no_id() -> None:
    nested = {"more": {"signature": SIGNATURE}} | RESULT | {"signature": "c2ln"}
    assert notice_in(json.dumps(nested).encode()).request_id == ""


def test_altered_words_are_refused_where_the_body_is_covered() -> None:
    body = covered(RESULT)
    assert read_notice(body.replace(b"Secret", b"Secure"), CREDENTIALS) is None
    assert read_notice(body.replace(b"r-1", b"r-2"), CREDENTIALS) is None


def test_with_both_the_one_that_covers_the_body_counts() -> None:
    notice = notice_in(covered(RESULT | {"signature": SIGNATURE}))
    assert notice.covers_body
    assert notice.payload == RESULT


def test_with_a_wrong_one_that_covers_it_the_other_counts() -> None:
    body = covered(RESULT | {"signature": SIGNATURE}).replace(b"Secret", b"Secure")
    notice = notice_in(body)
    assert (notice.request_id, notice.covers_body) == ("r-1", False)
    assert "requestSignature" not in notice.payload


REFUSED: list[tuple[bytes | None, str]] = [
    (None, "no_signature"),
    (b"", "no_signature"),
    (b"{}", "no_signature"),
    (b"ping", "no_signature"),
    (b"\xff\x00", "no_signature"),
    (b'{"eventName": "webhook.test"}', "no_signature"),
    (b'{"signature": ""}', "no_signature"),
    (b'{"signature": 5}', "no_signature"),
    (b'{"signature": "c2ln"}', "signature"),
    (b'{"requestSignature": "' + b"A" * 43 + b'="}', "request_signature"),
    (b'{"signature": "c2ln", "requestSignature": "' + b"A" * 43 + b'="}', "request_signature"),
]


@pytest.mark.parametrize(("body", "kind"), REFUSED)
def test_why_one_is_refused(body: bytes | None, kind: str) -> None:
    if body is not None:
        assert read_notice(body, CREDENTIALS) is None
    assert refusal_of(body) == kind


@given(st.binary() | st.builds(lambda body: body[:-1] + b',"signature":"c2ln"}', st.just(covered(RESULT))))
def test_no_other_body_is_a_notice_or_raises(body: bytes) -> None:
    notice = read_notice(body, CREDENTIALS)
    assert notice is None
    assert refusal_of(body)


def test_a_body_nested_too_deeply_raises_nothing() -> None:
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000
    signature = f', "signature": "{SIGNATURE}"}}'.encode()
    assert notice_in(deep + signature).request_id == ""
    assert read_notice(deep + b', "requestSignature": "' + b"A" * 43 + b'="}', CREDENTIALS) is None


class TestReceiver:
    @pytest.mark.parametrize(
        ("outcome", "kept", "woken"),
        [
            (NoticeOutcome.NEW, True, ["r-1"]),
            (NoticeOutcome.REPEATED, True, []),
            (NoticeOutcome.UNKNOWN, False, []),
            (NoticeOutcome.CONTRADICTS, False, []),
        ],
    )
    def test_takes_what_the_journal_has(self, outcome: NoticeOutcome, kept: bool, woken: list[str]) -> None:
        heard: list[str] = []
        receiver = Receiver(CREDENTIALS, record=lambda _notice: outcome, wake=heard.append)
        notice = receiver.read(plain(RESULT))
        assert notice is not None
        assert receiver.take(notice) is kept
        assert heard == woken

    @pytest.mark.parametrize(
        ("body", "code", "hint"),
        [
            (b"{}", "no_signature", "a test of the address"),
            (b'{"signature": "c2ln"}', "signature", "credentials.app_id"),
            (covered(RESULT).replace(b"r-1", b"r-2"), "request_signature", "credentials.app_secret"),
            (covered({"eventName": "webhook.test"}), "unknown_request", "genuine"),
            (plain(RESULT), "unknown_request", "genuine"),
        ],
    )
    def test_says_which_signature_a_refused_one_had(self, body: bytes, code: str, hint: str) -> None:
        receiver = Receiver(CREDENTIALS, record=lambda _notice: NoticeOutcome.UNKNOWN, wake=lambda _id: None)
        with captured() as events:
            for _ in range(3):
                receiver.refused(body)
        (event,) = events
        assert (event["event"], event["code"]) == ("webhook_refused", code)
        assert hint in event["hint"]
        assert "Secret" not in str(event)
