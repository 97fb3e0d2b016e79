"""`check`: what would keep the first recording from going through is found, and it says what to do."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from invox_watcher.config.loading import load
from invox_watcher.diagnostics.check._folders import watching
from invox_watcher.sandbox.server import Sandbox
from tests.faults.mounts import tmpfs
from tests.faults.shares import bindfs
from tests.kit import loopback
from tests.kit.clinic import Clinic, free_port, running, sandbox
from tests.kit.commands import as_nobody, clinic_of_two, give, public_folder
from tests.kit.dictations import without_extra
from tests.kit.recordings import write_wav

TOKEN = b'{"accessToken": "t", "expiresIn": 7200}'


@pytest.fixture
def clinic(tmp_path: Path, api: Sandbox) -> Clinic:
    """A clinic in order, whose configuration its owner alone can read."""
    return in_order(Clinic(tmp_path / "clinic", api.base_url))


def in_order(clinic: Clinic) -> Clinic:
    clinic.config.chmod(0o600)
    return clinic


def checked(clinic: Clinic) -> tuple[int, list[dict[str, Any]]]:
    """The exit status, and every finding; left out are those about this machine alone.

    Folders in memory, as /tmp often is; and an interpreter in root's home, which nobody else may run.
    """
    done = clinic.run("check", "--json")
    assert done.stderr == ""
    of_the_machine = re.compile("does not survive|decoder's process can't be started: Permission denied")
    return done.returncode, [
        row for row in json.loads(done.stdout) if not of_the_machine.search(row["problem"] or "")
    ]


def troubles(clinic: Clinic) -> dict[str, str]:
    """What is not well, by check."""
    return {row["check"]: row["problem"] for row in checked(clinic)[1] if row["level"] != "ok"}


def test_a_sound_setup_is_reported_line_by_line(clinic: Clinic) -> None:
    status, rows = checked(clinic)
    assert status == 0
    assert {row["level"] for row in rows} == {"ok"}
    names = [row["check"] for row in rows if not row["check"].startswith(("folders", "state"))]
    assert names == [
        *("configuration", "credentials files", "journal", "inbox", "watch", "complete files", "free space"),
        *(
            "formats",
            "http.listen",
            "API",
            "credentials",
            "api.presign_path",
            "storage",
            "api.status_path",
            "clock",
        ),
    ]
    shown = clinic.run("check").stdout
    assert re.search(
        r"^ok       watch: by the kernel's events \(\w+, 1 of at most \d+ folders\)$", shown, re.MULTILINE
    )
    assert re.search(r"^ok       free space: .*state.directory: \d+\.\d GB free$", shown, re.MULTILINE)
    assert "ok       journal: none yet: the first start creates it\n" in shown
    assert clinic.once() == 0
    assert "ok       journal: intact; 0 under way, 0 done, 0 failed\n" in clinic.run("check").stdout


def test_every_problem_says_what_to_do(tmp_path: Path, api: Sandbox) -> None:
    wrong = {"app_id": "sandbox-app", "api_key": "not-the-key"}
    clinic = Clinic(tmp_path / "clinic", api.base_url, credentials=wrong, hooks={"on_done": ["/no/program"]})
    clinic.config.chmod(0o644)
    _status, rows = checked(clinic)
    ill = [row for row in rows if row["level"] != "ok"]
    assert {row["check"] for row in ill} == {"credentials files", "hooks.on_done", "credentials"}
    assert all(row["hint"] for row in ill)


def test_check_reports_every_problem_and_the_firsts_status(tmp_path: Path, api: Sandbox) -> None:
    wrong = {"app_id": "sandbox-app", "api_key": "not-the-key"}
    clinic = Clinic(tmp_path / "clinic", api.base_url, credentials=wrong)
    refused = clinic.run("check")
    assert refused.returncode == 77
    assert "ok       API: " in refused.stdout  # it answers, it only does not know us
    assert "failed   credentials: " in refused.stdout
    assert "Check credentials.app_id" in refused.stdout
    assert "not-the-key" not in refused.stdout

    (clinic.root / "done").rmdir()
    (clinic.root / "done").write_text("")
    status, rows = checked(clinic)
    assert status == 78
    problems = {row["check"]: row["problem"] for row in rows}
    assert problems["configuration"] is None
    assert "folders.done" in problems["folders"]
    assert "answered 401" in problems["credentials"]


# ---- the API -----------------------------------------------------------------------------------------------


def test_an_api_that_is_down_is_69(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api") as api:
        base_url = api.base_url
    status, rows = checked(in_order(Clinic(tmp_path / "clinic", base_url)))
    assert status == 69
    failed = [row["check"] for row in rows if row["level"] == "failed"]
    assert failed == ["API"]


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[Path, loopback.Server]]:
    """An API whose certificate nobody but its own PEM file vouches for."""
    pem, context = loopback.make_certificate(tmp_path)
    with loopback.serve(loopback.one_reply(200, TOKEN), tls=context) as server:
        yield pem, server


def test_an_untrusted_certificate_is_its_own_finding(
    tmp_path: Path, tls: tuple[Path, loopback.Server]
) -> None:
    pem, server = tls
    clinic = in_order(Clinic(tmp_path / "clinic", server.url))
    assert list(troubles(clinic)) == ["API certificate"]
    assert checked(clinic)[0] == 77
    trusting = in_order(
        Clinic(tmp_path / "clinic", server.url, api={"base_url": server.url, "ca_bundle": str(pem)})
    )
    assert list(troubles(trusting)) == ["api.presign_path"]  # it answers every request with a token
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate\n")
    distrusting = Clinic(
        tmp_path / "clinic", server.url, api={"base_url": server.url, "ca_bundle": str(broken)}
    )
    found = troubles(in_order(distrusting))
    assert "can't load certificates" in found["api.ca_bundle"]


def test_a_server_without_tls(tmp_path: Path, api: Sandbox) -> None:
    url = api.base_url.replace("http:", "https:")
    assert list(troubles(in_order(Clinic(tmp_path / "clinic", url)))) == ["API certificate"]


def test_a_proxy_that_is_not_there(tmp_path: Path, api: Sandbox) -> None:
    proxy = f"http://user:secret-word@127.0.0.1:{free_port()}"
    clinic = in_order(
        Clinic(tmp_path / "clinic", api.base_url, api={"base_url": api.base_url, "proxy": proxy})
    )
    shown = clinic.run("check")
    assert re.search(
        r"^failed   api.proxy: 127.0.0.1:\d+ can't be reached: Connection refused$",
        shown.stdout,
        re.MULTILINE,
    )
    assert "failed   API: Can't reach the proxy: Connection refused." in shown.stdout
    assert "secret-word" not in shown.stdout + shown.stderr
    assert shown.returncode == 69


@pytest.mark.parametrize(("minutes", "word"), [(-7, "ahead of"), (7, "behind"), (4, None)])
def test_a_clock_that_differs_from_the_apis(tmp_path: Path, minutes: int, word: str | None) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    with loopback.serve(loopback.one_reply(200, TOKEN, Date=date)) as server:
        found = troubles(in_order(Clinic(tmp_path / "clinic", server.url)))
    expected = None if word is None else f"this machine's clock is 7 minutes {word} the API's"
    assert found.get("clock") == expected


# ---- this machine ------------------------------------------------------------------------------------------


def test_files_with_credentials_that_anyone_can_read(tmp_path: Path, api: Sandbox) -> None:
    key = tmp_path / "api_key"
    key.write_text("sandbox-key\n")
    given = {"app_id": "sandbox-app", "api_key": None, "api_key_file": str(key)}
    clinic = Clinic(tmp_path / "clinic", api.base_url, credentials=given)
    clinic.config.chmod(0o644)  # holds none of the secrets
    key.chmod(0o604)
    found = troubles(clinic)
    assert list(found) == ["credentials files"]
    assert str(key) in found["credentials files"]
    key.chmod(0o640)
    assert troubles(clinic) == {}
    inline = Clinic(tmp_path / "clinic", api.base_url)
    inline.config.chmod(0o644)
    assert str(inline.config) in troubles(inline)["credentials files"]


def test_an_address_in_use(tmp_path: Path, api: Sandbox) -> None:
    port = free_port()
    listen = f"127.0.0.1:{port}"
    with socket.create_server(("127.0.0.1", port)):
        clinic = in_order(Clinic(tmp_path / "clinic", api.base_url, http={"listen": listen}))
        assert checked(clinic)[0] == 78
        assert troubles(clinic) == {"http.listen": f"another program listens on {listen}"}
        assert clinic.run("run", "--once").returncode == 78
    with running(clinic):
        status, rows = checked(clinic)
        assert status == 0
        assert {"ok"} == {row["level"] for row in rows}
        assert any(row["seen"] == f"{listen}: the daemon answers there" for row in rows)


def test_an_address_of_no_interface_and_one_of_all(tmp_path: Path, api: Sandbox) -> None:
    foreign = in_order(
        Clinic(tmp_path / "clinic", api.base_url, http={"listen": "192.0.2.1:8787"})
    )  # RFC 5737
    assert checked(foreign)[0] == 78
    assert "can't listen on 192.0.2.1:8787" in troubles(foreign)["http.listen"]
    public = in_order(Clinic(tmp_path / "clinic", api.base_url, http={"listen": f"0.0.0.0:{free_port()}"}))
    assert checked(public)[0] == 0
    assert "can be reached from other machines" in troubles(public)["http.listen"]


def test_a_state_directory_that_would_keep_run_from_starting(tmp_path: Path, api: Sandbox) -> None:
    root = tmp_path / "clinic"
    inside = in_order(Clinic(root, api.base_url, state={"directory": str(root / "inbox" / "state")}))
    assert checked(inside)[0] == 78
    assert "lies inside the inbox" in troubles(inside)["state"]


def test_folders_in_memory(tmp_path: Path, api: Sandbox) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as in_memory:
        clinic = in_order(Clinic(tmp_path / "clinic", api.base_url, folders={"root": in_memory}))
        shown = clinic.run("check")
    assert shown.returncode == 0
    assert re.search(
        r"^warning  folders.inbox: .* is on tmpfs, which does not survive", shown.stdout, re.MULTILINE
    )


def test_a_journal_that_is_damaged(tmp_path: Path) -> None:
    clinic = clinic_of_two(tmp_path)
    clinic.config.chmod(0o600)
    journal = clinic.root / "state" / "journal.sqlite"
    content = bytearray(journal.read_bytes())
    content[4096 * 2 : 4096 * 3] = b"\xff" * 4096  # a page in the middle
    journal.write_bytes(content)
    found = troubles(clinic)
    assert str(journal) in found["journal"]
    assert "journal" in found


def test_the_journal_says_what_is_in_it(tmp_path: Path) -> None:
    shown = clinic_of_two(tmp_path).run("check").stdout
    assert "ok       journal: intact; 0 under way, 1 done, 1 failed\n" in shown


def test_the_decoder_is_tried(tmp_path: Path, api: Sandbox) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("1234\n")
    passwords.chmod(0o644)
    clinic = in_order(
        Clinic(tmp_path / "clinic", api.base_url, intake={"ds2_passwords_file": str(passwords)})
    )
    assert f"can read {passwords}" in troubles(clinic)["credentials files"]
    passwords.chmod(0o600)
    assert troubles(clinic) == {}
    assert "ok       formats: others are decoded, in a locked process\n" in clinic.run("check").stdout
    done = subprocess.run(
        clinic.command("check"),
        env=os.environ | without_extra(tmp_path / "site"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "formats: intake.ds2_passwords_file has no effect: no decoder is installed" in done.stdout


def test_programs_of_hooks_and_the_log(tmp_path: Path, api: Sandbox) -> None:
    program = tmp_path / "notify"
    program.write_text("#!/bin/sh\n")
    clinic = in_order(Clinic(
        tmp_path / "clinic", api.base_url, hooks={"on_done": [str(program)], "on_failed": ["/no/program"]},
        logging={"file": str(tmp_path / "none" / "daemon.log")},
    ))  # fmt: skip
    assert checked(clinic)[0] == 78
    found = troubles(clinic)
    assert f"may not run {program}" in found["hooks.on_done"]
    assert found["hooks.on_failed"] == "there is no program /no/program"
    assert f"there is no folder {tmp_path / 'none'}" in found["logging.file"]
    program.chmod(0o755)
    (tmp_path / "none").mkdir()
    assert set(troubles(clinic)) == {"hooks.on_failed"}


def test_each_target_is_reached_and_their_secrets_are_private(tmp_path: Path, api: Sandbox) -> None:
    secret = tmp_path / "secret"
    secret.write_text("whsec_" + "A" * 44)
    secret.chmod(0o644)
    absent = {
        "kind": "hl7",
        "host": "127.0.0.1",
        "port": free_port(),
        "document_type": "CN",
        "patient_id": "1",
    }
    with loopback.serve(loopback.one_reply()) as server:
        present = {"kind": "http", "url": server.url, "secret_file": str(secret)}
        targets = {"portal": present, "ris": absent}
        clinic = in_order(Clinic(tmp_path / "clinic", api.base_url, targets=targets))
        status, rows = checked(clinic)
    assert status == 69
    assert server.requests == []
    found = {row["check"]: row["level"] for row in rows}
    assert (found["targets.portal"], found["targets.ris"]) == ("ok", "failed")
    assert f"anyone on this machine can read {secret}" in troubles(clinic)["credentials files"]


# ---- one trouble, one finding ------------------------------------------------------------------------------


def complaints(clinic: Clinic) -> list[str]:
    """What `check` prints of what is not well, without the hints."""
    shown = clinic.run("check").stdout
    return [line for line in shown.splitlines() if line.startswith(("warning", "failed"))]


def test_a_file_in_place_of_the_inbox(clinic: Clinic) -> None:
    clinic.inbox.rmdir()
    clinic.inbox.write_text("")
    assert complaints(clinic) == [f"failed   folders.inbox: {clinic.inbox} is not a folder"]
    assert "Move that file elsewhere" in clinic.run("check").stdout


def test_a_link_in_place_of_the_inbox_is_not_followed(clinic: Clinic, tmp_path: Path) -> None:
    clinic.inbox.rmdir()
    clinic.inbox.symlink_to(tmp_path / "nowhere")
    assert complaints(clinic) == [f"failed   folders.inbox: {clinic.inbox} is a symbolic link"]


def test_folders_below_a_file(tmp_path: Path, api: Sandbox) -> None:
    (tmp_path / "file").write_text("")
    folders = {"root": str(tmp_path / "file" / "dictation")}
    clinic = in_order(Clinic(tmp_path / "clinic", api.base_url, folders=folders))
    (clinic.root / "state").mkdir()
    assert complaints(clinic) == [f"failed   folders.inbox: {tmp_path / 'file'} is not a folder"]


def test_a_state_directory_and_a_log_that_can_not_be_made(tmp_path: Path, api: Sandbox) -> None:
    (tmp_path / "file").write_text("")
    state, log = tmp_path / "file" / "state", tmp_path / "none" / "the.log"
    clinic = in_order(Clinic(tmp_path / "clinic", api.base_url, state={"directory": str(state)},
                             logging={"file": str(log)}))  # fmt: skip
    assert complaints(clinic) == [
        f"failed   state.directory: can't write in {state}: Not a directory",
        f"failed   logging.file: there is no folder {log.parent}",
    ]


# ---- the folders -------------------------------------------------------------------------------------------


def test_the_watch_limit_is_compared_with_the_folders(clinic: Clinic, tmp_path: Path) -> None:
    for number in range(5):
        (clinic.inbox / f"ward {number}" / "deep").mkdir(parents=True)
    limits = tmp_path / "limits"
    limits.mkdir()
    (limits / "max_user_watches").write_text("10\n")
    (finding,) = watching(load(clinic.config), limits)
    assert finding.level == "warning"
    assert finding.problem == "the inbox has 11 folders, and the kernel lets a user watch 10"
    assert "fs.inotify.max_user_watches=44" in finding.hint
    (limits / "max_user_watches").write_text("11\n")
    (finding,) = watching(load(clinic.config), limits)
    assert finding.level == "ok"


def test_polling_needs_no_watches(tmp_path: Path, api: Sandbox) -> None:
    clinic = in_order(Clinic(tmp_path / "clinic", api.base_url, watch={"mode": "polling"}))
    (watch,) = (row for row in checked(clinic)[1] if row["check"] == "watch")
    assert watch["level"] == "ok"
    assert watch["seen"].endswith("is polled every 5 s")


@pytest.mark.needs("root", "bindfs")
def test_native_watching_of_a_share(tmp_path: Path, api: Sandbox) -> None:
    (tmp_path / "far").mkdir()
    with bindfs(tmp_path / "far", tmp_path / "near"):
        folders, watch = {"root": str(tmp_path / "near")}, {"mode": "native"}
        clinic = in_order(Clinic(tmp_path / "clinic", api.base_url, folders=folders, watch=watch))
        assert "files from other machines go unnoticed" in troubles(clinic)["watch"]


@pytest.fixture
def nobodys(api: Sandbox) -> Iterator[Clinic]:
    """A clinic in order whose daemon is nobody's, where everybody can reach it."""
    with public_folder() as folder:
        clinic = in_order(Clinic(folder / "clinic", api.base_url))
        give(clinic.config)
        (clinic.root / "state").mkdir()
        give(clinic.root, clinic.root / "state")
        yield clinic


