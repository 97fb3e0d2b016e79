"""The vendor's API and webhooks; nothing outside this package knows the vendor's formats."""

from __future__ import annotations

from invox_watcher.invox.client import InvoxApi
from invox_watcher.invox.replies import ReplyStatus, TranscriptionReply, parse_reply
from invox_watcher.invox.signature import usable_layouts
from invox_watcher.invox.webhook import MAX_BODY_BYTES, Credentials, NoticeOutcome, Receiver, WebhookNotice

__all__ = [
    "MAX_BODY_BYTES",
    "Credentials",
    "InvoxApi",
    "NoticeOutcome",
    "Receiver",
    "ReplyStatus",
    "TranscriptionReply",
    "WebhookNotice",
    "parse_reply",
    "usable_layouts",
]
