"""When the API, the account or the disk is ill: what a person then finds in the folders and in the log.

Every test runs the daemon as a process of its own against the stand-in API with faults asked for.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.config import load
from invox_watcher.daemon import api_of, client_of, folders_of
from invox_watcher.errors import UploadUncertainError
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.pipeline import Pipeline, Rules
from invox_watcher.sandbox.server import Sandbox
from invox_watcher.sandbox.settings import ReplyShape
from invox_watcher.store import Journal
from tests.support import Clinic, running, sandbox, wait_for, write_sparse_wav, write_wav

QUICK = {"settle_seconds": 0.05, "rescan_seconds": 1, "patience_seconds": 1.5}
OUTAGE = ("token", "presign", "upload", "status")


@pytest.fixture
def clinic(tmp_path: Path, api: Sandbox) -> Clinic:
    """A clinic that settles quickly, with one recording in its inbox."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    write_wav(clinic.inbox / "smith.wav")
    return clinic


def assert_done(clinic: Clinic, *names: str) -> None:
    """These recordings are in done/ with their transcripts, and nothing lies anywhere else."""
    assert clinic.files(clinic.done) == sorted(names)
    stems = [name.removesuffix(".wav") for name in names]
    outputs = sorted(f"{stem}.{suffix}" for stem in stems for suffix in ("json", "srt"))
    assert clinic.files(clinic.outbox) == outputs
    assert clinic.files(clinic.failed) == clinic.files(clinic.inbox) == []
    assert list(clinic.processing.iterdir()) == []


def reason_for(clinic: Clinic, name: str) -> dict[str, Any]:
    """The error file beside a failed recording, and nothing delivered."""
    assert clinic.files(clinic.failed) == [name, f"{name}.error.json"]
    assert clinic.files(clinic.outbox) == clinic.files(clinic.done) == clinic.files(clinic.inbox) == []
    reason: dict[str, Any] = json.loads((clinic.failed / f"{name}.error.json").read_text())
    return reason


def kept(clinic: Clinic) -> list[str]:
    """The names of the recordings that wait, in the inbox or in processing/."""
    waiting = clinic.files(clinic.inbox) + clinic.files(clinic.processing)
    return sorted(os.path.basename(path) for path in waiting)


