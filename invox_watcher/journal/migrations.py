"""Numbered steps from the tables of one version to those of the next; those that are due run at the start.

All of them are one transaction, and the old file is copied before it: after a kill the journal is unchanged.
A step is written once and never changed afterwards, so it is written in SQL and does not use the current
tables.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from invox_watcher import version as release
from invox_watcher.errors import JournalError
from invox_watcher.job import Job
from invox_watcher.journal.backend import Backend, Connection, Read, read_on
from invox_watcher.journal.sqlite import FILENAME
from invox_watcher.journal.tables import INDICES, TABLES

VERSION = 10
# The earliest version whose releases can work with a journal of this one, beside this release. It stays as it
# is as long as steps only change indices, and add tables, and columns that an INSERT may leave out.
MIN_READER = 9
_RECORD = "INSERT INTO releases (version, release, min_reader) VALUES (?, ?, ?)"


@dataclass(frozen=True)
class Migration:
    """The version that was converted, and the path of the copy made before, if one was made."""

    version: int
    copy: Path | None


def require_current(read: Read, backend: Backend) -> None:
    """Raise JournalError if this release can't read the journal as it is; `read` answers a query."""
    version = backend.version_of(read)
    if version == 0:  # it is just being created
        raise backend.missing()
    if version < VERSION:
        _require_step(version, backend)
        raise JournalError(
            f"{backend.name} was written by an earlier release (journal version {version}).",
            code="journal_outdated",
            hint="The daemon of this release converts it when it starts: restart the daemon first.",
        )
    _require_known(read, version, backend)


def migrate(connection: Connection, backend: Backend) -> Migration | None:
    """Create the tables in an empty journal, or convert an earlier release's; None if nothing was converted.

    A newer journal is left as it is if the release that converted it says that this one can still use it.

    Raises:
        JournalError: a newer release wrote it, there is no space for its copy, or a release that could not
            use it afterwards works with it now. The journal is unchanged.
    """

    read = read_on(connection)
    version = backend.version_of(read)
    _require_known(read, version, backend)
    migration = None
    if version == 0:
        for statement in (*TABLES, *INDICES, *backend.tables):
            connection.execute(statement)
    elif version < VERSION:
        _require_step(version, backend)
        backend.require_readers(read, MIN_READER)
        migration = Migration(version, backend.keep_copy(version))
        for number in range(version + 1, VERSION + 1):
            _STEPS[number](connection)
    if version < VERSION:
        connection.execute(_RECORD, (VERSION, release(), MIN_READER))
    # At every start: a journal that may not be written is found here, and not by the first recording.
    backend.record_version(connection, max(version, VERSION))
    return migration


class Copies:
    """The copies of earlier versions, kept until a recording shows that the new tables work."""

    def __init__(self, directory: Path) -> None:
        self._files = list(directory.glob(f"{FILENAME}.v*"))

    def discard_after(self, job: Job) -> None:
        """Delete the copies that are older than `job`, which is done."""
        for copy in list(self._files):
            with suppress(OSError):  # then it goes after another one
                if job.received_at.timestamp() > copy.stat().st_mtime:
                    os.unlink(copy)
            if not copy.exists():
                self._files.remove(copy)


def _require_known(read: Read, version: int, backend: Backend) -> None:
    if version <= VERSION:
        return
    newer = "a newer release"
    with suppress(backend.errors, JournalError, ValueError):  # that release may have dropped the table
        ((name, min_reader),) = read("SELECT release, min_reader FROM releases WHERE version = ?", (version,))
        if min_reader is not None and min_reader <= VERSION:
            return
        newer = f"invox-watcher {name}"
    copy = backend.copy_of(VERSION)
    restore = f", or stop the daemon and put {copy} in its place" if copy else ""
    raise JournalError(
        f"{backend.name} was written by {newer} (journal version {version}); "
        f"invox-watcher {release()} reads versions up to {VERSION}.",
        code="journal_newer",
        hint=f"Install that release again{restore}.",
    )


def _require_step(version: int, backend: Backend) -> None:
    if version + 1 not in _STEPS:
        raise JournalError(
            f"{backend.name} has journal version {version}; invox-watcher {release()} converts versions from "
            f"{min(_STEPS) - 1} on.",
            hint="Let the release that wrote it finish all recordings under way, then move the file away.",
        )


