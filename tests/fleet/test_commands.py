"""One host whose journal is in the database: its daemon, and every command that asks the journal."""

from __future__ import annotations

import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from invox_watcher.files import MARK_FILE
from invox_watcher.journal import Journal, Server, identity_in
from invox_watcher.sandbox.server import Sandbox
from tests.acceptance.conftest import api  # noqa: F401
from tests.kit.clinic import Clinic, running
from tests.kit.postgres import Cluster
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

SECRET = "wachtwoord"
TO_DATABASE = ("journal", "copy", "--from", "state.directory", "--to", "state.url")
TO_FILE = ("journal", "copy", "--from", "state.url", "--to", "state.directory")


@pytest.fixture
def clinic(tmp_path: Path, api: Sandbox, server: Server) -> Clinic:  # noqa: F811
    url = server.url.replace("watcher@", f"watcher:{SECRET}@")
    return Clinic(
        tmp_path / "clinic", api.base_url, state={"directory": str(tmp_path / "clinic/state"), "url": url}
    )


@dataclass(frozen=True)
class States:
    """The section `state` of the host `a` alone, and of two hosts of one fleet, of which it is the first."""

    alone: dict[str, Any]
    first: dict[str, Any]
    second: dict[str, Any]


@pytest.fixture
def states(clinic: Clinic, server: Server, tmp_path: Path) -> States:
    alone = {"directory": str(clinic.root / "state")}
    second = {"directory": str(tmp_path / "b"), "url": server.url, "host": "b"}
    return States(alone, alone | {"url": server.url, "host": "a"}, second)


def use(clinic: Clinic, **state: Any) -> None:
    """Have this section `state`, and no more in it."""
    content = yaml.safe_load(clinic.config.read_text())
    clinic.config.write_text(yaml.safe_dump(content | {"state": state}))


def run(clinic: Clinic, *command: str) -> subprocess.CompletedProcess[str]:
    """Run one command, which does not show the password, to its end."""
    done = clinic.run(*command)
    assert SECRET not in done.stdout + done.stderr
    return done


def refused(clinic: Clinic, *command: str) -> str:
    """What a command says that ends as one that can never succeed."""
    done = run(clinic, *command)
    assert done.returncode == 78, done.stdout + done.stderr
    return done.stdout + done.stderr


def send_alone(clinic: Clinic, states: States) -> None:
    """Have the host send `smith.wav` before there is a fleet."""
    use(clinic, **states.alone)
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0


def join(clinic: Clinic, states: States) -> None:
    """Have it send `smith.wav` alone, and then become the first host of a fleet."""
    send_alone(clinic, states)
    use(clinic, **states.first)
    assert clinic.run(*TO_DATABASE).returncode == 0
    assert clinic.once() == 0


def test_commands_work_with_a_journal_in_the_database(clinic: Clinic, tmp_path: Path) -> None:
    write_wav(clinic.inbox / "smith.wav")
    (clinic.inbox / "letter.wav").write_text("Dear colleague,\n")
    with running(clinic):
        wait_for("both have ended", lambda: len(clinic.files(clinic.done) + clinic.files(clinic.failed)) >= 3)
        assert "ready" in run(clinic, "status").stdout
        assert json.loads(run(clinic, "status", "--json").stdout)["jobs"]["done"] == 1
        assert "It belongs to job" in run(clinic, "explain", str(clinic.done / "smith.wav")).stdout
        assert "letter.wav" in run(clinic, "retry", "--code", "not_audio").stdout
        wait_for("it has failed again", lambda: "letter.wav" in clinic.files(clinic.failed))
    jobs = {job["path"]: job for job in json.loads(run(clinic, "jobs", "--all", "--json").stdout)}
    assert jobs["smith.wav"]["state"] == "done"
    assert jobs["smith.wav"]["host"]
    shown = json.loads(run(clinic, "show", jobs["smith.wav"]["id"], "--json").stdout)
    assert [entry["state"] for entry in shown["history"]][-1] == "done"
    assert "journal" in run(clinic, "check").stdout
    archive = tmp_path / "backup.tar"
    backed_up = run(clinic, "backup", str(archive))
    assert "back up postgresql:///journal with pg_dump" in backed_up.stdout + backed_up.stderr
    with tarfile.open(archive) as tar:
        assert "audit.jsonl" in tar.getnames()
        assert "journal.sqlite" not in tar.getnames()
    assert "No daemon is running on this host, " in run(clinic, "retry", "--code", "not_audio").stdout
    assert {entry["host"] for entry in clinic.audit_log()} == {jobs["smith.wav"]["host"]}
    assert SECRET not in clinic.log.read_text()