# ---- faults that pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "presigns"),
    [
        ({"on": "presign", "do": "status", "status": 503, "times": 2}, 1),
        ({"on": "token", "do": "reset"}, 1),
        ({"on": "presign", "do": "missing_field", "field": "presignedUrl"}, 2),
        ({"on": "presign", "do": "status", "status": 401}, 1),
        ({"on": "upload", "do": "status", "status": 503}, 2),
        ({"on": "upload", "do": "status", "status": 403}, 2),
        ({"on": "status", "do": "html"}, 1),
        ({"on": "status", "do": "truncate"}, 1),
        ({"on": "status", "do": "unknown_status", "value": "QUEUED"}, 1),
        ({"on": "status", "do": "status", "status": 404, "body": {"errorType": "transcriptionNotFound"}}, 1),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_fault_that_passes(clinic: Clinic, api: Sandbox, fault: dict[str, Any], presigns: int) -> None:
    api.fault(fault)
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    assert (api.stats()["uploads"], api.stats()["presigns"]) == (1, presigns)


def test_retry_after_is_waited_for_and_clamped(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(
        tmp_path / "clinic", api.base_url, watch=QUICK, retry={"base_seconds": 0.1, "max_seconds": 0.8}
    )
    write_wav(clinic.inbox / "smith.wav")
    api.fault({"on": "presign", "do": "status", "status": 429, "retry_after": 86400})
    api.fault({"on": "presign", "do": "status", "status": 429, "retry_after": -5})
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    first, second = (event["after_seconds"] for event in clinic.events("step_retry"))
    assert first == 0.8
    assert second <= 0.2


def test_an_upload_that_breaks_off_is_sent_again(clinic: Clinic, api: Sandbox) -> None:
    write_sparse_wav(clinic.inbox / "smith.wav", 16 << 20)
    api.fault({"on": "upload", "do": "close_after_bytes", "bytes": 100_000})
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    stats = api.stats()
    assert (stats["uploads"], stats["upload_attempts"], stats["presigns"]) == (1, 2, 2)
    assert [event["code"] for event in clinic.events("step_retry")] == ["upload_interrupted"]


@pytest.mark.parametrize("unuploaded", ["unknown", "pending"])
def test_an_upload_whose_answer_is_lost_is_asked_about_not_sent_again(
    tmp_path: Path, unuploaded: str
) -> None:
    with sandbox(tmp_path / "api", unuploaded_status=unuploaded) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
        write_wav(clinic.inbox / "smith.wav")
        api.fault({"on": "upload", "do": "drop_reply"})
        assert clinic.once() == 0
        assert_done(clinic, "smith.wav")
        stats = api.stats()
    assert len(clinic.events("upload_uncertain")) == 1
    assert (stats["uploads"], stats["upload_attempts"], stats["presigns"]) == (1, 1, 1)


def test_an_upload_that_got_lost_without_a_word_is_sent_again(clinic: Clinic, api: Sandbox) -> None:
    api.fault({"on": "upload", "do": "silence", "seconds": 0.1})
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    stats = api.stats()
    assert len(clinic.events("upload_uncertain")) == 1
    assert (stats["uploads"], stats["upload_attempts"], stats["presigns"]) == (1, 2, 2)
    assert stats["status_calls"] >= 3  # asked twice before it was sent again


def test_an_upload_of_unknown_fate_is_waited_for_as_long_as_a_job_may_take(tmp_path: Path) -> None:
    """An API that calls an upload pending which never came: only the clock is not the real one."""
    now = 0.0
    with sandbox(tmp_path / "api", unuploaded_status="pending") as api, contextlib.ExitStack() as stack:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        config = load(clinic.config)
        client = stack.enter_context(contextlib.closing(client_of(config)))
        journal = stack.enter_context(contextlib.closing(Journal(tmp_path)))
        folders = folders_of(config)
        folders.prepare()
        pipeline = Pipeline(
            folders=folders, journal=journal, api=api_of(config, client), rules=Rules(),
            stop=threading.Event(), clock=lambda: now,
        )  # fmt: skip
        seen = write_wav(clinic.inbox / "smith.wav").stat()
        job = Job(
            id=new_job_id(), state=State.CLAIMED, path="smith.wav", size_bytes=seen.st_size,
            device=seen.st_dev, inode=seen.st_ino, mtime_ns=seen.st_mtime_ns, received_at=datetime.now(UTC),
            mime_type="audio/wav", duration_seconds=3600.0,
        )  # fmt: skip
        assert pipeline.claim(job)
        job = pipeline.advance(job).job
        api.fault({"on": "upload", "do": "silence", "seconds": 0.2})
        with pytest.raises(UploadUncertainError):
            pipeline.advance(job)
        job = journal.jobs()[0]
        while now < 3600:  # as long as the recording lasts, and longer than any outage
            following = pipeline.advance(job)
            assert following.job.state is State.UPLOADING
            assert following.after_seconds > 0
            now += max(following.after_seconds, 300)
        assert api.stats()["upload_attempts"] == 1
        now += 24 * 3600
        job = pipeline.advance(job).job
        assert pipeline.advance(job).job.state is State.WAITING
        assert (api.stats()["uploads"], api.stats()["upload_attempts"]) == (1, 2)


def test_tokens_that_expire_under_load_cost_one_refresh_each(tmp_path: Path) -> None:
    # A bare token tells no lifetime, so that the daemon learns of its end by a 401 in many threads at once.
    shape = ReplyShape(token_field="token")
    with sandbox(
        tmp_path / "api", token_lifetime_seconds=1, result_delay_seconds=1.5, reply_shape=shape
    ) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK, upload={"workers": 8})
        names = [f"{number}.wav" for number in range(16)]
        for number, name in enumerate(names):
            write_wav(clinic.inbox / name, pitch=300 + number, seconds=0.1)
        began = time.monotonic()
        assert clinic.once() == 0
        seconds = time.monotonic() - began
        assert_done(clinic, *names)
        assert clinic.events("step_retry", "failing", "api_refused") == []
        assert 2 <= api.stats()["tokens"] <= 1 + seconds  # each lives for one second


# ---- faults that don't pass --------------------------------------------------------------------------------


def test_a_url_refused_three_times_fails_the_recording(clinic: Clinic, api: Sandbox) -> None:
    api.fault({"on": "upload", "do": "status", "status": 403, "times": 3})
    assert clinic.once() == 1
    reason = reason_for(clinic, "smith.wav")
    assert reason["code"] == "upload_url_refused"
    assert "403 (AccessDenied)" in reason["message"]
    assert "clock" in reason["hint"]
    assert reason["request_id"] is None  # nothing was uploaded under any of them
    assert api.stats()["presigns"] == 3


def test_an_error_result_is_filed_and_retry_brings_it_back(clinic: Clinic, api: Sandbox) -> None:
    api.fault({"on": "status", "do": "error_result", "message": "No speech was found."})
    assert clinic.once() == 1
    reason = reason_for(clinic, "smith.wav")
    assert reason["code"] == "transcription_failed"
    assert reason["stage"] == "waiting"
    assert "No speech was found." in reason["message"]
    assert "retry" in reason["hint"]
    assert reason["retry_can_help"] is True
    assert reason["request_id"] == api.stats()["requests"][0]["id"]

    assert clinic.run("retry", reason["job_id"]).returncode == 0
    assert clinic.files(clinic.failed) == []
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    assert api.stats()["uploads"] == 2  # the API had given its last word on the first one


def test_a_result_that_never_comes_is_given_up_and_retry_asks_before_it_sends(
    tmp_path: Path, api: Sandbox
) -> None:
    polling = {"first_seconds": 0.1, "max_seconds": 0.2, "deadline_seconds": 0.5}
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK, polling=polling)
    write_wav(clinic.inbox / "smith.wav")
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    assert clinic.once() == 1
    reason = reason_for(clinic, "smith.wav")
    assert reason["code"] == "deadline"
    assert {event["status"] for event in clinic.events("api_status_unknown")} == {"QUEUED"}

    api.clear_faults()
    assert clinic.run("retry", "--all").returncode == 0
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    assert (api.stats()["uploads"], api.stats()["presigns"]) == (1, 1)
    assert clinic.transcript("smith.json")["request_id"] == reason["request_id"]


