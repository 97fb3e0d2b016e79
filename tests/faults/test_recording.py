"""FAULTS.md 1-11: recordings that are empty, unfinished, changing, endless, gone, or no recordings at all.

Every fault is done to real files under a running daemon; then the folders, the log and the API tell the tale.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults.evidence import assert_all_quiet, assert_own_transcript, jobs, reason_for, sha256, uploaded
from tests.kit import recordings
from tests.kit.clinic import Clinic, running, sandbox
from tests.kit.dictations import without_extra
from tests.kit.recordings import write_sparse_wav, write_wav
from tests.kit.waiting import wait_for

# Unchanged for so long, an unfinished file is given up; long enough that no test comes there by accident.
PATIENT = {"settle_seconds": 0.3, "rescan_seconds": 1, "patience_seconds": 600}
MIB = 1 << 20


def endless_wav(seconds: float, folder: Path) -> bytes:
    """A recording as a streaming writer leaves it: no length in the header, so that only quiet can tell."""
    content = bytearray(write_wav(folder / "tone.wav", seconds=seconds).read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    return bytes(content)


def append(path: Path, content: bytes) -> None:
    """Open, write at the end, close: as a device does that stores what it has every now and then."""
    with path.open("ab") as file:
        file.write(content)


# ---- 1-4: not whole ----------------------------------------------------------------------------------------


def test_01_an_empty_file_fails_with_its_reason(clinic: Clinic, api: Sandbox) -> None:
    (clinic.inbox / "ward").mkdir()
    (clinic.inbox / "ward" / "empty.wav").touch()
    with running(clinic):
        wait_for("it is put aside", lambda: clinic.events("failed") != [])
    assert clinic.files(clinic.failed) == ["ward/empty.wav", "ward/empty.wav.error.json"]
    reason = reason_for(clinic, "ward/empty.wav")
    assert (reason["code"], reason["source"]["size_bytes"]) == ("empty", 0)
    assert reason["hint"]
    assert_all_quiet(clinic)
    assert clinic.files(clinic.outbox) == []
    assert api.stats()["presigns"] == api.stats()["upload_attempts"] == 0


def test_01_a_recording_emptied_after_its_claim_is_not_uploaded(clinic: Clinic, api: Sandbox) -> None:
    write_wav(clinic.inbox / "smith.wav")
    api.fault({"on": "presign", "do": "status", "status": 503, "times": None})
    assert clinic.once() == 69
    os.truncate(next(clinic.processing.rglob("smith.wav")), 0)
    api.clear_faults()
    assert clinic.once() == 1
    assert clinic.files(clinic.failed) == ["smith.wav", "smith.wav.error.json"]
    assert reason_for(clinic, "smith.wav")["code"] == "empty"
    assert clinic.files(clinic.outbox) == uploaded(api) == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["native", "polling"])
def test_02_a_slowly_growing_recording_is_one_job_once_quiet(tmp_path: Path, api: Sandbox, mode: str) -> None:
    watch = {"mode": mode, "settle_seconds": 3, "patience_seconds": 3, "polling_seconds": 0.3}
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=watch)
    content = endless_wav(3, tmp_path)
    step = len(content) // 40 + 1
    with running(clinic):
        for start in range(0, len(content), step):  # longer than our patience, and never quiet
            append(clinic.inbox / "slow.wav", content[start : start + step])
            time.sleep(0.1)
            assert clinic.files(clinic.inbox) == ["slow.wav"]
        assert clinic.events("claimed") == []
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["slow.wav"])
    assert_own_transcript(clinic, "slow.wav", content)
    assert uploaded(api) == [sha256(content)]
    assert len(jobs(clinic)) == 1


def test_02_a_recording_held_open_is_left_alone(clinic: Clinic, api: Sandbox) -> None:
    content = endless_wav(1, clinic.root)
    with running(clinic):
        with (clinic.inbox / "slow.wav").open("wb", buffering=0) as file:
            for start in range(0, len(content), len(content) // 2):
                file.write(content[start : start + len(content) // 2])
                time.sleep(0.8)  # more than twice the time after which a closed file counts as quiet
            assert clinic.events("claimed") == []
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["slow.wav"])
    assert_own_transcript(clinic, "slow.wav", content)
    assert uploaded(api) == [sha256(content)]


def test_03_preallocated_zeros_are_not_taken_before_filled(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=PATIENT)
    content = write_wav(tmp_path / "tone.wav", seconds=2).read_bytes()
    recording = clinic.inbox / "smith.wav"
    with running(clinic):
        with recording.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, len(content))
        wait_for("it is seen as unfinished", lambda: clinic.events("inbox_unfinished") != [])
        with recording.open("r+b") as file:  # the sound first, as encoders do that come back to the header
            file.seek(44)
            file.write(content[44:])
        time.sleep(1)
        assert clinic.files(clinic.inbox) == ["smith.wav"]
        with recording.open("r+b") as file:
            file.write(content[:44])
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
    assert_own_transcript(clinic, "smith.wav", content)
    assert uploaded(api) == [sha256(content)]


def test_03_a_copy_into_preallocated_space_is_taken_complete(tmp_path: Path, api: Sandbox) -> None:
    """From its first block on the header is whole, and so is the size: only the writer knows better."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=PATIENT)
    content = write_wav(tmp_path / "tone.wav", seconds=2).read_bytes()
    with running(clinic):
        with (clinic.inbox / "smith.wav").open("wb", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, len(content))
            for start in range(0, len(content), 8192):
                file.write(content[start : start + 8192])
                time.sleep(0.4)
            assert clinic.events("claimed") == []
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
    assert_own_transcript(clinic, "smith.wav", content)
    assert uploaded(api) == [sha256(content)]


