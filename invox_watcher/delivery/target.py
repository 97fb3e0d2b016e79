"""What a target is, and what it is given: the words in which kinds of targets and the engine speak."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from invox_watcher.errors import UnsendableError
from invox_watcher.patterns import MissingFieldError, Pattern

# The fields of a pattern that every recording has; all others are attributes.
GIVEN_FIELDS = frozenset({"job_id", "name", "folder", "date"})


@dataclass(frozen=True)
class Document:
    """One file that is delivered."""

    name: str = field(repr=False)  # "smith.docx"
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Shipment:
    """All that one target gets for one job. Times are aware UTC datetimes.

    The same job and target give an equal shipment at every attempt, `key` above all: by it a receiver
    recognises a repeat. It consists of letters, digits and `.-_`.
    """

    key: str
    job_id: str
    name: str = field(repr=False)  # of the recording, without folder and extension: "smith"
    folder: str = field(repr=False)  # relative to the inbox, "" at the top
    recorded_at: datetime | None
    received_at: datetime
    completed_at: datetime
    attributes: Mapping[str, str] = field(repr=False)
    text: str = field(repr=False)
    documents: tuple[Document, ...] = field(repr=False)

    @property
    def fields(self) -> dict[str, str]:
        """What patterns can be filled with; `date` is that of the recording, in this machine's time zone."""
        given = {
            "job_id": self.job_id,
            "name": self.name,
            "folder": self.folder,
            "date": (self.recorded_at or self.received_at).astimezone().date().isoformat(),
        }
        return {**self.attributes, **given}


class Target(Protocol):
    """One configured target, used by one thread at a time; only `abort` may be called from any thread."""

    @property
    def formats(self) -> tuple[str, ...]:
        """The output formats that a shipment's documents must be in, one document for each."""

    @property
    def attributes(self) -> frozenset[str]:
        """The attributes without which a shipment is refused."""

    def send(self, shipment: Shipment) -> str:
        """Deliver, and return the receipt: short, and without names and words of the shipment.

        Raises:
            TargetRefusedError, TargetUnavailableError, DeliveryUncertainError.
        """

    def probe(self) -> None:
        """Find out whether the target can be reached and allows a delivery, without making one.

        Raises TargetError.
        """

    def abort(self) -> None:
        """End a delivery in progress at once; it raises one of the errors of `send`."""

    def close(self) -> None:
        """Close the connection that is kept for the next delivery; the target can still be used."""


def filled(pattern: Pattern, values: Mapping[str, str], clean: Callable[[str], str] = str) -> str:
    """The text of a pattern of the configuration.

    Raises:
        UnsendableError: `missing_attribute`, the recording does not have one that the pattern needs.
    """
    try:
        return pattern.fill(values, clean)
    except MissingFieldError as error:
        missing = error.field
    raise UnsendableError(
        f"The recording has no attribute {missing}.",
        code="missing_attribute",
        hint=f"Set the attribute {missing} in the recording's profile, or remove it from the target.",
    )


def attributes_of(*patterns: Pattern) -> frozenset[str]:
    """The attributes that patterns need."""
    return frozenset().union(*(pattern.fields for pattern in patterns)) - GIVEN_FIELDS


def one_line(text: str) -> str:
    """Without control characters and line ends (also Unicode's), and without what is not valid Unicode."""
    return "".join(character if character.isprintable() else " " for character in valid(text))


def valid(text: str) -> str:
    """Bytes of a file's name that are not UTF-8, which Python keeps as surrogates, replaced by U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
