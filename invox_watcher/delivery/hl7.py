"""Transcripts as HL7 v2 messages: MDM^T02, original document notification and content, over MLLP.

HL7 2.5.1, chapters 2 (encoding, acknowledgements), 9 (MDM) and MLLP release 1. A repeat has the same MSH-10.
No person has read the text yet: TXA-17 is `DO`, transcribed and not authenticated, and OBX-11 is `P`,
preliminary. What a receiver says in its acknowledgement is not quoted: it may contain names.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from invox_watcher.delivery.connecting import Guard, refuses_tls, tls_context, unreachable
from invox_watcher.delivery.target import Shipment, attributes_of, filled, valid
from invox_watcher.errors import (
    DeliveryUncertainError,
    TargetError,
    TargetRefusedError,
    TargetUnavailableError,
    UnsendableError,
)
from invox_watcher.patterns import Pattern

_START, _END = b"\x0b", b"\x1c\r"
_MOST_REPLY_BYTES = 1 << 20
_PROBE_SECONDS = 0.3
_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_SPECIAL = re.compile(r"[\\|^&~\x00-\x1f\x7f]")
_LINE_ENDS = re.compile(r"\r\n|[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")
# Errors of the receiver itself, whichever of AE and AR it says: table 0357.
_TEMPORARY = {"206": "the record is locked", "207": "internal error"}
_LASTING = {
    "100": "segment sequence",
    "101": "a required field is missing",
    "102": "data type",
    "103": "a code is not in its table",
    "200": "unsupported message type",
    "201": "unsupported event",
    "202": "unsupported processing id",
    "203": "unsupported version",
    "204": "unknown patient or visit",
    "205": "duplicate identifier",
}
_ACKNOWLEDGED = frozenset({"rejected", "receiver_error"})  # errors after which the connection is still good
_CHECK_LOG = "The receiver's log has the reason."


@dataclass(frozen=True)
class Hl7Options:
    """The keys of a target of kind `hl7`."""

    host: str
    port: int
    tls: bool
    ca_bundle: Path | None
    client_certificate: Path | None
    sending_application: str
    sending_facility: str
    receiving_application: str
    receiving_facility: str
    processing_id: str
    document_type: str
    patient_id: str
    patient_name: str
    visit: str
    author: str
    formats: tuple[str, ...]
    timeout_seconds: float


class Hl7:
    """A receiver of HL7 messages; the connection is kept, as such receivers expect."""

    def __init__(self, options: Hl7Options) -> None:
        self.formats = options.formats
        self._options = options
        self._where = f"{options.host}:{options.port}"
        self._type, self._patient = Pattern(options.document_type), Pattern(options.patient_id)
        self._name, self._visit = Pattern(options.patient_name), Pattern(options.visit)
        self._author = Pattern(options.author)
        self._guard = Guard(options.timeout_seconds)
        self._sock: socket.socket | None = None

    @property
    def attributes(self) -> frozenset[str]:
        return attributes_of(self._type, self._patient, self._name, self._visit, self._author)

    def send(self, shipment: Shipment) -> str:
        control_id = control_id_of(shipment.key)
        message = self.message(shipment)
        with self._guard.over_delivery(), self._closing_on_failure():
            kept = self._sock is not None
            reply = self._answer(message)
            if reply is None and kept and not self._guard.has_ended:
                # Some receivers close the connection behind each answer, which we may learn too late.
                self.close()
                reply = self._answer(message)
            if reply is None:
                raise self._uncertain()
            code = accepted(reply, control_id, self._where)
        return f"{code} {control_id}"

    def _answer(self, message: bytes) -> bytes | None:
        """What is answered to the message; None if the connection ends first, although all of it was sent."""
        sock = self._connected()
        sock.sendall(_START + message + _END)
        try:
            return _read_block(sock)
        except TimeoutError:
            raise self._uncertain() from None
        except OSError as error:
            if refuses_tls(error):  # in TLS 1.3 that comes after our first bytes
                raise
            return None

    def _uncertain(self) -> DeliveryUncertainError:
        return DeliveryUncertainError(f"The whole message was sent to {self._where}, which did not answer.")

    def probe(self) -> None:
        with self._guard.over_delivery(), self._closing_on_failure():
            sock = self._connected()
            sock.settimeout(_PROBE_SECONDS)
            with contextlib.suppress(TimeoutError):  # no word: as it should be
                if not sock.recv(1):
                    raise TargetUnavailableError(
                        f"{self._where} closed the connection at once.",
                        code="network",
                        hint="Does it allow this machine's address? The receiver's log has the reason.",
                    )
        self.close()

    def abort(self) -> None:
        self._guard.abort()

    def close(self) -> None:
        self._guard.release()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def message(self, shipment: Shipment) -> bytes:
        """The segments, the same for equal shipments. Raises UnsendableError.

        Patterns may contain delimiters (`{id}^^^CLINIC`), which values can't bring in.
        """
        control_id = control_id_of(shipment.key)
        values, options = shipment.fields, self._options
        kind = filled(self._type, values, escaped)
        patient = filled(self._patient, values, escaped)
        if not patient.strip("^&~ "):
            raise UnsendableError(
                "The recording's patient id is empty.",
                code="missing_attribute",
                hint="Check patient_id, and the attributes in it.",
            )
        senders = (options.sending_application, options.sending_facility)
        receivers = (options.receiving_application, options.receiving_facility)
        completed = _time(shipment.completed_at)
        recorded = _time(shipment.recorded_at or shipment.received_at)
        author = filled(self._author, values, escaped)
        head = [
            *("MSH", "^~\\&", *map(escaped, senders), *map(escaped, receivers), completed, ""),
            *("MDM^T02^MDM_T02", control_id, options.processing_id, "2.5.1", *[""] * 5, "UNICODE UTF-8"),
        ]
        segments = [
            head,
            ["EVN", "", completed],
            ["PID", "1", "", patient, "", filled(self._name, values, escaped)],
            # PV1-2: the patient's class is unknown (table 0004).
            ["PV1", "1", "U", *[""] * 16, filled(self._visit, values, escaped)],
            # TXA-12: the document's number; TXA-17: transcribed, not authenticated; TXA-19: available.
            [
                *("TXA", "1", kind, "TX", recorded, "", recorded, completed, "", author, "", ""),
                *(control_id, "", "", "", "", "DO", "", "AV"),
            ],
        ]
        segments += [_obx(number, *part) for number, part in enumerate(_content(shipment, kind), 1)]
        return "".join("|".join(segment) + "\r" for segment in segments).encode()

    def _connected(self) -> socket.socket:
        if self._sock is not None:
            if not select.select([self._sock], [], [], 0)[0]:
                return self._sock
            self.close()  # closed by the receiver, or it sent something that no one asked for
        options = self._options
        context = tls_context(options.ca_bundle, options.client_certificate) if options.tls else None
        sock = socket.create_connection((options.host, options.port), timeout=options.timeout_seconds)
        self._guard.watch(sock)
        self._sock = sock
        if context is not None:
            self._sock = context.wrap_socket(sock, server_hostname=options.host)
        return self._sock

    @contextlib.contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        failure: TargetError | None = None
        try:
            yield
        except TargetError as error:
            if error.code not in _ACKNOWLEDGED:
                self.close()
            raise
        except OSError as error:
            failure = unreachable(self._where, error)
        if failure is not None:
            self.close()
            raise failure


def control_id_of(key: str) -> str:
    """MSH-10 for a shipment's key: 20 characters, which is all that HL7 2.5.1 allows."""
    return base64.b32encode(hashlib.sha256(key.encode()).digest())[:20].decode()


