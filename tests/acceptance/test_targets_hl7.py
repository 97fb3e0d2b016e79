"""HL7 messages, delivered to receivers by other people as docs/delivery.md configures it."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hl7
import pytest
from hl7apy.parser import parse_message

from invox_watcher.delivery import Target
from invox_watcher.errors import (
    DeliveryUncertainError,
    TargetError,
    TargetRefusedError,
    TargetUnavailableError,
)
from tests.kit.clinic import free_port
from tests.kit.hl7_receivers import hl7apy, python_hl7
from tests.kit.loopback import Peer, make_certificate, serve
from tests.kit.shipments import PATIENT, WORDS, assert_discreet, shipment
from tests.kit.targets import ended_by, target


def of(port: int, tmp_path: Path, **changes: Any) -> Target:
    place = {"host": "127.0.0.1", "port": port, "tls": False, "ca_bundle": None}
    return target(tmp_path, "hl7", **(place | changes))


def refused(target: Target, kind: type[TargetError]) -> TargetError:
    with pytest.raises(kind) as caught:
        target.send(shipment())
    assert_discreet(caught.value.message, caught.value.hint)
    return caught.value


def test_the_recipe_delivers_over_tls_on_one_connection(tmp_path: Path) -> None:
    certificate, context = make_certificate(tmp_path)
    with python_hl7(context) as receiver:
        ris = of(receiver.port, tmp_path, tls=True, ca_bundle=str(certificate))
        receipts = [ris.send(shipment(number, documents=())) for number in (1, 1, 2)]
        ris.close()
        assert receiver.connections == 1
        messages = [hl7.parse(message) for message in receiver.messages]
    assert_discreet(*receipts)
    ids = [str(message.segment("MSH")[10]) for message in messages]
    assert ids[0] == ids[1] != ids[2]
    assert receipts[0] == f"AA {ids[0]}"
    first = messages[0]
    lines = [first.unescape(str(segment[5])) for segment in first.segments("OBX")]
    assert "\n".join(lines) == WORDS
    assert (str(first.segment("PID")[3]), str(first.segment("PID")[5])) == ("4711^^^CLINIC", PATIENT)
    assert str(first.segment("TXA")[17]) == "DO"


def test_a_receiver_that_validates_takes_it(tmp_path: Path) -> None:
    with hl7apy() as receiver:
        ris = of(receiver.port, tmp_path, visit="V1", formats=["txt"])
        assert ris.send(shipment()) == ris.send(shipment())
        ris.close()
        first, second = (parse_message(message) for message in receiver.messages)
    assert first.msh.msh_10.value == second.msh.msh_10.value
    assert first.msh.msh_18.value == "UNICODE UTF-8"
    assert first.txa.txa_9.to_er7() == "^Dr. Weiß"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (("AR", ""), TargetRefusedError),
        (("AE", "101"), TargetRefusedError),
        (("AE", ""), TargetUnavailableError),
        (("AR", "207"), TargetUnavailableError),
    ],
)
def test_what_is_not_accepted(tmp_path: Path, answer: tuple[str, str], kind: type[TargetError]) -> None:
    with python_hl7() as receiver:
        receiver.answer = answer
        ris = of(receiver.port, tmp_path)
        refused(ris, kind)
        receiver.answer = ("AA", "")
        ris.send(shipment(2))  # over the same connection
        ris.close()
        assert receiver.connections == 1


def test_what_can_not_be_reached(tmp_path: Path) -> None:
    ris = of(free_port(), tmp_path)
    assert refused(ris, TargetUnavailableError).code == "network"
    certificate, _ = make_certificate(tmp_path)
    (other := tmp_path / "other").mkdir()
    _, context = make_certificate(other)
    with python_hl7(context) as receiver:
        ris = of(receiver.port, tmp_path, tls=True, ca_bundle=str(certificate))
        assert refused(ris, TargetUnavailableError).code == "tls"
        with pytest.raises(TargetUnavailableError):
            ris.probe()


def hang_up(peer: Peer) -> None:
    read_message(peer)


def be_silent(peer: Peer) -> None:
    read_message(peer)
    peer.stay_silent()


def drip(peer: Peer) -> None:
    """Bytes now and then, without an end."""
    read_message(peer)
    while not peer.server.closing.wait(0.2):
        peer.sock.sendall(b"\x0bM")


def read_message(peer: Peer) -> None:
    received = b""
    while not received.endswith(b"\x1c\r"):
        received += peer.sock.recv(65536)


@pytest.mark.parametrize("handler", [hang_up, be_silent, drip, Peer.reset])
def test_no_answer_after_the_last_byte_is_uncertain(tmp_path: Path, handler: Callable[[Peer], None]) -> None:
    def after_the_last_byte(peer: Peer) -> None:
        if handler is Peer.reset:
            read_message(peer)
        handler(peer)

    with serve(after_the_last_byte) as server:
        ris = of(server.port, tmp_path, timeout_seconds=1.0)
        began = time.monotonic()
        refused(ris, DeliveryUncertainError)
        assert time.monotonic() - began < 15


def test_a_web_server_is_no_receiver(tmp_path: Path) -> None:
    def handler(peer: Peer) -> None:
        peer.sock.recv(100)
        peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n\x0bx\x1c\r")
        peer.stay_silent()

    with serve(handler) as server:
        assert refused(of(server.port, tmp_path), TargetUnavailableError).code == "acknowledgement"


def test_a_receiver_that_was_restarted_is_connected_again(tmp_path: Path) -> None:
    with python_hl7() as receiver:
        ris = of(receiver.port, tmp_path)
        ris.probe()
        ris.send(shipment())
        port = receiver.port
    refused(ris, TargetUnavailableError)
    answers = threading.Event()

    def handler(peer: Peer) -> None:
        answers.set()
        peer.sock.recv(65536)

    with serve(handler, port=port):
        refused(ris, DeliveryUncertainError)
    assert answers.is_set()


def test_a_delivery_can_be_aborted(tmp_path: Path) -> None:
    has_it = threading.Event()

    def handler(peer: Peer) -> None:
        read_message(peer)
        has_it.set()
        peer.stay_silent()

    with serve(handler) as server:
        ris = of(server.port, tmp_path)
        with ended_by(ris.abort, after=0.1, once=has_it.is_set):
            assert refused(ris, DeliveryUncertainError).code == "delivery_uncertain"


def test_certificates_are_those_of_the_configuration(tmp_path: Path) -> None:
    certificate, context = make_certificate(tmp_path)
    own = tmp_path / "own.pem"
    own.write_bytes(certificate.read_bytes() + (tmp_path / "key.pem").read_bytes())
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate)
    with python_hl7(context) as receiver:
        place = {"tls": True, "ca_bundle": str(certificate)}
        ris = of(receiver.port, tmp_path, client_certificate=str(own), **place)
        ris.send(shipment())
        ris.close()
        without = of(receiver.port, tmp_path, **place)
        refused(without, TargetError)  # uncertain, if the server's alert is overtaken by its reset
        with pytest.raises(TargetUnavailableError):
            without.probe()
        assert len(receiver.messages) == 1
