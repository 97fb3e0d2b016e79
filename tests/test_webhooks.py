"""Webhooks, from the stand-in API and from attackers, against a real daemon."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import http.client
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from Crypto.Cipher import AES
from Crypto.Util.Padding import pad

from invox_watcher.sandbox.server import Sandbox
from tests.support import Clinic, free_port, sandbox, stop, wait_for, write_wav

REFUSED = (403, b'{"status":"refused"}')
TAKEN = (200, b'{"status":"taken"}')
SECRET = "sandbox-secret-of-32-characters!"


def webhook_clinic(root: Path, api: Sandbox, *, confirm: str = "auto", **changes: Any) -> Clinic:
    """A clinic that has its results sent. Asking without a webhook would come after a minute."""
    port = free_port()
    polling = {"first_seconds": 0.1, "max_seconds": 60, "unknown_seconds": 0.3}
    return Clinic(
        root,
        api.base_url,
        credentials={"app_secret": api.settings.app_secret},
        webhook={"enabled": True, "public_url": f"http://127.0.0.1:{port}/webhook", "confirm": confirm},
        http={"listen": f"127.0.0.1:{port}"},
        **({"polling": polling} | changes),
    )


def address(clinic: Clinic) -> str:
    return str(clinic.events("listening")[-1]["address"])


def send(clinic: Clinic, body: bytes, *, seconds: float = 20) -> tuple[int, bytes]:
    """POST a body to the daemon; its status and answer."""
    connection = http.client.HTTPConnection(address(clinic), timeout=seconds)
    try:
        connection.request("POST", "/webhook", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def altered(body: bytes, **changes: Any) -> bytes:
    """A genuine body with other words, or whatever else."""
    payload = json.loads(body)
    words = [{"speakerId": "Speaker_00", "text": "Give ten times the dose.", "start": 0.0, "end": 2.0}]
    return json.dumps(payload | {"transcription": words} | changes).encode()


def everything_written(clinic: Clinic) -> str:
    folders = (clinic.outbox, clinic.failed)
    return "".join(
        path.read_text(errors="replace") for folder in folders for path in folder.rglob("*") if path.is_file()
    )


@pytest.fixture(params=["raw", "salted"])
def either_api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sandbox]:
    with sandbox(tmp_path / "api", signature_layout=request.param) as running:
        yield running


def test_results_come_at_once_and_are_confirmed(tmp_path: Path, either_api: Sandbox) -> None:
    clinic = webhook_clinic(tmp_path / "clinic", either_api)
    daemon = clinic.start()
    for number in range(5):
        write_wav(clinic.inbox / f"{number}.wav", pitch=300 + number)
    wait_for("five are done", lambda: len(clinic.files(clinic.done)) == 5)
    assert stop(daemon) == 0
    stats = either_api.stats()
    assert (stats["webhooks_delivered"], stats["status_calls"]) == (5, 5)
    transcript = clinic.transcript("0.json")
    assert transcript["delivered_by"] == "webhook"
    assert "signature" not in transcript["api_reply"]


@pytest.mark.parametrize(
    ("confirm", "endpoint", "asked"),
    [("never", "answers", False), ("never", "unknown", False), ("auto", "unknown", True)],
)
def test_the_webhook_itself_is_taken_where_the_rule_says_so(
    tmp_path: Path, confirm: str, endpoint: str, asked: bool
) -> None:
    with sandbox(tmp_path / "api", webhook_status_endpoint=endpoint) as api:
        clinic = webhook_clinic(tmp_path / "clinic", api, confirm=confirm)
        daemon = clinic.start()
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert stop(daemon) == 0
        assert (api.stats()["status_calls"] > 0) is asked
        transcript = clinic.transcript("smith.json")
        assert transcript["source"]["sha256"][:12] in transcript["text"]
        assert "signature" not in transcript["api_reply"]


def test_always_means_that_no_word_is_taken_from_a_webhook(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", webhook_status_endpoint="unknown") as api:
        clinic = webhook_clinic(tmp_path / "clinic", api, confirm="always")
        daemon = clinic.start()
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is given up", lambda: "smith.wav" in clinic.files(clinic.failed))
        assert stop(daemon) == 0
        assert clinic.files(clinic.outbox) == []


def test_a_webhook_that_never_comes_is_asked_for(tmp_path: Path, api: Sandbox) -> None:
    clinic = webhook_clinic(
        tmp_path / "clinic", api, polling={"first_seconds": 0.1, "max_seconds": 0.5, "unknown_seconds": 0.3}
    )
    api.fault({"on": "webhook", "do": "drop", "times": None})
    daemon = clinic.start()
    write_wav(clinic.inbox / "smith.wav")
    wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
    assert stop(daemon) == 0
    assert clinic.transcript("smith.json")["delivered_by"] == "polling"


def test_an_error_result_fails_the_recording(tmp_path: Path, api: Sandbox) -> None:
    clinic = webhook_clinic(tmp_path / "clinic", api, confirm="never")
    api.fault({"on": "webhook", "do": "error_result", "message": "no speech found"})
    daemon = clinic.start()
    write_wav(clinic.inbox / "smith.wav")
    wait_for("it failed", lambda: len(clinic.files(clinic.failed)) == 2)
    assert stop(daemon) == 0
    assert "no speech found" in json.loads((clinic.failed / "smith.wav.error.json").read_text())["message"]


def test_a_hundred_repeats_are_one_transcript(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", webhook_repeats=100) as api:
        clinic = webhook_clinic(tmp_path / "clinic", api)
        daemon = clinic.start()
        write_wav(clinic.inbox / "smith.wav")
        wait_for("all were sent", lambda: api.stats()["webhooks_delivered"] == 100)
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert stop(daemon) == 0
        assert clinic.files(clinic.outbox) == ["smith.json", "smith.srt"]
        assert api.stats()["status_calls"] <= 2


@pytest.mark.parametrize("confirm", ["auto", "always", "never"])
def test_a_captured_signature_carries_no_other_words(tmp_path: Path, confirm: str) -> None:
    """A genuine signature, seen once, with other words for another recording and for the same."""
    with sandbox(tmp_path / "api", result_delay_seconds=1.5) as api:
        clinic = webhook_clinic(tmp_path / "clinic", api, confirm=confirm)
        daemon = clinic.start()
        write_wav(clinic.inbox / "first.wav", pitch=300)
        wait_for("the first is done", lambda: "first.wav" in clinic.files(clinic.done))
        captured = api.webhook_body(api.stats()["requests"][0]["id"])
        write_wav(clinic.inbox / "second.wav", pitch=400)
        wait_for("the second is uploaded", lambda: api.stats()["uploads"] == 2)
        victim = api.stats()["requests"][1]["id"]
        assert send(clinic, altered(captured, requestId=victim)) == REFUSED
        assert send(clinic, altered(captured)) == REFUSED
        wait_for("the second is done", lambda: "second.wav" in clinic.files(clinic.done))
        assert stop(daemon) == 0
        assert "ten times the dose" not in everything_written(clinic)
        assert clinic.events("webhook_contradicts")
        assert clinic.transcript("second.json")["delivered_by"] == "webhook"
        assert api.stats()["status_calls"] <= (0 if confirm == "never" else 2)


@pytest.mark.parametrize("first", ["repeat", "unknown id", "pending", "no transcription", "other time"])
def test_a_signature_counts_for_what_it_first_came_with(tmp_path: Path, first: str) -> None:
    """Whatever became of its first content, a signature that was seen carries no other words."""
    with sandbox(tmp_path / "api", result_delay_seconds=2, webhook_status_endpoint="unknown") as api:
        clinic = webhook_clinic(tmp_path / "clinic", api, confirm="never")
        daemon = clinic.start()
        write_wav(clinic.inbox / "first.wav", pitch=300)
        wait_for("the first is done", lambda: "first.wav" in clinic.files(clinic.done))
        genuine = json.loads(api.webhook_body(api.stats()["requests"][0]["id"]))
        fresh = genuine | {"signature": another_signature(api)}
        send(clinic, json.dumps(fresh | seen_first(first)).encode())
        write_wav(clinic.inbox / "second.wav", pitch=400)
        wait_for("the second is uploaded", lambda: api.stats()["uploads"] == 2)
        victim = api.stats()["requests"][1]["id"]
        assert send(clinic, altered(json.dumps(fresh).encode(), requestId=victim)) == REFUSED
        wait_for("the second is done", lambda: "second.wav" in clinic.files(clinic.done))
        assert stop(daemon) == 0
        assert "ten times the dose" not in everything_written(clinic)


def another_signature(api: Sandbox) -> str:
    """A genuine signature that the daemon has not seen, as the vendor's retry under a new IV has one."""
    iv = secrets.token_bytes(16)
    text = f"{api.settings.app_id}~{api.settings.api_key}".encode()
    cipher = AES.new(api.settings.app_secret.encode(), AES.MODE_CBC, iv)
    return base64.b64encode(iv + cipher.encrypt(pad(text, 16))).decode()