def test_a_copy_of_a_recording_that_was_given_up_asks_before_it_sends(tmp_path: Path, api: Sandbox) -> None:
    polling = {"first_seconds": 0.1, "max_seconds": 0.2, "deadline_seconds": 2}
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK, polling=polling)
    write_wav(clinic.inbox / "smith.wav")
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    with running(clinic):
        wait_for("the first is uploaded", lambda: api.stats()["uploads"] == 1)
        shutil.copy(next(clinic.processing.rglob("smith.wav")), clinic.inbox / "copy.wav")
        wait_for("the copy follows it", lambda: len(clinic.events("identified")) == 2)
        wait_for("the first is given up", lambda: "smith.wav" in clinic.files(clinic.failed))
        api.clear_faults()
        wait_for("the copy is done", lambda: clinic.files(clinic.done) == ["copy.wav"])
    assert api.stats()["uploads"] == 1


# ---- nothing of it is the recordings' fault ----------------------------------------------------------------


def test_wrong_credentials_stop_the_work_and_fail_no_recording(tmp_path: Path, api: Sandbox) -> None:
    wrong = {"app_id": "sandbox-app", "api_key": "not-the-key"}
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK, credentials=wrong)
    for number in range(3):
        write_wav(clinic.inbox / f"{number}.wav", pitch=300 + number)
    assert clinic.once() == 77
    assert kept(clinic) == ["0.wav", "1.wav", "2.wav"]
    assert clinic.files(clinic.failed) == clinic.files(clinic.outbox) == []
    (shout,) = {(event["level"], event["code"]) for event in clinic.events("api_refused")}
    assert shout == ("error", "credentials")
    assert "not-the-key" not in clinic.log.read_text()

    clinic.config.write_text(clinic.config.read_text().replace("not-the-key", "sandbox-key"))
    assert clinic.once() == 0
    assert_done(clinic, "0.wav", "1.wav", "2.wav")
    assert api.stats()["uploads"] == 3


