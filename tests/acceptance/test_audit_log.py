"""The audit log: every step of custody, in order, with what an account needs; nothing happens without it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from invox_watcher.journal.audit import AuditLog
from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, running
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

STEPS = ["received", "claimed", "uploaded", "delivered", "filed"]


def test_the_audit_log_tells_the_history_of_a_recording(clinic: Clinic, api: Sandbox) -> None:
    content = write_wav(clinic.inbox / "ward 3" / "smith.wav").read_bytes()
    assert clinic.once() == 0
    received, claimed, uploaded, delivered, filed = clinic.audit_log()
    [request] = api.stats()["requests"]
    sha256 = hashlib.sha256(content).hexdigest()
    assert (received["what"], received["name"], received["bytes"]) == (
        "received",
        "ward 3/smith.wav",
        len(content),
    )
    assert (claimed["what"], claimed["folder"]) == ("claimed", "processing")
    assert (uploaded["what"], uploaded["bytes"], uploaded["sha256"]) == ("uploaded", len(content), sha256)
    assert uploaded["request_id"] == request["id"]
    assert (delivered["what"], delivered["by"]) == ("delivered", "polling")
    assert delivered["outputs"] == {
        path: hashlib.sha256((clinic.outbox / path).read_bytes()).hexdigest()
        for path in ("ward 3/smith.json", "ward 3/smith.srt")
    }
    assert (filed["what"], filed["folder"], filed["name"]) == ("filed", "done", "ward 3/smith.wav")
    assert {entry["job"] for entry in clinic.audit_log()} == {
        clinic.transcript("ward 3/smith.json")["job_id"]
    }


def test_what_failed_and_what_vanished_are_accounted_for(clinic: Clinic, api: Sandbox) -> None:
    (clinic.inbox / "letter.wav").write_text("Dear Mrs Miller")
    assert clinic.once() == 1
    assert [entry["what"] for entry in clinic.audit_log()] == ["received", "claimed", "filed"]
    assert clinic.audit_log()[-1]["code"] == "not_audio"
    api.fault({"on": "presign", "do": "status", "status": 503, "times": None})
    write_wav(clinic.inbox / "smith.wav")
    with running(clinic):
        wait_for("it waits for the API", lambda: bool(clinic.events("step_retry")))
        next(clinic.processing.rglob("smith.wav")).unlink()
        wait_for("it is closed", lambda: clinic.audit_log()[-1]["what"] == "vanished")


def test_the_log_is_private_and_a_torn_line_is_not_continued(clinic: Clinic) -> None:
    log = clinic.root / "state" / "audit.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"what": "uplo')
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0
    torn, *whole = log.read_text().splitlines()
    assert torn == '{"what": "uplo'
    assert json.loads(whole[0])["what"] == "received"
    log.unlink()
    write_wav(clinic.inbox / "jones.wav", pitch=500)
    assert clinic.once() == 0
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_without_an_audit_log_nothing_is_taken(clinic: Clinic) -> None:
    log = clinic.root / "state" / "audit.jsonl"
    log.parent.mkdir(parents=True)
    log.mkdir()
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 75
    assert clinic.files(clinic.inbox) == ["smith.wav"]
    assert "audit log" in clinic.log.read_text()


@pytest.mark.parametrize("goes", ["moved", "deleted"])
def test_a_moved_or_deleted_log_is_reopened(clinic: Clinic, goes: str) -> None:
    log = clinic.root / "state" / "audit.jsonl"
    with running(clinic):
        write_wav(clinic.inbox / "smith.wav")
        wait_for("one is done", lambda: bool(clinic.events("done")))
        log.rename(log.with_suffix(".1")) if goes == "moved" else log.unlink()
        write_wav(clinic.inbox / "jones.wav", pitch=500)
        wait_for("another is done", lambda: len(clinic.events("done")) == 2)
        assert [entry["what"] for entry in clinic.audit_log()] == STEPS
        assert {entry.get("name", "jones.wav") for entry in clinic.audit_log()} == {"jones.wav"}
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        log.unlink()
        log.symlink_to(clinic.root / "elsewhere")
        write_wav(clinic.inbox / "miller.wav", pitch=600)
        wait_for("it is not taken", lambda: bool(clinic.events("claim_failed")))
        wait_for("it is put back", lambda: clinic.files(clinic.inbox) == ["miller.wav"])
        assert not (clinic.root / "elsewhere").exists()
        log.unlink()
        wait_for("it is taken", lambda: len(clinic.events("done")) == 3)
        assert [entry["what"] for entry in clinic.audit_log()] == STEPS


def test_the_name_of_a_new_log_is_on_disk_before_a_line_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}")))
    log = AuditLog(tmp_path)
    assert synced == [str(tmp_path)]
    log.write("received", "1")
    assert synced == [str(tmp_path)]
    (tmp_path / "audit.jsonl").unlink()
    log.write("received", "2")
    assert synced == [str(tmp_path)] * 2
    log.close()


_WRITER = """
import sys
from pathlib import Path
from invox_watcher.journal.audit import AuditLog
log = AuditLog(Path(sys.argv[1]))
for number in range(300):
    log.append(sys.argv[2], str(number), name="x" * 9000)
    if number % 10 == 0:
        log.sync()
    if number % 50 == 0:
        log.close()
        log = AuditLog(Path(sys.argv[1]))
log.sync()
"""


def test_two_processes_write_whole_lines_to_one_log(tmp_path: Path) -> None:
    """The daemon and the page; a moved log is followed by both."""
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), name]) for name in ("one", "two")
    ]
    log, moved = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    wait_for("some lines", lambda: log.exists() and log.stat().st_size > 1_000_000)
    log.rename(moved)
    assert [writer.wait(60) for writer in writers] == [0, 0]
    lines = [json.loads(line) for file in (moved, log) for line in file.read_text().split("\n")[:-1]]
    for name in ("one", "two"):
        assert [line["job"] for line in lines if line["what"] == name] == [str(n) for n in range(300)]
