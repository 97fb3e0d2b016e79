"""Circumstances that once cost money, stopped everything, or hid a recording: each has its test here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, free_port, running, stop
from tests.kit.daemon_server import get, problems
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

NO_OVERRIDE = "-dac_override,-dac_read_search"
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


def claimed_while_the_api_is_away(root: Path) -> Clinic:
    """A clinic with smith.wav in processing/, not uploaded yet."""
    clinic = Clinic(root, NOWHERE)
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 69
    assert clinic.files(clinic.inbox) == []
    return clinic


def point_at(clinic: Clinic, api: Sandbox) -> None:
    clinic.config.write_text(clinic.config.read_text().replace(NOWHERE, api.base_url))


def test_a_recording_restored_from_a_backup_is_uploaded_once(tmp_path: Path, api: Sandbox) -> None:
    clinic = claimed_while_the_api_is_away(tmp_path / "clinic")
    recording = next(clinic.processing.rglob("smith.wav"))
    shutil.copy(recording, tmp_path / "backup")  # another inode, another time
    os.replace(tmp_path / "backup", recording)
    point_at(clinic, api)
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["smith.wav"]
    assert api.stats()["uploads"] == 1


@pytest.mark.parametrize("blocked", ["outbox", "done"])
def test_a_file_with_the_name_of_a_folder_blocks_no_other(clinic: Clinic, blocked: str) -> None:
    (clinic.root / blocked).mkdir(exist_ok=True)
    (clinic.root / blocked / "ward3").write_text("not a folder")
    write_wav(clinic.inbox / "ward3" / "smith.wav", pitch=300)
    write_wav(clinic.inbox / "ward4" / "jones.wav", pitch=400)
    assert clinic.once() == 0
    expected = ["ward3-2/smith.wav", "ward4/jones.wav"]
    assert [name for name in clinic.files(clinic.done) if name != "ward3"] == expected
    assert (clinic.outbox / "ward3-2/smith.json").exists()


def test_a_time_far_in_the_future_is_a_time(clinic: Clinic) -> None:
    path = write_wav(clinic.inbox / "smith.wav")
    os.utime(path, (2**34 - 10_000, 2**34 - 10_000))  # the year 2514, the last that ext4 can hold is 2446
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["smith.wav"]


def test_the_mode_of_the_folders_is_the_configured_one(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(
        tmp_path / "clinic", api.base_url, folders={"root": str(tmp_path / "clinic"), "mode": "2770"}
    )
    write_wav(clinic.inbox / "ward" / "night" / "smith.wav")
    assert clinic.once() == 0
    for folder in ("outbox", "done", "outbox/ward", "outbox/ward/night"):
        assert oct((clinic.root / folder).stat().st_mode & 0o7777) == "0o2770"
    assert oct((clinic.outbox / "ward/night/smith.srt").stat().st_mode & 0o7777) == "0o660"


def test_a_folder_that_becomes_a_link_costs_no_paid_recording(tmp_path: Path, api: Sandbox) -> None:
    """A well-meant move of the outbox to a larger disk, with a link in its place."""
    clinic = Clinic(
        tmp_path / "clinic", api.base_url, retry={"base_seconds": 0.05, "max_seconds": 0.1, "max_attempts": 2}
    )
    write_wav(clinic.inbox / "ward3" / "smith.wav")
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    with running(clinic):
        wait_for("the API has it", lambda: clinic.events("uploaded") != [])
        os.rename(clinic.outbox, tmp_path / "larger")
        clinic.outbox.symlink_to(tmp_path / "larger")
        api.clear_faults()
        wait_for("it is tried often", lambda: len(clinic.events("step_retry")) > 4)
        assert clinic.files(clinic.failed) == clinic.files(tmp_path / "larger") == []
        clinic.outbox.unlink()
        os.rename(tmp_path / "larger", clinic.outbox)
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["ward3/smith.wav"])
    assert clinic.files(clinic.outbox) == ["ward3/smith.json", "ward3/smith.srt"]
    assert api.stats()["uploads"] == 1


def test_folders_moved_with_jobs_under_way_are_refused(tmp_path: Path, api: Sandbox) -> None:
    clinic = claimed_while_the_api_is_away(tmp_path / "clinic")
    point_at(clinic, api)
    before = clinic.config.read_text()
    moved = before.replace(f"root: {clinic.root}", f"root: {tmp_path / 'new'}")
    assert moved != before
    (tmp_path / "new").mkdir()
    clinic.config.write_text(moved)
    refused = clinic.run("run", "--once")
    assert refused.returncode == 78
    assert f"recordings under way are in {clinic.processing}, not in {tmp_path / 'new'}" in refused.stderr
    clinic.config.write_text(before)
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["smith.wav"]
    clinic.config.write_text(moved)
    assert clinic.once() == 0


@pytest.mark.parametrize("clash", [{"processing": "failed"}, {"done": "outbox/old"}, {"outbox": "inbox/out"}])
def test_folders_inside_each_other_are_refused(tmp_path: Path, api: Sandbox, clash: dict[str, str]) -> None:
    root = tmp_path / "clinic"
    places = {name: str(root / place) for name, place in clash.items()}
    clinic = Clinic(root, api.base_url, folders={"root": str(root)} | places)
    result = clinic.run("check")
    assert result.returncode == 78
    assert "is the same as, or inside," in result.stdout


def test_one_retry_for_one_file(clinic: Clinic) -> None:
    for _ in range(2):
        (clinic.inbox / "letter.wav").write_text("not audio\n")
        assert clinic.once() == 1
        (clinic.failed / "letter.wav.error.json").unlink()
        os.rename(clinic.failed / "letter.wav", clinic.root / "letter.wav")
    os.rename(clinic.root / "letter.wav", clinic.failed / "letter.wav")
    result = clinic.run("retry", "--code", "not_audio")
    assert result.returncode == 0
    assert clinic.files(clinic.inbox) == ["letter.wav"]


def test_an_unreadable_recording_is_reported_once_and_retried(clinic: Clinic) -> None:
    path = write_wav(clinic.inbox / "smith.wav")
    path.chmod(0)
    write_wav(clinic.inbox / "jones.wav", pitch=300)
    with clinic.log.open("ab") as log:
        daemon = subprocess.Popen(not_almighty(clinic.command("run")), stderr=log)
    wait_for("the other one is done", lambda: clinic.files(clinic.done) == ["jones.wav"])
    wait_for("it is said", lambda: bool(clinic.events("inbox_unreadable")))
    path.chmod(0o600)
    wait_for("both are done", lambda: clinic.files(clinic.done) == ["jones.wav", "smith.wav"])
    assert stop(daemon) == 0
    assert len(clinic.events("inbox_unreadable")) == 1


def test_a_folder_closed_to_the_daemon_is_reported(tmp_path: Path, api: Sandbox) -> None:
    listen = f"127.0.0.1:{free_port()}"
    clinic = Clinic(tmp_path / "clinic", api.base_url, http={"listen": listen})
    closed = write_wav(clinic.inbox / "ward 3" / "smith.wav").parent
    closed.chmod(0)
    once = subprocess.run(not_almighty(clinic.command("run", "--once")), check=False, capture_output=True)
    assert once.returncode == 75

    def metric(name: str) -> float:
        with urllib.request.urlopen(f"http://{listen}/metrics") as page:
            lines = page.read().decode().splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    daemon = clinic.start(not_almighty(clinic.command("run")))
    troubled, oldest = (
        'invox_watcher_inbox_recordings{stage="error"}',
        "invox_watcher_inbox_oldest_seconds",
    )
    wait_for("it is counted", lambda: metric(troubled) == 1)
    wait_for("its time runs on beyond a rescan", lambda: metric(oldest) > 2.5)
    closed.chmod(0o700)
    wait_for("it is done", lambda: clinic.files(clinic.done) == ["ward 3/smith.wav"])
    wait_for("nothing is counted any more", lambda: metric(troubled) == metric(oldest) == 0)
    assert stop(daemon) == 0
    assert len(clinic.events("inbox_unreadable")) == 1


def not_almighty(command: list[str]) -> list[str]:
    """The command as one whom rights hold for: root without the right to read everything."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", f"--bounding-set={NO_OVERRIDE}", f"--inh-caps={NO_OVERRIDE}", *command]


