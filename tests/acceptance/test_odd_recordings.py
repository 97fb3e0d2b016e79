"""Recordings with odd headers through the daemon: sent as they are, or refused by the right name, in time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, running
from tests.kit.dictations import without_extra
from tests.kit.odd_recordings import le32, wav_sizes, with_chunk
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

PATIENT = {"settle_seconds": 0.3, "grace_seconds": 0.05, "unproven_seconds": 0.3, "patience_seconds": 600}


@pytest.fixture
def wav(clinic: Clinic) -> bytes:
    return write_wav(clinic.root / "made.wav", seconds=5, rate=16000).read_bytes()


@pytest.fixture
def patient(clinic: Clinic, api: Sandbox) -> Clinic:
    """Nothing may need the patience that a copy gets which was interrupted."""
    return Clinic(clinic.root, api.base_url, watch=PATIENT)


def test_complete_files_with_sizes_of_pipes_are_transcribed(
    patient: Clinic, api: Sandbox, wav: bytes
) -> None:
    sound = len(wav) - 44
    files = {
        "mpg123.wav": wav_sizes(wav, sound=0),
        "arecord.wav": wav_sizes(wav, sound=0x80000000, riff=0x80000024),
        "gst.wav": wav_sizes(wav, sound=0x7FFF0000, riff=0x7FFF0024),
        "sloppy.wav": wav_sizes(wav, sound=sound + 28),
        "twice.wav": wav_sizes(wav, sound=2 * sound),
        "riff.wav": wav_sizes(wav, riff=10 * sound),
    }
    for name, data in files.items():
        (patient.inbox / name).write_bytes(data)
    assert patient.once() == 0
    assert patient.files(patient.done) == sorted(files)
    assert api.stats()["uploads"] == len(files)
    for name in files:
        source = patient.transcript(name.replace(".wav", ".json"))["source"]
        assert source["duration_seconds"] == pytest.approx(5, abs=0.01)
    doubted = {event["reason"] for event in patient.events("recording_doubtful")}
    assert any("28 bytes of sound too many" in reason for reason in doubted)
    assert any("counts no sound" in reason for reason in doubted)


def put_odd_ones(clinic: Clinic, wav: bytes) -> None:
    (clinic.inbox / "pressed.wav").write_bytes(wav_sizes(wav, sound=0)[:44])
    (clinic.inbox / "unpadded.wav").write_bytes(with_chunk(wav, b"note" + le32(7) + b"patient"))
    (clinic.inbox / "lies.wav").write_bytes(wav_sizes(wav, sound=1000))
    (clinic.inbox / "memo.dvf").write_bytes(b"MS_VOICE" + bytes(range(256)) * 20)


def test_refusals_say_what_is_wrong_and_come_at_once(
    patient: Clinic, api: Sandbox, wav: bytes, tmp_path: Path
) -> None:
    put_odd_ones(patient, wav)
    with running(patient, without_extra(tmp_path / "site")):
        wait_for("all have failed", lambda: len(patient.files(patient.failed)) == 8)
    reasons = {}
    for path in patient.failed.glob("*.error.json"):
        reasons[path.name.partition(".")[0]] = json.loads(path.read_text())
    assert {name: reason["code"] for name, reason in reasons.items()} == {
        "pressed": "empty",
        "unpadded": "unsupported_format",
        "lies": "unsupported_format",
        "memo": "unsupported_format",
    }
    assert "contains no sound" in reasons["pressed"]["message"]
    assert "a chunk that is not padded" in reasons["unpadded"]["message"]
    assert "header covers 1,000 of 160,000 bytes" in reasons["lies"]["message"]
    assert "Sony DVF" in reasons["memo"]["message"]
    assert api.stats()["uploads"] == 0


def test_the_decoder_finds_all_the_sound_behind_odd_headers(
    patient: Clinic, api: Sandbox, wav: bytes
) -> None:
    put_odd_ones(patient, wav)
    (patient.inbox / "tag.wav").write_bytes(b"ID3\4\0\0\0\0\1\0" + bytes(128) + wav)
    assert patient.once() == 1
    assert patient.files(patient.done) == ["lies.wav", "tag.wav", "unpadded.wav"]
    for name in ("lies", "tag", "unpadded"):
        transcript = patient.transcript(f"{name}.json")
        assert transcript["prepared"]["mime_type"] == "audio/flac"
        assert transcript["source"]["duration_seconds"] == pytest.approx(5, abs=0.01)
    assert api.stats()["uploads"] == 3


def test_a_file_incomplete_for_ever_fails_also_by_a_timer(clinic: Clinic, api: Sandbox, wav: bytes) -> None:
    """Each run is shorter than the patience, and the next one counts on."""
    (clinic.inbox / "cut.wav").write_bytes(wav[: len(wav) * 6 // 10])
    started = time.monotonic()
    statuses = [clinic.once()]
    while statuses[-1] == 75:
        assert time.monotonic() - started < 60
        time.sleep(0.5)
        statuses.append(clinic.once())
    assert statuses[0] == 75  # try later
    assert statuses[-1] == 1
    assert clinic.files(clinic.failed) == ["cut.wav", "cut.wav.error.json"]
    assert json.loads((clinic.failed / "cut.wav.error.json").read_text())["code"] == "truncated"
    assert "cut" not in (clinic.root / "state" / "unfinished.json").read_text()  # no name is written down
    assert api.stats()["uploads"] == 0
