"""A webhook that is genuine, and what became of it: what passes between its receiver and the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True)
class WebhookNotice:
    """A genuine webhook: what it says about which request ("" if it is unusable).

    `payload` is the body without its signatures.
    """

    request_id: str
    payload: Mapping[str, Any]
    signature_sha256: str
    content_sha256: str
    covers_body: bool = False  # whether the signature covers the body


class NoticeOutcome(StrEnum):
    """What the journal made of a notice."""

    NEW = "new"  # on disk now
    REPEATED = "repeated"  # it was there already, or came too late to matter
    UNKNOWN = "unknown"  # no job of ours has that request id
    CONTRADICTS = "contradicts"  # its signature, or its request, came with other content before