def test_readiness_says_what_is_wrong(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, http={"listen": "127.0.0.1:0"})
    daemon = clinic.start()
    wait_for("the server listens", lambda: bool(clinic.events("listening")))
    assert get(clinic, "/healthz")[0] == 200
    assert get(clinic, "/readyz") == (200, '{"status":"ready","problems":{}}')
    api.fault({"on": "presign", "do": "status", "status": 403, "times": None})
    write_wav(clinic.inbox / "smith.wav")
    wait_for("it is not ready", lambda: list(problems(clinic)) == ["forbidden"])
    write_wav(clinic.inbox / "jones.wav", pitch=300)
    api.clear_faults()
    wait_for("both are done", lambda: clinic.files(clinic.done) == ["jones.wav", "smith.wav"])
    assert problems(clinic) == {}
    assert stop(daemon) == 0


def test_an_error_result_is_filed_and_retry_brings_it_back(clinic: Clinic, api: Sandbox) -> None:
    write_wav(clinic.inbox / "smith.wav")
    api.fault({"on": "status", "do": "error_result", "message": "No speech was found."})
    assert clinic.once() == 1
    reason = json.loads((clinic.failed / "smith.wav.error.json").read_text())
    assert reason["code"] == "transcription_failed"
    assert reason["stage"] == "waiting"
    assert "No speech was found." in reason["message"]
    assert "retry" in reason["hint"]
    assert reason["retry_can_help"] is True
    assert reason["request_id"] == api.stats()["requests"][0]["id"]

    assert clinic.run("retry", reason["job_id"]).returncode == 0
    assert clinic.files(clinic.failed) == []
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["smith.wav"]
    assert api.stats()["uploads"] == 2  # the API had given its last word on the first one


def test_a_missing_result_is_given_up_and_retry_asks_first(tmp_path: Path, api: Sandbox) -> None:
    polling = {"first_seconds": 0.1, "max_seconds": 0.2, "deadline_seconds": 0.5}
    clinic = Clinic(tmp_path / "clinic", api.base_url, polling=polling)
    write_wav(clinic.inbox / "smith.wav")
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    assert clinic.once() == 1
    reason = json.loads((clinic.failed / "smith.wav.error.json").read_text())
    assert reason["code"] == "deadline"
    assert {event["status"] for event in clinic.events("api_status_unknown")} == {"ON_HOLD"}

    api.clear_faults()
    assert clinic.run("retry", "--all").returncode == 0
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["smith.wav"]
    assert (api.stats()["uploads"], api.stats()["presigns"]) == (1, 1)
    assert clinic.transcript("smith.json")["request_id"] == reason["request_id"]


def test_a_copy_of_a_given_up_recording_asks_first(tmp_path: Path, api: Sandbox) -> None:
    polling = {"first_seconds": 0.1, "max_seconds": 0.2, "deadline_seconds": 2}
    clinic = Clinic(tmp_path / "clinic", api.base_url, polling=polling)
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
