"""Every reading of the stand-in API on the wire: what it asks for, what it answers, what it refuses."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from invox_watcher.cli import main
from invox_watcher.sandbox import signing
from invox_watcher.sandbox.configuration import client_configuration
from invox_watcher.sandbox.readings import READINGS, Reading, combined, named
from tests.acceptance.readings.client import (
    CHECKS,
    CREDENTIALS,
    MISSING_TOKEN,
    PRESIGN,
    TOKEN,
    Answer,
    Client,
    bearer,
    started,
)
from tests.acceptance.readings.result import WORKING
from tests.kit.clinic import sandbox
from tests.kit.waiting import wait_for

VECTORS = Path(__file__).parent.parent / "vectors"


@pytest.mark.parametrize("name", READINGS)
def test_a_reading_on_the_wire(name: str, tmp_path: Path) -> None:
    settings, assert_holds = CHECKS[name]
    with started(tmp_path, name, **settings) as api:
        assert_holds(Client(api))


@pytest.mark.parametrize("name", READINGS)
def test_the_default_reading_is_another(name: str, tmp_path: Path) -> None:
    settings, assert_holds = CHECKS[name]
    with (
        started(tmp_path, **settings) as api,
        pytest.raises((AssertionError, KeyError, TypeError, ValueError)),
    ):
        assert_holds(Client(api))


@pytest.mark.parametrize("name", WORKING)
def test_the_result_comes_after_all(name: str, tmp_path: Path) -> None:
    with started(tmp_path, name, result_delay_seconds=0.1) as api:
        body = Client(api).result()
    assert (body["processingStatus"], len(body["transcription"])) == ("COMPLETED", 3)


# --- combining them, and choosing them ---


def test_several_at_once(tmp_path: Path) -> None:
    names = (
        "paths-v1",
        "token-get",
        "token-data",
        "gzip",
        "presign-data",
        "odd-ids",
        "status-get",
        "words-vtt",
    )
    with started(tmp_path, *names) as api:
        client = Client(api)

        def unpacked(answer: Answer) -> Any:
            assert answer.status == 200
            return json.loads(gzip.decompress(answer.body))

        token = unpacked(client.call("GET", TOKEN, headers=CREDENTIALS))["data"]["access_token"]
        headers = bearer(token)
        body = '{"mimeType": "audio/wav"}'
        granted = unpacked(client.call("POST", "/v1/generate-presigned-url", body, headers))["data"]
        assert client.put(granted["presignedUrl"]).status == 200
        client.recognized(granted["requestId"])
        path = f"/v1/get-transcription/{quote(granted['requestId'], safe='')}"
        assert unpacked(client.call("GET", path, headers=headers))["vttTranscription"].startswith("WEBVTT")
        unknown = client.call("POST", PRESIGN)
        assert (unknown.status, json.loads(gzip.decompress(unknown.body))) == MISSING_TOKEN


def test_readings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="contradict"):
        named(["words-vtt", "words-string"])
    with pytest.raises(ValueError, match="contradict"):
        named(["token-access_token", "token-token"])
    assert named(["token-access_token", "token-data"]) == combined([READINGS["token-data"]])


def test_a_setting_that_contradicts_a_reading_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contradict"):
        sandbox(tmp_path, readings=("callback-400",), webhook_status_endpoint="unknown")


def test_its_configuration_names_only_the_stage(tmp_path: Path) -> None:
    base_url = "http://127.0.0.1:9"
    plain, staged = (
        client_configuration(sandbox(tmp_path, readings=names).settings, base_url, tmp_path)
        for names in ((), ("stage", "token-get"))
    )
    assert staged == plain.replace(base_url, f"{base_url}/uat")
    assert staged != plain


def test_an_unknown_reading_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="made-up"):
        sandbox(tmp_path, readings=("made-up",))


def test_every_reading_is_another() -> None:
    plain = [combined([reading]) for reading in READINGS.values()]
    assert Reading() not in plain
    assert len(set(plain)) == len(plain)


def test_the_command_line_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sandbox", "--list-readings"])
    assert ended.value.code == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert listed == {name: reading.summary for name, reading in READINGS.items()}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--reading", "made-up"], "no reading 'made-up'"),
        (["--reading", "gzip,"], "no reading ''"),
        (["--reading", "gzip,words-vtt", "--reading", "words-string"], "contradict"),
    ],
)
def test_the_command_line_refuses_what_can_not_be(
    options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sandbox", *options])
    assert ended.value.code == 64
    assert says in capsys.readouterr().err


# --- what is counted ---


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with started(tmp_path) as api:
        yield Client(api)


def test_purchases_of_tokens_are_counted_whatever_the_answer(client: Client) -> None:
    client.token()
    client.token({"Authorization": "Basic d3Jvbmc6d3Jvbmc="})
    client.api.fault({"on": "token", "do": "status", "status": 415})
    client.token()
    stats = client.api.stats()
    assert (stats["token_calls"], stats["tokens"]) == (3, 1)


def test_presign_calls_are_counted_whatever_the_answer(client: Client) -> None:
    client.presign()
    client.presign("audio/aac")
    stats = client.api.stats()
    assert (stats["presign_calls"], stats["presigns"]) == (2, 1)


def test_uploads_are_counted_by_recording(client: Client) -> None:
    one = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    two = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"
    for _ in range(2):
        client.upload(b"one")
    client.api.fault({"on": "upload", "do": "drop_reply"})
    with pytest.raises(ConnectionError):
        client.upload(b"two")
    wait_for("it is stored", lambda: two in client.api.stats()["recordings"])
    assert client.api.stats()["recordings"] == {
        one: {"stored": 2, "acknowledged": 2},
        two: {"stored": 1, "acknowledged": 0},
    }


# --- requestSignature, as other programs make it ---


def signature_cases() -> dict[str, list[str]]:
    _head, *lines = (VECTORS / "request_signature_cases.tsv").read_text().rstrip("\n").split("\n")
    return {name: fields for name, *fields in (line.split("\t") for line in lines)}


@pytest.mark.parametrize("program", ["node", "openssl"])
@pytest.mark.parametrize("name", signature_cases())
def test_the_sandbox_signs_as_others_do(name: str, program: str) -> None:
    vectors = json.loads((VECTORS / f"request_signature_{program}.json").read_text())
    expected = {vector["case"]: vector["signature"] for vector in vectors}
    secret_key, api_key, payload, signed = signature_cases()[name]
    assert set(expected) == set(signature_cases())
    assert signing.signed_text(json.loads(payload), api_key) == signed
    assert signing.request_signature(json.loads(payload), secret_key, api_key) == expected[name]


def test_what_is_signed_is_what_is_sent(tmp_path: Path) -> None:
    with started(tmp_path, "webhook-requestSignature") as api:
        (request,) = Client(api).webhooks()
    sent = json.loads(request.body)
    assert request.body.decode() == signing.stringify(sent)
    assert '"start":0,' in request.body.decode()
