"""The stand-in API's webhooks, as a receiver at the callback URL meets them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from invox_watcher.sandbox.configuration import client_configuration
from invox_watcher.sandbox.ledger import Ledger, Segment, Upload
from invox_watcher.sandbox.recognition import Recognition
from invox_watcher.sandbox.server import Sandbox
from invox_watcher.sandbox.settings import ReplyShape
from tests.kit import loopback
from tests.kit.caller import Caller, settings
from tests.kit.waiting import eventually

SIGNED = "sandbox-app~sandbox-key"
HASTY = {"webhook_backoff_seconds": 0.01}


@pytest.fixture(scope="module")
def shared_caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    with Sandbox(settings(tmp_path_factory.mktemp("uploads"), **HASTY)) as sandbox:
        yield Caller(sandbox)


@pytest.fixture
def receiver() -> Iterator[loopback.Server]:
    with loopback.serve(loopback.one_reply()) as server:
        yield server


def upload(caller: Caller, callback_url: str, content: bytes = b"x") -> str:
    granted = caller.presign(mimeType="audio/wav", callbackUrl=callback_url).json()
    assert caller.put(granted["presignedUrl"], content).status_code == 200
    request_id: str = granted["requestId"]
    return request_id


def attempts(caller: Caller, request_id: str, count: int) -> list[dict[str, Any]]:
    """All tries to deliver the request's webhook, once there are so many."""
    eventually(lambda: len(caller.request(request_id)["webhooks"]) >= count)
    found: list[dict[str, Any]] = caller.request(request_id)["webhooks"]
    return found


def statuses(caller: Caller, request_id: str, count: int) -> list[int | None]:
    return [attempt.get("status_code") for attempt in attempts(caller, request_id, count)]


def announced(caller: Caller, receiver: loopback.Server, content: bytes = b"x") -> dict[str, Any]:
    """The webhook for an upload of this content, as it came in."""
    request_id = upload(caller, f"{receiver.url}/hook", content)
    attempts(caller, request_id, 1)
    bodies: list[dict[str, Any]] = [json.loads(request.body) for request in receiver.requests]
    return next(body for body in bodies if body["requestId"] == request_id)


def answering(*replies: int) -> Callable[[loopback.Peer], None]:
    """A receiver that answers with each of these in turn, and goes on with the last."""
    remaining = list(replies)

    def handler(peer: loopback.Peer) -> None:
        peer.request()
        peer.answer(remaining.pop(0) if len(remaining) > 1 else remaining[0])

    return handler


def silent(peer: loopback.Peer) -> None:
    peer.request()
    peer.stay_silent()


def openssl(*arguments: str, given: bytes) -> str:
    done = subprocess.run(["openssl", "enc", "-d", *arguments], input=given, capture_output=True, check=True)
    return done.stdout.decode()


# --- what is sent ---


def test_a_result_is_announced_once_in_the_vendors_form(caller: Caller, receiver: loopback.Server) -> None:
    before = caller.sandbox.stats()
    request_id = upload(caller, f"{receiver.url}/hook/seven?clinic=7&b=%20", b"what was said")
    (attempt,) = attempts(caller, request_id, 1)
    after = caller.sandbox.stats()
    (request,) = receiver.requests
    body = json.loads(request.body)
    assert request.line == "POST /hook/seven?clinic=7&b=%20 HTTP/1.1"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["content-type"] == "application/json"
    assert set(body) == {"requestId", "transcription", "status", "signature", "createdAt"}
    assert (body["requestId"], body["status"]) == (request_id, "COMPLETED")
    assert body["transcription"] == caller.status(request_id).json()["transcription"]
    assert body["transcription"][0] == {
        "speakerId": "Speaker_00",
        "text": f"This is recording {hashlib.sha256(b'what was said').hexdigest()[:12]}.",
        "start": 0,
        "end": 1.5,
    }
    assert isinstance(body["createdAt"], int)
    assert abs(body["createdAt"] - time.time()) < 60
    assert (set(attempt), attempt["status_code"]) == ({"status_code", "at"}, 200)
    for count in ("webhooks_sent", "webhooks_delivered"):
        assert after[count] == before[count] + 1


def test_without_a_callback_url_nothing_is_sent(caller: Caller) -> None:
    before = caller.sandbox.stats()["webhooks_sent"]
    request_id = caller.upload(b"x")
    caller.result(request_id)
    assert caller.request(request_id)["webhooks"] == []
    assert caller.sandbox.stats()["webhooks_sent"] == before