def test_a_journal_that_was_copied_is_only_read(clinic: Clinic, tmp_path: Path) -> None:
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0
    (tmp_path / "copy").mkdir()
    copy = ("journal", "copy", "--from", "state.url", "--to", str(tmp_path / "copy"))
    assert "both have the same content" in run(clinic, *copy).stdout
    copied_to = f"The journal postgresql:///journal was copied to {tmp_path}/copy"
    listed = run(clinic, "jobs", "--all")
    assert f"what follows is out of date. {copied_to}" in listed.stderr
    assert "smith.wav" in listed.stdout
    for command in (copy, ("run",), ("check",), ("retry", "--all")):
        assert copied_to in refused(clinic, *command)


def test_what_can_not_be_reached_is_said_without_the_password(clinic: Clinic) -> None:
    wrong = ("journal", "copy", "--from", "state.url", "--to", f"postgresql://me:x#{SECRET}@db/other")
    assert "must be an address like" in run(clinic, *wrong).stderr
    use(clinic, directory=str(clinic.root / "state"), url=f"postgresql://me:{SECRET}@127.0.0.1:1/x", host="b")
    status = run(clinic, "status")
    for line in ("under way", "done"):
        assert f"{line:<15}unknown: the journal can't be read\n" in status.stdout
    assert "connection refused" in status.stderr.lower()
    assert json.loads(run(clinic, "status", "--json").stdout)["jobs"] is None
    assert "postgresql://" in run(clinic, "config", "show").stdout


def test_of_two_journals_a_host_uses_the_one_that_was_copied_to(
    clinic: Clinic,
    api: Sandbox,  # noqa: F811
    cluster: Cluster,
    server: Server,
    states: States,
) -> None:
    send_alone(clinic, states)
    use(clinic, **states.first)  # the copy was forgotten
    for command in (["run"], ["check"]):
        assert f"has recordings, and was never copied to {server.name}" in refused(clinic, *command)
        assert identity_in(server) is None  # nothing was created
    assert clinic.run(*TO_DATABASE).returncode == 0
    use(clinic, **states.first | {"url": cluster.create("other")})
    for command in (["run"], ["check"]):
        assert f"It was copied to {server.name}: correct state.url." in refused(clinic, *command)
    use(clinic, **states.alone)  # as it was before
    explain = ["explain", str(clinic.done / "smith.wav")]
    for command in (["run"], ["run", "--once", "--dry-run"], ["check"], ["retry", "--all"], explain):
        assert f"was copied to {server.name}" in refused(clinic, *command)
    use(clinic, **states.first)
    assert clinic.once() == 0
    assert api.stats()["uploads"] == 1


def test_a_second_host_joins_and_a_stranger_does_not(
    clinic: Clinic, cluster: Cluster, server: Server, states: States, tmp_path: Path
) -> None:
    join(clinic, states)
    password = tmp_path / "password"
    password.write_text("not asked for\n")
    password.chmod(0o644)
    second = states.second | {"password_file": str(password)}
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


def test_a_fleet_goes_back_to_one_host_that_works_alone(
    clinic: Clinic,
    api: Sandbox,  # noqa: F811
    states: States,
    tmp_path: Path,
) -> None:
    join(clinic, states)
    for host in (states.second, states.first):
        use(clinic, **host)
        assert clinic.once() == 0
    write_wav(clinic.inbox / "jones.wav", seconds=0.6)
    assert clinic.once() == 0
    assert "journal.sqlite is in use already" in refused(clinic, *TO_FILE)
    (clinic.root / "state/journal.sqlite").rename(tmp_path / "old.sqlite")
    assert clinic.run(*TO_FILE).returncode == 0
    use(clinic, **states.alone)
    assert "by a fleet of invox-watcher hosts" in refused(clinic, "run")
    for role in ("inbox", "processing", "outbox", "done", "failed"):
        (clinic.root / role / MARK_FILE).unlink()
    assert clinic.once() == 0
    for again in (states.first, states.second):
        use(clinic, **again)
        assert f"was copied to {clinic.root}/state" in refused(clinic, "run")
    assert api.stats()["uploads"] == 2
