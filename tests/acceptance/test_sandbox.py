"""The stand-in API over real HTTP: the vendor's cycle, every refusal, every reply shape."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from invox_watcher.sandbox.ledger import Ledger, Result, Upload
from invox_watcher.sandbox.server import Sandbox
from invox_watcher.sandbox.settings import ReplyShape
from tests.kit.caller import Caller, raw_request, settings
from tests.kit.waiting import eventually


def test_the_whole_cycle_transcribes_the_bytes_that_were_sent(tmp_path: Path) -> None:
    content = b"RIFF" + bytes(range(256)) * 1000
    sha256 = hashlib.sha256(content).hexdigest()
    with Sandbox(settings(tmp_path, result_delay_seconds=2)) as sandbox:
        caller = Caller(sandbox)
        began = time.monotonic()
        request_id = caller.upload(content)
        assert caller.status(request_id).json() == {"transcription": [], "processingStatus": "PENDING"}
        body = caller.result(request_id)
        assert time.monotonic() - began >= 2
        stats = sandbox.stats()
    assert body["processingStatus"] == "COMPLETED"
    first, second, third = body["transcription"]
    assert first == {
        "text": f"This is recording {sha256[:12]}.",
        "start": 0,
        "end": 1.5,
        "speakerId": "Speaker_00",
    }
    assert second["speakerId"] == "Speaker_01"
    assert body["vttTranscription"].startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nThis is recording ")
    assert third["text"] in body["vttTranscription"]
    request = stats.pop("requests")[0]
    assert stats.pop("status_calls") >= 2
    assert (stats.pop("webhooks_sent"), stats.pop("webhooks_delivered")) == (0, 0)
    assert stats.pop("recordings") == {sha256: {"stored": 1, "acknowledged": 1}}
    assert (stats.pop("token_calls"), stats.pop("presign_calls"), stats.pop("unknown_paths")) == (1, 1, 0)
    assert stats == {"tokens": 1, "presigns": 1, "uploads": 1, "upload_attempts": 1}
    assert request["sha256"] == sha256
    assert (request["bytes"], request["uploads"], request["status"]) == (len(content), 1, "COMPLETED")
    assert request["presigned_at"] < request["uploaded_at"]
    assert (tmp_path / request_id).read_bytes() == content


def test_health(caller: Caller) -> None:
    assert requests.get(f"{caller.base_url}/healthz", timeout=5).json() == {"status": "ok"}


# --- tokens ---


def test_a_token_says_how_long_it_lives(caller: Caller) -> None:
    assert caller.token().json()["expiresIn"] == 7200


@pytest.mark.parametrize(
    ("authorization", "form", "status"),
    [
        (None, {"grant_type": "client_credentials"}, 401),
        (
            "Basic " + base64.b64encode(b"sandbox-app:wrong").decode(),
            {"grant_type": "client_credentials"},
            401,
        ),
        ("Basic not base64", {"grant_type": "client_credentials"}, 401),
        ("Basic " + base64.b64encode(b"sandbox-app:sandbox-key").decode(), {"grant_type": "password"}, 400),
        ("Basic " + base64.b64encode(b"sandbox-app:sandbox-key").decode(), None, 400),
    ],
)
def test_no_token_without_the_right_credentials_and_form(
    caller: Caller, authorization: str | None, form: dict[str, str] | None, status: int
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    response = requests.post(f"{caller.base_url}/oauth/token", data=form, headers=headers, timeout=5)
    assert response.status_code == status
    assert response.json()["message"]


@pytest.mark.parametrize("path", ["generate-presigned-url", "get-transcription"])
@pytest.mark.parametrize("authorization", [None, "Bearer made-up", "Basic x"])
def test_calls_need_a_token(caller: Caller, path: str, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    response = requests.post(f"{caller.base_url}/api/v1/{path}", json={}, headers=headers, timeout=5)
    assert response.status_code == 401
    assert response.json()["message"]


def test_a_token_expires(tmp_path: Path) -> None:
    with Sandbox(settings(tmp_path, token_lifetime_seconds=1)) as sandbox:
        caller = Caller(sandbox)
        assert caller.presign().status_code == 200
        eventually(lambda: caller.presign().status_code == 401, within=3)


# --- presigned URLs ---


@pytest.mark.parametrize(
    "body",
    [
        {"mimeType": "audio/mpeg"},
        {"mimeType": None},
        {"mimeType": "audio/wav", "callbackUrl": "ftp://clinic.example/hook"},
        {"mimeType": "audio/wav", "callbackUrl": 7},
        {"mimeType": "audio/wav", "callbackUrl": "http://clinic.example:99999/hook"},
        {"mimeType": "audio/wav", "callbackUrl": "http://clinic.example/a hook"},
        {"mimeType": "audio/wav", "callbackUrl": "http://clinic.example/hook\r\nX-Made-Up: 1"},
        {"mimeType": "audio/wav", "callbackUrl": "http://[clinic.example/hook"},
    ],
)
def test_presigning_refuses_what_the_vendor_does_not_take(caller: Caller, body: dict[str, Any]) -> None:
    response = caller.presign(**body)
    assert response.status_code == 400
    assert next(iter(name for name in body if name in response.json()["message"]))


@pytest.mark.parametrize(("content", "status"), [(b"{", 400), (b"[]", 400), (b" " * 70_000, 413)])
def test_a_body_that_is_no_short_json_object_is_refused(caller: Caller, content: bytes, status: int) -> None:
    url = f"{caller.base_url}/api/v1/generate-presigned-url"
    assert requests.post(url, data=content, headers=caller.bearer, timeout=5).status_code == status


def test_a_callback_url_is_kept(caller: Caller) -> None:
    url = "https://clinic.example/hook"
    request_id = caller.presign(mimeType="audio/flac", callbackUrl=url).json()["requestId"]
    request = caller.request(request_id)
    assert (request["callback_url"], request["mime_type"]) == (url, "audio/flac")
    assert (request["status"], request["uploads"]) == ("NOT_UPLOADED", 0)


# --- storage ---


def test_storage_refuses_a_second_form_of_authentication(caller: Caller) -> None:
    granted = caller.presign().json()
    response = caller.put(granted["presignedUrl"], b"x", **caller.bearer)
    assert response.status_code == 400
    assert "Only one auth mechanism allowed" in response.text
    assert caller.request(granted["requestId"])["uploads"] == 0


def test_storage_refuses_another_content_type(caller: Caller) -> None:
    response = caller.put(caller.presign().json()["presignedUrl"], b"x", "audio/flac")
    assert (response.status_code, response.headers["Content-Type"]) == (403, "application/xml")
    assert "<Code>SignatureDoesNotMatch</Code>" in response.text


@pytest.mark.parametrize(
    ("part", "instead"), [("signature=", "signature=0"), ("expires=", "expires=9"), ("expires=", "expires=x")]
)
def test_storage_refuses_a_tampered_url(caller: Caller, part: str, instead: str) -> None:
    response = caller.put(caller.presign().json()["presignedUrl"].replace(part, instead), b"x")
    assert response.status_code == 403
    assert "<Code>SignatureDoesNotMatch</Code>" in response.text


def test_storage_refuses_a_url_for_another_request(caller: Caller) -> None:
    one, other = caller.presign().json(), caller.presign().json()
    url = one["presignedUrl"].replace(one["requestId"], other["requestId"])
    assert "SignatureDoesNotMatch" in caller.put(url, b"x").text


def test_a_presigned_url_expires(tmp_path: Path) -> None:
    with Sandbox(settings(tmp_path, url_lifetime_seconds=0)) as sandbox:
        caller = Caller(sandbox)
        response = caller.put(caller.presign().json()["presignedUrl"], b"x")
    assert response.status_code == 403
    assert "<Code>AccessDenied</Code><Message>Request has expired</Message>" in response.text


def test_storage_refuses_a_chunked_body(caller: Caller) -> None:
    response = caller.put(caller.presign().json()["presignedUrl"], iter([b"one", b"two"]))
    assert response.status_code == 501
    assert "<Code>NotImplemented</Code>" in response.text


def test_storage_wants_the_length(caller: Caller) -> None:
    target = caller.presign().json()["presignedUrl"].removeprefix(caller.base_url)
    with raw_request(caller, target, "Content-Type: audio/wav") as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 411 ")


def test_an_empty_upload_is_an_upload(caller: Caller) -> None:
    request_id = caller.upload(b"")
    assert caller.request(request_id)["sha256"] == hashlib.sha256(b"").hexdigest()


def test_a_second_upload_is_taken_and_counted(caller: Caller) -> None:
    granted = caller.presign().json()
    for content in (b"first", b"second"):
        assert caller.put(granted["presignedUrl"], content).status_code == 200
    request = caller.request(granted["requestId"])
    assert (request["uploads"], request["bytes"]) == (2, len(b"second"))
    digest = hashlib.sha256(b"second").hexdigest()
    assert digest[:12] in caller.result(granted["requestId"])["transcription"][0]["text"]


def test_the_result_of_an_upload_that_was_replaced_is_not_shown() -> None:
    ledger = Ledger()
    request_id = ledger.open_record("audio/wav", None).id
    first, second = (Upload(1, digest, datetime.now(UTC), due_at=0) for digest in ("one", "two"))
    ledger.uploaded(request_id, first)
    ledger.uploaded(request_id, second)
    ledger.recognized(request_id, first, Result())
    assert ledger.stats()["requests"][0]["status"] == "PENDING"
    ledger.recognized(request_id, second, Result())
    assert ledger.stats()["requests"][0]["status"] == "COMPLETED"


def test_a_broken_upload_leaves_nothing(caller: Caller) -> None:
    granted = caller.presign().json()
    attempts = caller.sandbox.stats()["upload_attempts"]
    folder = caller.sandbox.settings.data_directory
    target = granted["presignedUrl"].removeprefix(caller.base_url)
    with raw_request(caller, target, "Content-Type: audio/wav", "Content-Length: 1000", body=b"x" * 999):
        eventually(lambda: any(folder.glob("incoming-*")))
    eventually(lambda: not any(folder.glob("incoming-*")))
    assert caller.sandbox.stats()["upload_attempts"] == attempts + 1
    assert caller.request(granted["requestId"])["uploads"] == 0
    assert not (folder / granted["requestId"]).exists()


def test_throttled_uploads_can_be_watched(tmp_path: Path) -> None:
    size, rate = 4_000_000, 4_000_000
    sent_at: list[float] = []

    class Recording(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            sent_at.append(time.monotonic())
            return super().read(count)

    with Sandbox(settings(tmp_path, upload_bytes_per_second=rate)) as sandbox:
        caller = Caller(sandbox)
        url = caller.presign().json()["presignedUrl"]
        response = requests.put(
            url, data=Recording(bytes(size)), headers={"Content-Type": "audio/wav"}, timeout=10
        )
        answered_at = time.monotonic()
    assert response.status_code == 200
    assert answered_at - sent_at[0] >= size / rate * 0.95
    # All but what the two ends' buffers hold is read from the file at the pace of the storage.
    assert sent_at[-1] - sent_at[0] >= size / rate / 8


# --- results ---


def test_an_unknown_request_id(caller: Caller) -> None:
    response = caller.status("made-up")
    assert response.status_code == 404
    assert response.json() == {"message": "Transcription not found.", "errorType": "transcriptionNotFound"}


def test_a_request_id_must_be_a_string(caller: Caller) -> None:
    url = f"{caller.base_url}/api/v1/get-transcription"
    assert requests.post(url, json={"requestId": 1}, headers=caller.bearer, timeout=5).status_code == 400


@pytest.mark.parametrize(("choice", "status"), [("unknown", 404), ("pending", 200)])
def test_the_answer_before_the_upload_can_be_chosen(tmp_path: Path, choice: str, status: int) -> None:
    with Sandbox(settings(tmp_path, unuploaded_status=choice)) as sandbox:
        caller = Caller(sandbox)
        response = caller.status(caller.presign().json()["requestId"])
    assert response.status_code == status
    assert ("PENDING" in response.text) == (choice == "pending")


def test_the_other_reply_shape(tmp_path: Path) -> None:
    shape = ReplyShape(
        token_field="access_token",
        state_field="transcriptionStatus",
        speaker_field="speaker",
        message_field="messsage",
        vtt=False,
    )
    with Sandbox(settings(tmp_path, reply_shape=shape)) as sandbox:
        caller = Caller(sandbox, "access_token")
        token = caller.token().json()
        body = caller.result(caller.upload(b"x"))
        refused = caller.status("made-up")
    assert token["expires_in"] == 7200
    assert (body["transcriptionStatus"], "vttTranscription" in body) == ("COMPLETED", False)
    assert [segment["speaker"] for segment in body["transcription"]] == ["0", "1", "0"]
    assert refused.json()["messsage"] == "Transcription not found."


def test_replies_without_speakers_and_without_a_lifetime(tmp_path: Path) -> None:
    shape = ReplyShape(token_field="token", speaker_field=None)
    with Sandbox(settings(tmp_path, reply_shape=shape)) as sandbox:
        caller = Caller(sandbox, "token")
        token = caller.token().json()
        body = caller.result(caller.upload(b"x"))
    assert list(token) == ["token"]
    assert set(body["transcription"][0]) == {"text", "start", "end"}


def test_many_callers_at_once(caller: Caller) -> None:
    contents = [f"recording {number}".encode() for number in range(20)]
    texts: dict[bytes, str] = {}

    def one(content: bytes) -> None:
        texts[content] = caller.result(caller.upload(content))["transcription"][0]["text"]

    threads = [threading.Thread(target=one, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(hashlib.sha256(content).hexdigest()[:12] in texts[content] for content in contents)