def escaped(text: str) -> str:
    """As the content of a field: delimiters as escape sequences (2.7.1), controls as spaces."""
    return _SPECIAL.sub(lambda match: _ESCAPES.get(match[0], " "), valid(text))


def _content(shipment: Shipment, kind: str) -> Iterator[tuple[str, str, str]]:
    """Type, identifier and value of each OBX: each line of the text, then each document."""
    for line in _LINE_ENDS.split(valid(shipment.text).rstrip()):
        yield "TX", kind, escaped(line)
    for document in shipment.documents:
        maintype, _, subtype = document.media_type.partition("/")
        data = base64.b64encode(document.content).decode()
        yield "ED", kind, f"^{escaped(maintype)}^{escaped(subtype)}^Base64^{data}"


def _obx(number: int, value_type: str, kind: str, value: str) -> list[str]:
    return ["OBX", str(number), value_type, kind, "", value, *[""] * 5, "P"]


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")


def _read_block(sock: socket.socket) -> bytes | None:
    """The content of the next MLLP block; None if the connection ends before it is complete."""
    received = b""
    while _END not in received:
        block = sock.recv(65536)
        received += block
        if not block or len(received) > _MOST_REPLY_BYTES:
            return None
    return received.partition(_START)[2].partition(_END)[0]


def accepted(reply: bytes, control_id: str, where: str) -> str:
    """The code of a positive acknowledgement: AA, or CA of receivers that use the enhanced mode.

    By 2.9.2 AR can mean a fault of the receiver's own, and AE one of the content; where the receiver gives a
    code of table 0357, that decides.
    """
    segments = [segment.split("|") for segment in reply.decode("utf-8", "replace").split("\r")]
    msa = next((segment for segment in segments if segment[0] == "MSA" and len(segment) > 2), None)
    code = msa[1].strip()[:2] if msa else ""
    if msa is None or code not in ("AA", "CA", "AE", "CE", "AR", "CR") or msa[2].strip() != control_id:
        raise TargetUnavailableError(
            f"{where} did not answer with an acknowledgement of the message.",
            code="acknowledgement",
            hint="Check that this is the port of an HL7 receiver, and that it copies MSH-10 to MSA-2.",
        )
    if code in ("AA", "CA"):
        return code
    error = _error_code(segments)
    meaning = {**_LASTING, **_TEMPORARY}.get(error)
    said = f"{code} {error}, {meaning}" if meaning else code
    if error in _LASTING or (code in ("AR", "CR") and error not in _TEMPORARY):
        raise TargetRefusedError(f"{where} rejected the message ({said}).", code="rejected", hint=_CHECK_LOG)
    raise TargetUnavailableError(
        f"{where} can't take the message ({said}).", code="receiver_error", hint=_CHECK_LOG
    )


def _error_code(segments: list[list[str]]) -> str:
    """ERR-3.1, or before version 2.5 ERR-1.4.1: a number of table 0357; "" if there is none."""
    for segment in segments:
        if segment[0] == "ERR":
            since_2_5 = segment[3].split("^")[0] if len(segment) > 3 else ""
            before = re.match(r"(?:[^^]*\^){3}(\d{3})", segment[1]) if len(segment) > 1 else None
            return since_2_5 or (before[1] if before else "")
    return ""
