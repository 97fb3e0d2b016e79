"""FAULTS.md 43–46: webhooks that were captured, forged, blown up, or come too early and too often."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import http.client
import json
import os
import secrets
import select
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from Crypto.Cipher import AES
from Crypto.Util.Padding import pad

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import peak_kib, sandbox, stop
from tests.kit.daemon_server import address
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for
from tests.kit.webhook_clinic import (
    REFUSED,
    TAKEN,
    altered,
    everything_written,
    send,
    webhook_clinic,
)


@pytest.mark.parametrize("confirm", ["auto", "always", "never"])
def test_43_a_captured_signature_carries_no_other_words(tmp_path: Path, confirm: str) -> None:
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
        assert clinic.events("webhook_conflicting")
        assert clinic.transcript("second.json")["delivered_by"] == "webhook"
        assert api.stats()["status_calls"] <= (0 if confirm == "never" else 2)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["repeat", "unknown id", "pending", "no transcription", "other time"])
def test_43_a_signature_counts_for_what_it_first_came_with(tmp_path: Path, first: str) -> None:
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
    text = f"{api.settings.app_id}~{api.settings.api_key}".encode()
    return encrypted(api, pad(text, 16))


def encrypted(api: Sandbox, padded: bytes) -> str:
    """Those bytes as a signature by the real secret."""
    iv = secrets.token_bytes(16)
    cipher = AES.new(api.settings.app_secret.encode(), AES.MODE_CBC, iv)
    return base64.b64encode(iv + cipher.encrypt(padded)).decode()


def seen_first(what: str) -> dict[str, Any]:
    return {
        "repeat": {},
        "unknown id": {"requestId": "of another receiver"},
        "pending": {"status": "PENDING"},
        "no transcription": {"transcription": 7},
        "other time": {"createdAt": 1},
    }[what]


# ---- 44: not genuine ---------------------------------------------------------------------------------------


def flipped(signature: str, bit: int) -> str:
    """The signature with one bit of what it encodes turned over; negative counts from the end."""
    raw = bytearray(base64.b64decode(signature))
    raw[bit // 8] ^= 1 << bit % 8
    return base64.b64encode(raw).decode()


def garbage(genuine: bytes, api: Sandbox) -> dict[str, bytes]:
    """Bodies that are to be refused, all alike."""
    payload = json.loads(genuine)
    signature = payload["signature"]
    text = f"{api.settings.app_id}~{api.settings.api_key}".encode()

    def signed(other: object) -> bytes:
        return json.dumps(payload | {"signature": other}).encode()

    return {
        "flipped bit in front": signed(flipped(signature, 0)),
        "flipped bit inside": signed(flipped(signature, 8 * 20)),
        "flipped bit in the padding": signed(flipped(signature, -1)),
        "no padding": signed(encrypted(api, text.ljust(-len(text) % 16 + len(text), b" "))),
        "wrong padding": signed(encrypted(api, pad(text, 16)[:-1] + b"\x11")),
        "other text": signed(encrypted(api, pad(text + b"x", 16))),
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


def test_44_every_refusal_looks_the_same(tmp_path: Path, api: Sandbox) -> None:
    clinic = webhook_clinic(tmp_path / "clinic", api)
    daemon = clinic.start()
    write_wav(clinic.inbox / "smith.wav")
    wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
    genuine = api.webhook_body(api.stats()["requests"][0]["id"])
    assert send(clinic, genuine) == TAKEN
    answers = {name: send(clinic, body) for name, body in garbage(genuine, api).items()}
    assert answers == dict.fromkeys(answers, REFUSED)
    assert stop(daemon) == 0


# ---- 45: too much, too slow --------------------------------------------------------------------------------


def test_45_a_parse_bomb_costs_nothing_without_a_signature(tmp_path: Path, api: Sandbox) -> None:
    clinic = webhook_clinic(tmp_path / "clinic", api)
    daemon = clinic.start()
    bomb = b"[" + b",".join([b"[[0]]"] * 600_000) + b"]"
    before = _cpu_seconds(daemon.pid)
    for _ in range(10):
        assert send(clinic, bomb) == REFUSED
    assert _cpu_seconds(daemon.pid) - before < 2  # parsing the ten takes more than five
    assert stop(daemon) == 0


@pytest.mark.slow
def test_45_idle_connections_are_bounded_and_dropped(tmp_path: Path, api: Sandbox) -> None:
    clinic = webhook_clinic(tmp_path / "clinic", api)
    daemon = clinic.start()
    host, _, port = address(clinic).rpartition(":")
    with contextlib.ExitStack() as stack:
        for _ in range(700):
            stack.enter_context(socket.create_connection((host, int(port))))
        time.sleep(1)
        assert 100 < connections_at(int(port)) < 600
        wait_for("the connections are dropped", lambda: connections_at(int(port)) < 100)
        assert send(clinic, b"{}") == REFUSED
    assert stop(daemon) == 0


def connections_at(port: int) -> int:
    """How many connections the process that listens at `port` of loopback holds; see proc_net(5)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" and row[9] != "0" for row in rows)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_45_huge_and_slow_bodies_cost_no_memory(tmp_path: Path, api: Sandbox) -> None:
    clinic = webhook_clinic(tmp_path / "clinic", api)
    daemon = clinic.start(clinic.command("run"))  # memory of its own
    host, _, port = address(clinic).rpartition(":")
    assert send(clinic, b'{"requestId": "x"}') == REFUSED
    before = peak_kib(daemon.pid)
    assert send(clinic, b" " * 100_000_000) == REFUSED
    slow = [socket.create_connection((host, int(port))) for _ in range(50)]
    for number, connection in enumerate(slow):  # half of them in the head, half in the body
        connection.sendall(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Le")
        if number % 2:
            connection.sendall(b"ngth: 100\r\n\r\n{")
    write_wav(clinic.inbox / "smith.wav")
    wait_for("a recording is done meanwhile", lambda: clinic.files(clinic.done) == ["smith.wav"])
    assert set(answers_to_dripping(slow)) <= {b"403", b""}
    assert peak_kib(daemon.pid) - before < 32 << 10
    assert stop(daemon) == 0


def answers_to_dripping(connections: list[socket.socket]) -> list[bytes]:
    """Send a byte a second over each until it is answered or dropped: the status, or nothing."""
    waiting, answers = list(connections), []
    give_up = time.monotonic() + 40
    while waiting:
        assert time.monotonic() < give_up, f"{len(waiting)} are still listened to"
        for connection in select.select(waiting, [], [], 1)[0]:
            with contextlib.suppress(ConnectionResetError), connection:
                answers.append(connection.recv(1000)[9:12])
            waiting.remove(connection)
        for connection in waiting:
            with contextlib.suppress(OSError):  # dropped just now
                connection.send(b"x")
    return answers


@pytest.mark.slow
def test_45_a_flood_of_forged_webhooks_delays_no_other_for_long(tmp_path: Path, api: Sandbox) -> None:
    clinic = webhook_clinic(tmp_path / "clinic", api)
    daemon = clinic.start(clinic.command("run"))  # memory of its own
    before = peak_kib(daemon.pid)
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
    assert peak_kib(daemon.pid) - before < 64 << 10
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


# ---- 46: too early, too often ------------------------------------------------------------------------------


def test_46_a_hundred_repeats_are_one_transcript(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", webhook_repeats=100) as api:
        clinic = webhook_clinic(tmp_path / "clinic", api)
        daemon = clinic.start()
        write_wav(clinic.inbox / "smith.wav")
        wait_for("all were sent", lambda: api.stats()["webhooks_delivered"] == 100)
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert stop(daemon) == 0
        assert clinic.files(clinic.outbox) == ["smith.json", "smith.srt"]
        assert api.stats()["status_calls"] <= 2


# The upload is taken and its webhook sent, once and at once; only the answer to the upload is late, or lost.
LATE = {"on": "upload", "do": "slow_bytes", "part": "all", "seconds": 0.01}
LOST = {"on": "upload", "do": "drop_reply"}


@pytest.mark.parametrize("answer", [LATE, LOST], ids=["late", "lost"])
@pytest.mark.parametrize("confirm", ["auto", "never"])
def test_46_a_webhook_before_the_uploads_response_is_kept(
    tmp_path: Path, confirm: str, answer: dict[str, Any]
) -> None:
    with sandbox(tmp_path / "api", result_delay_seconds=0, webhook_retries=0) as api:
        # On a busy machine the webhook may take a while, and must not be overtaken by a retry of the upload.
        retry = {"base_seconds": 5, "max_seconds": 5}
        clinic = webhook_clinic(tmp_path / "clinic", api, confirm=confirm, retry=retry)
        api.fault(answer)
        daemon = clinic.start()
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert stop(daemon) == 0
        assert clinic.files(clinic.outbox) == ["smith.json", "smith.srt"]
        assert clinic.transcript("smith.json")["delivered_by"] == "webhook"
        assert (api.stats()["uploads"], api.stats()["upload_attempts"]) == (1, 1)


@pytest.mark.parametrize("confirm", ["auto", "never"])
def test_46_a_webhook_during_a_journal_write_is_kept(tmp_path: Path, confirm: str) -> None:
    with sandbox(tmp_path / "api", result_delay_seconds=0, webhook_retries=0) as api:
        clinic = webhook_clinic(tmp_path / "clinic", api, confirm=confirm)
        api.fault({"on": "upload", "do": "latency", "seconds": 3})  # the bytes are sent, and the reply waits
        daemon = clinic.start()
        write_wav(clinic.inbox / "smith.wav")
        wait_for("the upload runs", lambda: api.stats()["upload_attempts"] == 1)
        journal = sqlite3.connect(clinic.root / "state" / "journal.sqlite", isolation_level=None)
        with contextlib.closing(journal):
            journal.execute("BEGIN IMMEDIATE")
            wait_for("the upload is through", lambda: api.stats()["uploads"] == 1)
            time.sleep(1)  # the webhook comes, and waits for the journal as the upload's own thread does
            assert clinic.events("uploaded", "webhook_accepted") == []
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        wait_for("the webhook is through", lambda: api.stats()["webhooks_delivered"] == 1)
        assert stop(daemon) == 0
        assert clinic.files(clinic.outbox) == ["smith.json", "smith.srt"]
        assert (api.stats()["uploads"], len(clinic.events("done"))) == (1, 1)
