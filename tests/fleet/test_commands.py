"""One host whose journal is in the database: its daemon, and every command that asks the journal."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from invox_watcher.files import MARK_FILE
from invox_watcher.journal import Journal, Server
from invox_watcher.sandbox.server import Sandbox
from tests.acceptance.conftest import api  # noqa: F401
from tests.kit.clinic import Clinic, running, wait_for
from tests.kit.postgres import Cluster
from tests.kit.recordings import write_wav

SECRET = "wachtwoord"


@pytest.fixture
def clinic(tmp_path: Path, api: Sandbox, server: Server) -> Clinic:  # noqa: F811
    url = server.url.replace("watcher@", f"watcher:{SECRET}@")
    return Clinic(
        tmp_path / "clinic", api.base_url, state={"directory": str(tmp_path / "clinic/state"), "url": url}
    )


def use(clinic: Clinic, **state: Any) -> None:
    """Have this section `state`, and no more in it."""
    content = yaml.safe_load(clinic.config.read_text())
    clinic.config.write_text(yaml.safe_dump(content | {"state": state}))


def refused(clinic: Clinic, *command: str) -> str:
    """What a command says that ends as one that can never succeed."""
    done = clinic.run(*command)
    assert done.returncode == 78, done.stdout + done.stderr
    return done.stdout + done.stderr


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
    run("retry", "--code", "not_audio")
    assert "No daemon is running on this host, " in said[-1]
    assert {entry["host"] for entry in clinic.audit_log()} == {jobs["smith.wav"]["host"]}
    (tmp_path / "copy").mkdir()
    assert "both have the same content" in run(
        "journal", "copy", "--from", "state.url", "--to", str(tmp_path / "copy")
    )
    copied_to = f"The journal postgresql:///journal was copied to {tmp_path}/copy"
    run("journal", "copy", "--from", "state.url", "--to", str(tmp_path / "copy"))
    assert copied_to in said[-1]
    run("jobs", "--all")
    assert f"what follows is out of date. {copied_to}" in said[-1]
    assert "smith.wav" in said[-1]
    for command in (["run"], ["check"], ["retry", "--all"]):
        assert copied_to in refused(clinic, *command)
    run("journal", "copy", "--from", "state.url", "--to", f"postgresql://me:x#{SECRET}@db/other")
    assert "must be an address like" in said[-1]
    use(clinic, directory=str(clinic.root / "state"), url=f"postgresql://me:{SECRET}@127.0.0.1:1/x", host="b")
    shown = run("status")
    for line in ("under way", "done"):
        assert f"{line:<15}unknown: the journal can't be read\n" in shown
    assert "connection refused" in said[-1].lower()
    assert json.loads(run("status", "--json"))["jobs"] is None
    assert SECRET not in run("config", "show")
    assert SECRET not in "".join(said) + clinic.log.read_text()


def test_recordings_are_sent_once_whatever_the_journal_is_said_to_be(
    clinic: Clinic,
    api: Sandbox,  # noqa: F811
    cluster: Cluster,
    server: Server,
    tmp_path: Path,
) -> None:
    alone = {"directory": str(clinic.root / "state")}
    fleet = alone | {"url": server.url, "host": "a"}
    use(clinic, **alone)
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0

    use(clinic, **fleet)  # the copy was forgotten
    for command in ("run", "check"):
        assert "has recordings, and was never copied to postgresql:///" in refused(clinic, command)
    to_database = ("journal", "copy", "--from", "state.directory", "--to", "state.url")
    assert clinic.run(*to_database).returncode == 0
    use(clinic, **alone)  # as it was before
    explain = ["explain", str(clinic.done / "smith.wav")]
    for command in (["run"], ["run", "--once", "--dry-run"], ["check"], ["retry", "--all"], explain):
        assert f"was copied to {server.name}" in refused(clinic, *command)
    use(clinic, **fleet)
    assert clinic.once() == 0

    password = tmp_path / "password"
    password.write_text("not asked for\n")
    password.chmod(0o644)
    second = {
        "directory": str(tmp_path / "b"),
        "url": server.url,
        "password_file": str(password),
        "host": "b",
    }
    use(clinic, **second)
    checked = clinic.run("check")  # before its first start
    assert checked.returncode == 0, checked.stdout
    assert f"anyone on this machine can read {password}" in checked.stdout
    assert f"journal: in {server.name}: intact; 0 under way, 1 done, 0 failed" in checked.stdout
    daemon = clinic.start()
    daemon.kill()
    daemon.wait()
    assert "b: not running; the others, if any, take over 0 under way" in clinic.run("status").stdout
    assert clinic.once() == 0  # it was the last to write the marks
    for other in (second | {"url": cluster.create("other")}, {"directory": second["directory"]}):
        use(clinic, **other)
        for command in ("run", "check"):
            said = refused(clinic, command)
            assert "is used as folders." in said
            assert "by a fleet of invox-watcher hosts" in said
            assert "To join it, use the same state.url and app_id" in said
    Journal(tmp_path / "b").close()  # one that was left there
    assert "started last with state.url" in clinic.run("jobs", "--all").stderr
    assert "started last with state.url" in refused(clinic, "retry", "--all")

    use(clinic, **fleet)
    write_wav(clinic.inbox / "jones.wav", seconds=0.6)
    assert clinic.once() == 0
    to_file = ("journal", "copy", "--from", "state.url", "--to", "state.directory")
    assert "journal.sqlite is in use already" in refused(clinic, *to_file)
    (clinic.root / "state/journal.sqlite").rename(tmp_path / "old.sqlite")
    assert clinic.run(*to_file).returncode == 0
    use(clinic, **alone)
    assert "by a fleet of invox-watcher hosts" in refused(clinic, "run")
    for role in ("inbox", "processing", "outbox", "done", "failed"):
        (clinic.root / role / MARK_FILE).unlink()
    assert clinic.once() == 0
    for again in (fleet, second):
        use(clinic, **again)
        assert f"was copied to {clinic.root}/state" in refused(clinic, "run")
    assert api.stats()["uploads"] == 2