@pytest.mark.needs("root")
def test_every_folder_that_the_daemons_user_may_not_use(nobodys: Clinic) -> None:
    folders = [nobodys.inbox, nobodys.processing, nobodys.outbox, nobodys.done, nobodys.failed]
    for folder in folders:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    found = troubles(nobodys)
    assert set(found) >= {f"folders.{name}" for name in ("inbox", "processing", "outbox", "done", "failed")}
    assert "may not read and write in" in found["folders.done"]
    assert "root:root rwx------" in found["folders.done"]
    give(*folders)
    assert troubles(nobodys) == {}


@pytest.mark.needs("root")
def test_a_parent_folder_closed_to_the_daemons_user(nobodys: Clinic) -> None:
    above = nobodys.root / "closed"
    above.mkdir(mode=0o700)
    keys = yaml.safe_load(nobodys.config.read_text())
    keys["folders"] = {"root": str(above / "dictation")}
    nobodys.config.write_text(yaml.safe_dump(keys))
    (found,) = [row for row in checked(nobodys)[1] if row["check"] == "folders.inbox"]
    assert found["problem"] == f"nobody may not enter {above}, which is root:root rwx------"
    assert f"chown nobody {above}" in found["hint"]


@pytest.mark.needs("root")
def test_subfolders_and_recordings_closed_to_the_daemons_user(nobodys: Clinic) -> None:
    give(nobodys.inbox)
    recording = write_wav(nobodys.inbox / "smith.wav")
    recording.chmod(0o600)
    (nobodys.inbox / "ward 3").mkdir(mode=0o755)
    rows = [row for row in checked(nobodys)[1] if row["level"] != "ok"]
    assert {row["check"] for row in rows} == {"inbox"}
    problems = " ".join(row["problem"] for row in rows)
    assert f"may not read {recording} (root:root rw-------)" in problems
    assert f"may not work in {nobodys.inbox / 'ward 3'}" in problems
    recording.chmod(0o644)
    give(nobodys.inbox / "ward 3")
    assert troubles(nobodys) == {}
    (nobodys.done / "ward 3").mkdir(mode=0o755)  # where the recording would be filed
    assert f"may not work in {nobodys.done / 'ward 3'}" in troubles(nobodys)["inbox"]


