"""`transcribe` and `check --try`: one recording by hand, without folders and without a journal."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, free_port, sandbox
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

WORDS = ("This is recording", "dictated", "checksum")
REQUEST_ID = r"[0-9a-f]{8}-[0-9a-f-]{27}"
# What the output of `check --try` must not have: long random texts, ids, Unix times.
RANDOM = re.compile(rf"{REQUEST_ID}|[A-Za-z0-9+/_=]{{32,}}|\d{{10}}")
BASE64 = base64.b64encode(b"sandbox-app:sandbox-key").decode()
# Raises if anything is written but to a standard stream.
WATCHED = """
import os, sys
def hook(event, arguments):
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or event == "os.mkdir":
        if isinstance(arguments[0], str) and not arguments[0].startswith("/dev/"):
            raise SystemError(f"written: {arguments[0]}")
sys.addaudithook(hook)
from invox_watcher.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "smith, jane.wav")


@contextmanager
def a_clinic(folder: Path, *readings: str, **settings: Any) -> Iterator[tuple[Sandbox, Clinic]]:
    changes = settings.pop("changes", {})
    with sandbox(folder / "api", readings=readings, **settings) as api:
        clinic = Clinic(folder / "clinic", api.base_url, **changes)
        clinic.config.chmod(0o600)
        yield api, clinic


def uploads(api: Sandbox) -> int:
    count: int = api.stats()["upload_attempts"]
    return count


def interrupted(clinic: Clinic, *arguments: str, once: Callable[[], bool]) -> tuple[int, str, str]:
    """Status and output of a command that gets Ctrl-C as soon as `once` holds."""
    process = subprocess.Popen(
        clinic.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for("the moment for Ctrl-C", once)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    return process.returncode, stdout, stderr


# ---- transcribe --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("txt", "Speaker_00: This is recording"),
        ("json", "{\n"),
        ("srt", "1\n00:00:00,000"),
        ("vtt", "WEBVTT\n"),
    ],
)
def test_the_transcript_and_nothing_else_is_printed(
    form: str, begins: str, recording: Path, clinic: Clinic
) -> None:
    done = clinic.run("transcribe", str(recording), "--format", form)
    assert done.returncode == 0
    assert done.stdout.startswith(begins) or form == "txt"
    assert all(word in done.stdout for word in WORDS)
    assert re.fullmatch(rf"Request id: {REQUEST_ID}\n", done.stderr)
    if form == "json":
        transcript = json.loads(done.stdout)
        assert (transcript["job_id"], transcript["source"]["name"]) == (None, "smith, jane.wav")
        assert transcript["request_id"] in done.stderr


@pytest.mark.parametrize(
    ("command", "begins"), [("transcribe", "Speaker_00: "), ("check --try", "1. asking")]
)
def test_it_needs_no_folders_and_writes_nothing(
    command: str, begins: str, tmp_path: Path, recording: Path, api: Sandbox
) -> None:
    config = tmp_path / "config.yaml"
    credentials = {"app_id": "sandbox-app", "api_key": "sandbox-key"}
    keys = {"api": {"base_url": api.base_url}, "credentials": credentials, "polling": {"first_seconds": 0.1}}
    config.write_text(yaml.safe_dump(keys))
    before = sorted(tmp_path.iterdir())
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INVOX_")}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *command.split(), str(recording), "--config", str(config)],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        env=environ | {"PYTHONPATH": os.getcwd(), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stdout[: len(begins)]) == (0, begins), done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_pending_result_is_polled_for(tmp_path: Path, recording: Path) -> None:
    with a_clinic(tmp_path, "pending-404", result_delay_seconds=1) as (api, clinic):
        assert clinic.run("transcribe", str(recording)).returncode == 0
        assert api.stats()["status_calls"] >= 3
        assert uploads(api) == 1


def test_an_uncertain_upload_is_not_repeated(tmp_path: Path, recording: Path) -> None:
    with a_clinic(tmp_path, "upload-500-taken") as (api, clinic):
        done = clinic.run("transcribe", str(recording))
        assert (done.returncode, uploads(api)) == (0, 1)
    with a_clinic(tmp_path / "lost", "upload-500-lost") as (api, clinic):
        done = clinic.run("transcribe", str(recording))
        assert (done.returncode, done.stdout, uploads(api)) == (69, "", 1)
        assert "has nothing under request id" in done.stderr


