"""`backup`: whole, also from under a running daemon, and enough to go on elsewhere without paying twice."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import tarfile
from contextlib import closing
from pathlib import Path

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, running
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

NAMES = ["journal.sqlite", "audit.jsonl", "names.key", "instance.json"]


def restored(backup: Path, clinic: Clinic) -> None:
    """As docs/install.md does it: nothing of an earlier state may be left."""
    state = clinic.root / "state"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(0o700)
    with tarfile.open(backup) as archive:
        archive.extractall(state, filter="data")


def test_a_backup_from_under_a_busy_daemon_is_whole(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    backup = tmp_path / "backup.tar"
    with running(clinic):
        for number in range(30):
            write_wav(clinic.inbox / f"{number}.wav", pitch=300 + 10 * number)
        wait_for("the first is done", (clinic.done / "0.wav").exists)
        for count in (5, 15):
            wait_for(f"{count} are done", lambda count=count: len(clinic.files(clinic.done)) >= count)
            made = clinic.run("backup", str(backup))
            assert (made.returncode, made.stderr) == (0, "")
        wait_for("all are done", lambda: len(clinic.files(clinic.done)) == 30)
    assert made.stdout.startswith(f"{backup}, {backup.stat().st_size} bytes: {', '.join(NAMES)} of ")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["api", "backup.tar", "clinic"]

    with tarfile.open(backup) as archive:
        assert archive.getnames() == NAMES
        assert {member.mode for member in archive} == {0o600}
        archive.extractall(tmp_path / "out", filter="data")
    with closing(sqlite3.connect(tmp_path / "out" / "journal.sqlite")) as journal:
        assert journal.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        done = {job for (job,) in journal.execute("SELECT id FROM jobs WHERE state = 'done'")}
    assert len(done) >= 15
    lines = map(json.loads, (tmp_path / "out" / "audit.jsonl").read_text().splitlines())
    assert done <= {line["job"] for line in lines if line["what"] == "filed"}


def test_another_server_goes_on_without_a_second_upload(tmp_path: Path, api: Sandbox) -> None:
    """One recording is done and one waits for its result when the first server is lost.

    Folders and backup are taken over, to folders of other names. The same recordings come again.
    """
    lost = Clinic(tmp_path / "lost", api.base_url)
    write_wav(lost.inbox / "early.wav", pitch=300)
    process = lost.start()
    try:
        wait_for("one is done", (lost.done / "early.wav").exists)
        api.fault({"on": "status", "do": "status", "status": 503, "times": None})
        write_wav(lost.inbox / "late.wav", pitch=400)
        wait_for("the other is uploaded", lambda: len(lost.events("uploaded")) == 2)
    finally:
        process.kill()
        process.wait()
    assert lost.run("backup", str(tmp_path / "backup.tar")).returncode == 0
    api.clear_faults()
    assert api.stats()["uploads"] == 2

    new = Clinic(tmp_path / "new", api.base_url)
    for folder in ("processing", "outbox", "done", "failed"):
        (lost.root / folder).rename(new.root / folder)
    restored(tmp_path / "backup.tar", new)
    shutil.rmtree(lost.root)
    write_wav(new.inbox / "early again.wav", pitch=300)
    write_wav(new.inbox / "late again.wav", pitch=400)
    assert new.once() == 0
    assert new.files(new.done) == ["early again.wav", "early.wav", "late again.wav", "late.wav"]
    assert api.stats()["uploads"] == 2
    assert new.events("vanished", "returned_to_inbox", "internal_error") == []


def test_what_can_not_be_whole_is_not_there(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    backup = tmp_path / "backup.tar"
    for _ in range(2):
        missing = clinic.run("backup", str(backup))
        assert (missing.returncode, backup.exists()) == (75, False)
        assert "There is no journal" in missing.stderr
        (clinic.root / "state").mkdir(exist_ok=True)
        (clinic.root / "state" / "journal.sqlite").touch()  # as while a daemon creates it
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0

    for impossible in (tmp_path / "nowhere" / "backup.tar", clinic.inbox):
        refused = clinic.run("backup", str(impossible))
        assert (refused.returncode, refused.stdout) == (75, "")
        assert f"The backup {impossible} can't be written: " in refused.stderr

    assert clinic.run("backup", str(backup)).returncode == 0
    good = backup.read_bytes()
    journal = clinic.root / "state" / "journal.sqlite"
    content = bytearray(journal.read_bytes())
    content[4096 * 2 : 4096 * 6] = bytes(4096 * 4)
    journal.write_bytes(content)
    damaged = clinic.run("backup", str(backup))
    assert damaged.returncode == 75
    assert "It is damaged" in damaged.stderr
    assert backup.read_bytes() == good
    assert sorted(os.listdir(tmp_path)) == ["api", "backup.tar", "clinic"]