@pytest.mark.parametrize(
    ("field", "values"), [("speaker", {"0", "1"}), ("speakerId", {"Speaker_00", "Speaker_01"}), (None, None)]
)
def test_the_speaker_in_each_of_the_vendors_spellings(
    tmp_path: Path, receiver: loopback.Server, field: Any, values: set[str] | None
) -> None:
    with Sandbox(settings(tmp_path, reply_shape=ReplyShape(speaker_field=field))) as sandbox:
        segments = announced(Caller(sandbox), receiver)["transcription"]
    if values is None:
        assert {key for segment in segments for key in segment} == {"text", "start", "end"}
    else:
        assert {segment[field] for segment in segments} == values


def test_an_undecodable_recording_is_announced_as_an_error(tmp_path: Path, receiver: loopback.Server) -> None:
    pytest.importorskip("av")
    pytest.importorskip("moonshine_voice")
    with Sandbox(settings(tmp_path, recognizer="speech")) as sandbox:
        body = announced(Caller(sandbox), receiver, b"%PDF-1.7 is no audio" * 50)
    assert (body["status"], body["transcription"]) == ("ERROR", [])
    assert body["errorMessage"] == "The recording is not audio in a format that can be decoded."
    assert body["signature"]


# --- signatures, opened by openssl ---


@pytest.mark.parametrize(
    ("secret", "cipher"),
    [
        ("sixteen bytes ab", "-aes-128-cbc"),
        ("ärztlich: 24 bytes äö", "-aes-192-cbc"),
        (None, "-aes-256-cbc"),
    ],
)
def test_the_raw_layout(tmp_path: Path, receiver: loopback.Server, secret: str | None, cipher: str) -> None:
    changes = {} if secret is None else {"app_secret": secret}
    with Sandbox(settings(tmp_path, signature_layout="raw", **changes)) as sandbox:
        caller = Caller(sandbox)
        signatures = [announced(caller, receiver)["signature"] for _ in range(2)]
        key = sandbox.settings.app_secret.encode()
    for signature in signatures:
        content = base64.b64decode(signature, validate=True)
        iv, ciphertext = content[:16], content[16:]
        assert openssl(cipher, "-K", key.hex(), "-iv", iv.hex(), given=ciphertext) == SIGNED
    assert signatures[0] != signatures[1]


@pytest.mark.parametrize("secret", ["short", "ä secret of any length will do for this one", None])
def test_the_salted_layout(tmp_path: Path, receiver: loopback.Server, secret: str | None) -> None:
    changes = {} if secret is None else {"app_secret": secret}
    with Sandbox(settings(tmp_path, signature_layout="salted", **changes)) as sandbox:
        caller = Caller(sandbox)
        signatures = [announced(caller, receiver)["signature"] for _ in range(2)]
        password = f"pass:{sandbox.settings.app_secret}"
    for signature in signatures:
        assert base64.b64decode(signature, validate=True).startswith(b"Salted__")
        arguments = ("-aes-256-cbc", "-md", "md5", "-base64", "-A", "-pass", password)
        assert openssl(*arguments, given=signature.encode()) == SIGNED
    assert signatures[0] != signatures[1]


def test_a_secret_that_is_no_key_is_refused_for_raw_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="16, 24 or 32 bytes") as raised:
        settings(tmp_path, app_secret="hush-hush")
    assert "hush-hush" not in str(raised.value)
    settings(tmp_path, app_secret="hush-hush", signature_layout="salted")


# --- when, and how often ---


def test_it_comes_when_result_and_delay_are_due(tmp_path: Path) -> None:
    came_at: list[float] = []

    def noting(peer: loopback.Peer) -> None:
        came_at.append(time.monotonic())
        loopback.one_reply()(peer)

    changes = {"result_delay_seconds": 0.2, "webhook_delay_seconds": 0.3}
    with loopback.serve(noting) as receiver, Sandbox(settings(tmp_path, **changes)) as sandbox:
        caller = Caller(sandbox)
        started_at = time.monotonic()
        attempts(caller, upload(caller, receiver.url), 1)
    assert came_at[0] - started_at >= 0.5


def test_it_is_repeated_even_though_it_was_accepted(tmp_path: Path, receiver: loopback.Server) -> None:
    with Sandbox(settings(tmp_path, webhook_repeats=3)) as sandbox:
        caller = Caller(sandbox)
        assert statuses(caller, upload(caller, receiver.url), 3) == [200, 200, 200]
        assert sandbox.stats()["webhooks_delivered"] == 3
    assert len({request.body for request in receiver.requests}) == 1


