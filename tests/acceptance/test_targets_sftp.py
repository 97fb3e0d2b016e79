"""Files, delivered to Debian's sshd as docs/delivery.md configures it."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.delivery import Document, Target
from invox_watcher.errors import (
    DeliveryUncertainError,
    TargetError,
    TargetRefusedError,
    TargetUnavailableError,
)
from tests.kit.clinic import free_port
from tests.kit.processes import descriptors
from tests.kit.shipments import WORDS, assert_discreet, shipment
from tests.kit.targets import Sshd, ended_by, sshd, target
from tests.kit.waiting import wait_for

pytestmark = pytest.mark.needs("sshd", "sftp", "ssh-keygen")

NAME = "smith.20261128t090000-000000000001"


@pytest.fixture(scope="module")
def running() -> Iterator[Sshd]:
    with sshd() as server:
        yield server


@pytest.fixture
def server(running: Sshd, tmp_path: Path) -> Sshd:
    running.mode = "plain"
    (tmp_path / "incoming").mkdir()
    return running


def of(server: Sshd, tmp_path: Path, **changes: Any) -> Target:
    place = {
        "host": "127.0.0.1",
        "port": server.port,
        "user": getpass.getuser(),
        "key_file": str(server.key_file),
    }
    place |= {"known_hosts": str(server.known_hosts), "folder": f"{tmp_path}/incoming/{{folder}}"}
    return target(tmp_path, "sftp", **(place | changes))


def refused(target: Target, kind: type[TargetError], **changes: Any) -> TargetError:
    with pytest.raises(kind) as caught:
        target.send(shipment(**changes))
    assert_discreet(caught.value.message, caught.value.hint)
    return caught.value


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_recipe_delivers_on_one_connection(server: Sshd, tmp_path: Path) -> None:
    sftp = of(server, tmp_path)
    before = server.connections
    sftp.probe()
    assert files(tmp_path / "incoming") == {}
    documents = (*shipment().documents, Document("smith.json", "application/json", b'{"a": 1}'))
    for number in (1, 1, 2):  # the repeat makes no further file
        assert sftp.send(shipment(number, documents=documents)) == "2 files"
    sftp.close()
    assert server.connections == before + 2
    assert files(tmp_path / "incoming") == {
        f"ward3/smith.20261128t090000-00000000000{number}{extension}": content
        for number in (1, 2)
        for extension, content in ((".txt", WORDS.encode()), (".json", b'{"a": 1}'))
    }


@pytest.mark.parametrize("mode", ["plain", "old"])
def test_hostile_names_arrive_and_are_replaced(server: Sshd, tmp_path: Path, mode: str) -> None:
    server.mode = mode
    name = "a\"b'c\\d*?[e] $(x)`y`;|&#!%s ~ ö\n\r\0\t -rf ../"
    sftp = of(server, tmp_path, folder=f"{tmp_path}/incoming/{{name}}", filename="{name}", replace=True)
    for content in (b"first", b"second"):
        sftp.send(shipment(name=name, documents=(Document("x.txt", "text/plain", content),)))
    sftp.close()
    expected = "a\"b'c_d*?[e] $(x)`y`;|&#!%s ~ ö     -rf .._"
    assert files(tmp_path / "incoming") == {f"{expected}/{expected}.txt": b"second"}


def test_what_is_not_the_deliverys_fault(server: Sshd, tmp_path: Path) -> None:
    empty, other = tmp_path / "empty", tmp_path / "other"
    empty.write_text("")
    other.write_text("no key\n")
    other.chmod(0o600)
    for code, changes in {
        "host_key": {"known_hosts": str(empty)},
        "login": {"key_file": str(other)},
        "secret": {"key_file": str(tmp_path / "missing")},
        "network": {"port": free_port()},
        "folder": {"folder": f"{tmp_path}/missing"},
    }.items():
        sftp = of(server, tmp_path, **changes)
        assert refused(sftp, TargetUnavailableError).code == code
        with pytest.raises(TargetUnavailableError) as caught:
            sftp.probe()
        assert caught.value.code == code
    server.mode = "full"
    assert refused(of(server, tmp_path), TargetUnavailableError).code == "sftp"
    assert [name for name in files(tmp_path / "incoming") if not name.endswith(".part")] == []


def test_what_can_not_be_a_path_is_refused(server: Sshd, tmp_path: Path) -> None:
    assert refused(of(server, tmp_path), TargetRefusedError, folder="").code == "empty_attribute"
    deep = of(server, tmp_path, folder=f"{tmp_path}/incoming/" + "/".join(["{name}"] * 9))
    assert refused(deep, TargetRefusedError, name="x" * 200).code == "bad_name"


def test_a_server_that_does_not_answer_is_left(server: Sshd, tmp_path: Path) -> None:
    server.mode = "slow"
    assert refused(of(server, tmp_path, timeout_seconds=2.0), TargetUnavailableError).code == "timeout"


def test_a_line_cut_at_the_last_step_is_uncertain(server: Sshd, tmp_path: Path) -> None:
    server.mode = "cut"
    sftp = of(server, tmp_path, formats=["txt"])
    assert refused(sftp, DeliveryUncertainError).code == "delivery_uncertain"
    assert files(tmp_path / "incoming") == {f"ward3/{NAME}.txt": WORDS.encode()}
    server.mode = "old"
    sftp.send(shipment())  # replaces its own file
    sftp.close()
    assert files(tmp_path / "incoming") == {f"ward3/{NAME}.txt": WORDS.encode()}


def test_a_server_that_was_restarted_is_connected_again(server: Sshd, tmp_path: Path) -> None:
    sftp = of(server, tmp_path)
    sftp.send(shipment())
    server.stop()
    server.start()
    sftp.send(replace(shipment(), name="again"))
    sftp.close()
    assert len(files(tmp_path / "incoming")) == 2


def test_a_delivery_can_be_aborted(server: Sshd, tmp_path: Path) -> None:
    server.mode = "slow"
    sftp = of(server, tmp_path)
    with ended_by(sftp.abort, after=1.0):
        assert refused(sftp, TargetError).code == "sftp"


def test_nothing_is_left_behind(server: Sshd, tmp_path: Path) -> None:
    before = descriptors()
    sftp = of(server, tmp_path)
    for number in range(3):
        sftp.send(shipment(number))
        assert descriptors() != before
        sftp.close()
    wait_for("all is closed", lambda: descriptors() == before)
