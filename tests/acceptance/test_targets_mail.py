"""Mail, delivered to Debian's Exim as docs/delivery.md configures it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
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
from tests.kit.loopback import Peer, make_certificate, serve
from tests.kit.shipments import WORDS, assert_discreet, shipment
from tests.kit.targets import Exim, ended_by, exim, target
from tests.kit.waiting import wait_for

pytestmark = pytest.mark.needs("exim4", "setpriv")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exim]:
    certificate, _ = make_certificate(tmp_path_factory.mktemp("certificate"))
    with exim(certificate) as running:
        yield running


def of_port(port: int, tmp_path: Path, **changes: Any) -> Target:
    place = {"host": "127.0.0.1", "port": port, "ca_bundle": None}
    return target(tmp_path, "mail", **(place | {"username": None, "password_file": None} | changes))


def of(server: Exim, tmp_path: Path, **changes: Any) -> Target:
    password = tmp_path / "password"
    password.write_text("a pass word\n")
    place = {"host": "127.0.0.1", "port": server.port, "ca_bundle": str(server.certificate)}
    return target(tmp_path, "mail", **(place | {"password_file": str(password)} | changes))


def refused(target: Target, kind: type[TargetError], **changes: Any) -> TargetError:
    with pytest.raises(kind) as caught:
        target.send(shipment(9, **changes))
    assert_discreet(caught.value.message, caught.value.hint)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or isinstance(caught.value.__context__, OSError)
    return caught.value


def test_the_recipe_delivers_and_a_repeat_is_recognised(server: Exim, tmp_path: Path) -> None:
    before = len(server.queue)
    mail = of(server, tmp_path)
    mail.probe()
    assert len(server.queue) == before
    receipts = [mail.send(shipment()), mail.send(shipment()), mail.send(shipment(2))]
    mail.close()
    assert_discreet(*receipts)
    first, repeat, other = server.queue[before:]
    assert receipts[0] == f"{first['Message-ID']} 250"
    assert first["Message-ID"] == repeat["Message-ID"] != other["Message-ID"]
    assert first["To"] == "ward3@example.com"
    body = first.get_body()
    assert body is not None
    assert body.get_content().splitlines()[0] == "Dictated by Dr. Weiß on 2026-11-28."
    assert WORDS in body.get_content()
    (attachment,) = first.iter_attachments()
    assert attachment.get_filename() == "smith.txt"
    assert attachment.get_payload(decode=True) == WORDS.encode()


def test_tls_from_the_first_byte_and_lines_that_begin_with_a_dot(server: Exim, tmp_path: Path) -> None:
    before = len(server.queue)
    mail = of(server, tmp_path, port=server.tls_port, tls="tls", body="{text}")
    text = ".\n..\n.hidden\n"
    mail.send(shipment(text=text, documents=(Document("ü.bin", "application/x-y", bytes(range(256))),)))
    mail.close()
    (message,) = server.queue[before:]
    body = message.get_body()
    assert body is not None
    assert body.get_content() == text
    (attachment,) = message.iter_attachments()
    assert (attachment.get_filename(), attachment.get_content()) == ("ü.bin", bytes(range(256)))


def test_what_the_server_refuses_for_good(server: Exim, tmp_path: Path) -> None:
    before = len(server.queue)
    one_of_two = of(server, tmp_path, to=["ward3@example.com", "nobody@example.com"])
    assert "550 5.1.1" in refused(one_of_two, TargetRefusedError).message
    assert "550 5.7.1" in refused(of(server, tmp_path, subject="refuse"), TargetRefusedError).message
    large = (Document("a.bin", "a/b", b"x" * 300_000),)
    assert "552" in refused(of(server, tmp_path), TargetRefusedError, documents=large).message
    with pytest.raises(TargetRefusedError):
        one_of_two.probe()
    assert len(server.queue) == before


def test_what_is_not_the_deliverys_fault(server: Exim, tmp_path: Path) -> None:
    before = len(server.queue)
    wrong = tmp_path / "wrong"
    wrong.write_text("another\n")
    (other := tmp_path / "other").mkdir()
    certificate, _ = make_certificate(other)
    for code, changes in {
        "recipient_refused": {"to": ["later@example.com"]},
        "login": {"password_file": str(wrong)},
        "secret": {"password_file": str(tmp_path / "missing")},
        "tls": {"ca_bundle": str(certificate)},
        "network": {"port": free_port()},
    }.items():
        mail = of(server, tmp_path, **changes)
        assert refused(mail, TargetUnavailableError).code == code
        with pytest.raises(TargetUnavailableError):
            mail.probe()
    shutil.rmtree(other)
    assert len(server.queue) == before


def test_no_answer_after_the_last_byte_is_uncertain(server: Exim, tmp_path: Path) -> None:
    slow = of(server, tmp_path, subject="slow", timeout_seconds=2.0)
    assert refused(slow, DeliveryUncertainError).code == "delivery_uncertain"


def test_a_server_that_was_restarted_is_connected_again(server: Exim, tmp_path: Path) -> None:
    mail = of(server, tmp_path)
    mail.send(shipment(3))
    server.stop()
    assert refused(mail, TargetUnavailableError).code == "network"
    server.start()
    wait_for("it takes mail again", lambda: bool(mail.send(shipment(3))))
    mail.close()


def test_a_line_cut_after_the_last_byte_is_uncertain(server: Exim, tmp_path: Path) -> None:
    cut = of(server, tmp_path, subject="slow")
    try:
        with ended_by(server.stop, after=1.0):
            assert refused(cut, DeliveryUncertainError).code == "delivery_uncertain"
    finally:
        server.start()


@pytest.mark.parametrize(
    ("says", "code"),
    [
        (b"554 smith\r\n", "smtp"),
        (b"220 ready\r\n250 smith\r\n", "not_offered"),
        (b"SSH-2.0-OpenSSH\r\n", "smtp"),
        (b"", "network"),
    ],
)
def test_what_is_no_mail_server_for_us(tmp_path: Path, says: bytes, code: str) -> None:
    def handler(peer: Peer) -> None:
        peer.sock.sendall(says)
        if says:
            peer.sock.recv(1000)

    with serve(handler) as other:
        mail = of_port(other.port, tmp_path)
        assert refused(mail, TargetUnavailableError).code == code


def test_a_server_that_dribbles_is_left(tmp_path: Path) -> None:
    def handler(peer: Peer) -> None:
        while not peer.server.closing.wait(0.2):
            peer.sock.sendall(b"220-wait\r\n")

    with serve(handler) as other:
        assert refused(of_port(other.port, tmp_path, timeout_seconds=1.0), TargetUnavailableError)
