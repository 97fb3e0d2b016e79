"""`explain`: for each reason why a file is not taken the right one is named, and the daemon does the same."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, free_port, running
from tests.kit.commands import NOBODY, as_nobody, ids
from tests.kit.dictations import without_extra
from tests.kit.recordings import write_au, write_sparse_wav, write_wav
from tests.kit.waiting import wait_for


@pytest.fixture
def clinic(tmp_path: Path, api: Sandbox) -> Clinic:
    """A clinic whose daemon has run once, with nothing to do."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch={"settle_seconds": 0.2, "patience_seconds": 300})
    assert clinic.once() == 0
    return clinic


def explained(clinic: Clinic, file: Path) -> dict[str, Any]:
    """What `explain --json` says of a file, whose exit status agrees with it."""
    done = clinic.run("explain", str(file), "--json")
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["would_be_taken"] else 1)
    assert found["would_be_taken"] == (found["verdict"] in ("taken", "under_way"))
    return found


def reasons(found: dict[str, Any]) -> dict[str, str]:
    """What each step that decides against it says."""
    return {step["about"]: step["says"] for step in found["steps"] if step["verdict"] != "taken"}


def everything_below(folder: Path) -> list[tuple[str, int, int, int]]:
    """Each file and folder with what a change would change."""
    found = []
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        # A command that reads the journal makes its -wal and -shm files, and removes them.
        changed_ns = 0 if path.name == "state" else facts.st_mtime_ns
        found.append((str(path), facts.st_ino, changed_ns, facts.st_size))
    return found


def test_a_file_said_to_be_taken_is_taken(clinic: Clinic) -> None:
    recording = write_wav(clinic.inbox / "ward 3" / "smith.wav")
    before = everything_below(clinic.root)
    found = explained(clinic, recording)
    assert everything_below(clinic.root) == before
    assert found["verdict"] == "taken"
    says = {step["about"]: step["says"] for step in found["steps"]}
    assert says["place"] == "In the inbox, as ward 3/smith.wav."
    assert says["content"].startswith("WAV (PCM), 0.5 s, sent as audio/wav")
    assert says["duplicate"] == "The journal has no recording with the same content."
    assert says["daemon"].startswith("No daemon is running")
    shown = clinic.run("explain", str(recording)).stdout
    assert shown.splitlines()[-1] == "The file would be processed, but see above."
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["ward 3/smith.wav"]