def seen_first(what: str) -> dict[str, Any]:
    return {
        "repeat": {},
        "unknown id": {"requestId": "of another receiver"},
        "pending": {"status": "PENDING"},
        "no transcription": {"transcription": 7},
        "other time": {"createdAt": 1},
    }[what]


@pytest.mark.parametrize("confirm", ["auto", "never"])
def test_a_late_webhook_of_an_api_that_does_not_answer(tmp_path: Path, confirm: str) -> None:
    polling = {"first_seconds": 0.1, "max_seconds": 0.3, "unknown_seconds": 0.3}
    with sandbox(tmp_path / "api", result_delay_seconds=3, webhook_status_endpoint="unknown") as api:
        clinic = webhook_clinic(tmp_path / "clinic", api, confirm=confirm, polling=polling)
        daemon = clinic.start()
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert stop(daemon) == 0
        assert api.stats()["status_calls"] > 1
        assert api.stats()["uploads"] == 1


def test_a_parse_bomb_costs_nothing_without_a_signature(tmp_path: Path, api: Sandbox) -> None:
    clinic = webhook_clinic(tmp_path / "clinic", api)
    daemon = clinic.start()
    bomb = b"[" + b",".join([b"[[0]]"] * 600_000) + b"]"
    before = _cpu_seconds(daemon.pid)
    for _ in range(10):
        assert send(clinic, bomb) == REFUSED
    assert _cpu_seconds(daemon.pid) - before < 2  # parsing the ten takes more than five
    assert stop(daemon) == 0