def test_a_failed_transcription_gives_the_reason(tmp_path: Path, recording: Path) -> None:
    with a_clinic(tmp_path, "always-fails") as (_api, clinic):
        done = clinic.run("transcribe", str(recording))
    assert (done.returncode, done.stdout) == (1, "")
    assert "The audio has too little speech to be transcribed." in done.stderr


def test_the_deadline(tmp_path: Path, recording: Path) -> None:
    polling = {"first_seconds": 0.1, "max_seconds": 0.2, "deadline_seconds": 0.5}
    with a_clinic(tmp_path, result_delay_seconds=60, changes={"polling": polling}) as (_api, clinic):
        done = clinic.run("transcribe", str(recording))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"No result after \d s \(polling.deadline_seconds\)", done.stderr)
    assert "--request-id" in done.stderr


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, recording: Path) -> None:
    with a_clinic(tmp_path, result_delay_seconds=5) as (api, clinic):
        status, printed, said = interrupted(
            clinic, "transcribe", str(recording), once=lambda: api.stats()["status_calls"] >= 1
        )
        assert (status, printed, uploads(api)) == (130, "", 1)
        found = re.search(rf"invox-watcher (transcribe --request-id ({REQUEST_ID}) '.*')", said)
        assert found is not None, said
        done = clinic.run("transcribe", "--request-id", found[2], str(recording), "--format", "json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["request_id"] == found[2]
        assert uploads(api) == 1


def test_ctrl_c_before_the_upload(tmp_path: Path, recording: Path) -> None:
    with a_clinic(tmp_path) as (api, clinic):
        api.fault({"on": "presign", "do": "silence"})
        status, printed, said = interrupted(
            clinic, "transcribe", str(recording), once=lambda: api.stats()["presign_calls"] == 1
        )
        assert (status, printed, uploads(api)) == (130, "", 0)
    assert said == "invox-watcher: Stopped. Nothing was uploaded.\n"


def test_an_unknown_request_id(recording: Path, api: Sandbox, clinic: Clinic) -> None:
    done = clinic.run("transcribe", "--request-id", "not-one", str(recording))
    assert (done.returncode, done.stdout, uploads(api)) == (69, "", 0)
    assert "The API has nothing under request id not-one." in done.stderr


def test_an_api_that_is_down(tmp_path: Path, recording: Path) -> None:
    clinic = Clinic(tmp_path / "clinic", f"http://127.0.0.1:{free_port()}")
    for command in (("transcribe",), ("check", "--try")):
        done = clinic.run(*command, str(recording))
        assert done.returncode == 69
        assert "Connection refused" in done.stdout + done.stderr
        assert "api.base_url" in done.stdout + done.stderr


def test_an_outage_while_it_waits_is_waited_out(recording: Path, api: Sandbox, clinic: Clinic) -> None:
    api.fault({"on": "status", "do": "status", "status": 503, "times": 4})
    assert clinic.run("transcribe", str(recording)).returncode == 0
    assert uploads(api) == 1


def test_unusable_replies_end_the_wait(recording: Path, api: Sandbox, clinic: Clinic) -> None:
    api.fault({"on": "status", "do": "html", "times": None})
    done = clinic.run("transcribe", str(recording))
    assert (done.returncode, done.stdout, api.stats()["status_calls"]) == (69, "", 3)
    assert "--request-id" in done.stderr


def test_a_wrong_status_path_is_named(tmp_path: Path, recording: Path) -> None:
    with a_clinic(tmp_path, "status-get") as (api, clinic):
        done = clinic.run("transcribe", str(recording))
        assert (done.returncode, done.stdout, uploads(api)) == (69, "", 1)
    assert "api.status_path" in done.stderr
    assert "--request-id" in done.stderr


def test_what_storage_refused_has_no_way_on(tmp_path: Path, recording: Path) -> None:
    with a_clinic(tmp_path, "upload-header") as (_api, clinic):
        done = clinic.run("transcribe", str(recording))
    assert (done.returncode, done.stdout) == (69, "")
    assert "upload.headers" in done.stderr
    assert "--request-id" not in done.stderr


def test_what_is_no_recording_is_not_sent(tmp_path: Path, api: Sandbox, clinic: Clinic) -> None:
    (tmp_path / "letter.wav").write_text("Dear colleague,\n")
    (tmp_path / "empty.wav").touch()
    os.mkfifo(tmp_path / "pipe.wav")
    expected = {
        "letter.wav": "does not accept",
        "empty.wav": "does not accept",
        "pipe.wav": "is not a regular file",
        ".": "is not a regular file",
        "missing.wav": "No such file",
    }
    for name, says in expected.items():
        for command in (("transcribe",), ("check", "--try")):
            done = clinic.run(*command, str(tmp_path / name))
            assert (done.returncode, done.stdout) == (1, ""), name
            assert says in done.stderr
    assert api.stats()["token_calls"] == 0


def test_a_reader_that_leaves_early(recording: Path, clinic: Clinic) -> None:
    command = " ".join(f"'{word}'" for word in clinic.command("transcribe", str(recording)))
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "0\n"
    assert re.fullmatch(rf"Request id: {REQUEST_ID}\n", done.stderr)


# ---- check --try -------------------------------------------------------------------------------------------

TRIED: dict[tuple[str, ...], int] = {
    (): 0,
    ("odd-ids",): 0,
    ("odd-ids", "odd-url", "presign-signedHeaders"): 0,
    ("presign-data", "token-data", "status-data"): 0,
    ("lifetime-jwt", "gzip"): 0,
    ("token-text",): 0,
    ("words-vtt", "speaker-name"): 0,
    ("words-string", "times-none"): 0,
    ("upload-500-taken",): 0,
    ("always-fails", "reason-message"): 1,
    ("no-permission", "error-details"): 77,
    ("version-2026", "error-details"): 77,
    ("token-bearer", "oauth-errors"): 77,
    ("token-odd",): 69,
    ("upload-header",): 69,
    ("upload-500-lost",): 69,
    ("web-filter-storage",): 77,
    ("status-get",): 69,
    ("status-get-query", "odd-ids"): 77,
    ("paths-v1",): 77,
}


@pytest.mark.parametrize(("names", "status"), TRIED.items(), ids=map("+".join, TRIED))
def test_a_trial_shows_no_value(names: tuple[str, ...], status: int, tmp_path: Path, recording: Path) -> None:
    with a_clinic(tmp_path, *names) as (api, clinic):
        done = clinic.run("check", "--try", str(recording))
        assert done.returncode == status, done.stdout
        assert uploads(api) <= 1
    text = done.stdout + done.stderr
    for hidden in (
        *WORDS,
        "Doctor",
        "smith",
        "jane",
        "Jane Roe",
        "sandbox-app",
        "sandbox-key",
        BASE64,
        "job#",
    ):
        assert hidden not in text
    assert RANDOM.search(text) is None, text
    assert len(re.findall(r"^Cost: ", text, re.MULTILINE)) == 1
    assert re.search(r"^(It works|No transcript): ", text, re.MULTILINE)


def test_an_error_that_echoes_what_was_sent(recording: Path, api: Sandbox, clinic: Clinic) -> None:
    echo = f"No: sandbox-key of sandbox-app, Basic {BASE64}, smith, jane.wav"
    api.fault({"on": "token", "do": "status", "status": 400, "body": {"message": echo, BASE64: "x"}})
    done = clinic.run("check", "--try", str(recording))
    assert "No: […] of […]" in done.stdout
    assert not any(secret in done.stdout for secret in ("sandbox-key", "sandbox-app", BASE64, "smith"))


def test_a_trial_can_be_stopped(tmp_path: Path, recording: Path) -> None:
    with a_clinic(tmp_path, result_delay_seconds=60) as (api, clinic):
        status, printed, said = interrupted(
            clinic, "check", "--try", str(recording), once=lambda: api.stats()["status_calls"] >= 2
        )
        assert (status, uploads(api)) == (130, 1)
    assert "4. asking for the result" in printed
    assert "Cost: storage acknowledged one recording of 0.5 s" in printed
    assert printed.endswith("No transcript: stopped before the result arrived.\n")
    assert RANDOM.search(printed + said) is None