@pytest.mark.needs("root")
def test_a_closed_subfolder_or_inbox_is_reported(nobodys: Clinic) -> None:
    give(nobodys.inbox)
    closed = write_wav(nobodys.inbox / "ward 3" / "smith.wav").parent
    for mode in (0o700, 0o744):  # the second: its names can be read, but nothing of them
        closed.chmod(mode)
        found = troubles(nobodys)
        assert list(found) == ["inbox"]
        assert found["inbox"].startswith(f"nobody may not work in {closed} (root:root rwx")
    nobodys.inbox.chmod(0)
    found = troubles(nobodys)
    assert list(found) == ["folders.inbox"]
    assert not any(row["check"] == "inbox" for row in checked(nobodys)[1])


@pytest.mark.needs("root")
def test_a_configuration_and_credentials_only_root_can_read(api: Sandbox) -> None:
    with public_folder() as folder:
        key = folder / "api_key"
        key.write_text("sandbox-key\n")
        given = {"app_id": "sandbox-app", "api_key": None, "api_key_file": str(key)}
        clinic = in_order(Clinic(folder / "clinic", api.base_url, credentials=given))
        (clinic.root / "state").mkdir()
        give(clinic.root, clinic.inbox, clinic.root / "state")
        key.chmod(0o600)
        assert troubles(clinic) == {
            "configuration": f"nobody may not read {clinic.config}",
            "credentials files": f"nobody may not read {key}",
        }
        give(clinic.config, key)
        assert troubles(clinic) == {}


