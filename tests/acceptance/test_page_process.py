"""The page as a process: with the daemon, after its faults, and without it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from invox_watcher.accounts import write_users
from invox_watcher.sandbox.server import Sandbox
from tests.kit import event_page
from tests.kit.browser import Browser
from tests.kit.clinic import Clinic, free_port, running, stop
from tests.kit.commands import terminal
from tests.kit.page_clinic import PASSWORD, answers, at_of, page_of, page_section, users
from tests.kit.recordings import write_wav
from tests.kit.waiting import Process, wait_for


def with_page(tmp_path: Path, api: Sandbox | str) -> tuple[Clinic, str]:
    section = page_section(tmp_path / "clinic")
    base_url = api if isinstance(api, str) else api.base_url
    return Clinic(tmp_path / "clinic", base_url, page=section), section["listen"]


def pages_of(daemon: Process) -> list[int]:
    """The processes of the page that the daemon has started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ProcessLookupError):
            parent = int(process.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            words = process.joinpath("cmdline").read_bytes().split(b"\0")
            if parent == daemon.pid and b"invox_watcher.page" in words:
                found.append(int(process.name))
    return found


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_the_page_lives_and_ends_with_its_daemon(tmp_path: Path, api: Sandbox) -> None:
    clinic, listen = with_page(tmp_path, api)
    daemon = clinic.start()
    browser = Browser(at_of(listen))
    try:
        wait_for("the page answers", lambda: answers(browser))
        [first] = pages_of(daemon)
        assert os.getpriority(os.PRIO_PROCESS, first) > os.getpriority(os.PRIO_PROCESS, daemon.pid)
        os.kill(first, signal.SIGKILL)
        wait_for("it answers again", lambda: pages_of(daemon) not in ([], [first]) and answers(browser))
        assert clinic.events("page_ended")[0]["exit_status"] == -9
        [second] = pages_of(daemon)

        daemon.send_signal(signal.SIGHUP)
        wait_for("a reload", lambda: len(clinic.events("reloaded")) == 1)
        assert pages_of(daemon) == [second]

        elsewhere = f"127.0.0.1:{free_port()}"
        clinic.config.write_text(clinic.config.read_text().replace(listen, elsewhere))
        daemon.send_signal(signal.SIGHUP)
        moved = Browser(at_of(elsewhere))
        wait_for("it answers elsewhere", lambda: answers(moved))
        assert not answers(browser)
        assert not is_alive(second)

        [third] = pages_of(daemon)
        daemon.kill()
        daemon.wait()
        wait_for("it has ended with the daemon", lambda: not is_alive(third))
        event_page.check(clinic.events())

        daemon = clinic.start()
        wait_for("it answers after the restart", lambda: answers(moved))
        [fourth] = pages_of(daemon)
        assert stop(daemon) == 0
        assert not is_alive(fourth)
    finally:
        daemon.kill()
        daemon.wait()


def test_a_page_that_can_not_run_is_a_warning(tmp_path: Path, api: Sandbox) -> None:
    clinic, listen = with_page(tmp_path, api)
    host, _, port = listen.rpartition(":")

    def warnings() -> list[str]:
        status = json.loads(clinic.run("status", "--json").stdout)
        return [one["code"] for one in status["warnings"]]

    with socket.create_server((host, int(port))):
        daemon = clinic.start()
        try:
            wait_for("it has ended", lambda: len(clinic.events("page_ended")) > 0)
            wait_for("it is said", lambda: warnings() == ["page_down"])
            status = clinic.run("status")
            assert status.returncode == 0  # recordings do not need it
            assert "The page's process ended with status 78." in status.stdout
        except BaseException:
            daemon.kill()
            raise
    try:
        wait_for("there is a page", lambda: answers(Browser(at_of(listen))))
        wait_for("the warning is gone", lambda: warnings() == [])
        event_page.check(clinic.events())
    finally:
        assert stop(daemon) == 0


def test_what_ends_it_before_its_configuration_is_known_is_logged(tmp_path: Path) -> None:
    missing = str(tmp_path / "config.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "invox_watcher.page", missing], capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    event = json.loads(done.stderr)
    assert event["event"] == "page_failed"
    assert missing in event["error"]


def test_without_its_key_no_page_is_started(tmp_path: Path, api: Sandbox) -> None:
    clinic, listen = with_page(tmp_path, api)
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0
    assert clinic.events("page_listening") == []  # nothing to look at after `run --once`
    keys = yaml.safe_load(clinic.config.read_text())
    keys["page"]["listen"] = None
    clinic.config.write_text(yaml.safe_dump(keys))
    daemon = clinic.start()
    try:
        assert pages_of(daemon) == []
        assert not answers(Browser(at_of(listen)))
    finally:
        assert stop(daemon) == 0
    alone = clinic.run("page")
    assert alone.returncode == 78
    assert "page.listen: is not set" in alone.stderr


def test_an_address_in_use_is_tried_again(tmp_path: Path, api: Sandbox) -> None:
    clinic, listen = with_page(tmp_path, api)
    with page_of(clinic, listen) as browser:  # another page, before the daemon's
        daemon = clinic.start()
        wait_for("the page's end is logged", lambda: bool(clinic.events("page_ended")))
        assert "Address already in use" in clinic.events("page_failed")[0]["error"]
        assert answers(browser)
    try:
        wait_for("the daemon's page answers", lambda: answers(browser), seconds=60)
    finally:
        assert stop(daemon) == 0


def test_the_page_shows_what_it_can_and_recovers(tmp_path: Path, api: Sandbox) -> None:
    clinic, listen = with_page(tmp_path, api)
    state = tmp_path / "clinic" / "state"
    with page_of(clinic, listen) as anna:
        assert anna.sign_in("anna", PASSWORD).status == 303
        assert anna.get("/").status in (200, 503)  # before the first start of a daemon
        write_wav(clinic.inbox / "smith.wav")
        with running(clinic):
            wait_for("it shows the recording", lambda: "smith.wav" in anna.get("/find").text)
            wait_for("and what it does", lambda: anna.get("/").status == 200)
        assert anna.get("/find").status == 200
        for _ in range(2):
            away = state.rename(tmp_path / "away")
            wait_for("it says that it can't", lambda: anna.get("/find").status == 503)
            assert "Traceback" not in anna.get("/find").text
            away.rename(state)
            wait_for("it can again", lambda: "smith.wav" in anna.get("/find").text)


def test_a_stop_does_not_wait_for_open_pages(tmp_path: Path) -> None:
    clinic, listen = with_page(tmp_path, "http://127.0.0.1:9")
    clinic.once()
    with page_of(clinic, listen) as anna:
        assert anna.sign_in("anna", PASSWORD).status == 303
        connection = anna.connection()
        cookies = "; ".join(f"{name}={value}" for name, value in anna.cookies.items())
        connection.request("GET", "/live", headers={"Cookie": cookies})
        response = connection.getresponse()
        assert response.readline()
        began = time.monotonic()
    assert time.monotonic() - began < 8
    with contextlib.suppress(OSError):
        response.read()
    connection.close()


# ---- users -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Clinic:
    root = tmp_path_factory.mktemp("office")
    section = page_section(root / "clinic")
    os.unlink(section["users_file"])
    return Clinic(root / "clinic", "http://127.0.0.1:9", page=section)


def user(office: Clinic, *arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
    """`page user`, with a password on standard input."""
    command = office.command("page", "user", *arguments)
    return subprocess.run(
        command, input=f"{password}\n", capture_output=True, text=True, timeout=60, check=False
    )


def entries(office: Clinic) -> dict[str, dict[str, object]]:
    users: dict[str, dict[str, object]] = yaml.safe_load((office.root / "users.yaml").read_text())["users"]
    return users


def test_users_are_added_changed_and_removed(office: Clinic) -> None:
    added = user(office, "anna", "--role", "listen", "--profile", "ward3", password=PASSWORD)
    assert added.returncode == 0, added.stderr
    assert added.stdout.startswith("anna may see, listen, of ward3. Written to ")
    assert "The configuration has no profile ward3; it has default." in added.stderr
    assert (office.root / "users.yaml").stat().st_mode & 0o777 == 0o600
    entry = entries(office)["anna"]
    assert str(entry["password"]).startswith("$2b$12$")
    assert (entry["roles"], entry["profiles"]) == (["see", "listen"], ["ward3"])
    assert PASSWORD not in added.stdout + added.stderr + (office.root / "users.yaml").read_text()

    assert user(office, "anna", "--role", "act").returncode == 0  # the password stays
    assert entries(office)["anna"] == entry | {"roles": ["see", "act"]}
    assert user(office, "anna", password="another fine password").returncode == 0
    assert entries(office)["anna"]["password"] != entry["password"]
    assert entries(office)["anna"]["profiles"] == ["ward3"]

    assert user(office, "berta", "--no-password").returncode == 0
    assert entries(office)["berta"] == {"roles": ["see"]}
    assert "anna may see, act. Written" in user(office, "ANNA", "--all-profiles").stdout
    assert "profiles" not in entries(office)["anna"]
    lost = user(office, "anna", "--no-password")
    assert lost.stdout.startswith("anna may see, act. The password that there was is deleted.")
    assert "password" not in entries(office)["anna"]
    assert user(office, "anna", "--remove").returncode == 0
    assert list(entries(office)) == ["berta"]


def test_users_who_are_changed_at_once_are_all_kept(office: Clinic) -> None:
    names = [f"u{n}" for n in range(5)]
    commands = [
        subprocess.Popen(office.command("page", "user", name, "--no-password"), stdout=subprocess.DEVNULL)
        for name in names
    ]
    assert [command.wait(60) for command in commands] == [0] * 5
    assert set(names) <= entries(office).keys()


def test_a_typed_password_is_not_shown(office: Clinic) -> None:
    for again, status, says in (
        (PASSWORD, 0, "theo may see. Written to"),
        ("another one", 64, "not the same"),
    ):
        with terminal(office.command("page", "user", "theo")) as screen:
            wait_for("it asks", lambda: "Password for theo: " in screen.raw)
            screen.types(f"{PASSWORD}\n")
            wait_for("it asks again", lambda: "The same again: " in screen.raw)
            screen.types(f"{again}\n")
            assert screen.ended() == status
            assert says in screen.raw
            assert PASSWORD not in screen.raw


@pytest.mark.parametrize(
    ("arguments", "password", "status", "says"),
    [
        (["kim"], "too short", 78, "12 characters"),
        (["kim"], "x" * 73, 78, "72 bytes"),
        (["kim", "--remove"], "", 64, "no user kim"),
        (["k" * 101], PASSWORD, 78, "at most 100"),
        ([], PASSWORD, 64, "Which user?"),
        (["kim", "--remove", "--role", "see"], "", 64, "--remove and --role contradict"),
        (["kim", "--profile", "a", "--all-profiles"], "", 64, "--profile and --all-profiles contradict"),
    ],
)
def test_a_user_that_can_not_be_written_is_explained(
    office: Clinic, arguments: list[str], password: str, status: int, says: str
) -> None:
    refused = user(office, *arguments, password=password)
    assert refused.returncode == status
    assert says in refused.stderr


def test_check_tries_the_page(tmp_path: Path, api: Sandbox) -> None:
    section, http = page_section(tmp_path / "clinic"), {"listen": f"127.0.0.1:{free_port()}"}
    clinic, listen = Clinic(tmp_path / "clinic", api.base_url, page=section, http=http), section["listen"]

    def found() -> dict[str, str]:
        rows = json.loads(clinic.run("check", "--json").stdout)
        return {
            row["check"]: row["problem"] or row["seen"] for row in rows if row["check"].startswith("page.")
        }

    users_file = tmp_path / "clinic" / "users.yaml"
    assert found()["page.users_file"].startswith(
        "user paul has profiles that the configuration does not have"
    )
    write_users(users_file, {"anna": users()["anna"]})
    assert found() == {"page.listen": f"{listen} is free", "page.users_file": f"{users_file}: 1 user"}
    host, _, port = listen.rpartition(":")
    with socket.create_server((host, int(port))):
        assert found()["page.listen"] == f"another program listens on {listen}"
    users_file.chmod(0o666)
    assert found()["page.users_file"] == f"Others may change the users file {users_file}"
    users_file.unlink()
    assert found()["page.users_file"] == f"there is no {users_file}"
