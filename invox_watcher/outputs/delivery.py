"""What is delivered for one recording: `Delivery`, the input of every output format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from invox_watcher.suspicion import Suspicion
from invox_watcher.transcript import Transcript


@dataclass(frozen=True)
class Source:
    """The recording as it was received. `name` is its path below the inbox."""

    name: str  # bytes that are not UTF-8 as surrogate escapes
    size_bytes: int
    sha256: str
    mime_type: str | None
    duration_seconds: float | None


@dataclass(frozen=True)
class Prepared:
    """What was uploaded instead of the recording."""

    mime_type: str
    size_bytes: int
    sha256: str
    truncated: bool  # the recording was cut off: its end is missing here, too


@dataclass(frozen=True)
class Delivery:
    """Everything that the output files of one recording contain. Times are aware datetimes."""

    job_id: str | None  # None for a recording that was transcribed without a journal
    request_id: str | None
    source: Source
    received_at: datetime
    uploaded_at: datetime | None
    completed_at: datetime | None
    delivered_by: str | None
    transcript: Transcript
    api_reply: Mapping[str, Any]
    suspect: tuple[Suspicion, ...] = ()
    prepared: Prepared | None = None  # None if the recording itself was uploaded
    attributes: Mapping[str, str] = field(default_factory=dict)  # for documents made with a template