def test_idle_connections_are_bounded_and_dropped(tmp_path: Path, api: Sandbox) -> None:
    clinic = webhook_clinic(tmp_path / "clinic", api)
    daemon = clinic.start()
    host, _, port = address(clinic).rpartition(":")
    with contextlib.ExitStack() as stack:
        for _ in range(700):
            stack.enter_context(socket.create_connection((host, int(port))))
        time.sleep(1)
        assert len(os.listdir(f"/proc/{daemon.pid}/fd")) < 600
        wait_for("the connections are dropped", lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) < 100)
        assert send(clinic, b"{}") == REFUSED
    assert stop(daemon) == 0


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def garbage(genuine: bytes) -> dict[str, bytes]:
    """Bodies that are to be refused, all alike."""
    payload = json.loads(genuine)
    signature = payload["signature"]
    flipped = ("B" if signature[40] != "B" else "C").join([signature[:40], signature[41:]])

    def signed(other: object) -> bytes:
        return json.dumps(payload | {"signature": other}).encode()

    return {
        "flipped bit": signed(flipped),
        "wrong length": signed(signature[:-4]),
        "bad base64": signed("§" + signature[1:]),
        "empty signature": signed(""),
        "no text": signed(["x"]),
        "no signature": json.dumps({"requestId": payload["requestId"]}).encode(),
        "unknown id": json.dumps(payload | {"requestId": "no such request"}).encode(),
        "no id": json.dumps({key: payload[key] for key in payload if key != "requestId"}).encode(),
        "no transcription": json.dumps({**payload, "transcription": None}).encode(),
        "not finished": json.dumps({**payload, "status": "PENDING"}).encode(),
        "empty": b"",
        "not JSON": b"<html>",
        "a list": b"[]",
        "deep": b"[" * 10_000 + b"]" * 10_000,
        "deep inside": json.dumps(payload)[:-1].encode() + b', "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        "10 MB": signed("A" * 10_000_000),
        "bytes": bytes(range(256)),
        "id that is no text": json.dumps(payload | {"requestId": "\ud800"}).encode(),
        "rather deep": json.dumps(payload)[:-1].encode() + b', "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    }


def test_whatever_is_refused_is_refused_alike(tmp_path: Path, api: Sandbox) -> None:
    clinic = webhook_clinic(tmp_path / "clinic", api)
    daemon = clinic.start()
    write_wav(clinic.inbox / "smith.wav")
    wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
    genuine = api.webhook_body(api.stats()["requests"][0]["id"])
    assert send(clinic, genuine) == TAKEN
    answers = {name: send(clinic, body) for name, body in garbage(genuine).items()}
    assert answers == dict.fromkeys(answers, REFUSED)
    assert stop(daemon) == 0


def test_a_hundred_megabytes_and_a_byte_a_second_cost_no_memory(tmp_path: Path, api: Sandbox) -> None:
    clinic = webhook_clinic(tmp_path / "clinic", api)
    daemon = clinic.start()
    host, _, port = address(clinic).rpartition(":")
    assert send(clinic, b'{"requestId": "x"}') == REFUSED
    before = _peak_kib(daemon.pid)
    assert send(clinic, b" " * 100_000_000) == REFUSED
    slow = [socket.create_connection((host, int(port))) for _ in range(50)]
    for number, connection in enumerate(slow):  # half of them in the head, half in the body
        connection.sendall(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Le")
        if number % 2:
            connection.sendall(b"ngth: 100\r\n\r\n{")
    write_wav(clinic.inbox / "smith.wav")
    wait_for("a recording is done meanwhile", lambda: clinic.files(clinic.done) == ["smith.wav"])
    for connection in slow:
        connection.settimeout(30)
        assert connection.recv(1000)[9:12] in (b"403", b"")
        connection.close()
    assert _peak_kib(daemon.pid) - before < 32 << 10
    assert stop(daemon) == 0


def _peak_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.slow
def test_a_flood_of_forged_webhooks(tmp_path: Path, api: Sandbox) -> None:
    clinic = webhook_clinic(tmp_path / "clinic", api)
    daemon = clinic.start()
    before = _peak_kib(daemon.pid)
    forged = json.dumps(
        {"requestId": "1", "status": "COMPLETED", "transcription": [], "signature": "QUFB" * 24}
    ).encode()
    sent = 0
    with concurrent.futures.ThreadPoolExecutor(4) as attackers:
        until = time.monotonic() + 8
        floods = [attackers.submit(_flood, address(clinic), forged, until) for _ in range(4)]
        for number in range(20):
            write_wav(clinic.inbox / f"{number}.wav", pitch=300 + number, seconds=0.1)
        sent = sum(flood.result() for flood in floods)
    wait_for("twenty are done", lambda: len(clinic.files(clinic.done)) == 20, seconds=60)
    assert _peak_kib(daemon.pid) - before < 64 << 10
    assert stop(daemon) == 0
    assert sent > 200  # the benchmark sends two thousand a second
    assert api.stats()["status_calls"] == 20
    assert len(clinic.events("webhook_refused")) < 5
    assert len(clinic.files(clinic.outbox)) == 40


def _flood(where: str, body: bytes, until: float) -> int:
    connection = http.client.HTTPConnection(where, timeout=10)
    sent = 0
    while time.monotonic() < until:
        try:
            connection.request("POST", "/webhook", body)
            assert connection.getresponse().read() == REFUSED[1]
            sent += 1
        except (http.client.HTTPException, OSError):
            connection.close()
    connection.close()
    return sent


def test_killed_between_webhook_and_publishing(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", webhook_status_endpoint="unknown") as api:
        clinic = webhook_clinic(tmp_path / "clinic", api, confirm="never")
        (clinic.outbox).mkdir()
        daemon = clinic.start()
        api.fault({"on": "webhook", "do": "latency", "seconds": 1.0})
        write_wav(clinic.inbox / "smith.wav")
        wait_for("the webhook was taken", lambda: bool(clinic.events("webhook_taken")))
        daemon.kill()
        daemon.wait()
        daemon = clinic.start()
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert stop(daemon) == 0
        assert clinic.files(clinic.outbox) == ["smith.json", "smith.srt"]
        assert api.stats()["uploads"] == 1


def test_check_speaks_of_plain_http_and_of_the_secrets_length(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(
        tmp_path / "clinic",
        api.base_url,
        credentials={"app_secret": "short"},
        webhook={"enabled": True, "public_url": "http://clinic.example/webhook"},
    )
    result = clinic.run("check")
    assert result.returncode == 0
    assert "plain http" in result.stdout
    assert "not 16, 24 or 32 bytes" in result.stdout
    assert "http.listen is null" in result.stdout


def test_webhooks_without_an_address_or_a_secret_are_a_configuration_error(
    tmp_path: Path, api: Sandbox
) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, webhook={"enabled": True})
    result = clinic.run("check")
    assert result.returncode == 78
    assert "webhook.public_url" in result.stderr
    assert "credentials.app_secret" in result.stderr
