"""Commands that root gives for another user's daemon: what they make is that user's, or they are refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, stop
from tests.kit.commands import NOBODY, as_nobody, give, ids, public_folder
from tests.kit.waiting import wait_for

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def clinic(api: Sandbox) -> Iterator[Clinic]:
    """As the README installs it: the parent and the state directory are nobody's, all else is missing."""
    with public_folder() as folder:
        clinic = Clinic(folder / "clinic", api.base_url)
        clinic.config.chmod(0o644)
        clinic.inbox.rmdir()
        for place in (clinic.root, clinic.root / "state"):
            place.mkdir(mode=0o700, exist_ok=True)
            give(place)
        yield clinic


def owners(clinic: Clinic) -> set[int]:
    """Whose all that is below the clinic's folders and in its state directory is."""
    return {path.stat().st_uid for path in clinic.root.rglob("*") if path != clinic.config}


def test_what_check_makes_is_the_daemons(clinic: Clinic) -> None:
    checked = clinic.run("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert clinic.failed.is_dir()
    assert owners(clinic) == {NOBODY}
    assert as_nobody(clinic, "run", "--once").returncode == 0


@pytest.mark.parametrize("command", [("run",), ("run", "--once"), ("start",)], ids=" ".join)
def test_a_daemon_started_by_root_is_refused(clinic: Clinic, command: tuple[str, ...]) -> None:
    refused = clinic.run(*command)
    assert refused.returncode == 77
    assert "state.directory belongs to nobody" in refused.stderr
    assert f"runuser -u nobody -- invox-watcher {' '.join(command)}" in refused.stderr
    assert not clinic.inbox.exists()


def test_check_makes_no_state_directory_of_unclear_owner(clinic: Clinic) -> None:
    (clinic.root / "state").rmdir()
    refused = clinic.run("check")
    assert refused.returncode == 78
    assert f"{clinic.root / 'state'}" in refused.stderr
    assert f"install -d -m 700 -o nobody {clinic.root / 'state'}" in refused.stderr
    assert list(clinic.root.iterdir()) == [clinic.config]
    # A container in which all is root's.
    os.chown(clinic.root, 0, 0)
    assert clinic.run("check").returncode == 0
    assert clinic.once() == 0


def test_retry_by_root_keeps_the_daemons_user_as_owner(clinic: Clinic) -> None:
    ward = clinic.inbox / "ward9"
    for folder in (clinic.inbox, ward):
        folder.mkdir()
        give(folder)
    (ward / "letter.wav").write_text("Dear colleague\n")
    give(ward / "letter.wav")
    assert as_nobody(clinic, "run", "--once").returncode == 1
    ward.rmdir()
    (job_id,) = ids(clinic).values()
    put_back = clinic.run("retry", job_id)
    assert put_back.returncode == 0, put_back.stderr
    assert owners(clinic) == {NOBODY}
    assert as_nobody(clinic, "run", "--once").returncode == 1
    assert clinic.files(clinic.inbox) == []


@pytest.mark.needs("root", "unshare")
def test_a_mount_that_only_the_service_sees_is_no_boundary(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    (clinic.inbox / "letter.wav").write_text("Dear Mrs Miller")
    # As systemd does with each folder of ReadWritePaths.
    bind = f'mount --bind "{clinic.root}" "{clinic.root}"; exec "$@"'
    daemon = clinic.start(["unshare", "--mount", "sh", "-c", bind, "sh", *clinic.command("run")])
    try:
        wait_for("it has failed", lambda: clinic.events("failed") != [])
        [job] = clinic.events("failed")
        retried = clinic.run("retry", job["job"])
        assert (retried.returncode, retried.stderr) == (0, "")
        assert "folders" not in clinic.run("check").stderr
        assert stop(daemon) == 0
    finally:
        daemon.kill()
        daemon.wait()
    assert clinic.once() in (0, 1)  # by whether the retry was taken yet; the folders are there
