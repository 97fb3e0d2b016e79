"""FAULTS 31: a journal that is locked, read-only, damaged or on a share: it is said, and nothing is taken."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults import mounts
from tests.faults.clinics import NOT_ALMIGHTY, QUICK, clinic_on, put
from tests.faults.promises import assert_kept
from tests.faults.shares import sshfs
from tests.kit.clinic import Clinic, locked_journal, running
from tests.kit.daemon_server import problems
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for


@pytest.fixture
def stopped(tmp_path: Path, api: Sandbox) -> Clinic:
    """A clinic with a few hundred pages of journal, a recording in its inbox, and no daemon running."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK, intake={"on_duplicate": "process"})
    write_wav(clinic.inbox / "first.wav", pitch=300)
    assert clinic.once() == 0
    with contextlib.closing(sqlite3.connect(journal_of(clinic))) as journal:
        (reply,) = journal.execute("SELECT reply FROM replies").fetchone()
        rows = ((f"earlier-{number}", reply) for number in range(400))
        journal.executemany("INSERT INTO replies VALUES (?, ?)", rows)
        journal.commit()
    write_wav(clinic.inbox / "smith.wav")
    return clinic


def journal_of(clinic: Clinic) -> Path:
    return clinic.root / "state" / "journal.sqlite"


def assert_refused(clinic: Clinic, api: Sandbox, *said: str, status: int) -> None:
    """`run` ends with that status and a message, and the recording still lies in the inbox."""
    uploads = api.stats()["uploads"]
    ran = clinic.run("run", "--once")
    assert ran.returncode == status, ran.stderr
    for words in said:
        assert words in ran.stderr
    assert "Traceback" not in ran.stderr
    assert clinic.files(clinic.inbox) == ["smith.wav"]
    assert clinic.files(clinic.processing) == clinic.files(clinic.failed) == []
    assert api.stats()["uploads"] == uploads


def test_31_a_journal_locked_for_a_moment_is_waited_for(stopped: Clinic) -> None:
    with locked_journal(stopped):
        daemon = stopped.launch("run", "--once")
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.wait(2.5)
        assert stopped.files(stopped.inbox) == ["smith.wav"]
    assert daemon.wait(30) == 0
    assert stopped.files(stopped.done) == ["first.wav", "smith.wav"]


@pytest.mark.needs  # minutes
@pytest.mark.slow
def test_31_a_journal_locked_at_the_start_is_refused(stopped: Clinic, api: Sandbox) -> None:
    with locked_journal(stopped):
        assert_refused(stopped, api, "database is locked", "processing resumes after that", status=75)
    assert stopped.once() == 0


@pytest.mark.needs  # minutes
@pytest.mark.slow
def test_31_a_journal_locked_for_long_pauses_the_intake(tmp_path: Path, api: Sandbox) -> None:
    clinic = clinic_on(tmp_path / "clinic", api, tmp_path)
    with running(clinic):
        with locked_journal(clinic):
            contents = {put(clinic, "smith.wav")}
            wait_for("it says so", lambda: clinic.events("claim_failed") != [], seconds=60)
            assert "locked" in clinic.events("claim_failed")[0]["reason"]
            wait_for("it is not ready", lambda: list(problems(clinic)) == ["journal"])
            assert api.stats()["presigns"] == 0
        wait_for("it goes on", lambda: clinic.files(clinic.done) == ["smith.wav"], seconds=60)
    assert_kept(clinic, api, contents)


@pytest.mark.parametrize(("what", "mode"), [("journal.sqlite", 0o400), (".", 0o500)], ids=["file", "folder"])
def test_31_a_journal_that_may_not_be_written_is_refused(stopped: Clinic, what: str, mode: int) -> None:
    protected = stopped.root / "state" / what
    protected.chmod(mode)
    command = [*NOT_ALMIGHTY, *stopped.command("run", "--once")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    protected.chmod(0o700)
    assert ran.returncode == 75, ran.stderr
    assert "readonly database" in ran.stderr
    assert "Give the file and its folder to the daemon's user" in ran.stderr
    assert stopped.files(stopped.inbox) == ["smith.wav"]
    assert stopped.once() == 0


@pytest.mark.needs("root")
def test_31_a_journal_on_a_read_only_mount_is_refused(stopped: Clinic, api: Sandbox) -> None:
    with mounts.read_only(stopped.root / "state"):
        assert_refused(stopped, api, "state.directory: can't write", "Read-only file system", status=78)
    assert stopped.once() == 0


@pytest.mark.needs("root")
def test_31_a_journal_that_turns_read_only_pauses_the_intake(api: Sandbox, tmp_path: Path) -> None:
    clinic = clinic_on(tmp_path / "clinic", api, tmp_path)
    with running(clinic):
        with mounts.read_only(clinic.root / "state"):
            wait_for("it says so", lambda: clinic.events("storage_error") != [])
            assert "read-only" in clinic.events("storage_error")[0]["error"]
            wait_for("it is not ready", lambda: list(problems(clinic)) == ["journal"])
            contents = {put(clinic, "smith.wav")}
            time.sleep(1)  # several scans
            assert clinic.files(clinic.inbox) == ["smith.wav"]
            assert api.stats()["presigns"] == 0
        wait_for("it goes on", lambda: clinic.files(clinic.done) == ["smith.wav"])
    assert_kept(clinic, api, contents)


def overwrite_a_page(journal: Path) -> None:
    with journal.open("r+b") as file:
        file.seek(journal.stat().st_size // 2 // 4096 * 4096)
        file.write(os.urandom(4096))


def cut_in_half(journal: Path) -> None:
    os.truncate(journal, journal.stat().st_size // 2)


def overwrite_the_header(journal: Path) -> None:
    journal.write_text("Dear colleague, thank you for referring this patient.\n" * 100)


@pytest.mark.parametrize("damage", [overwrite_a_page, cut_in_half, overwrite_the_header])
def test_31_a_damaged_journal_is_refused(
    stopped: Clinic, api: Sandbox, damage: Callable[[Path], None]
) -> None:
    backup = journal_of(stopped).read_bytes()
    damage(journal_of(stopped))
    damaged = journal_of(stopped).read_bytes()
    assert_refused(stopped, api, "journal.sqlite", "It is damaged: restore a backup", status=75)
    assert journal_of(stopped).read_bytes() == damaged  # nothing is repaired behind anybody's back
    journal_of(stopped).write_bytes(backup)
    assert stopped.once() == 0
    assert stopped.files(stopped.done) == ["first.wav", "smith.wav"]


@pytest.mark.needs("root", "sshfs", "sshd", "ssh-keygen")
def test_31_a_journal_on_a_network_share_is_refused(tmp_path: Path, api: Sandbox) -> None:
    with sshfs(tmp_path / "server", tmp_path / "share") as share:
        state = share.near / "state"
        clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK, state={"directory": str(state)})
        write_wav(clinic.inbox / "smith.wav")
        assert_refused(clinic, api, f"{state} lies on fuse.sshfs", "Put it on a local disk", status=78)
        checked = clinic.run("check")
        assert checked.returncode == 78
        assert "lies on fuse.sshfs" in checked.stdout