@pytest.mark.needs("root")
def test_a_file_in_the_state_directory_that_is_not_the_daemons(nobodys: Clinic) -> None:
    give(nobodys.inbox)
    (nobodys.root / "state" / "lock").touch(mode=0o600)
    found = troubles(nobodys)
    assert list(found) == ["state"]
    assert f"may not write {nobodys.root / 'state' / 'lock'}, which is root:root" in found["state"]


@pytest.mark.needs("root")
def test_a_user_without_rights_gets_every_problem(api: Sandbox) -> None:
    with public_folder() as public:
        clinic = Clinic(public / "clinic", api.base_url, state={"directory": str(public / "state")})
        (public / "state").mkdir()
        give(public / "state")
        for name in ("processing", "outbox", "done", "failed"):
            (clinic.root / name).mkdir()
        refused = as_nobody(clinic, "check")
    assert refused.returncode == 78
    assert refused.stdout.count("failed   folders.") == 5


@pytest.mark.needs("root", "mount")
def test_a_full_disk(clinic: Clinic, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", size="64m") as disk:
        full = in_order(Clinic(tmp_path / "clinic", "http://127.0.0.1:1", folders={"root": str(disk)}))
        found = {row["check"]: row for row in checked(full)[1] if row["level"] == "failed"}
    assert re.search(r"processing, outbox, done, failed: only 0\.\d GB free", found["free space"]["problem"])
