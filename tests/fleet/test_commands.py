"""One host whose journal is in the database: its daemon, and every command that asks the journal."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from invox_watcher.journal import Server
from invox_watcher.sandbox.server import Sandbox
from tests.acceptance.conftest import api  # noqa: F401
from tests.kit.clinic import Clinic, running, wait_for
from tests.kit.recordings import write_wav

SECRET = "wachtwoord"


@pytest.fixture
def clinic(tmp_path: Path, api: Sandbox, server: Server) -> Clinic:  # noqa: F811
    url = server.url.replace("watcher@", f"watcher:{SECRET}@")
    return Clinic(
        tmp_path / "clinic", api.base_url, state={"directory": str(tmp_path / "clinic/state"), "url": url}
    )


def test_commands_work_with_a_journal_in_the_database(clinic: Clinic, tmp_path: Path) -> None:
    write_wav(clinic.inbox / "smith.wav")
    (clinic.inbox / "letter.wav").write_text("Dear colleague,\n")
    said: list[str] = []

    def run(*arguments: str) -> str:
        done = clinic.run(*arguments)
        said.append(done.stdout + done.stderr)
        return done.stdout

    with running(clinic):
        wait_for("both have ended", lambda: len(clinic.files(clinic.done) + clinic.files(clinic.failed)) >= 3)
        assert "ready" in run("status")
        assert json.loads(run("status", "--json"))["jobs"]["done"] == 1
        assert "It belongs to job" in run("explain", str(clinic.done / "smith.wav"))
        run("retry", "--code", "not_audio")
        assert "letter.wav" in said[-1]
        wait_for("it has failed again", lambda: "letter.wav" in clinic.files(clinic.failed))
    jobs = {job["path"]: job for job in json.loads(run("jobs", "--all", "--json"))}
    assert jobs["smith.wav"]["state"] == "done"
    assert jobs["smith.wav"]["host"]
    shown = json.loads(run("show", jobs["smith.wav"]["id"], "--json"))
    assert [entry["state"] for entry in shown["history"]][-1] == "done"
    assert "journal" in run("check")
    archive = tmp_path / "backup.tar"
    run("backup", str(archive))
    assert "back up postgresql:///journal with pg_dump" in said[-1]
    with tarfile.open(archive) as tar:
        assert "audit.jsonl" in tar.getnames()
        assert "journal.sqlite" not in tar.getnames()
    assert {entry["host"] for entry in clinic.audit_log()} == {jobs["smith.wav"]["host"]}
    (tmp_path / "copy").mkdir()
    assert "both have the same content" in run(
        "journal", "copy", "--from", "state.url", "--to", str(tmp_path / "copy")
    )
    run("journal", "copy", "--from", "state.url", "--to", str(tmp_path / "copy"))
    assert "is in use already" in said[-1]
    run("journal", "copy", "--from", "state.url", "--to", f"postgresql://me:x#{SECRET}@db/other")
    assert "must be an address like" in said[-1]
    assert SECRET not in run("config", "show")
    assert SECRET not in "".join(said) + clinic.log.read_text()