def test_an_api_that_is_down_is_waited_out(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api") as api:
        port = api.base_url.rpartition(":")[2]
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 69
    assert kept(clinic) == ["smith.wav"]
    assert clinic.files(clinic.failed) == clinic.files(clinic.outbox) == []
    with sandbox(tmp_path / "api", port=int(port)) as api:
        assert clinic.once() == 0
        assert_done(clinic, "smith.wav")
        assert api.stats()["uploads"] == 1


def test_an_outage_opens_the_breaker_and_fails_nothing(tmp_path: Path, api: Sandbox) -> None:
    retry = {"base_seconds": 0.05, "max_seconds": 0.2, "max_attempts": 4}
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK, retry=retry)
    for operation in OUTAGE:
        api.fault({"on": operation, "do": "status", "status": 500, "times": None})
    with running(clinic):
        names = [f"{number}.wav" for number in range(12)]
        for number, name in enumerate(names):
            write_wav(clinic.inbox / name, pitch=300 + number, seconds=0.1)
        # More probes than one recording has attempts: while the breaker is open none is spent.
        wait_for("probes fail", lambda: len(clinic.events("breaker_opened")) > 6)
        assert kept(clinic) == sorted(names)
        assert clinic.events("breaker_closed") == []
        api.clear_faults()
        wait_for("all are done", lambda: len(clinic.files(clinic.done)) == len(names))
    assert_done(clinic, *names)
    assert clinic.events("breaker_closed") != []
    assert api.stats()["uploads"] == len(names)


