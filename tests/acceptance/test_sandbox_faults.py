"""Every fault the stand-in API can be asked for, as a client meets it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, get_args

import pytest
import requests

from invox_watcher.sandbox.oddities import Kind
from invox_watcher.sandbox.server import Sandbox
from tests.kit.caller import Caller, raw_request, settings
from tests.kit.processes import descriptors
from tests.kit.waiting import eventually


def fault(caller: Caller, on: str, do: str, **parameters: Any) -> None:
    caller.sandbox.fault({"on": on, "do": do} | parameters)


def raw_upload(caller: Caller, url: str, length_bytes: int, body: bytes) -> bytes:
    """Send what there is of an upload, and read all that comes back until the connection ends."""
    target = url.removeprefix(caller.base_url)
    headers = "Content-Type: audio/wav", f"Content-Length: {length_bytes}", "Connection: close"
    with raw_request(caller, target, *headers, body=body) as connection:
        answer = b""
        while part := connection.recv(4096):
            answer += part
        return answer


# --- which request meets which fault ---


def test_a_fault_strikes_once_and_only_its_operation(caller: Caller) -> None:
    fault(caller, "presign", "status", status=500)
    assert caller.token().status_code == 200
    assert [caller.presign().status_code for _ in range(3)] == [500, 200, 200]


def test_faults_queue_up_with_times_and_after(caller: Caller) -> None:
    fault(caller, "presign", "status", status=503, after=1, times=2)
    fault(caller, "presign", "status", status=429, after=1, times=None)
    assert [caller.presign().status_code for _ in range(6)] == [200, 503, 503, 429, 429, 429]
    caller.sandbox.clear_faults()
    assert caller.presign().status_code == 200


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ({"on": "presign", "do": "explode"}, "explode"),
        ({"on": "presign", "do": "reset", "wehn": 1}, "wehn"),
        ({"on": "lunch", "do": "reset"}, "lunch"),
        ({"on": "presign", "do": "latency"}, "seconds"),
        ({"on": "presign", "do": "reset", "times": 0}, "times"),
        ({"on": "token", "do": "error_result"}, "token"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(caller: Caller, rule: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        caller.sandbox.fault(rule)
    assert caller.presign().status_code == 200


# --- answers in place of the real one ---


def test_status_with_retry_after_and_a_body(caller: Caller) -> None:
    fault(caller, "token", "status", status=429, retry_after=7, body={"message": "slow down"})
    response = caller.token()
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
    assert response.json() == {"message": "slow down"}


def test_status_with_text_of_any_type(caller: Caller) -> None:
    fault(caller, "presign", "status", status=502, body="<h1>Bad Gateway</h1>", content_type="text/html")
    response = caller.presign()
    assert (response.status_code, response.headers["Content-Type"]) == (502, "text/html")
    assert response.text == "<h1>Bad Gateway</h1>"


def test_status_without_a_body_is_an_error_of_that_operation(caller: Caller) -> None:
    granted = caller.presign().json()
    fault(caller, "status", "status", status=500)
    fault(caller, "upload", "status", status=503)
    fault(caller, "upload", "status", status=403)
    assert caller.status(granted["requestId"]).json() == {"message": "This fault was asked for."}
    # A long body, so that the answer comes while the client is still sending.
    assert "<Code>SlowDown</Code>" in caller.put(granted["presignedUrl"], bytes(3_000_000)).text
    assert "<Code>AccessDenied</Code>" in caller.put(granted["presignedUrl"], b"x").text
    assert caller.request(granted["requestId"])["uploads"] == 0


def test_html(caller: Caller) -> None:
    fault(caller, "status", "html")
    response = caller.status("any")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert response.text.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("status", [301, 302, 307])
def test_redirect(caller: Caller, status: int) -> None:
    fault(caller, "upload", "redirect", status=status, location="http://elsewhere.example/")
    url = caller.presign().json()["presignedUrl"]
    response = requests.put(url, data=b"x", allow_redirects=False, timeout=5)
    assert (response.status_code, response.headers["Location"]) == (status, "http://elsewhere.example/")


def test_huge(caller: Caller) -> None:
    fault(caller, "status", "huge", bytes=1_000_000)
    response = caller.status("any")
    assert "Content-Length" not in response.headers
    assert len(response.content) == 1_000_000
    assert set(response.json()["transcription"][0]["text"]) == {"a"}


# --- connections that break ---


@pytest.mark.parametrize(
    ("on", "path"),
    [
        ("token", "/oauth/token"),
        ("presign", "/api/v1/generate-presigned-url"),
        ("status", "/api/v1/get-transcription"),
    ],
)
def test_reset(caller: Caller, on: str, path: str) -> None:
    fault(caller, on, "reset")
    with raw_request(caller, path, method="POST") as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)


def test_reset_comes_before_the_body_is_read(caller: Caller) -> None:
    granted = caller.presign().json()
    fault(caller, "upload", "reset")
    with pytest.raises(ConnectionResetError):
        raw_upload(caller, granted["presignedUrl"], 1_000_000, b"")


def test_close_after_bytes(caller: Caller) -> None:
    granted = caller.presign().json()
    fault(caller, "upload", "close_after_bytes", bytes=1000)
    with pytest.raises(ConnectionResetError):
        raw_upload(caller, granted["presignedUrl"], 1_000_000, b"x" * 1000)
    assert caller.request(granted["requestId"])["uploads"] == 0
    assert caller.put(granted["presignedUrl"], b"again").status_code == 200


def test_close_after_bytes_waits_for_them(caller: Caller) -> None:
    url = caller.presign().json()["presignedUrl"]
    fault(caller, "upload", "close_after_bytes", bytes=1000)
    with pytest.raises(TimeoutError):
        _read_with_deadline(caller, url, sent_bytes=999, seconds=0.2)


def _read_with_deadline(caller: Caller, url: str, *, sent_bytes: int, seconds: float) -> None:
    target = url.removeprefix(caller.base_url)
    head = ("Content-Type: audio/wav", "Content-Length: 5000")
    with raw_request(caller, target, *head, body=b"x" * sent_bytes) as connection:
        connection.settimeout(seconds)
        connection.recv(1)


def test_drop_reply_takes_the_upload_first(caller: Caller) -> None:
    granted = caller.presign().json()
    fault(caller, "upload", "drop_reply")
    with pytest.raises(requests.ConnectionError):
        caller.put(granted["presignedUrl"], b"all of it")
    assert caller.request(granted["requestId"])["uploads"] == 1
    assert caller.result(granted["requestId"])["processingStatus"] == "COMPLETED"


def test_drop_reply_does_the_call_first(caller: Caller) -> None:
    before = caller.sandbox.stats()["presigns"]
    fault(caller, "presign", "drop_reply")
    with pytest.raises(requests.ConnectionError, match="Connection reset by peer"):
        caller.presign()
    assert caller.sandbox.stats()["presigns"] == before + 1


def test_silence_lasts_until_the_client_leaves(caller: Caller) -> None:
    granted = caller.presign().json()
    fault(caller, "upload", "silence")
    with pytest.raises(requests.ReadTimeout):
        requests.put(granted["presignedUrl"], data=b"x", headers={"Content-Type": "audio/wav"}, timeout=0.2)
    assert caller.request(granted["requestId"])["uploads"] == 0


def test_silence_may_end_in_a_reset(caller: Caller) -> None:
    fault(caller, "token", "silence", seconds=0.2)
    asked_at = time.monotonic()
    with pytest.raises(requests.ConnectionError):
        caller.token()
    assert time.monotonic() - asked_at >= 0.2


# --- answers spoilt on the way ---


def test_latency(caller: Caller) -> None:
    fault(caller, "presign", "latency", seconds=0.3)
    asked_at = time.monotonic()
    assert caller.presign().status_code == 200
    assert time.monotonic() - asked_at >= 0.3


def test_slow_bytes_of_the_body(caller: Caller) -> None:
    fault(caller, "status", "slow_bytes", seconds=0.005)
    asked_at = time.monotonic()
    response = caller.status("any", stream=True)
    assert response.json()["errorType"] == "transcriptionNotFound"
    assert time.monotonic() - asked_at >= 0.005 * (len(response.content) - 1)


def test_slow_bytes_of_all(caller: Caller) -> None:
    fault(caller, "status", "slow_bytes", seconds=0.002, part="all")
    asked_at = time.monotonic()
    response = caller.status("any", stream=True)
    assert time.monotonic() - asked_at >= 0.002 * len("HTTP/1.1 404 Not Found\r\nconnection: close\r\n")
    assert (response.status_code, response.json()["errorType"]) == (404, "transcriptionNotFound")


def test_a_client_may_leave_while_bytes_drip(caller: Caller) -> None:
    fault(caller, "token", "slow_bytes", seconds=0.01, part="all")
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{caller.base_url}/oauth/token", timeout=0.005)
    assert caller.token().status_code == 200


def test_truncate_with_the_whole_length_declared(caller: Caller) -> None:
    fault(caller, "presign", "truncate")
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        caller.presign()


def test_truncate_with_the_half_length_declared(caller: Caller) -> None:
    fault(caller, "presign", "truncate", declared="half")
    response = caller.presign()
    assert response.text.startswith('{"presignedUrl"')
    with pytest.raises(requests.JSONDecodeError):
        response.json()


def test_missing_field(caller: Caller) -> None:
    fault(caller, "presign", "missing_field", field="requestId")
    assert list(caller.presign().json()) == ["presignedUrl"]


def test_drop_segments(caller: Caller) -> None:
    request_id = caller.upload(b"x")
    whole = caller.result(request_id)
    fault(caller, "status", "drop_segments", segments=[0, -1])
    fault(caller, "status", "drop_segments", segments=[5])
    left = caller.status(request_id).json()
    assert left == whole | {"transcription": whole["transcription"][1:2]}
    assert len(caller.status(request_id).json()["transcription"]) == 2
    assert caller.status(request_id).json() == whole


def test_unknown_status(caller: Caller) -> None:
    request_id = caller.upload(b"x")
    fault(caller, "status", "unknown_status")
    fault(caller, "status", "unknown_status", value="ON_HOLD")
    assert caller.status(request_id).json()["processingStatus"] == "ON_HOLD"
    assert caller.status(request_id).json()["processingStatus"] == "ON_HOLD"
    assert caller.result(request_id)["processingStatus"] == "COMPLETED"


def test_status_instead_takes_the_upload_first(caller: Caller) -> None:
    fault(caller, "upload", "status_instead", status=502)
    granted = caller.presign().json()
    answer = caller.put(granted["presignedUrl"], b"x")
    assert (answer.status_code, answer.content) == (502, b"")
    assert caller.result(granted["requestId"])["processingStatus"] == "COMPLETED"


@pytest.mark.parametrize("status", [102, 103])
def test_interim(caller: Caller, status: int) -> None:
    fault(caller, "upload", "interim", status=status)
    url = caller.presign().json()["presignedUrl"]
    answer = raw_upload(caller, url, 1, b"x")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\n\r\nHTTP/1.1 200 " in answer


@pytest.mark.parametrize("kind", get_args(Kind))
def test_odd_result_keeps_all_words(caller: Caller, kind: str) -> None:
    request_id = caller.upload(b"x")
    whole = caller.result(request_id)
    fault(caller, "status", "odd_result", kind=kind)
    reply = caller.status(request_id)
    odd = reply.json()
    assert odd != whole or reply.headers.get("Content-Encoding") == "gzip"
    for segment in whole["transcription"]:
        assert segment["text"] in reply.text


def test_an_odd_result_waits_for_its_words(caller: Caller) -> None:
    fault(caller, "status", "odd_result", kind="null_transcription")
    assert caller.status("any").json()["errorType"] == "transcriptionNotFound"


def test_deny_acknowledged(caller: Caller) -> None:
    known = caller.upload(b"x")
    fault(caller, "upload", "drop_reply")
    uncertain = caller.presign().json()
    with pytest.raises(requests.ConnectionError):
        caller.put(uncertain["presignedUrl"], b"y")
    fault(caller, "status", "deny_acknowledged", times=None)
    assert caller.status(known).json()["errorType"] == "transcriptionNotFound"
    assert caller.request(known)["denials"] == 1
    assert caller.status(uncertain["requestId"]).status_code == 200
    assert caller.request(uncertain["requestId"])["denials"] == 0


def test_error_result(caller: Caller) -> None:
    request_id = caller.upload(b"x")
    fault(caller, "status", "error_result", message="Too noisy.")
    response = caller.status(request_id)
    assert (response.status_code, response.json()) == (
        200,
        {"transcription": [], "processingStatus": "ERROR", "errorMessage": "Too noisy."},
    )


def test_arrivals_are_counted_with_any_fault(caller: Caller) -> None:
    before = caller.sandbox.stats()
    url = caller.presign().json()["presignedUrl"]
    fault(caller, "upload", "status", status=500)
    fault(caller, "status", "reset")
    caller.put(url, b"x")
    with pytest.raises(requests.ConnectionError):
        caller.status("any")
    after = caller.sandbox.stats()
    assert after["upload_attempts"] == before["upload_attempts"] + 1
    assert after["status_calls"] == before["status_calls"] + 1
    assert after["uploads"] == before["uploads"]


def test_faults_leave_no_descriptor_open(tmp_path: Path) -> None:
    with Sandbox(settings(tmp_path)) as sandbox:
        caller = Caller(sandbox)
        before = descriptors()
        for do in (
            {"do": "reset"},
            {"do": "drop_reply"},
            {"do": "silence", "seconds": 0},
            {"do": "truncate"},
        ):
            sandbox.fault({"on": "presign"} | do)
            with pytest.raises(requests.RequestException):
                caller.presign()
        eventually(lambda: descriptors() <= before)