def test_what_would_be_decoded_is_decoded(clinic: Clinic, tmp_path: Path) -> None:
    recording = write_au(clinic.inbox / "smith.au")
    found = explained(clinic, recording)
    says = {step["about"]: step["says"] for step in found["steps"]}
    assert found["verdict"] == "taken"
    assert says["content"].startswith("AU, which the API does not take: decoded, and sent as audio/flac")
    assert says["duplicate"] == "The journal has no recording with the same content."
    command = clinic.command("explain", str(recording))
    done = subprocess.run(
        command,
        env=os.environ | without_extra(tmp_path / "site"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "It would be moved to failed/ (unsupported_format)." in done.stdout
    assert "pip install 'PATH[formats]'" in done.stdout
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["smith.au"]


def test_what_may_be_cut_off_would_be_decoded(tmp_path: Path, api: Sandbox) -> None:
    for value, then in (("fail", "moved to failed/ (truncated)"), ("send", "is sent, with a note")):
        clinic = Clinic(tmp_path / value, api.base_url, intake={"on_truncated": value})
        path = write_wav(clinic.inbox / "smith.wav")
        path.write_bytes(path.read_bytes()[:2000])
        found = explained(clinic, path)
        assert found["verdict"] == "later"
        assert "decoded; if it is really cut off" in reasons(found)["content"]
        assert then in reasons(found)["content"]


def test_names_on_the_ignore_list_and_subfolders(tmp_path: Path, api: Sandbox) -> None:
    watch = {"ignore": ["draft-*"], "recursive": False}
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=watch)
    part = "*.part (Firefox, KDE and others: still being copied)"
    for path, pattern in (("smith.wav.part", part), ("draft-1.wav", "draft-*")):
        found = explained(clinic, write_wav(clinic.inbox / path))
        assert found["verdict"] == "left"
        assert reasons(found) == {"name": f"Names like this are ignored: {pattern}"}
        assert len(found["steps"]) == 2
    inner = explained(clinic, write_wav(clinic.inbox / "ward 3" / "smith.wav"))
    assert reasons(inner) == {"name": "In a subfolder of the inbox, and watch.recursive is false."}
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == []


def test_what_is_no_regular_file(clinic: Clinic, tmp_path: Path) -> None:
    outside = write_wav(tmp_path / "elsewhere" / "smith.wav")
    (clinic.inbox / "link.wav").symlink_to(outside)
    os.mkfifo(clinic.inbox / "pipe.wav")
    (clinic.inbox / "folder.wav").mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        folder = os.open(clinic.inbox, os.O_RDONLY)
        sock.bind(f"/proc/self/fd/{folder}/sock.wav")  # the whole path may be too long for a socket's name
        os.close(folder)
    kinds = {"link.wav": "symbolic link", "pipe.wav": "FIFO", "folder.wav": "folder", "sock.wav": "socket"}
    for name, kind in kinds.items():
        found = explained(clinic, clinic.inbox / name)
        assert found["verdict"] == "left"
        assert f"({kind})" in reasons(found)["kind"]


def test_a_missing_file_and_the_jobs_of_its_name(clinic: Clinic) -> None:
    missing = explained(clinic, clinic.inbox / "none.wav")
    assert reasons(missing) == {"kind": "No such file."}
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0
    job_id = ids(clinic)["smith.wav"]
    gone = reasons(explained(clinic, clinic.inbox / "smith.wav"))["kind"]
    assert gone == f"No such file. A file of that name was processed before, as job {job_id} (done)."


def test_files_in_the_other_folders_are_known_by_the_journal(clinic: Clinic) -> None:
    write_wav(clinic.inbox / "ward 3" / "smith.wav")
    (clinic.inbox / "letter.wav").write_text("Dear colleague\n")
    assert clinic.once() == 1
    known = ids(clinic)
    done = explained(clinic, clinic.done / "ward 3" / "smith.wav")
    assert (
        f"In done/, from which nothing is processed. It belongs to job {known['ward 3/smith.wav']}"
        in (reasons(done)["place"])
    )
    for name in ("letter.wav", "letter.wav.error.json"):
        failed = explained(clinic, clinic.failed / name)
        assert "(failed): Not an audio recording: plain text." in reasons(failed)["place"]
        assert failed["steps"][0]["hint"].endswith(f"retry {known['letter.wav']}")
    (clinic.done / "foreign.wav").touch()
    assert "is not in the journal" in reasons(explained(clinic, clinic.done / "foreign.wav"))["place"]
    for transcript in ("smith.json", "smith.srt"):
        delivered = reasons(explained(clinic, clinic.outbox / "ward 3" / transcript))["place"]
        assert (
            f"In outbox/, from which nothing is processed. It belongs to job {known['ward 3/smith.wav']}"
            in (delivered)
        )
    (clinic.outbox / "smith.json").touch()
    assert "is not in the journal" in reasons(explained(clinic, clinic.outbox / "smith.json"))["place"]


def test_folders_and_absent_files_are_not_described_as_files(clinic: Clinic) -> None:
    write_wav(clinic.inbox / "ward 3" / "smith.wav")
    assert clinic.once() == 0
    (clinic.inbox / "ward 3").mkdir(exist_ok=True)
    for folder in (clinic.inbox, clinic.inbox / "ward 3" / "..", clinic.inbox / "ward 3", clinic.processing):
        found = explained(clinic, folder)
        assert reasons(found) == {"kind": "Not a regular file (folder); ignored."}, folder
        assert found["steps"][-1]["hint"] == "No file is in it."
    assert reasons(explained(clinic, clinic.done / "none.wav")) == {"kind": "No such file."}
    (clinic.done / "ward 3" / "smith.wav").unlink()
    gone = reasons(explained(clinic, clinic.done / "ward 3" / "smith.wav"))["kind"]
    assert gone.startswith("No such file. A file of that name was processed before, as job ")


def test_several_files_and_all_that_is_in_a_folder(clinic: Clinic) -> None:
    for number in range(3):
        write_wav(clinic.inbox / "ward 3" / f"{number}.wav", pitch=200 + number)
    (clinic.inbox / "letter.wav").write_text("Dear colleague\n")
    (clinic.inbox / "draft.wav.part").touch()
    done = clinic.run("explain", str(clinic.inbox), "--json")
    assert done.returncode == 1
    found = {Path(one["file"]).name: one for one in json.loads(done.stdout)}
    verdicts = {"0.wav": "taken", "1.wav": "taken", "2.wav": "taken"}
    assert {name: one["verdict"] for name, one in found.items()} == verdicts | {
        "draft.wav.part": "left", "letter.wav": "failed",
    }  # fmt: skip
    two = [str(clinic.inbox / "ward 3" / f"{number}.wav") for number in range(2)]
    shown = clinic.run("explain", *two)
    assert shown.returncode == 0
    assert [line for line in shown.stdout.splitlines() if line.endswith(".wav:")] == [
        f"{one}:" for one in two
    ]


def test_a_recording_in_processing_says_what_is_next(tmp_path: Path, api: Sandbox) -> None:
    api.fault({"on": "presign", "do": "status", "status": 503, "times": 1000})
    clinic = Clinic(tmp_path / "clinic", api.base_url, retry={"base_seconds": 0.02, "max_seconds": 60})
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 69
    (file,) = clinic.processing.rglob("*.wav")
    found = explained(clinic, file)
    assert (found["verdict"], found["summary"]) == ("under_way", "The recording is being processed.")
    says = {step["about"]: step["says"] for step in found["steps"]}
    assert says["place"] == f"In processing/: job {ids(clinic)['smith.wav']} (identified)."
    assert says["next step"].endswith("and upload: when a daemon is started; none is running")
    assert says["attempts"] == "0 of 8 failed (an outage costs none)"
    assert re.match(r"api_unavailable, since [-\d]+ [:\d]+\S+: .*answered 503", says["last error"])


def test_what_becomes_of_a_stray_file_in_processing(clinic: Clinic) -> None:
    alone = write_wav(clinic.processing / "alone.wav", pitch=300)
    stray = write_wav(clinic.processing / "20261123t185056-9f2c41d07ab3" / "stray.wav")
    hints = {file: explained(clinic, file)["steps"][-1]["hint"] for file in (alone, stray)}
    assert hints[alone].endswith("which ignores it. Move it to the inbox.")
    assert hints[stray] == "The next start of the daemon returns it to the inbox."
    assert clinic.once() == 0
    assert clinic.files(clinic.processing) == ["alone.wav"]
    assert clinic.files(clinic.done) == ["stray.wav"]


@contextlib.contextmanager
def writer(file: Path) -> Iterator[None]:
    """Another process that has the file open for writing."""
    with file.open("ab") as output, subprocess.Popen(["sleep", "60"], stdout=output) as process:
        yield
        process.kill()


def test_a_file_being_written(clinic: Clinic) -> None:
    recording = write_wav(clinic.inbox / "smith.wav")
    with writer(recording):
        found = explained(clinic, recording)
        assert found["verdict"] == "later"
        says = reasons(found)["content"]
        assert re.fullmatch(r"A program has it open for writing: .*sleep \(pid \d+\).*\.", says)
        assert [step["code"] for step in found["steps"] if step["code"]] == ["open"]
    assert explained(clinic, recording)["verdict"] == "taken"


def test_a_file_that_grows_is_watched_for_the_settle_time(tmp_path: Path, api: Sandbox) -> None:
    watch = {"settle_seconds": 0.5, "patience_seconds": 300, "mode": "polling"}  # nothing surer than quiet
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=watch)
    recording = write_wav(clinic.inbox / "smith.wav")
    stop = threading.Event()

    def grow() -> None:
        while not stop.wait(0.02):
            os.utime(recording)

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        growing = explained(clinic, recording)
    finally:
        stop.set()
        thread.join()
    assert growing["verdict"] == "later"
    assert reasons(growing)["content"].startswith("It must be unchanged for 0.5 s first")
    began = time.monotonic()
    quiet = explained(clinic, recording)
    assert quiet["verdict"] == "taken"
    assert time.monotonic() - began >= 0.5
    assert any("unchanged for 0.5 s" in step["says"] for step in quiet["steps"])
    assert any("polled every 5 s" in step["says"] for step in quiet["steps"])