def test_it_is_retried_until_it_is_accepted(tmp_path: Path) -> None:
    with (
        loopback.serve(answering(500, 404, 204)) as receiver,
        Sandbox(settings(tmp_path, webhook_backoff_seconds=0.1)) as sandbox,
    ):
        caller = Caller(sandbox)
        started_at = time.monotonic()
        assert statuses(caller, upload(caller, receiver.url), 3) == [500, 404, 204]
        assert time.monotonic() - started_at >= 0.1 + 0.2
        stats = sandbox.stats()
    assert (stats["webhooks_sent"], stats["webhooks_delivered"]) == (3, 1)
    assert len(receiver.requests) == 3
    assert len({request.body for request in receiver.requests}) == 1


def test_it_is_given_up_after_the_retries(tmp_path: Path) -> None:
    with (
        loopback.serve(answering(503)) as receiver,
        Sandbox(settings(tmp_path, webhook_retries=2, webhook_repeats=2, **HASTY)) as sandbox,
    ):
        caller = Caller(sandbox)
        assert statuses(caller, upload(caller, receiver.url), 6) == [503] * 6
        time.sleep(0.1)  # longer than any of its pauses
        assert sandbox.stats()["webhooks_sent"] == 6


def test_a_redirect_is_not_followed(tmp_path: Path, receiver: loopback.Server) -> None:
    def redirecting(peer: loopback.Peer) -> None:
        peer.request()
        peer.answer(307, Location=receiver.url)

    with loopback.serve(redirecting) as first, Sandbox(settings(tmp_path, webhook_retries=0)) as sandbox:
        caller = Caller(sandbox)
        assert statuses(caller, upload(caller, first.url), 1) == [307]
    assert receiver.connections == 0


def test_only_the_latest_upload_is_announced(tmp_path: Path, receiver: loopback.Server) -> None:
    with Sandbox(settings(tmp_path, result_delay_seconds=0.6)) as sandbox:
        caller = Caller(sandbox)
        granted = caller.presign(mimeType="audio/wav", callbackUrl=receiver.url).json()
        assert caller.put(granted["presignedUrl"], b"first").status_code == 200
        time.sleep(0.1)
        assert caller.put(granted["presignedUrl"], b"second").status_code == 200
        (attempt,) = attempts(caller, granted["requestId"], 1)
        uploaded_at = caller.request(granted["requestId"])["uploaded_at"]
    waited = datetime.fromisoformat(attempt["at"]) - datetime.fromisoformat(uploaded_at)
    assert waited.total_seconds() > 0.55
    assert hashlib.sha256(b"second").hexdigest()[:12] in receiver.requests[0].body.decode()


# --- receivers that are ill ---


def test_a_receiver_that_does_not_listen(tmp_path: Path) -> None:
    with loopback.serve(silent) as gone:
        url = gone.url
    with Sandbox(settings(tmp_path, webhook_retries=2, **HASTY)) as sandbox:
        caller = Caller(sandbox)
        found = attempts(caller, upload(caller, url), 3)
        stats = sandbox.stats()
    assert [set(attempt) for attempt in found] == [{"error", "at"}] * 3
    assert all(f"'127.0.0.1', {gone.port}" in attempt["error"] for attempt in found)
    assert (stats["webhooks_sent"], stats["webhooks_delivered"]) == (3, 0)


@pytest.mark.parametrize(
    "answer",
    [b"", b"SMTP ready\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal", b"HTTP/1.1 200 OK\r\n"],
)
def test_an_answer_that_is_no_whole_http_is_none(caller: Caller, answer: bytes) -> None:
    def broken(peer: loopback.Peer) -> None:
        peer.request()
        peer.sock.sendall(answer)

    with loopback.serve(broken) as receiver:
        first = attempts(caller, upload(caller, receiver.url), 1)[0]
    assert first["error"]


def test_an_interim_answer_is_not_the_answer(caller: Caller) -> None:
    def hinting(peer: loopback.Peer) -> None:
        peer.request()
        peer.sock.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        peer.answer(202)

    with loopback.serve(hinting) as receiver:
        assert statuses(caller, upload(caller, receiver.url), 1) == [202]


def test_a_host_name_that_can_be_none(caller: Caller) -> None:
    assert attempts(caller, upload(caller, "http://clinic..example/hook"), 1)[0]["error"]


def test_a_hanging_receiver_is_abandoned_and_delays_no_other(
    tmp_path: Path, receiver: loopback.Server
) -> None:
    changes = {"webhook_timeout_seconds": 1, "webhook_retries": 0}
    with loopback.serve(silent) as hanging, Sandbox(settings(tmp_path, **changes)) as sandbox:
        caller = Caller(sandbox)
        hung = [upload(caller, hanging.url) for _ in range(10)]
        eventually(lambda: len(hanging.requests) == 10)
        assert statuses(caller, upload(caller, receiver.url), 1) == [200]
        errors = [attempts(caller, request_id, 1)[0]["error"] for request_id in hung]
    assert errors == ["no whole answer within 1 s"] * 10


