"""Recordings that came before: which earlier job has the same content, and what may be used of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from invox_watcher.journal.backend import Connection
from invox_watcher.journal.tables import (
    ABANDONED,
    FAILED_WITH_WORDS,
    GIVEN_UP,
    MAY_HAVE_WORDS,
    UNFINISHED,
    UNRETRIED,
    columns_of,
    encode_time,
)
from invox_watcher.recording import FileIdentity

# The one failure after which polling the same request id again can't help.
_ANSWERED_WITH_ERROR = "transcription_failed"
_NO_REQUEST: dict[str, Any] = {"request_id": None, "uploaded_at": None}

# A follower counts as soon as it has the words itself: the first may be deleted by now. So does one that was
# given up, if its words are here. Of copies without words there may be thousands: none of them is read.
_HAS_REPLY = "EXISTS (SELECT 1 FROM replies WHERE job_id = jobs.id)"
ORIGINAL = f"""
    SELECT id FROM (
        SELECT * FROM (SELECT id, rowid AS number FROM jobs WHERE sha256 = ? AND id <> ? AND {MAY_HAVE_WORDS}
            AND (original_id IS NULL OR {_HAS_REPLY})
            AND (NOT (state = 'claimed' OR {GIVEN_UP}) OR {_HAS_REPLY}) ORDER BY rowid LIMIT 1) AS finished
        UNION ALL
        SELECT * FROM (SELECT id, rowid AS number FROM jobs WHERE sha256 = ? AND id <> ?
            AND {FAILED_WITH_WORDS} AND {_HAS_REPLY} ORDER BY rowid LIMIT 1) AS failed
    ) AS found ORDER BY number LIMIT 1"""
_ABANDONED = f"""
    SELECT request_id, uploaded_at, failure FROM jobs
    WHERE sha256 = ? AND {ABANDONED} ORDER BY rowid DESC LIMIT 1"""
_PREDECESSOR = f"""
    SELECT id FROM jobs WHERE {{same}} AND id <> ? AND {UNRETRIED} AND state <> 'failing'
    ORDER BY rowid DESC LIMIT 1"""
_OF_CONTENT = _PREDECESSOR.format(same="sha256 = ?")
_OF_FILE = _PREDECESSOR.format(same="inode = ? AND mtime_ns = ? AND device = ? AND size_bytes = ?")
# A retry that vanished has settled nothing: with it, the job that it was a retry of has a new one.
_SUCCEEDED = """
    UPDATE jobs SET successor_id = ? WHERE id = ?
    OR id = (SELECT predecessor_id FROM jobs WHERE id = ? AND state = 'vanished')"""
_SUCCESSION_ENDS = """
    UPDATE jobs SET successor_id = ? WHERE successor_id = ?
    AND id = (SELECT predecessor_id FROM jobs WHERE id = ?)"""
# Mirrored sources bring the same recordings again and again: as long as they do, their entries are needed.
_STILL_NEEDED = "UPDATE jobs SET remembered_from = ? WHERE id = ? AND remembered_from < ?"
SAME_IN_DONE = "sha256 = ? AND path = ? AND id <> ? AND state = 'done'"
# With the plus sign, what is under way is looked through: of one name, far more may be finished.
SAME_UNDER_WAY = (
    f"{UNFINISHED} "
    "AND state IN ('claimed', 'identified', 'uploading', 'waiting', 'transcribed', 'delivered') "
    "AND +path = ? AND id <> ? AND (sha256 = ? OR state = 'claimed') "
    "AND (id = ? OR rowid < (SELECT rowid FROM jobs WHERE id = ?))"
)


def earlier(
    connection: Connection, job_id: str, sha256: str, now: datetime, *, follow: bool
) -> dict[str, Any]:
    """Fields of `job_id`, which has that content: what it may use of those that had it before.

    With `follow`, the job whose transcript it gets. If there is none, the request under which the API may
    have this content, and when storage acknowledged that.
    """
    original = _original(connection, job_id, sha256, encode_time(now)) if follow else None
    request = _NO_REQUEST if original else _abandoned_request(connection, sha256)
    return {"original_id": original, **request}


def _original(connection: Connection, job_id: str, sha256: str, now: str) -> str | None:
    """The job whose transcript `job_id`, which has that content, gets; its entry is needed now."""
    row = connection.execute(ORIGINAL, (sha256, job_id) * 2).fetchone()
    if row is None:
        return None
    found: str = row[0]
    connection.execute(_STILL_NEEDED, (now, found, now))
    return found


def _abandoned_request(connection: Connection, sha256: str) -> dict[str, Any]:
    row = connection.execute(_ABANDONED, (sha256,)).fetchone()
    if row is None or (row[2] is not None and f'"code": "{_ANSWERED_WITH_ERROR}"' in row[2]):
        return _NO_REQUEST
    uploaded_at = None if row[1] is None else datetime.fromisoformat(row[1])
    return {"request_id": row[0], "uploaded_at": uploaded_at}


def predecessor_by_content(connection: Connection, job_id: str, sha256: str) -> str | None:
    """The latest job of this content that ended without a transcript, and had no successor yet."""
    row = connection.execute(_OF_CONTENT, (sha256, job_id)).fetchone()
    return None if row is None else row[0]


def predecessor_by_file(connection: Connection, job_id: str, file: FileIdentity) -> str | None:
    """The same, of the very same file: a rename changes none of this."""
    same = columns_of({"identity": file})
    values = (same["inode"], same["mtime_ns"], same["device"], same["size_bytes"], job_id)
    row = connection.execute(_OF_FILE, values).fetchone()
    return None if row is None else row[0]


def succeed(connection: Connection, predecessor_id: str | None, job_id: str) -> None:
    """The failed job `predecessor_id`, if there is one, has `job_id` as its retry."""
    if predecessor_id is not None:
        connection.execute(_SUCCEEDED, (job_id, predecessor_id, predecessor_id))


def end_succession(connection: Connection, job_id: str, *, instead: str | None) -> None:
    """`job_id` is no longer the retry of its predecessor: `instead` is, or none."""
    connection.execute(_SUCCESSION_ENDS, (instead, job_id, job_id))
