"""FAULTS 50, 52–55, 65, 66: an API that is away, denies, answers oddly, or is not set up as we think."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from invox_watcher.sandbox.oddities import Kind
from invox_watcher.sandbox.server import Sandbox
from tests.faults.daemons import Daemons
from tests.faults.evidence import jobs, reason_for, uploaded
from tests.faults.promises import assert_kept, hashes
from tests.kit.clinic import Clinic, running, sandbox
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

CALLS = ("token", "presign", "upload", "status")
FEW: dict[str, Any] = {"retry": {"base_seconds": 0.02, "max_seconds": 0.1, "max_attempts": 3}}
NO_DOUBT: dict[str, Any] = {"polling": {"first_seconds": 0.05, "max_seconds": 0.1, "unknown_seconds": 0.2}}


def assert_one_is_done(clinic: Clinic, api: Sandbox) -> None:
    """A recording that comes now is done at the end of one run, with its transcript, and paid for once."""
    write_wav(clinic.inbox / "smith.wav")
    contents = hashes(clinic)
    assert clinic.once() == 0
    assert_kept(clinic, api, contents)


@pytest.fixture(scope="module")
def daemons() -> Iterator[Daemons]:
    made = Daemons()
    yield made
    made.close()


def waiting_for_its_result(clinic: Clinic, api: Sandbox) -> None:
    """One recording that is uploaded, and whose daemon was stopped then."""
    write_wav(clinic.inbox / "smith.wav")
    api.fault({"on": "status", "do": "status", "status": 503, "times": None})
    with running(clinic):
        wait_for("it is uploaded", lambda: clinic.events("uploaded") != [])
    api.clear_faults()


@pytest.mark.parametrize("stage", ["before the upload", "after it"])
@pytest.mark.parametrize("how", ["stopped", "killed", "reloaded", "by a timer"])
def test_50_restarts_in_an_outage_spend_no_attempt(
    tmp_path: Path, api: Sandbox, daemons: Daemons, how: str, stage: str
) -> None:
    """Twice as often as there are attempts, with one recording, whose calls are the only ones."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, **FEW)
    if stage == "after it":
        waiting_for_its_result(clinic, api)
    else:
        write_wav(clinic.inbox / "smith.wav")
    for operation in CALLS:
        api.fault({"on": operation, "do": "status", "status": 503, "times": None})
    for _time in range(6):
        if how == "by a timer":
            assert daemons.run(clinic, "run", "--once") == 69
            continue
        failed = len(clinic.events("breaker_opened"))
        daemon = daemons.start(clinic, "run")
        wait_for("it is an outage", lambda n=failed: len(clinic.events("breaker_opened")) > n)  # type: ignore[misc]
        if how == "reloaded":
            clinic.config.write_text(clinic.config.read_text() + "\n")
            daemon.signal(signal.SIGHUP)
            time.sleep(0.2)
        daemon.end(signal.SIGKILL if how == "killed" else signal.SIGTERM)
    assert [job["attempts"] for job in jobs(clinic)] == [0]
    assert clinic.files(clinic.failed) == []
    api.clear_faults()
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["smith.wav"]
    assert len(uploaded(api)) == 1