# --- TLS ---


def test_a_receiver_with_tls(tmp_path: Path) -> None:
    pem, context = loopback.make_certificate(tmp_path)
    with (
        loopback.serve(loopback.one_reply(), tls=context) as receiver,
        Sandbox(settings(tmp_path / "uploads", webhook_ca=pem)) as sandbox,
    ):
        assert announced(Caller(sandbox), receiver)["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("certified", "trusts", "complaint"),
    [
        ("IP:127.0.0.1", False, "self-signed certificate"),
        ("DNS:clinic.example", True, "IP address mismatch"),
    ],
)
def test_a_receiver_whose_certificate_is_not_right_gets_nothing(
    tmp_path: Path, certified: str, trusts: bool, complaint: str
) -> None:
    pem, context = loopback.make_certificate(tmp_path, certified)
    changes = {"webhook_ca": pem if trusts else None, "webhook_retries": 0}
    with (
        loopback.serve(loopback.one_reply(), tls=context) as receiver,
        Sandbox(settings(tmp_path / "uploads", **changes)) as sandbox,
    ):
        caller = Caller(sandbox)
        assert complaint in attempts(caller, upload(caller, receiver.url), 1)[0]["error"]
    assert receiver.requests == []


def test_a_ca_file_without_a_certificate_is_an_error_at_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ssl.SSLError), Sandbox(settings(tmp_path, webhook_ca=tmp_path / "ca.pem")):
        pass


# --- the status call beside it ---


@pytest.mark.parametrize("choice", ["answers", "unknown"])
def test_whether_the_status_call_answers_can_be_chosen(
    tmp_path: Path, receiver: loopback.Server, choice: str
) -> None:
    with Sandbox(settings(tmp_path, webhook_status_endpoint=choice)) as sandbox:
        caller = Caller(sandbox)
        with_callback, without = upload(caller, receiver.url), caller.upload(b"x")
        attempts(caller, with_callback, 1)
        assert caller.result(without)["processingStatus"] == "COMPLETED"
        response = caller.status(with_callback)
    if choice == "answers":
        assert response.json()["processingStatus"] == "COMPLETED"
    else:
        assert (response.status_code, response.json()["errorType"]) == (404, "transcriptionNotFound")


def test_status_calls_are_counted_for_each_request(caller: Caller) -> None:
    one, other = caller.upload(b"x"), caller.upload(b"x")
    for _ in range(3):
        caller.status(one)
    assert (caller.request(one)["status_calls"], caller.request(other)["status_calls"]) == (3, 0)


# --- on request ---


def test_a_webhook_that_is_dropped_can_be_sent_by_hand(caller: Caller, receiver: loopback.Server) -> None:
    caller.sandbox.fault({"on": "webhook", "do": "drop"})
    dropped = upload(caller, receiver.url)
    body = announced(caller, receiver)  # the next one goes out
    assert body["requestId"] != dropped
    assert caller.request(dropped)["webhooks"] == []
    genuine = caller.sandbox.webhook_body(dropped)
    assert json.loads(genuine)["requestId"] == dropped
    for count in (1, 2):
        attempt = caller.sandbox.send_webhook(dropped)
        assert attempt["status_code"] == 200
        assert len(caller.request(dropped)["webhooks"]) == count
    assert [request.body for request in receiver.requests[-2:]] == [genuine, genuine]


def test_the_body_that_was_sent_can_be_read(caller: Caller, receiver: loopback.Server) -> None:
    body = announced(caller, receiver)
    url = f"{caller.base_url}/sandbox/webhooks/{body['requestId']}"
    response = requests.get(url, timeout=5)
    assert response.headers["Content-Type"] == "application/json"
    assert response.content == receiver.requests[0].body == caller.sandbox.webhook_body(body["requestId"])


def test_sending_by_hand_says_what_went_wrong(caller: Caller) -> None:
    with loopback.serve(answering(200)) as receiver:
        request_id = upload(caller, receiver.url)
        attempts(caller, request_id, 1)
    assert "Connect call failed" in caller.sandbox.send_webhook(request_id)["error"]


def test_a_webhook_that_does_not_exist(caller: Caller, receiver: loopback.Server) -> None:
    not_uploaded = caller.presign(mimeType="audio/wav", callbackUrl=receiver.url).json()["requestId"]
    for request_id in ("made-up", caller.upload(b"x"), not_uploaded):
        for call in (caller.sandbox.webhook_body, caller.sandbox.send_webhook):
            with pytest.raises(ValueError, match="no webhook for this request"):
                call(request_id)


