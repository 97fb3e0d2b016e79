"""Recordings that the API does not take: what a clinic gets for them, and what it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.sandbox.samples import speech_samples
from invox_watcher.sandbox.server import Sandbox
from tests.kit import dictations
from tests.kit.clinic import Clinic, running, sandbox
from tests.kit.recordings import make as make_recordings
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

SPEECH_SECONDS = 6


def sent_types(api: Sandbox) -> list[str]:
    return [request["mime_type"] for request in api.stats()["requests"] if request["uploads"]]


def reason(clinic: Clinic, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((clinic.failed / f"{name}.error.json").read_text())
    return content


def uploads(api: Sandbox) -> int:
    count: int = api.stats()["uploads"]
    return count


@pytest.fixture
def speech() -> Path:
    return speech_samples()[0]


def test_an_amr_is_uploaded_as_flac_and_filed_as_it_came(clinic: Clinic, api: Sandbox, speech: Path) -> None:
    original = dictations.make("voice.amr", speech, clinic.inbox, seconds=2).read_bytes()
    assert clinic.once() == 0
    transcript = clinic.transcript("voice.json")
    assert (clinic.done / "voice.amr").read_bytes() == original
    assert sent_types(api) == ["audio/flac"]
    assert transcript["prepared"]["mime_type"] == "audio/flac"
    assert transcript["prepared"]["sha256"][:12] in transcript["text"]  # the sandbox names what it got
    assert transcript["prepared"]["truncated"] is False
    assert transcript["source"]["size_bytes"] == len(original)
    assert transcript["source"]["duration_seconds"] == pytest.approx(2, abs=0.1)
    assert clinic.under_way() == []
    shown = clinic.run("show", transcript["job_id"]).stdout
    assert "prepared=audio/flac" in shown


def test_a_plain_wav_is_uploaded_as_it_came(clinic: Clinic, api: Sandbox) -> None:
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0
    assert sent_types(api) == ["audio/wav"]
    assert "prepared" not in clinic.transcript("smith.json")


def test_without_flac_a_wav_is_made(tmp_path: Path, api: Sandbox, speech: Path) -> None:
    types = {"base_url": api.base_url, "mime_types": ["audio/wav"]}
    clinic = Clinic(tmp_path / "clinic", api.base_url, api=types)
    dictations.make("voice.amr", speech, clinic.inbox, seconds=1)
    make_recordings(["cbr.mp3"], clinic.inbox)  # known, but not to this account
    assert clinic.once() == 0
    assert sent_types(api) == ["audio/wav", "audio/wav"]


@pytest.mark.needs  # minutes
@pytest.mark.slow
def test_speech_in_every_format_comes_back_as_its_words(tmp_path: Path, speech: Path) -> None:
    names = [*dictations.BY_FFMPEG, *dictations.BY_HAND]
    with sandbox(tmp_path / "api", recognizer="speech") as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        for name in names:  # the names of transcripts have no suffix
            folder = clinic.inbox / name.replace(".", "-")
            folder.mkdir()
            dictations.make(name, speech, folder, seconds=SPEECH_SECONDS)
        with running(clinic):
            wait_for("all are done", lambda: len(clinic.files(clinic.done)) == len(names), seconds=100)
        texts = {
            name: clinic.transcript(f"{name.replace('.', '-')}/{Path(name).stem}.json")["text"].lower()
            for name in names
        }
    for name, text in texts.items():
        print(f"{name}: {text}")
    assert [name for name, text in texts.items() if "best of times" not in text] == []
    assert [name for name, text in texts.items() if "worst of times" not in text] == []


# ---- dictation formats -------------------------------------------------------------------------------------


def test_a_ds2_is_uploaded_with_the_length_that_its_device_gives(clinic: Clinic, api: Sandbox) -> None:
    (clinic.inbox / "a.ds2").write_bytes(dictations.ds2_qp(500))
    assert clinic.once() == 0
    assert clinic.transcript("a.json")["source"]["duration_seconds"] == 8.0
    shown = clinic.run("show", clinic.transcript("a.json")["job_id"]).stdout
    assert "DR SMITH" in shown
    assert "2026-11-23T18:50:56" in shown


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (dictations.ds2_qp(500, seconds=20), "has recorded 20 s, but 8 s were decoded"),
        (dictations.ds2_qp(500, content=bytes(range(255, 0, -1))), "is noise"),
    ],
    ids=["length", "clipped"],
)
def test_noise_is_never_sent(clinic: Clinic, api: Sandbox, content: bytes, says: str) -> None:
    (clinic.inbox / "a.ds2").write_bytes(content)
    assert clinic.once() == 1
    assert reason(clinic, "a.ds2")["code"] == "decoded_wrongly"
    assert says in reason(clinic, "a.ds2")["message"]
    assert (clinic.failed / "a.ds2").read_bytes() == content
    assert api.stats()["presigns"] == 0
    assert clinic.under_way() == []


def test_a_missing_password_and_a_wrong_one_are_told_apart(tmp_path: Path, api: Sandbox) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("one\nother\n")
    content = dictations.encrypted_ds2(200, b"secret")
    found = []
    for number, keys in enumerate(({}, {"ds2_passwords_file": str(passwords)})):
        clinic = Clinic(tmp_path / str(number), api.base_url, intake=keys)
        (clinic.inbox / "a.ds2").write_bytes(content)
        assert clinic.once() == 1
        found.append(reason(clinic, "a.ds2")["code"])
    assert found == ["password_needed", "wrong_password"]
    # Once the right one is in the file, a retry opens it; made by hand, it holds noise.
    passwords.write_text("one\nother\nsecret\n")
    assert clinic.run("retry", "--code", "wrong_password").returncode == 0
    assert clinic.once() == 1
    assert reason(clinic, "a.ds2")["code"] == "decoded_wrongly"
    assert uploads(api) == 0
    assert "secret" not in clinic.log.read_text()


# ---- cut off -----------------------------------------------------------------------------------------------


@pytest.fixture
def cut(clinic: Clinic) -> Path:
    """An AIFF without its second half."""
    path = make_recordings(["sound.aiff"], clinic.inbox)["sound.aiff"]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.usefixtures("cut")
def test_what_was_cut_off_is_not_sent(clinic: Clinic, api: Sandbox) -> None:
    filed(clinic, 1)
    assert reason(clinic, "sound.aiff")["code"] == "truncated"
    assert "0.8 s of 1.7 s can be played" in reason(clinic, "sound.aiff")["message"]
    assert uploads(api) == 0


def filed(clinic: Clinic, count: int) -> None:
    """Run the daemon until so many recordings are filed; unfinished ones are waited for."""
    with running(clinic):
        wait_for(
            "all are filed",
            lambda: len(clinic.files(clinic.done)) + len(clinic.files(clinic.failed)) // 2 >= count,
        )


def cut_wav(clinic: Clinic) -> None:
    path = write_wav(clinic.inbox / "smith.wav", seconds=2)
    path.write_bytes(path.read_bytes()[:20_000])


def test_what_was_cut_off_is_sent_with_a_note_if_wanted(tmp_path: Path, api: Sandbox, cut: Path) -> None:
    clinic = Clinic(tmp_path / "other", api.base_url, intake={"on_truncated": "send"})
    cut.rename(clinic.inbox / "sound.aiff")
    cut_wav(clinic)  # a format of the API's
    filed(clinic, 2)
    for name in ("sound.json", "smith.json"):
        assert clinic.transcript(name)["prepared"]["truncated"] is True
    assert len(clinic.events("truncated_sent")) == 2


def test_a_cut_wav_fails_with_what_can_be_played(clinic: Clinic, api: Sandbox) -> None:
    cut_wav(clinic)
    filed(clinic, 1)
    assert reason(clinic, "smith.wav")["code"] == "truncated"
    assert "was cut off: 1.2 s can be played" in reason(clinic, "smith.wav")["message"]
    assert uploads(api) == 0


def test_what_was_cut_before_its_index_is_called_cut(clinic: Clinic, api: Sandbox) -> None:
    """An M4A ends with what decoders need first: nothing can be decoded, but that is not the reason."""
    path = make_recordings(["aac.m4a"], clinic.inbox)["aac.m4a"]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    filed(clinic, 1)
    assert reason(clinic, "aac.m4a")["code"] == "truncated"
    assert clinic.events("preparation_failed") != []


def test_what_only_its_header_calls_cut_is_sent(clinic: Clinic, api: Sandbox) -> None:
    """A box of 1.4 GB behind an M4A, which is no box; what its header declares of sound is all there."""
    path = make_recordings(["aac.m4a"], clinic.inbox)["aac.m4a"]
    with path.open("ab") as file:
        file.write(b"TAG" + b"x" * 125)
    filed(clinic, 1)
    assert clinic.files(clinic.done) == ["aac.m4a"]


# ---- once --------------------------------------------------------------------------------------------------


def test_the_same_content_is_neither_decoded_nor_uploaded_again(
    clinic: Clinic, api: Sandbox, speech: Path
) -> None:
    content = dictations.make("voice.amr", speech, clinic.inbox, seconds=1).read_bytes()
    assert clinic.once() == 0
    (clinic.inbox / "again.amr").write_bytes(content)
    assert clinic.once() == 0
    assert clinic.transcript("again.json")["text"] == clinic.transcript("voice.json")["text"]
    assert uploads(api) == 1
    assert len(clinic.events("prepared")) == 1


def test_a_retry_decodes_again(clinic: Clinic, api: Sandbox, speech: Path) -> None:
    dictations.make("voice.amr", speech, clinic.inbox, seconds=1)
    api.fault({"on": "upload", "do": "status", "status": 413})
    assert clinic.once() == 1
    assert clinic.under_way() == []
    assert clinic.run("retry", "--code", "too_large").returncode == 0
    assert clinic.once() == 0
    assert len(clinic.events("prepared")) == 2
    assert clinic.files(clinic.done) == ["voice.amr"]


def test_a_prepared_file_that_was_removed_is_made_again(tmp_path: Path, api: Sandbox, speech: Path) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    dictations.make("voice.amr", speech, clinic.inbox, seconds=1)
    api.fault({"on": "presign", "do": "status", "status": 503, "times": 50})
    process = clinic.start()
    try:
        wait_for("it is prepared, and the API refuses", lambda: clinic.events("step_retry") != [])
        process.kill()
        process.wait()
        next(iter(clinic.processing.glob("*/.invox-watcher-prepared.flac"))).unlink()
    finally:
        process.kill()
        process.wait()
    api.clear_faults()
    assert clinic.once() == 0
    assert uploads(api) == 1
    assert len(clinic.events("prepared")) == 2


# ---- without the extra -------------------------------------------------------------------------------------


def test_without_the_extra_a_recording_fails_with_advice(
    clinic: Clinic, api: Sandbox, tmp_path: Path
) -> None:
    make_recordings(["sound.aiff"], clinic.inbox)
    write_wav(clinic.inbox / "smith.wav")
    with running(clinic, dictations.without_extra(tmp_path / "site")):
        wait_for("both are filed", lambda: bool(clinic.files(clinic.failed) and clinic.files(clinic.done)))
    failed = reason(clinic, "sound.aiff")
    assert failed["code"] == "unsupported_format"
    assert "Convert it to WAV" in failed["hint"]
    assert "pip install 'PATH[formats]'" in failed["hint"]
    # Once it is installed, a retry helps.
    assert clinic.run("retry", "--code", "unsupported_format").returncode == 0
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["smith.wav", "sound.aiff"]