# ---- the steps ---------------------------------------------------------------------------------------------

_TO_3 = (
    "ALTER TABLE jobs RENAME COLUMN voids TO changed_uploads",
    "ALTER TABLE jobs RENAME COLUMN url_refusals TO refused_urls",
    "ALTER TABLE jobs ADD COLUMN polled_at VARCHAR",
    "ALTER TABLE jobs ADD COLUMN waited_seconds FLOAT DEFAULT 0 NOT NULL",
    "ALTER TABLE jobs ADD COLUMN denied_seconds FLOAT DEFAULT 0 NOT NULL",
    "ALTER TABLE jobs ADD COLUMN predecessor_id VARCHAR",
    "ALTER TABLE jobs ADD COLUMN payload TEXT",
    "ALTER TABLE notices ADD COLUMN covers_body BOOLEAN DEFAULT 0 NOT NULL",
    "CREATE INDEX ix_jobs_inode ON jobs (inode)",
    "CREATE INDEX ix_jobs_predecessor_id ON jobs (predecessor_id)",
    "CREATE TABLE outputs (id INTEGER NOT NULL, job_id VARCHAR NOT NULL, folder VARCHAR NOT NULL, "
    "path BLOB NOT NULL, sha256 VARCHAR NOT NULL, PRIMARY KEY (id))",
    "CREATE INDEX ix_outputs_job_id ON outputs (job_id)",
    "CREATE INDEX ix_outputs_path ON outputs (path)",
    "CREATE TABLE deliveries (job_id VARCHAR NOT NULL, target VARCHAR NOT NULL, state VARCHAR NOT NULL, "
    "attempts INTEGER NOT NULL, due_at VARCHAR, receipt TEXT, PRIMARY KEY (job_id, target))",
    "CREATE INDEX ix_deliveries_state ON deliveries (state)",
    "INSERT INTO deliveries SELECT id, 'hook', 'due', 0, updated_at, NULL FROM jobs WHERE hook_due",
    "DROP INDEX ix_jobs_hook_due",
    "ALTER TABLE jobs DROP COLUMN hook_due",
    "CREATE TABLE releases (version INTEGER NOT NULL, release TEXT NOT NULL, PRIMARY KEY (version))",
)


def _to_3(connection: Connection) -> None:
    """Outputs and deliveries as rows, waiting as columns, plainer names."""
    for statement in _TO_3:
        connection.execute(statement)
    for column in ("refusal", "failure"):
        rows = connection.execute(f"SELECT id, {column} FROM jobs WHERE {column} IS NOT NULL")
        for job_id, text in rows.fetchall():
            fields = json.loads(text)
            fields["retry_can_help"] = fields.pop("retryable")
            values = (json.dumps(fields), job_id)
            connection.execute(f"UPDATE jobs SET {column} = ? WHERE id = ?", values)
    rows = connection.execute(
        "SELECT job_id, state, detail FROM history WHERE state IN ('delivered', 'failed') ORDER BY id"
    )
    for job_id, state, text in rows.fetchall():
        folder = "outbox" if state == "delivered" else "failed"
        for path, sha256 in json.loads(text).get("outputs", {}).items():
            connection.execute(
                "INSERT INTO outputs (job_id, folder, path, sha256) VALUES (?, ?, ?, ?)",
                (job_id, folder, os.fsencode(path), sha256),
            )


