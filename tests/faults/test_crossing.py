"""Folders on different file systems: recordings are copied, verified and then removed, killed or not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults.crash_zygote import Zygote
from tests.faults.promises import assert_kept, hashes
from tests.kit.clinic import Clinic, stop
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

FOLDERS = ("inbox", "processing", "done", "failed")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than `tmp_path`, which any user may write to."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="invox-watcher-"))
    try:
        assert folder.stat().st_dev != tmp_path.stat().st_dev, "give pytest a --basetemp outside of /dev/shm"
        yield folder
    finally:
        shutil.rmtree(folder)


def clinic_apart(tmp_path: Path, api: Sandbox, apart: str, elsewhere: Path) -> Clinic:
    """A clinic with one of its folders on another file system."""
    folders = {"root": str(tmp_path / "clinic"), apart: str(elsewhere / apart)}
    clinic = Clinic(tmp_path / "clinic", api.base_url, folders=folders)
    setattr(clinic, apart, elsewhere / apart)
    (elsewhere / apart).mkdir(parents=True, exist_ok=True)
    return clinic


def everything(clinic: Clinic) -> dict[str, list[str]]:
    """What lies where: a person looking for a recording."""
    return {
        name: [path for path in clinic.files(getattr(clinic, name)) if not path.endswith(".srt")]
        for name in (*FOLDERS, "outbox")
    }


@pytest.mark.parametrize("apart", FOLDERS)
def test_28_another_file_system_is_copied_to_and_reported(
    tmp_path: Path, api: Sandbox, apart: str, elsewhere: Path
) -> None:
    clinic = clinic_apart(tmp_path, api, apart, elsewhere)
    recording = write_wav(clinic.inbox / "ward 3" / "smith.wav")
    os.utime(recording, ns=(1, 1_700_000_000_123_456_789))
    content = recording.read_bytes()
    (clinic.inbox / "letter.wav").write_text("Dear Mrs Miller")

    assert clinic.once() == 1

    assert everything(clinic) == {
        "inbox": [],
        "processing": [],
        "outbox": ["ward 3/smith.json"],
        "done": ["ward 3/smith.wav"],
        "failed": ["letter.wav", "letter.wav.error.json"],
    }
    filed = clinic.done / "ward 3" / "smith.wav"
    assert filed.read_bytes() == content
    assert filed.stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert [request["uploads"] for request in api.stats()["requests"]] == [1]
    [said] = clinic.events("folders_apart")
    assert said["folders"] == (["inbox", "done", "failed"] if apart == "processing" else [apart])
    assert "another file system" in clinic.run("check").stdout


def test_28_retry_brings_a_failure_back_across_file_systems(
    tmp_path: Path, api: Sandbox, elsewhere: Path
) -> None:
    clinic = clinic_apart(tmp_path, api, "failed", elsewhere)
    write_wav(clinic.inbox / "smith.wav")
    api.fault({"on": "status", "do": "error_result"})
    assert clinic.once() == 1
    assert clinic.run("retry", "--all").returncode == 0
    assert everything(clinic)["failed"] == []
    api.clear_faults()
    assert clinic.once() == 0
    assert everything(clinic)["done"] == ["smith.wav"]


@pytest.mark.parametrize("apart", ["inbox", "failed"])
def test_28_an_interrupted_copy_leaves_the_recording_in_place(
    tmp_path: Path, api: Sandbox, apart: str, elsewhere: Path
) -> None:
    """Here at the limit for a file's size that the process has."""
    clinic = clinic_apart(tmp_path, api, apart, elsewhere)
    letter = clinic.inbox / "letter.wav"
    letter.write_bytes(b"Dear Mrs Miller. " * 50_000)
    content = letter.read_bytes()
    limited = ["prlimit", f"--fsize={len(content) // 2}", *clinic.command("run")]
    with clinic.log.open("ab") as log, subprocess.Popen(limited, stderr=log) as daemon:
        refusals = {"inbox": "claim_failed", "failed": "step_retry"}
        places = ["inbox"] if apart == "inbox" else ["processing", "failed"]  # there its error file

        def found() -> list[str]:
            return [name for name in FOLDERS for _path in clinic.files(getattr(clinic, name))]

        try:
            wait_for("the copy breaks off", lambda: bool(clinic.events(refusals[apart])))
            wait_for("nothing is left of it", lambda: found() == places)  # it is tried again and again
            assert stop(daemon) == 0
        finally:
            daemon.kill()

    assert clinic.once() == 1
    assert (clinic.failed / "letter.wav").read_bytes() == content
    assert everything(clinic)["processing"] == everything(clinic)["inbox"] == []


@pytest.mark.slow
@pytest.mark.needs  # minutes
@pytest.mark.timeout(900)
@pytest.mark.parametrize("apart", FOLDERS)
def test_28_a_kill_between_every_two_steps_breaks_no_promise(
    tmp_path: Path, api: Sandbox, apart: str, elsewhere: Path
) -> None:
    zygote = Zygote()
    try:
        for moment in range(1, 1000):
            clinic = clinic_apart(tmp_path / f"{moment}", api, apart, elsewhere / f"{moment}")
            if apart == "failed":
                (clinic.inbox / "letter.wav").write_text(f"Dear Mrs Miller, {moment} pills")
            else:
                write_wav(clinic.inbox / "smith.wav", pitch=200 + moment, seconds=0.1)
            contents = hashes(clinic)
            status = zygote.once(clinic, kill_at_step=moment)
            if status == -signal.SIGKILL:
                zygote.once(clinic)
            if apart == "failed":
                assert clinic.files(clinic.failed) == ["letter.wav", "letter.wav.error.json"], moment
                assert_kept(clinic, api, set(), failed=1)
            else:
                assert_kept(clinic, api, contents)
            if status != -signal.SIGKILL:
                break
        assert moment > (20 if apart == "failed" else 60)
    finally:
        zygote.close()
