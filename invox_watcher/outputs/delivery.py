"""Turns a transcript into the files of the outbox: JSON, SRT, VTT and TXT, as bytes.

Pure functions; the same `Delivery` always gives the same bytes, so files can be written again after a crash.
All files are UTF-8 without a byte order mark and have LF line ends, which every SRT player of today reads.

SRT and VTT are written here and not by a library, because those at hand change the words: pysubs2 1.8 takes
`{unclear}` for an ASS tag and leaves it out, and does not escape `<` and `&` in VTT; srt has had no release
since 2023. What takes thought, where lines and cues break, none of them does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

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
class Delivery:
    """All that the output files of one recording say. Times are aware datetimes."""

    job_id: str
    request_id: str | None
    source: Source
    received_at: datetime
    uploaded_at: datetime | None
    completed_at: datetime | None
    delivered_by: str | None
    transcript: Transcript
    api_reply: Mapping[str, Any]