_TO_4 = (
    "ALTER TABLE jobs ADD COLUMN ages_from VARCHAR",
    "ALTER TABLE jobs ADD COLUMN remembered_from VARCHAR",
    "ALTER TABLE jobs ADD COLUMN suspect TEXT",
    "ALTER TABLE signatures ADD COLUMN at VARCHAR",
    "UPDATE signatures SET at = (SELECT max(at) FROM history)",  # or earlier
    "CREATE TABLE totals (state VARCHAR NOT NULL, jobs INTEGER NOT NULL, PRIMARY KEY (state))",
    "INSERT INTO totals SELECT 'done', count(*) FROM jobs WHERE state = 'done'",
    "UPDATE jobs SET ages_from = updated_at, remembered_from = updated_at "
    "WHERE state IN ('done', 'failed', 'vanished')",
    "DROP INDEX ix_jobs_state",
    "DROP INDEX ix_jobs_inode",
    "DROP INDEX ix_jobs_sha256",
    "DROP INDEX ix_jobs_request_id",
    "DROP INDEX ix_jobs_predecessor_id",
    "DROP INDEX ix_deliveries_state",
    "CREATE INDEX jobs_unfinished ON jobs (state) WHERE state <> 'done'",
    "CREATE INDEX jobs_file ON jobs (inode, mtime_ns) WHERE state IN ('failing', 'failed', 'vanished')",
    "CREATE INDEX jobs_given_up ON jobs (sha256, state) WHERE state IN ('failing', 'failed', 'vanished')",
    "CREATE INDEX jobs_predecessor ON jobs (predecessor_id) WHERE predecessor_id IS NOT NULL",
    "CREATE INDEX jobs_content ON jobs (sha256) WHERE sha256 IS NOT NULL",
    "CREATE INDEX jobs_request ON jobs (request_id) WHERE request_id IS NOT NULL",
    "CREATE INDEX jobs_path ON jobs (path)",
    "CREATE INDEX jobs_filed_as ON jobs (filed_as, ages_from) WHERE filed_as IS NOT NULL",
    "CREATE INDEX jobs_suspect ON jobs (id) WHERE suspect <> '[]'",
    "CREATE INDEX jobs_short_id ON jobs (substr(id, 17))",
    "CREATE INDEX jobs_recording ON jobs (state, ages_from) "
    "WHERE recording_deleted_at IS NULL AND ages_from IS NOT NULL",
    "CREATE INDEX jobs_transcripts ON jobs (state, ages_from) "
    "WHERE transcripts_deleted_at IS NULL AND ages_from IS NOT NULL",
    "CREATE INDEX jobs_remembered ON jobs (remembered_from) WHERE remembered_from IS NOT NULL",
    "CREATE INDEX jobs_in_doubt ON jobs (state) "
    "WHERE ages_from IS NULL AND state IN ('done', 'failed', 'vanished')",
    "CREATE INDEX signatures_at ON signatures (at)",
    "CREATE INDEX deliveries_due ON deliveries (target, job_id) WHERE state = 'due'",
)
_ENDED_IN_DOUBT = """%"clock": "unconfirmed"%"""


def _to_4(connection: Connection) -> None:
    """An index for every question, ages of what has ended, and what is odd about a transcript."""
    for statement in _TO_4:
        connection.execute(statement)
    # If nothing confirmed the clock when a job ended, its age counts from the next end that had it confirmed.
    ended = "state IN ('done', 'failed', 'vanished')"
    query = f"SELECT id, job_id FROM history WHERE {ended} AND detail LIKE ?"
    later = f"SELECT at FROM history WHERE id > ? AND {ended} AND detail NOT LIKE ? ORDER BY id LIMIT 1"
    for number, job_id in connection.execute(query, (_ENDED_IN_DOUBT,)).fetchall():
        row = connection.execute(later, (number, _ENDED_IN_DOUBT)).fetchone()
        confirmed_at = None if row is None else row[0]
        connection.execute(
            "UPDATE jobs SET ages_from = max(updated_at, ?), remembered_from = max(updated_at, ?) "
            "WHERE id = ?",
            (confirmed_at, confirmed_at, job_id),
        )


_TO_5 = (
    "ALTER TABLE jobs ADD COLUMN successor_id VARCHAR",
    "ALTER TABLE jobs ADD COLUMN last_fault TEXT",
    "UPDATE jobs SET successor_id = (SELECT id FROM jobs AS later WHERE later.predecessor_id = jobs.id "
    "AND later.state <> 'vanished' ORDER BY later.rowid DESC LIMIT 1) "
    "WHERE state IN ('failed', 'vanished')",
    "CREATE INDEX jobs_open_failures ON jobs (state) "
    "WHERE state = 'failed' AND successor_id IS NULL AND recording_deleted_at IS NULL",
)


def _to_5(connection: Connection) -> None:
    """A failed job knows its retry, and a job why its last attempt did not work."""
    for statement in _TO_5:
        connection.execute(statement)


