"""The schema of `targets`: one section for each kind of target that transcripts are delivered to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from invox_watcher.config._types import (
    AbsolutePath,
    ApiUrl,
    Days,
    Installed,
    Names,
    ProxyUrl,
    ReadableFile,
    Seconds,
    Section,
    SomeUnique,
    Text,
    Unique,
)
from invox_watcher.host import is_loopback
from invox_watcher.outputs import OutputFormat
from invox_watcher.patterns import Pattern

_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:_-]*")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_MAILBOX = re.compile(r"(?:[^<>@,;:\\\"]{0,100}<)?[^\s<>@,;:\\\"()\[\]]+@[A-Za-z0-9.-]+>?")


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise ValueError("must be the name or the address of a host, without a port")
    return text


def _pattern(text: str) -> str:
    Pattern(text)
    return text


def _patterns(texts: Mapping[str, str]) -> Mapping[str, str]:
    for text in texts.values():
        _pattern(text)
    return texts


def _body(text: str) -> str:
    _pattern(text)
    if any(ord(character) < 32 and character not in "\n\t" for character in text):
        raise ValueError("must not contain control characters other than line ends")
    return text


def _mailbox(text: str) -> str:
    if not _MAILBOX.fullmatch(text) or not text.isascii() or text.count("<") != text.count(">"):
        raise ValueError(
            "must be one mail address, such as dictation@example.com or Dictation <dictation@example.com>"
        )
    return text


def _target_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("must be a name of small letters, digits, - and _, at most 40")
    return name


Host = Annotated[Text, AfterValidator(_host)]
Port = Annotated[int, Field(ge=1, le=65535)]
PatternText = Annotated[str, AfterValidator(_pattern)]
SomePattern = Annotated[Text, AfterValidator(_pattern)]
Patterns = Annotated[Names, AfterValidator(_patterns)]
Mailbox = Annotated[Text, AfterValidator(_mailbox)]
Formats = Annotated[tuple[OutputFormat, ...], Field(strict=False), Installed, Unique]
_TIMEOUT = "How long one delivery may take, from the connection to the answer."


class PacedSection(Section):
    """What every kind of target has."""

    ordered: bool = Field(
        False,
        description="Whether nothing may overtake what was done before it; one that fails holds up all.",
    )
    max_per_minute: int | None = Field(
        None, ge=1, description="How many deliveries it gets in a minute; null for no limit."
    )
    retry_max_seconds: Seconds = Field(
        300, description="The longest wait between two attempts while it takes no deliveries."
    )
    deadline_days: Days = Field(
        30,
        description="What it has not taken although it was tried for so long fails. "
        "`invox-watcher retry ID --target NAME` sends it again.",
    )


PACE_KEYS = PacedSection.model_fields.keys()


class MailSection(PacedSection):
    kind: Literal["mail"] = Field(description="A message for each recording, by SMTP.")
    host: Host = Field(description="Required. The mail server.", examples=["mail.example.com"])
    port: Port | None = Field(None, description="Its port; null: 587 for starttls, 465 for tls, 25 for none.")
    tls: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="How the connection is encrypted; without, words cross the network in the clear.",
    )
    ca_bundle: ReadableFile | None = Field(
        None, description="PEM file of the authorities to trust instead of the public ones."
    )
    username: Text | None = Field(
        None, description="The login, if the server wants one.", examples=["dictation"]
    )
    password_file: AbsolutePath | None = Field(
        None,
        description="A file with its password, on one line.",
        examples=["/etc/invox-watcher/smtp_password"],
    )
    sender: Mailbox = Field(
        alias="from", description="Required. The sender.", examples=["Dictation <dictation@example.com>"]
    )
    to: Annotated[tuple[SomePattern, ...], Field(strict=False), SomeUnique] = Field(
        description="Required. The recipients: one address each.", examples=[["ward3@example.com"]]
    )
    subject: SomePattern = Field(
        "Transcript {job_id}",
        description="The subject. Relays and notifications show it: think twice before you put a patient's "
        "name there; {name}, the recording's, may contain one.",
    )
    body: Annotated[str, AfterValidator(_body)] = Field(
        "A transcript is attached.", description="The text. {text} is the whole transcript."
    )
    formats: Formats = Field(("txt",), description="The documents to attach.")
    timeout_seconds: Seconds = Field(120, description=_TIMEOUT)

    @model_validator(mode="after")
    def _login_is_whole_and_safe(self) -> MailSection:
        if (self.username is None) != (self.password_file is None):
            key = "username" if self.username is None else "password_file"
            raise _incomplete(key, "is required with the other of username and password_file")
        if self.username is not None and self.tls == "none" and not is_loopback(self.host):
            raise _incomplete(
                "tls", "must not be none with a login: its password would cross the network readable"
            )
        return self


class SftpSection(PacedSection):
    kind: Literal["sftp"] = Field(description="Files on an SFTP server, by OpenSSH's program sftp.")
    host: Host = Field(description="Required. The server.", examples=["files.example.com"])
    port: Port = Field(22, description="Its port.")
    user: Text = Field(description="Required. The account.", examples=["dictation"])
    key_file: AbsolutePath = Field(
        description="Required. The private key, without a passphrase. There is no login by password.",
        examples=["/etc/invox-watcher/sftp_key"],
    )
    known_hosts: AbsolutePath = Field(
        description="Required. The server's public key, as `ssh-keyscan` prints it; compare it with what its "
        "administrator says.",
        examples=["/etc/invox-watcher/known_hosts"],
    )
    folder: SomePattern = Field(
        ".",
        description="Where to. Folders from the first one with a field on are made.",
        examples=["incoming/{folder}"],
    )
    filename: SomePattern = Field(
        "{name}.{job_id}", description="The files' name, without extension.", examples=["{patient_id}"]
    )
    replace: bool = Field(
        False,
        description="Allow a filename without {job_id}: then a later recording of the same name replaces.",
    )
    formats: Annotated[Formats, SomeUnique] = Field(("txt",), description="The files to write.")
    timeout_seconds: Seconds = Field(60, description=_TIMEOUT)

    @model_validator(mode="after")
    def _names_differ(self) -> SftpSection:
        if not self.replace and "job_id" not in Pattern(self.folder + self.filename).fields:
            raise _incomplete(
                "filename",
                "must contain {job_id}, or two recordings of one name would replace each other; "
                "if that is wanted, set replace: true",
            )
        return self


class Hl7Section(PacedSection):
    kind: Literal["hl7"] = Field(description="HL7 v2 messages, MDM^T02 over MLLP.")
    host: Host = Field(description="Required. The receiver.", examples=["ris.example.com"])
    port: Port = Field(description="Required. Its port.", examples=[2575])
    tls: bool = Field(
        False, description="Whether to use TLS. Without, words cross the network in the clear: use a tunnel."
    )
    ca_bundle: ReadableFile | None = Field(
        None, description="PEM file of the authorities to trust instead of the public ones."
    )
    client_certificate: ReadableFile | None = Field(
        None, description="PEM file with our own certificate and its key, if the receiver wants one."
    )
    sending_application: Text = Field("INVOX-WATCHER", description="MSH-3.")
    sending_facility: str = Field("", description="MSH-4.")
    receiving_application: str = Field("", description="MSH-5.")
    receiving_facility: str = Field("", description="MSH-6.")
    processing_id: Literal["P", "T", "D"] = Field("P", description="MSH-11: production, training, debugging.")
    document_type: SomePattern = Field(
        description="Required. TXA-2 and OBX-3: the receiver's code of the document.", examples=["CN"]
    )
    patient_id: SomePattern = Field(
        description="Required. PID-3. Delimiters in a pattern are HL7's, those in a value are escaped.",
        examples=["{patient_id}^^^CLINIC"],
    )
    patient_name: PatternText = Field("", description="PID-5.", examples=["{last_name}^{first_name}"])
    visit: PatternText = Field("", description="PV1-19, the number of the visit.", examples=["{visit}"])
    author: PatternText = Field("", description="TXA-9, who dictated.", examples=["{author}"])
    formats: Formats = Field(
        (), description="Documents to send besides the text, as encapsulated data (ED, Base64)."
    )
    timeout_seconds: Seconds = Field(60, description=_TIMEOUT)


class FhirSection(PacedSection):
    kind: Literal["fhir"] = Field(description="A DocumentReference on a server of FHIR R4.")
    url: ApiUrl = Field(
        description="Required. Its base, without /DocumentReference.",
        examples=["https://fhir.example.com/r4"],
    )
    token_file: AbsolutePath | None = Field(
        None, description="A file with the bearer token, if the server wants one."
    )
    ca_bundle: ReadableFile | None = Field(
        None, description="PEM file of the authorities to trust instead of the public ones."
    )
    proxy: ProxyUrl | None = Field(None, repr=False, description="A proxy to go through.")
    patient_id: SomePattern = Field(description="Required. The patient.", examples=["{patient_id}"])
    patient_system: Text | None = Field(
        None,
        description="The system of that identifier, a URI; null: it is the id of the server's own Patient.",
        examples=["urn:oid:1.2.36.146.595.217.0.1"],
    )
    type_system: Text = Field("http://loinc.org", description="The system of type_code.")
    type_code: SomePattern = Field(
        "34109-9", description="The type of the document; 34109-9 is LOINC's Note."
    )
    author: PatternText = Field("", description="Who dictated, as text.", examples=["{author}"])
    encounter_id: PatternText = Field(
        "", description="The id of the server's Encounter.", examples=["{visit}"]
    )
    formats: Annotated[Formats, SomeUnique] = Field(
        ("txt",), description="The documents it refers to, as attachments."
    )
    timeout_seconds: Seconds = Field(60, description=_TIMEOUT)


class WebhookTargetSection(PacedSection):
    kind: Literal["http"] = Field(
        description="A signed request to a web address of yours (Standard Webhooks)."
    )
    url: ApiUrl = Field(
        description="Required. The address.", examples=["https://ehr.example.com/transcripts"]
    )
    secret_file: AbsolutePath = Field(
        description="Required. A file with the secret that signs requests: whsec_ and base64.",
        examples=["/etc/invox-watcher/webhook_secret"],
    )
    ca_bundle: ReadableFile | None = Field(
        None, description="PEM file of the authorities to trust instead of the public ones."
    )
    proxy: ProxyUrl | None = Field(None, repr=False, description="A proxy to go through.")
    fields: Patterns = Field(
        {},
        description="What to send of the recording, by the receiver's names.",
        examples=[{"patient": "{patient_id}"}],
    )
    text: bool = Field(True, description="Whether to send the text.")
    formats: Formats = Field((), description="Documents to send besides, in Base64.")
    timeout_seconds: Seconds = Field(60, description=_TIMEOUT)


TargetSection = Annotated[
    MailSection | SftpSection | Hl7Section | FhirSection | WebhookTargetSection, Field(discriminator="kind")
]
_SECRETS = ("password_file", "key_file", "client_certificate", "token_file", "secret_file")
SECTIONS: Mapping[str, type[Section]] = {
    "mail": MailSection,
    "sftp": SftpSection,
    "hl7": Hl7Section,
    "fhir": FhirSection,
    "http": WebhookTargetSection,
}
Targets = Annotated[
    Mapping[Annotated[str, AfterValidator(_target_name)], TargetSection],
    AfterValidator(lambda targets: MappingProxyType(dict(targets))),
]


def secret_files(section: Section) -> list[Path]:
    """The files of a target that only the daemon's user should be able to read."""
    return [file for key in _SECRETS if (file := getattr(section, key, None)) is not None]


def _incomplete(key: str, message: str) -> PydanticCustomError:
    return PydanticCustomError("incomplete", "{message}", {"message": message, "key": key})
