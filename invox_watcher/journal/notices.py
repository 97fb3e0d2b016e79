"""Webhooks that were received: each genuine signature with its content, and one body for each request."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime

from invox_watcher.job import ACTIVE
from invox_watcher.journal.backend import Connection
from invox_watcher.journal.tables import encode_time
from invox_watcher.notice import NoticeOutcome, WebhookNotice
from invox_watcher.times import utc_now

_CONTENT = "SELECT content_sha256 FROM signatures WHERE sha256 = ?"
_STATES = "SELECT DISTINCT state FROM jobs WHERE request_id = ?"
KNOWN = "SELECT payload, at, covers_body, content_sha256 FROM notices WHERE request_id = ?"


@dataclasses.dataclass(frozen=True)
class StoredNotice:
    """A webhook that was recorded for a request: its body without signatures, and when it came."""

    payload: object
    at: datetime
    covers_body: bool  # whether its signature covered the body


def record(connection: Connection, notice: WebhookNotice) -> NoticeOutcome:
    """Store a webhook, once, and return how it relates to what is known."""
    if _claims_other_content(connection, notice):
        return NoticeOutcome.CONTRADICTS
    states = {row[0] for row in connection.execute(_STATES, (notice.request_id,))}
    if not states:
        return NoticeOutcome.UNKNOWN
    known = connection.execute(KNOWN, (notice.request_id,)).fetchone()
    if known is not None:
        _payload, _at, covers_body, content_sha256 = known
        if covers_body or not notice.covers_body:
            same = content_sha256 == notice.content_sha256
            return NoticeOutcome.REPEATED if same else NoticeOutcome.CONTRADICTS
        connection.execute("DELETE FROM notices WHERE request_id = ?", (notice.request_id,))
    payload, now = json.dumps(notice.payload), encode_time(utc_now())
    connection.execute(
        "INSERT INTO notices (request_id, content_sha256, payload, at, covers_body) VALUES (?, ?, ?, ?, ?)",
        (notice.request_id, notice.content_sha256, payload, now, notice.covers_body),
    )
    return NoticeOutcome.NEW if states & ACTIVE else NoticeOutcome.REPEATED


def _claims_other_content(connection: Connection, notice: WebhookNotice) -> bool:
    row = connection.execute(_CONTENT, (notice.signature_sha256,)).fetchone()
    if row is not None:
        return bool(row[0] != notice.content_sha256)
    connection.execute(
        "INSERT INTO signatures (sha256, content_sha256, at) VALUES (?, ?, ?)",
        (notice.signature_sha256, notice.content_sha256, encode_time(utc_now())),
    )
    return False


def stored(row: tuple[str, str, int, str]) -> StoredNotice:
    """The notice in a row of `KNOWN`."""
    return StoredNotice(json.loads(row[0]), datetime.fromisoformat(row[1]), bool(row[2]))
