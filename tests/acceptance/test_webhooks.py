"""Webhooks, from the stand-in API and from attackers, against a real daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, sandbox, stop
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for
from tests.kit.webhook_clinic import webhook_clinic


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
def test_the_webhook_itself_is_used_if_configured(
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


def test_always_uses_no_words_of_a_webhook(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", webhook_status_endpoint="unknown") as api:
        polling = {"first_seconds": 0.1, "max_seconds": 0.5, "unknown_seconds": 0.3, "deadline_seconds": 1}
        clinic = webhook_clinic(tmp_path / "clinic", api, confirm="always", polling=polling)
        daemon = clinic.start()
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is given up", lambda: "smith.wav" in clinic.files(clinic.failed))
        assert stop(daemon) == 0
        assert clinic.files(clinic.outbox) == []


def test_a_result_without_its_webhook_is_polled(tmp_path: Path, api: Sandbox) -> None:
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


def test_killed_between_webhook_and_publishing(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", webhook_status_endpoint="unknown") as api:
        clinic = webhook_clinic(tmp_path / "clinic", api, confirm="never")
        (clinic.outbox).mkdir()
        daemon = clinic.start()
        api.fault({"on": "webhook", "do": "latency", "seconds": 1.0})
        write_wav(clinic.inbox / "smith.wav")
        wait_for("the webhook was taken", lambda: bool(clinic.events("webhook_accepted")))
        daemon.kill()
        daemon.wait()
        daemon = clinic.start()
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert stop(daemon) == 0
        assert clinic.files(clinic.outbox) == ["smith.json", "smith.srt"]
        assert api.stats()["uploads"] == 1


def test_check_warns_of_plain_http_and_of_a_short_secret(tmp_path: Path, api: Sandbox) -> None:
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


def test_webhooks_without_address_or_secret_are_refused(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, webhook={"enabled": True})
    result = clinic.run("check")
    assert result.returncode == 78
    assert "webhook.public_url" in result.stderr
    assert "credentials.app_secret" in result.stderr