def test_after_an_outage_no_transcript_waits_for_a_slow_upload(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", upload_bytes_per_second=1 << 20) as api:
        clinic = Clinic(
            tmp_path / "clinic", api.base_url, watch=QUICK, retry={"base_seconds": 0.05, "max_seconds": 0.2}
        )
        api.fault({"on": "status", "do": "status", "status": 500, "times": None})
        with running(clinic):
            names = [f"{number}.wav" for number in range(4)]
            for number, name in enumerate(names):
                write_wav(clinic.inbox / name, pitch=300 + number, seconds=0.1)
            write_sparse_wav(clinic.root / "slow.wav", 20 << 20)
            os.rename(clinic.root / "slow.wav", clinic.inbox / "slow.wav")
            wait_for("it is ill, and the slow one runs", lambda: _is_ill_and_uploading(clinic, api))
            api.clear_faults()
            wait_for("the others are done", lambda: clinic.files(clinic.done) == names)
            assert kept(clinic) == ["slow.wav"]
            assert len(clinic.events("uploaded")) == 4


def _is_ill_and_uploading(clinic: Clinic, api: Sandbox) -> bool:
    return clinic.events("breaker_opened") != [] and api.stats()["upload_attempts"] == 5


@pytest.mark.parametrize("operation", OUTAGE)
def test_a_redirection_is_not_followed(clinic: Clinic, api: Sandbox, operation: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        location = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/"
        api.fault({"on": operation, "do": "redirect", "status": 307, "location": location, "times": None})
        assert clinic.once() == 77
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert kept(clinic) == ["smith.wav"]
    assert {event["code"] for event in clinic.events("api_refused")} == {"redirected"}
    assert location not in clinic.log.read_text()


# ---- someone takes the recording away ----------------------------------------------------------------------


def test_a_recording_taken_away_before_its_upload_is_closed_once(clinic: Clinic, api: Sandbox) -> None:
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
    listed = json.loads(clinic.run("jobs", "--state", "vanished", "--json").stdout)
    assert [job["path"] for job in listed] == ["smith.wav"]
    assert_done(clinic, "next.wav")


def test_a_recording_taken_away_after_its_upload_still_gets_its_transcript(
    clinic: Clinic, api: Sandbox
) -> None:
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    with running(clinic):
        wait_for("it is uploaded", lambda: clinic.events("uploaded") != [])
        next(clinic.processing.rglob("smith.wav")).unlink()
        api.clear_faults()
        wait_for("it is closed", lambda: clinic.events("done") != [])
    assert clinic.files(clinic.outbox) == ["smith.json", "smith.srt"]
    assert len(clinic.events("vanished")) == 1
    assert list(clinic.processing.iterdir()) == []


# ---- the disk is full --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB; mounting it takes root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert mounted.returncode == 0, f"this test has to mount a tmpfs, so run it as root: {mounted.stderr}"
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take the last byte of that file system."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return filler


def changes_in(folder: Path, *, seconds: float) -> int:
    """How often a folder changes, as far as its time of change tells."""
    seen = set()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        seen.add(folder.stat().st_mtime_ns)
        time.sleep(0.001)
    return len(seen) - 1


def test_a_disk_that_is_full_at_the_claim(small_disk: Path, api: Sandbox, tmp_path: Path) -> None:
    clinic = Clinic(small_disk, api.base_url, watch=QUICK)
    clinic.log = tmp_path / "daemon.log"
    write_wav(clinic.root / "smith.wav", seconds=0.1)
    with running(clinic):
        filler = fill(small_disk)
        os.rename(clinic.root / "smith.wav", clinic.inbox / "smith.wav")
        wait_for("it says so", lambda: clinic.events("inbox_not_taken", "storage_refused") != [])
        assert changes_in(clinic.inbox, seconds=0.5) < 10  # it is tried now and then, not all the time
        assert kept(clinic) == ["smith.wav"]
        assert clinic.files(clinic.outbox) == []
        assert api.stats()["presigns"] == 0
        filler.unlink()
        wait_for("it goes on", lambda: clinic.files(clinic.done) == ["smith.wav"])
    assert_done(clinic, "smith.wav")
    assert api.stats()["uploads"] == 1


def test_a_disk_that_is_full_at_the_delivery(small_disk: Path, api: Sandbox, tmp_path: Path) -> None:
    clinic = Clinic(small_disk, api.base_url, watch=QUICK, state={"directory": str(tmp_path / "state")})
    clinic.log = tmp_path / "daemon.log"
    write_wav(clinic.inbox / "smith.wav", seconds=0.1)
    write_wav(clinic.root / "later.wav", seconds=0.1, pitch=300)
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    with running(clinic):
        wait_for("it is uploaded", lambda: clinic.events("uploaded") != [])
        filler = fill(small_disk)
        api.clear_faults()
        wait_for("the disk refuses", lambda: clinic.events("storage_refused") != [])
        os.rename(clinic.root / "later.wav", clinic.inbox / "later.wav")
        wait_for("a rescan has passed", lambda: _seconds_since(clinic.events("storage_refused")[0]) > 1.5)
        assert clinic.files(clinic.outbox) == []
        assert clinic.files(clinic.inbox) == ["later.wav"]  # the intake pauses
        filler.unlink()
        wait_for("both are done", lambda: clinic.files(clinic.done) == ["later.wav", "smith.wav"])
    assert_done(clinic, "later.wav", "smith.wav")
    assert len(clinic.events("storage_refused")) == len(clinic.events("storage_again")) == 1
    assert "Make room" in clinic.events("storage_refused")[0]["hint"]
    assert api.stats()["uploads"] == 2


def _seconds_since(event: dict[str, Any]) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(event["at"])).total_seconds()