def test_52_a_404_for_what_was_acknowledged_is_pending(tmp_path: Path, api: Sandbox) -> None:
    """For longer than a denial is doubted, and over a restart."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, **NO_DOUBT)
    write_wav(clinic.inbox / "first.wav", pitch=500)
    assert clinic.once() == 0  # so that the path of the status call is known to be right
    waiting_for_its_result(clinic, api)
    api.fault({"on": "status", "do": "deny_acknowledged", "times": None})
    with running(clinic):
        write_wav(clinic.inbox / "jones.wav", pitch=600)
        wait_for("it is denied for long", lambda: clinic.events("request_unknown") != [])
        api.clear_faults()
        names = ["first.wav", "jones.wav", "smith.wav"]
        wait_for("all are done", lambda: clinic.files(clinic.done) == names)
    assert clinic.files(clinic.failed) == []
    assert denials(api) > 2
    assert len(uploaded(api)) == 3


def denials(api: Sandbox) -> int:
    return sum(request["denials"] for request in api.stats()["requests"])


@pytest.mark.parametrize("status", [102, 103])
def test_53_an_interim_answer_is_not_the_answer(clinic: Clinic, api: Sandbox, status: int) -> None:
    for operation in CALLS:
        api.fault({"on": operation, "do": "interim", "status": status, "times": None})
    assert_one_is_done(clinic, api)
    assert api.stats()["upload_attempts"] == 1


@pytest.mark.parametrize("status", [200, 202, 500, 502, 503])
def test_53_a_bare_status_after_all_bytes_is_asked_about(clinic: Clinic, api: Sandbox, status: int) -> None:
    api.fault({"on": "upload", "do": "status_instead", "status": status, "times": None})
    assert_one_is_done(clinic, api)
    assert api.stats()["upload_attempts"] == 1


def test_53_uploads_that_storage_loses_are_bounded(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", readings=("upload-500-lost",)) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url, **NO_DOUBT)
        write_wav(clinic.inbox / "smith.wav")
        assert clinic.once() == 1
        assert reason_for(clinic, "smith.wav")["code"] == "upload_lost"
        assert api.stats()["upload_attempts"] == 3


@pytest.mark.parametrize("kind", ["words_in_vtt_only", "null_transcription"])
def test_54_words_are_taken_from_the_vtt(clinic: Clinic, api: Sandbox, kind: str) -> None:
    api.fault({"on": "status", "do": "odd_result", "kind": kind, "times": None})
    assert_one_is_done(clinic, api)


@pytest.mark.parametrize(
    ("operation", "status"), [("token", 415), ("token", 404), ("presign", 400), ("presign", 404)]
)
def test_55_a_set_up_fault_fails_no_recording(
    clinic: Clinic, api: Sandbox, operation: str, status: int
) -> None:
    api.fault({"on": operation, "do": "status", "status": status, "times": None})
    for number in range(3):
        write_wav(clinic.inbox / f"{number}.wav", pitch=300 + number)
    contents = hashes(clinic)
    assert clinic.once() == 77
    assert clinic.files(clinic.failed) == []
    assert api.stats()["uploads"] == 0
    assert all(event["hint"] for event in clinic.events("api_refused"))
    api.clear_faults()
    assert clinic.once() == 0
    assert_kept(clinic, api, contents)


def test_65_one_unreadable_result_is_no_outage(tmp_path: Path, api: Sandbox) -> None:
    """It counts against its recording, and the next one does not wait."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, **FEW)
    api.fault({"on": "status", "do": "html", "times": None})
    with running(clinic):
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it has failed", lambda: clinic.files(clinic.failed) != [])
        api.clear_faults()
        write_wav(clinic.inbox / "jones.wav", pitch=600)
        wait_for("the next one is done", lambda: clinic.files(clinic.done) == ["jones.wav"], seconds=5)
    assert reason_for(clinic, "smith.wav")["code"] == "api_protocol"
    assert clinic.events("breaker_opened") == []
    assert clinic.run("retry", "--all").returncode == 0
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["jones.wav", "smith.wav"]
    assert len(uploaded(api)) == 2


@pytest.mark.parametrize("kind", get_args(Kind))
def test_66_an_odd_result_is_delivered_with_its_words(clinic: Clinic, api: Sandbox, kind: str) -> None:
    api.fault({"on": "status", "do": "odd_result", "kind": kind, "times": None})
    assert_one_is_done(clinic, api)
    transcript = clinic.transcript("smith.json")
    assert transcript["text"].count(transcript["source"]["sha256"][:12]) == 2  # its first and its last words
    assert transcript["api_reply"]
    assert clinic.events("step_retry") == []