def test_an_error_can_be_announced_on_request(caller: Caller, receiver: loopback.Server) -> None:
    caller.sandbox.fault({"on": "webhook", "do": "error_result", "message": "Too noisy."})
    bodies = [announced(caller, receiver) for _ in range(2)]
    assert [body["status"] for body in bodies] == ["ERROR", "COMPLETED"]
    assert (bodies[0]["errorMessage"], bodies[0]["transcription"]) == ("Too noisy.", [])


def test_one_webhook_can_be_late(caller: Caller, receiver: loopback.Server) -> None:
    caller.sandbox.fault({"on": "webhook", "do": "latency", "seconds": 0.3})
    started_at = time.monotonic()
    late = upload(caller, receiver.url)
    attempts(caller, late, 1)
    assert time.monotonic() - started_at >= 0.3


@pytest.mark.parametrize(
    "rule",
    [{"on": "webhook", "do": "status", "status": 500}, {"on": "presign", "do": "drop"}, {"do": "drop"}],
)
def test_faults_of_calls_and_of_webhooks_are_not_mixed(caller: Caller, rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="on"):
        caller.sandbox.fault(rule)


# --- stopping, the foreground, the configuration ---


@pytest.mark.parametrize("holding", ["hanging", "delay", "backoff"])
def test_it_stops_quickly_with_webhooks_under_way(tmp_path: Path, holding: str) -> None:
    changes = {
        "hanging": {"webhook_timeout_seconds": 60},
        "delay": {"webhook_delay_seconds": 60},
        "backoff": {"webhook_backoff_seconds": 60},
    }
    handler = answering(500) if holding == "backoff" else silent
    with loopback.serve(handler) as receiver:
        with Sandbox(settings(tmp_path, **changes[holding])) as sandbox:
            caller = Caller(sandbox)
            request_id = upload(caller, receiver.url)
            if holding != "delay":
                eventually(lambda: len(receiver.requests) == 1)
            if holding == "backoff":
                attempts(caller, request_id, 1)
            stopping_at = time.monotonic()
        assert time.monotonic() - stopping_at < 2


def test_recognition_continues_if_a_webhook_was_given_up(tmp_path: Path) -> None:
    ledger, first_may_end = Ledger(), threading.Event()

    def recognize(path: Path, _sha256: str) -> tuple[Segment, ...]:
        first_may_end.wait(5)
        return (Segment(0, 1, path.name),)

    def submit(name: str) -> tuple[str, Future[None]]:
        request_id, now = ledger.open_record("audio/wav", None).id, Upload(1, "", datetime.now(UTC), due_at=0)
        ledger.uploaded(request_id, now)
        return request_id, recognition.submit(request_id, now, tmp_path / name)

    with contextlib.closing(Recognition(recognize, ledger)) as recognition:
        submitted = [submit(name) for name in ("first", "given up", "last")]
        assert submitted[1][1].cancel()
        first_may_end.set()
        submitted[2][1].result(5)
    results = [record.result for request_id, _ in submitted if (record := ledger.find(request_id))]
    assert [result and result.segments[0].text for result in results] == ["first", None, "last"]


def test_in_the_foreground_each_try_is_logged(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from invox_watcher import events, logs
from invox_watcher.sandbox.server import serve
from invox_watcher.sandbox.settings import SandboxSettings
logs.configure()
settings = SandboxSettings(
    Path(sys.argv[1]), recognizer="none", result_delay_seconds=0, webhook_backoff_seconds=0.01
)
serve(settings, lambda url: print(url, flush=True))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process, loopback.serve(answering(500, 200)) as receiver:
        assert process.stdout is not None
        sandbox = Sandbox(settings(tmp_path))
        sandbox.base_url = process.stdout.readline().strip()
        caller = Caller(sandbox)
        attempts(caller, upload(caller, receiver.url), 2)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=10)
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["status"] for line in lines if line["operation"] == "webhook"] == [500, 200]


def test_the_configuration_for_a_daemon_that_receives_webhooks(tmp_path: Path) -> None:
    text = client_configuration(
        settings(tmp_path),
        "http://127.0.0.1:1",
        tmp_path,
        listen="127.0.0.1:8787",
        webhook_url="https://clinic.example/hook",
    )
    keys = yaml.safe_load(text)
    assert keys["credentials"]["app_secret"] == "sandbox-secret-of-32-characters!"
    assert keys["webhook"] == {"enabled": True, "public_url": "https://clinic.example/hook"}
    assert keys["http"] == {"listen": "127.0.0.1:8787"}