def test_04_a_recording_shorter_than_its_header_fails(clinic: Clinic, api: Sandbox, tmp_path: Path) -> None:
    samples = recordings.make(["pcm.wav", "aac.m4a", "faststart.m4a"], tmp_path)
    names = sorted(samples)
    cut = {name: path.read_bytes()[: path.stat().st_size * 3 // 4] for name, path in samples.items()}
    with running(clinic):
        for name in names:
            (clinic.inbox / name).write_bytes(cut[name])
        wait_for("they are waited for", lambda: len(clinic.events("inbox_unfinished")) == len(names))
        wait_for("they are put aside", lambda: len(clinic.events("failed")) == len(names))
    assert clinic.files(clinic.failed) == sorted([*names, *(f"{name}.error.json" for name in names)])
    for name in names:
        assert (clinic.failed / name).read_bytes() == cut[name]
        assert reason_for(clinic, name)["code"] == "truncated"
        assert reason_for(clinic, name)["hint"]
    assert_all_quiet(clinic)
    assert api.stats()["presigns"] == 0


# ---- 5-7: changed while we work on it ----------------------------------------------------------------------


@pytest.mark.slow
def test_05_a_recording_growing_in_its_upload_is_sent_again(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", upload_bytes_per_second=4 * MIB) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        write_sparse_wav(clinic.root / "smith.wav", 8 * MIB)
        with running(clinic):
            os.rename(clinic.root / "smith.wav", clinic.inbox / "smith.wav")
            wait_for("the upload runs", lambda: api.stats()["upload_attempts"] == 1)
            append(next(clinic.processing.rglob("smith.wav")), b"\x01" * MIB)
            wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        whole = (clinic.done / "smith.wav").read_bytes()
        assert len(whole) == 9 * MIB
        assert_own_transcript(clinic, "smith.wav", whole)
        assert clinic.files(clinic.outbox) == ["smith.json", "smith.srt"]
        assert len(clinic.events("upload_discarded")) == 1
        first, last = api.stats()["requests"]
        assert (first["bytes"], last["sha256"]) == (8 * MIB, sha256(whole))  # no byte over what was promised
    (job,) = jobs(clinic)
    assert (job["state"], job["size_bytes"], job["sha256"]) == ("done", 9 * MIB, sha256(whole))


@pytest.mark.slow
def test_05_a_repeatedly_growing_recording_is_one_job(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", upload_bytes_per_second=4 * MIB) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        write_sparse_wav(clinic.root / "smith.wav", 2 * MIB)
        api.fault({"on": "status", "do": "latency", "seconds": 3, "times": None})  # time for each growth
        with running(clinic):
            os.rename(clinic.root / "smith.wav", clinic.inbox / "smith.wav")
            for attempt in (1, 2, 3):
                wait_for("an upload runs", lambda: api.stats()["upload_attempts"] == attempt)  # noqa: B023
                append(next(clinic.processing.rglob("smith.wav")), b"\x01\x02" * 500)
            api.clear_faults()
            wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert_own_transcript(clinic, "smith.wav", (clinic.done / "smith.wav").read_bytes())
        assert len(clinic.events("upload_discarded")) == 3
    assert len(jobs(clinic)) == 1


def test_05_growth_before_the_upload_is_paid_for_once(clinic: Clinic, api: Sandbox) -> None:
    write_wav(clinic.inbox / "smith.wav")
    api.fault({"on": "presign", "do": "status", "status": 503, "times": None})
    assert clinic.once() == 69
    recording = next(clinic.processing.rglob("smith.wav"))
    write_wav(recording, pitch=900, seconds=1)
    content = recording.read_bytes()
    api.clear_faults()
    assert clinic.once() == 0
    assert_own_transcript(clinic, "smith.wav", content)
    assert uploaded(api) == [sha256(content)]
    assert len(jobs(clinic)) == 1


@pytest.mark.parametrize("answer", ["comes late", "is lost"])
def test_05_a_recording_grown_after_its_upload_is_sent_whole(
    clinic: Clinic, api: Sandbox, answer: str
) -> None:
    write_wav(clinic.root / "smith.wav")
    whole = (clinic.root / "smith.wav").read_bytes() + b"\x01\x02" * 500
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    if answer == "is lost":
        api.fault({"on": "upload", "do": "drop_reply"})
    with running(clinic):
        os.rename(clinic.root / "smith.wav", clinic.inbox / "smith.wav")
        wait_for("the API has it", lambda: api.stats()["uploads"] == 1)
        wait_for("and was asked for it", lambda: api.stats()["status_calls"] > 1)
        append(next(clinic.processing.rglob("smith.wav")), b"\x01\x02" * 500)
        api.clear_faults()
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
    assert clinic.events("upload_discarded") != []
    assert_own_transcript(clinic, "smith.wav", whole)
    assert len(jobs(clinic)) == 1
    assert len(uploaded(api)) == 2


@pytest.mark.parametrize("moment", ["upload", "status"])
def test_05_a_recording_only_touched_is_not_sent_again(tmp_path: Path, moment: str) -> None:
    with sandbox(tmp_path / "api", upload_bytes_per_second=4 * MIB) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        write_sparse_wav(clinic.root / "smith.wav", 2 * MIB)
        content = (clinic.root / "smith.wav").read_bytes()
        api.fault({"on": "status", "do": "unknown_status", "times": None})
        with running(clinic):
            os.rename(clinic.root / "smith.wav", clinic.inbox / "smith.wav")
            sign = "upload_started" if moment == "upload" else "uploaded"
            wait_for("its moment", lambda: clinic.events(sign) != [])
            os.utime(next(clinic.processing.rglob("smith.wav")))
            api.clear_faults()
            wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert_own_transcript(clinic, "smith.wav", content)
        assert uploaded(api) == [sha256(content)]
        assert clinic.events("upload_discarded") == []


def test_05_a_recording_that_never_stops_changing_fails(clinic: Clinic, api: Sandbox) -> None:
    write_wav(clinic.root / "smith.wav")
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    with running(clinic):
        os.rename(clinic.root / "smith.wav", clinic.inbox / "smith.wav")
        wait_for("it is waited for", lambda: clinic.events("uploaded") != [])
        recording = next(clinic.processing.rglob("smith.wav"))
        append(recording, b"\x01\x02")
        api.clear_faults()

        def put_aside() -> bool:
            with contextlib.suppress(FileNotFoundError), recording.open("r+b") as file:  # never a new file
                file.seek(0, os.SEEK_END)
                file.write(b"\x01\x02")
            return clinic.events("failed") != []

        wait_for("it is put aside", put_aside, seconds=40)
    reason = reason_for(clinic, "smith.wav")
    assert reason["code"] in ("still_changing", "changing")
    assert reason["retry_can_help"]
    assert len(uploaded(api)) < 6
    assert clinic.files(clinic.outbox) == []


def test_07_an_overwritten_recording_gets_its_own_transcript(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", upload_bytes_per_second=2 * MIB) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        write_sparse_wav(clinic.root / "smith.wav", 2 * MIB)
        old = (clinic.root / "smith.wav").read_bytes()
        (clinic.root / "again.wav").write_bytes(old)
        api.fault({"on": "status", "do": "unknown_status", "times": None})
        with running(clinic):
            os.rename(clinic.root / "smith.wav", clinic.inbox / "smith.wav")
            wait_for("an upload runs", lambda: api.stats()["upload_attempts"] == 1)
            os.rename(clinic.root / "again.wav", clinic.inbox / "again.wav")
            wait_for("the other follows", lambda: clinic.events("duplicate") != [])
            with next(clinic.processing.rglob("smith.wav")).open("r+b") as file:
                file.seek(MIB)
                file.write(b"other words")
            api.clear_faults()
            wait_for("both are done", lambda: clinic.files(clinic.done) == ["again.wav", "smith.wav"])
        new = (clinic.done / "smith.wav").read_bytes()
        assert new != old
        assert_own_transcript(clinic, "smith.wav", new)
        assert_own_transcript(clinic, "again.wav", old)


def test_06_a_shrinking_recording_ends_its_upload_at_once(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", upload_bytes_per_second=4 * MIB) as api:
        # A minute is what waiting for the missing bytes would take: longer than this test waits.
        clinic = Clinic(tmp_path / "clinic", api.base_url, upload={"workers": 1})
        write_sparse_wav(clinic.root / "smith.wav", 32 * MIB)
        with running(clinic):
            os.rename(clinic.root / "smith.wav", clinic.inbox / "smith.wav")
            wait_for("the upload runs", lambda: api.stats()["upload_attempts"] == 1)
            os.truncate(next(clinic.processing.rglob("smith.wav")), 100_000)
            wait_for("the attempt ends", lambda: clinic.events("failed") != [])
            write_wav(clinic.inbox / "next.wav")
            wait_for("its only worker is free", lambda: clinic.files(clinic.done) == ["next.wav"])
        assert clinic.files(clinic.failed) == ["smith.wav", "smith.wav.error.json"]
        assert (clinic.failed / "smith.wav").stat().st_size == 100_000
        reason = reason_for(clinic, "smith.wav")
        assert reason["code"] == "changed_during_upload"
        assert "to the inbox again" in reason["hint"]
        assert clinic.files(clinic.outbox) == ["next.json", "next.srt"]
        assert uploaded(api) == [sha256((clinic.done / "next.wav").read_bytes())]


@pytest.mark.parametrize("moment", ["upload", "status"])
def test_07_a_new_recording_of_the_same_name_is_a_new_job(tmp_path: Path, moment: str) -> None:
    with sandbox(tmp_path / "api") as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        old = write_wav(clinic.inbox / "smith.wav").read_bytes()
        new = write_wav(clinic.root / "new.wav", pitch=900).read_bytes()
        api.fault({"on": moment, "do": "latency", "seconds": 1})
        with running(clinic):
            wait_for("the old one is taken", lambda: clinic.events("upload_started") != [])
            os.rename(clinic.root / "new.wav", clinic.inbox / "smith.wav")
            wait_for("both are done", lambda: len(clinic.files(clinic.done)) == 2)
        assert clinic.files(clinic.done) == ["smith-2.wav", "smith.wav"]
        contents = {(clinic.done / name).read_bytes() for name in clinic.files(clinic.done)}
        assert contents == {old, new}
        for name in clinic.files(clinic.done):
            assert_own_transcript(clinic, name, (clinic.done / name).read_bytes())
        assert uploaded(api) == sorted([sha256(old), sha256(new)])
    assert [job["path"] for job in jobs(clinic)] == ["smith.wav", "smith.wav"]


def test_07_a_recording_replaced_at_its_claim_is_never_mixed(clinic: Clinic, api: Sandbox) -> None:
    contents = {}
    for number in range(100):
        path = write_wav(clinic.root / f"{number}.wav", pitch=300 + number, seconds=0.05 + number / 1000)
        contents[path.read_bytes()] = 0.05 + number / 1000
    chance = random.Random(7)
    with running(clinic):
        for number in range(100):
            os.replace(clinic.root / f"{number}.wav", clinic.inbox / "smith.wav")
            time.sleep(chance.uniform(0, 0.01))
        wait_for(
            "all that were taken are done", lambda: clinic.files(clinic.inbox) == [] == clinic.under_way()
        )
    done = clinic.files(clinic.done)
    assert list(contents)[-1] in [(clinic.done / name).read_bytes() for name in done]
    for name in done:
        content = (clinic.done / name).read_bytes()
        assert_own_transcript(clinic, name, content)
        seconds = clinic.transcript(name.replace(".wav", ".json"))["source"]["duration_seconds"]
        assert seconds == pytest.approx(contents[content], abs=0.001)  # of these bytes, too
    assert uploaded(api) == sorted(sha256((clinic.done / name).read_bytes()) for name in done)
    assert len(jobs(clinic)) == len(done)
    assert clinic.files(clinic.failed) == []


# ---- 8-9: without end --------------------------------------------------------------------------------------


def test_08_a_writer_that_never_stops_is_reported_once(tmp_path: Path, api: Sandbox) -> None:
    watch = {"settle_seconds": 3, "patience_seconds": 3}  # the shell may be held up
    clinic = Clinic(tmp_path / "clinic", api.base_url, intake={"max_size_mib": 1}, watch=watch)
    shell = 'i=0; while :; do head -c 65536 /dev/zero >> "$0"; sleep 0.05; done'
    with running(clinic):
        append(clinic.inbox / "endless.wav", endless_wav(0.1, tmp_path))
        writer = subprocess.Popen(["sh", "-c", shell, str(clinic.inbox / "endless.wav")])
        try:
            wait_for("it is reported", lambda: clinic.events("inbox_unfinished") != [])
            write_wav(clinic.inbox / "other.wav")
            wait_for("others go on", lambda: clinic.files(clinic.done) == ["other.wav"])
            wait_for("it is over the limit", lambda: size(clinic.inbox / "endless.wav") > 2 * MIB)
            assert [event["reason"] for event in clinic.events("inbox_unfinished")] == ["still growing"]
            assert [event["level"] for event in clinic.events("inbox_unfinished")] == ["warning"]
            assert writer.poll() is None
        finally:
            writer.kill()
            writer.wait()
        wait_for("it is put aside once it stops", lambda: clinic.events("failed") != [])
    assert clinic.files(clinic.failed) == ["endless.wav", "endless.wav.error.json"]
    assert reason_for(clinic, "endless.wav")["code"] == "too_large"
    assert len(api.stats()["requests"]) == 1  # the other one


def size(path: Path) -> int:
    """In bytes."""
    return path.stat().st_size


def test_09_a_terabyte_of_zeros_is_refused_unread(clinic: Clinic, api: Sandbox) -> None:
    with running(clinic):
        with (clinic.inbox / "huge.wav").open("wb") as file:
            file.write(b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + b"WAVEfmt ")
            file.truncate(1 << 40)
        wait_for("it is put aside", lambda: clinic.events("failed") != [])  # to read it takes minutes
    assert clinic.files(clinic.failed) == ["huge.wav", "huge.wav.error.json"]
    assert size(clinic.failed / "huge.wav") == 1 << 40
    reason = reason_for(clinic, "huge.wav")
    assert reason["code"] == "too_large"
    assert (reason["source"]["format"], reason["source"]["sha256"]) == ("unknown", None)  # not even its head
    assert api.stats()["presigns"] == 0


# ---- 10: gone ----------------------------------------------------------------------------------------------


def test_10_a_recording_removed_before_its_claim_is_no_error(clinic: Clinic, api: Sandbox) -> None:
    chance = random.Random(10)
    taken = 0
    with running(clinic):
        for number in range(60):
            write_wav(clinic.root / "new.wav", seconds=0.1, pitch=300 + number)
            os.rename(clinic.root / "new.wav", clinic.inbox / f"{number}.wav")
            time.sleep(chance.uniform(0, 0.02))
            try:
                (clinic.inbox / f"{number}.wav").unlink()
            except FileNotFoundError:
                taken += 1
        write_wav(clinic.inbox / "last.wav", pitch=200)
        wait_for("all that were taken are done", lambda: len(clinic.files(clinic.done)) == taken + 1)
    assert clinic.files(clinic.failed) == []
    assert_all_quiet(clinic)
    assert [event for event in clinic.events() if event["level"] in ("warning", "error")] == []
    assert len(uploaded(api)) == len(jobs(clinic)) == taken + 1


def test_10_a_recording_removed_before_its_upload_vanishes_once(clinic: Clinic, api: Sandbox) -> None:
    write_wav(clinic.inbox / "smith.wav")
    api.fault({"on": "presign", "do": "status", "status": 500, "times": None})
    with running(clinic):
        wait_for("it is tried", lambda: clinic.events("step_retry") != [])
        next(clinic.processing.rglob("smith.wav")).unlink()
        wait_for("it is noticed", lambda: clinic.events("vanished") != [])
        api.clear_faults()
        write_wav(clinic.inbox / "next.wav", pitch=300)
        wait_for("others go on", lambda: clinic.files(clinic.done) == ["next.wav"])
    assert clinic.once() == 0
    assert [event["level"] for event in clinic.events("vanished")] == ["error"]
    assert [job["path"] for job in jobs(clinic, "--state", "vanished")] == ["smith.wav"]
    assert clinic.files(clinic.outbox) == ["next.json", "next.srt"]
    assert clinic.files(clinic.failed) == []
    assert_all_quiet(clinic)


def test_10_a_recording_removed_after_its_upload_is_transcribed(clinic: Clinic, api: Sandbox) -> None:
    write_wav(clinic.inbox / "smith.wav")
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    with running(clinic):
        wait_for("it is uploaded", lambda: clinic.events("uploaded") != [])
        next(clinic.processing.rglob("smith.wav")).unlink()
        api.clear_faults()
        wait_for("it is closed", lambda: clinic.events("done") != [])
    assert clinic.once() == 0
    assert clinic.files(clinic.outbox) == ["smith.json", "smith.srt"]
    assert [event["level"] for event in clinic.events("vanished")] == ["error"]
    assert_all_quiet(clinic)


# ---- 11: something else ------------------------------------------------------------------------------------

# name in the inbox: what it really is, a recipe of tests.kit.recordings
TAKEN = {
    "mp3 named.wav": ("vbr.mp3", "audio/mp3"),
    "wav named.mp3": ("pcm.wav", "audio/wav"),
    "m4a named.wav": ("aac.m4a", "audio/m4a"),
    "a film by its brand.m4a": ("sound_only.mp4", "audio/m4a"),
    "ogg named.mp3": ("opus.ogg", "audio/ogg"),
    "no suffix": ("s16.flac", "audio/flac"),
}
# name in the inbox: (its content, a recipe or the bytes), reason, format, what to do
DICTATION = bytes(1532) + b"\x0f\x03" * 256
REFUSED: dict[str, tuple[str | bytes, str, str, str]] = {
    "text.wav": (b"Dear colleague,\nthank you for this patient.\n" * 9, "not_audio", "plain text", ""),
    "letter.wav": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj" + bytes(500), "not_audio", "PDF", ""),
    "photo.wav": ("photo.jpg", "not_audio", "JPEG", ""),
    "film.m4a": ("film.mp4", "unsupported_format", "MP4 video", "audio track"),
    "device.wav": (b"\x03dss" + DICTATION, "unsupported_format", "DSS", "dictation device"),
    "device.dss": (b"\x02dss" + DICTATION, "unsupported_format", "DSS", "dictation device"),
    "device.ds2": (b"\x03ds2" + DICTATION, "unsupported_format", "DS2", "dictation device"),
    "locked.ds2": (b"\x03enc" + DICTATION, "unsupported_format", "encrypted", "dictation device"),
    "phone.amr": (b"#!AMR\n" + b"\x3c\x91\x17" * 700, "unsupported_format", "AMR", "Convert"),
    "windows.mp3": ("sound.wma", "unsupported_format", "WMA", "Convert"),
}


def test_11_a_recording_is_announced_by_its_content(clinic: Clinic, api: Sandbox, tmp_path: Path) -> None:
    samples = recordings.make({recipe for recipe, _type in TAKEN.values()}, tmp_path)
    announced = {sha256(samples[recipe].read_bytes()): type for recipe, type in TAKEN.values()}
    for name, (recipe, _type) in TAKEN.items():
        shutil.copy(samples[recipe], clinic.inbox / name)
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == sorted(TAKEN)
    assert {request["sha256"]: request["mime_type"] for request in api.stats()["requests"]} == announced
    for name, (recipe, type) in TAKEN.items():
        assert_own_transcript(clinic, name, samples[recipe].read_bytes())
        assert clinic.transcript(os.path.splitext(name)[0] + ".json")["source"]["mime_type"] == type


def test_11_an_unsupported_file_fails_with_advice(clinic: Clinic, api: Sandbox, tmp_path: Path) -> None:
    recipes = {content for content, *_rest in REFUSED.values() if isinstance(content, str)}
    samples = recordings.make(recipes, tmp_path)
    contents = {
        name: samples[content].read_bytes() if isinstance(content, str) else content
        for name, (content, *_rest) in REFUSED.items()
    }
    for name, content in contents.items():
        (clinic.inbox / name).write_bytes(content)
    with running(clinic, without_extra(tmp_path / "site")):
        wait_for("all have failed", lambda: len(clinic.files(clinic.failed)) == 2 * len(REFUSED))
    assert clinic.files(clinic.failed) == sorted([*REFUSED, *(f"{name}.error.json" for name in REFUSED)])
    for name, (_content, code, format, advice) in REFUSED.items():
        reason = reason_for(clinic, name)
        assert (clinic.failed / name).read_bytes() == contents[name]
        assert (name, reason["code"]) == (name, code)
        assert format in reason["message"]
        assert advice in reason["hint"]
        assert reason["hint"]
        assert ("[formats]" in reason["hint"]) is reason["retry_can_help"] is (code == "unsupported_format")
    assert_all_quiet(clinic)
    assert clinic.files(clinic.outbox) == []
    assert api.stats()["presigns"] == 0
