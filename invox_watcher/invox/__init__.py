"""The vendor's API and webhooks; nothing outside this package knows the vendor's formats."""

from __future__ import annotations

from invox_watcher.invox.client import ApiCall, ApiOptions, InvoxApi
from invox_watcher.invox.presign import PresignedUpload
from invox_watcher.invox.replies import ReplyStatus, TranscriptionReply, parse_reply
from invox_watcher.invox.signature import usable_layouts
from invox_watcher.invox.token import TokenRequest
from invox_watcher.invox.webhook import (
    MAX_BODY_BYTES,
    Credentials,
    Receiver,
    only_tests,
)

__all__ = [
    "MAX_BODY_BYTES",
    "ApiCall",
    "ApiOptions",
    "Credentials",
    "InvoxApi",
    "PresignedUpload",
    "Receiver",
    "ReplyStatus",
    "TokenRequest",
    "TranscriptionReply",
    "only_tests",
    "parse_reply",
    "usable_layouts",
]