def test_what_is_unfinished_or_no_recording(clinic: Clinic) -> None:
    whole = write_wav(clinic.root / "whole.wav").read_bytes()
    (clinic.inbox / "half.wav").write_bytes(whole[: len(whole) // 2])
    (clinic.inbox / "empty.wav").touch()
    (clinic.inbox / "letter.wav").write_text("Dear colleague\n")
    (clinic.inbox / "linked.wav").hardlink_to(clinic.root / "whole.wav")
    for name, verdict, code in (
        ("half.wav", "later", "truncated"),
        ("empty.wav", "later", "empty"),
        ("letter.wav", "failed", "not_audio"),
        ("linked.wav", "failed", "hard_link"),
    ):
        found = explained(clinic, clinic.inbox / name)
        assert found["verdict"] == verdict
        assert f"moved to failed/ ({code})" in reasons(found)["content"]
    assert clinic.once() == 1
    assert clinic.files(clinic.inbox) == ["empty.wav", "half.wav"]


def test_size_and_type_against_the_configuration(tmp_path: Path, api: Sandbox) -> None:
    keys = {"mime_types": ["audio/ogg"]}  # nor would it take what could be decoded
    clinic = Clinic(tmp_path / "clinic", api.base_url, api={"base_url": api.base_url, **keys},
                    intake={"max_size_mib": 1})  # fmt: skip
    small = explained(clinic, write_wav(clinic.inbox / "small.wav"))
    assert "(not_accepted)" in reasons(small)["content"]
    large = explained(clinic, write_sparse_wav(clinic.inbox / "large.wav", 3 << 20))
    assert "The file is 3 MiB; the limit is 1 MiB." in reasons(large)["content"]
    assert {small["verdict"], large["verdict"]} == {"failed"}


@pytest.mark.parametrize(
    ("rule", "verdict", "then"),
    [
        ("reuse", "taken", "the same transcript, without an upload"),
        ("process", "taken", "transcribed again"),
        ("fail", "failed", "moved to failed/ (intake.on_duplicate: fail)"),
    ],
)
def test_the_same_content(tmp_path: Path, api: Sandbox, rule: str, verdict: str, then: str) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, intake={"on_duplicate": rule})
    write_wav(clinic.inbox / "first.wav")
    assert clinic.once() == 0
    found = explained(clinic, write_wav(clinic.inbox / "again.wav"))
    assert found["verdict"] == verdict
    step = next(step for step in found["steps"] if step["about"] == "duplicate")
    assert f"recording first.wav (job {ids(clinic)['first.wav']}): it would" in step["says"]
    assert then in step["says"]
    clinic.once()
    place = {"taken": clinic.done, "failed": clinic.failed}[verdict]
    assert "again.wav" in clinic.files(place)


def test_a_file_outside_the_inbox_is_judged_as_if_it_were_there(clinic: Clinic, tmp_path: Path) -> None:
    good = explained(clinic, write_wav(tmp_path / "dock" / "smith.wav"))
    assert good["verdict"] == "taken"
    assert good["steps"][0]["says"].startswith("Not in the inbox. If it were copied there as smith.wav")
    (tmp_path / "dock" / "letter.wav").write_text("Dear colleague\n")
    assert explained(clinic, tmp_path / "dock" / "letter.wav")["verdict"] == "failed"
    assert explained(clinic, write_wav(tmp_path / "dock" / "smith.part"))["verdict"] == "left"


def test_a_daemon_without_capacity_and_a_running_one(tmp_path: Path, api: Sandbox) -> None:
    keys: dict[str, Any] = {"intake": {"max_in_flight": 1}, "http": {"listen": f"127.0.0.1:{free_port()}"}}
    slow = {"first_seconds": 30, "max_seconds": 60}
    clinic = Clinic(tmp_path / "clinic", api.base_url, polling=slow, **keys)
    with running(clinic):
        write_wav(clinic.inbox / "first.wav")
        wait_for("the first is under way", lambda: clinic.events("claimed") != [])
        found = explained(clinic, write_wav(clinic.inbox / "second.wav", pitch=300))
        assert found["verdict"] == "later"
        assert reasons(found)["room"].startswith("1 recordings are under way, which is the limit")
        assert found["steps"][-1]["says"] == "The daemon is running."


@pytest.mark.needs("root")
def test_a_file_that_the_daemons_user_may_not_take(clinic: Clinic, tmp_path: Path) -> None:
    os.chown(clinic.root / "state", NOBODY, NOBODY)
    for folder in (clinic.root, clinic.inbox):
        os.chown(folder, NOBODY, NOBODY)
    recording = write_wav(clinic.inbox / "smith.wav")
    recording.chmod(0o600)
    found = explained(clinic, recording)
    assert found["verdict"] == "left"
    assert f"can't read it: {recording} is root:root rw-------" in reasons(found)["permission"]
    recording.chmod(0o644)
    assert "permission" not in reasons(explained(clinic, recording))
    closed = write_wav(clinic.inbox / "ward 3" / "smith.wav")
    closed.parent.chmod(0o755)
    assert "can't move it out of its folder" in reasons(explained(clinic, closed))["permission"]
    closed.parent.chmod(0o1777)  # sticky: only with files of one's own
    assert "can't move it out of its folder" in reasons(explained(clinic, closed))["permission"]
    closed.parent.chmod(0o700)
    assert "can't read its folder" in reasons(explained(clinic, closed))["permission"]


@pytest.mark.needs("root")
def test_a_user_who_may_not_look_gets_an_error(api: Sandbox) -> None:
    with tempfile.TemporaryDirectory() as public:
        os.chmod(public, 0o755)
        clinic = Clinic(Path(public, "clinic"), api.base_url)
        recording = write_wav(clinic.inbox / "smith.wav")
        recording.chmod(0o600)
        refused = as_nobody(clinic, "explain", str(recording))
    assert refused.returncode == 77
    assert f"Can't access {recording}: Permission denied" in refused.stderr
