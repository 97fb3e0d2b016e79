"""Transcripts by mail: one message for each recording, with its documents attached (RFC 5321, RFC 5322).

A repeat has the same Message-ID and is equal byte for byte. What servers say in their replies is not quoted:
it may contain addresses.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import smtplib
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from pathlib import Path
from typing import Literal

from invox_watcher.delivery.connecting import Guard, secret_in, tls_context, unreachable
from invox_watcher.delivery.target import Shipment, attributes_of, filled, one_line, valid
from invox_watcher.errors import (
    DeliveryUncertainError,
    TargetError,
    TargetRefusedError,
    TargetUnavailableError,
    UnsendableError,
)
from invox_watcher.patterns import Pattern

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?"
)
_ENHANCED = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}\b")  # RFC 3463
# All 7-bit, so that any server takes it; CRLF line ends.
_POLICY = policy.SMTP.clone(cte_type="7bit")
_REMEDY = {
    "sender": "Check from, and whether the server wants a login (username, password_file).",
    "recipient": "Check the addresses in to, and whether this machine may send to them.",
    "message": "Ask the mail server's administrator, whose log has the reason.",
}


@dataclass(frozen=True)
class MailOptions:
    """The keys of a target of kind `mail`."""

    host: str
    port: int | None
    tls: Literal["starttls", "tls", "none"]
    ca_bundle: Path | None
    username: str | None
    password_file: Path | None
    sender: str
    to: tuple[str, ...]
    subject: str
    body: str
    formats: tuple[str, ...]
    timeout_seconds: float


class Mail:
    """A mail server, and who gets the transcripts."""

    def __init__(self, options: MailOptions) -> None:
        self.formats = options.formats
        self._options = options
        self._port = options.port or _PORTS[options.tls]
        self._where = f"{options.host}:{self._port}"
        self._to = [Pattern(address) for address in options.to]
        self._subject, self._body = Pattern(options.subject), Pattern(options.body)
        self._display_name, self._sender = parseaddr(options.sender)
        self._guard = Guard(options.timeout_seconds)
        self._smtp: smtplib.SMTP | None = None

    @property
    def attributes(self) -> frozenset[str]:
        return attributes_of(*self._to, self._subject, self._body) - {"text"}

    def send(self, shipment: Shipment) -> str:
        message = self.message(shipment)
        content = message.as_bytes(policy=_POLICY)
        recipients = self._recipients(shipment)
        with self._guard.over_delivery():
            code = self._deliver(recipients, content)
        return f"{message['Message-ID']} {code}"

    def probe(self) -> None:
        with self._guard.over_delivery(), self._talking() as smtp:
            check_reply("sender", *smtp.mail(self._sender))
            for pattern in self._to:
                if not pattern.fields:
                    check_reply("recipient", *smtp.rcpt(address_of(pattern.text)))
            smtp.rset()
        self.close()

    def abort(self) -> None:
        self._guard.abort()

    def close(self) -> None:
        if self._smtp is not None:
            with contextlib.suppress(OSError):
                self._smtp.quit()
            self._drop()

    def message(self, shipment: Shipment) -> EmailMessage:
        """What is sent, the same for equal shipments. Raises UnsendableError."""
        digest = hashlib.sha256(shipment.key.encode()).hexdigest()
        message = EmailMessage(_POLICY)
        message["From"] = Address(one_line(self._display_name), addr_spec=self._sender)
        message["To"] = [Address(addr_spec=address) for address in self._recipients(shipment)]
        message["Subject"] = filled(self._subject, shipment.fields, one_line)
        message["Date"] = format_datetime(shipment.completed_at)
        message["Message-ID"] = f"<{digest[:40]}@{self._sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # no out-of-office replies: RFC 3834
        body: Mapping[str, str] = shipment.fields | {"text": shipment.text}
        message.set_content(filled(self._body, body, valid), cte="quoted-printable")
        for document in shipment.documents:
            maintype, _, subtype = document.media_type.partition("/")
            message.add_attachment(
                document.content,
                maintype=maintype,
                subtype=subtype,
                filename=re.sub(r"[/\\]", "_", one_line(document.name)),
                params={"charset": "utf-8"} if maintype == "text" else None,
            )
        if message.is_multipart():
            message.set_boundary(f"=_{digest[:40]}")
        return message

    def _recipients(self, shipment: Shipment) -> list[str]:
        return [address_of(filled(pattern, shipment.fields)) for pattern in self._to]

    def _deliver(self, recipients: list[str], content: bytes) -> int:
        """Returns the code of the server's last reply."""
        with self._talking() as smtp:
            size = [f"SIZE={len(content)}"] if smtp.has_extn("size") else []
            check_reply("sender", *smtp.mail(self._sender, size))
            for recipient in recipients:
                check_reply("recipient", *smtp.rcpt(recipient))
            smtp.putcmd("DATA")
            check_reply("message", *smtp.getreply())
            smtp.send(re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")
            try:
                code, reply = smtp.getreply()
            except OSError:
                raise DeliveryUncertainError(
                    f"The whole message was sent to {self._where}, which did not answer."
                ) from None
            check_reply("message", code, reply)
            return code

    @contextlib.contextmanager
    def _talking(self) -> Iterator[smtplib.SMTP]:
        """A connection that can take a message; it is kept afterwards if all went well."""
        failure: TargetError | None = None
        try:
            yield self._connected()
        except TargetError as error:
            failure = error
        except OSError as error:  # includes what smtplib raises
            failure = self._translated(error)
        if failure is not None:
            self._drop()
            raise failure

    def _connected(self) -> smtplib.SMTP:
        if self._smtp is not None:
            with contextlib.suppress(OSError):
                if self._smtp.rset()[0] == 250:
                    return self._smtp
            self._drop()
        options = self._options
        context = tls_context(options.ca_bundle)
        self._smtp = smtp = smtplib.SMTP(timeout=options.timeout_seconds)
        # Connected here, so that the guard has the socket before the server's first word.
        smtp.sock = socket.create_connection((options.host, self._port), timeout=options.timeout_seconds)
        self._guard.watch(smtp.sock)
        if options.tls == "tls":
            smtp.sock = context.wrap_socket(smtp.sock, server_hostname=options.host)
        _check_ready(*smtp.getreply())
        smtp.ehlo_or_helo_if_needed()
        if options.tls == "starttls":
            if not smtp.has_extn("starttls"):
                raise smtplib.SMTPNotSupportedError
            _check_ready(*smtp.docmd("STARTTLS"))
            smtp.sock = context.wrap_socket(smtp.sock, server_hostname=options.host)
            smtp.file = None  # what came before encryption is not to be believed: RFC 3207 §4.2
            smtp.ehlo()
        if options.username is not None and options.password_file is not None:
            self._log_in(options.username, secret_in(options.password_file, "password_file"))
        return smtp

    def _log_in(self, username: str, password: str) -> None:
        assert self._smtp is not None  # noqa: S101 - connected
        try:
            self._smtp.login(username, password)
        except UnicodeError:
            raise TargetUnavailableError(
                "The login has characters that are not ASCII, which SMTP can't transmit.",
                code="login",
                hint="Change username or password_file.",
            ) from None

    def _drop(self) -> None:
        self._guard.release()
        if self._smtp is not None:
            self._smtp.close()
            self._smtp = None

    def _translated(self, error: OSError) -> TargetError:
        if isinstance(error, smtplib.SMTPAuthenticationError):
            return TargetUnavailableError(
                f"{self._where} rejected the login ({error.smtp_code}).",
                code="login",
                hint="Check username and password_file.",
            )
        if isinstance(error, smtplib.SMTPNotSupportedError):
            return TargetUnavailableError(
                f"{self._where} does not offer what is configured: STARTTLS, or a login.",
                code="not_offered",
                hint="Check port and tls; without a login, remove username and password_file.",
            )
        if isinstance(error, smtplib.SMTPResponseException):
            return TargetUnavailableError(
                f"{self._where} answered {error.smtp_code}.", code="smtp", hint=_REMEDY["message"]
            )
        return unreachable(self._where, error)


def address_of(text: str) -> str:
    """The address, if it is one and nothing else."""
    if _ADDRESS.fullmatch(text) and ".." not in text:
        return text
    raise UnsendableError(
        "A recipient is not a mail address.",
        code="bad_address",
        hint="Check to, and the attributes in it: each entry is one address, as ward3@example.com.",
    )


def _check_ready(code: int, reply: bytes) -> None:
    if code != 220:
        raise smtplib.SMTPResponseException(code, reply)


def check_reply(what: Literal["sender", "recipient", "message"], code: int, reply: bytes) -> None:
    """Raise what a reply to a step of the delivery means, unless it is positive (RFC 5321 §4.2.1)."""
    if 200 <= code < 400:
        return
    enhanced = _ENHANCED.match(reply)
    said = f"{code} {enhanced[0].decode()}" if enhanced else str(code)
    too_large = code == 552 or (enhanced is not None and enhanced[0].endswith(b".3.4"))
    # Without a login, or from this sender, no message is taken at all.
    of_all = code < 500 or code == 530 or (what == "sender" and not too_large)
    kind = TargetUnavailableError if of_all else TargetRefusedError
    hint = "The message is larger than the server allows." if too_large else _REMEDY[what]
    raise kind(f"The mail server refused the {what} ({said}).", code=f"{what}_refused", hint=hint)