_TO_6 = (
    "DROP INDEX deliveries_due",
    "ALTER TABLE deliveries RENAME COLUMN due_at TO queued_at",
    "ALTER TABLE deliveries ADD COLUMN priority INTEGER DEFAULT 0 NOT NULL",
    "ALTER TABLE deliveries ADD COLUMN fault TEXT",
    "ALTER TABLE deliveries ADD COLUMN tried_from FLOAT DEFAULT 0 NOT NULL",
    "CREATE TABLE targets (name VARCHAR NOT NULL, tried_seconds FLOAT NOT NULL, PRIMARY KEY (name))",
    "UPDATE deliveries SET target = CASE (SELECT state FROM jobs WHERE id = job_id) "
    "WHEN 'done' THEN 'hooks.on_done' ELSE 'hooks.on_failed' END WHERE target = 'hook'",
    "CREATE INDEX deliveries_owed ON deliveries (target, priority, attempts) "
    "WHERE state IN ('due', 'uncertain')",
    "CREATE INDEX deliveries_in_order ON deliveries (target) WHERE state IN ('due', 'uncertain')",
    "CREATE INDEX deliveries_failed ON deliveries (target) WHERE state = 'failed'",
)


def _to_6(connection: Connection) -> None:
    """Deliveries to several targets, each with its own faults; commands are two of them."""
    for statement in _TO_6:
        connection.execute(statement)


_TO_7 = (
    "ALTER TABLE jobs ADD COLUMN plan TEXT",
    "ALTER TABLE jobs ADD COLUMN reservation TEXT",
    "CREATE TABLE spending (day VARCHAR NOT NULL, profile VARCHAR NOT NULL, seconds FLOAT NOT NULL, "
    "PRIMARY KEY (day, profile))",
)


def _to_7(connection: Connection) -> None:
    """What a recording's profile says, and audio minutes per day."""
    for statement in _TO_7:
        connection.execute(statement)


_TO_8 = (
    "ALTER TABLE jobs ADD COLUMN profile VARCHAR",
    "UPDATE jobs SET profile = json_extract(plan, '$.profile') WHERE plan IS NOT NULL",
    "CREATE INDEX jobs_profile ON jobs (profile) WHERE profile IS NOT NULL",
    "DROP INDEX jobs_suspect",
    "CREATE INDEX jobs_suspect ON jobs (state) WHERE suspect <> '[]'",
)


def _to_8(connection: Connection) -> None:
    """A recording's profile as a column, and suspects in their order, for the page."""
    for statement in _TO_8:
        connection.execute(statement)


_TO_9 = (
    "ALTER TABLE jobs ADD COLUMN host VARCHAR",
    "ALTER TABLE releases ADD COLUMN min_reader INTEGER",
    "CREATE INDEX jobs_host ON jobs (host) WHERE host IS NOT NULL AND state <> 'done'",
)


def _to_9(connection: Connection) -> None:
    """Several hosts: which of them has a job, and which releases can share the journal."""
    for statement in _TO_9:
        connection.execute(statement)


_TO_10 = (
    "DROP INDEX jobs_file",
    "DROP INDEX jobs_given_up",
    "DROP INDEX jobs_content",
    "DROP INDEX jobs_path",
    "CREATE INDEX jobs_file ON jobs (inode, mtime_ns) "
    "WHERE state IN ('failing', 'failed', 'vanished') AND successor_id IS NULL",
    "CREATE INDEX jobs_unretried ON jobs (sha256) "
    "WHERE state IN ('failing', 'failed', 'vanished') AND successor_id IS NULL",
    "CREATE INDEX jobs_abandoned ON jobs (sha256) "
    "WHERE state IN ('failing', 'failed', 'vanished') AND request_id IS NOT NULL",
    "CREATE INDEX jobs_content ON jobs (sha256) "
    "WHERE sha256 IS NOT NULL AND transcripts_deleted_at IS NULL AND failure IS NULL",
    "CREATE INDEX jobs_failed_content ON jobs (sha256) "
    "WHERE transcripts_deleted_at IS NULL AND failure IS NOT NULL AND completed_at IS NOT NULL",
    "CREATE INDEX jobs_path ON jobs (path, sha256)",
)


def _to_10(connection: Connection) -> None:
    """Indices that leave out the copies of a recording that have no words."""
    for statement in _TO_10:
        connection.execute(statement)


_STEPS: dict[int, Callable[[Connection], None]] = {
    3: _to_3, 4: _to_4, 5: _to_5, 6: _to_6, 7: _to_7, 8: _to_8, 9: _to_9, 10: _to_10,
}  # fmt: skip
