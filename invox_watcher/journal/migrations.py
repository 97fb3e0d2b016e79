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

import sqlalchemy as sa

from invox_watcher import __version__
from invox_watcher.errors import JournalError
from invox_watcher.job import Job
from invox_watcher.journal.sqlite import FILENAME, copy_durably
from invox_watcher.journal.tables import metadata, releases

VERSION = 4


@dataclass(frozen=True)
class Migration:
    """The version that was converted, and the path of the copy made before."""

    version: int
    copy: Path


def require_current(connection: sa.Connection, path: Path) -> None:
    """Raise JournalError if this release can't read the journal as it is."""
    version = _version(connection)
    if 0 < version < VERSION:
        _require_step(version, path)
        raise JournalError(
            f"{path} was written by an earlier release (journal version {version}).",
            code="journal_outdated",
            hint="The daemon of this release converts it when it starts: restart the daemon first.",
        )
    _require_known(connection, version, path)


def migrate(connection: sa.Connection, path: Path) -> Migration | None:
    """Create the tables in an empty journal, or convert an earlier release's; None if nothing was converted.

    Raises:
        JournalError: a newer release wrote it, or there is no space for its copy. The journal is unchanged.
    """
    version = _version(connection)
    _require_known(connection, version, path)
    migration = None
    if version == 0:
        metadata.create_all(connection)
    elif version < VERSION:
        _require_step(version, path)
        migration = Migration(version, _copied(path, version))
        for number in range(version + 1, VERSION + 1):
            _STEPS[number](connection)
    if version < VERSION:
        connection.execute(releases.insert().values(version=VERSION, release=__version__))
    # At every start: a journal that may not be written is found here, and not by the first recording.
    connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
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


def _version(connection: sa.Connection) -> int:
    version: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    return version


def _require_known(connection: sa.Connection, version: int, path: Path) -> None:
    if version <= VERSION:
        return
    release = "a newer release"
    with suppress(sa.exc.SQLAlchemyError):  # the newer release may have dropped the table
        query = sa.select(releases.c.release).where(releases.c.version == version)
        if (name := connection.execute(query).scalar()) is not None:
            release = f"invox-watcher {name}"
    copy = path.with_name(f"{path.name}.v{VERSION}")
    restore = f", or stop the daemon and put {copy} in its place" if copy.exists() else ""
    raise JournalError(
        f"{path} was written by {release} (journal version {version}); "
        f"invox-watcher {__version__} reads versions up to {VERSION}.",
        code="journal_newer",
        hint=f"Install that release again{restore}.",
    )


def _require_step(version: int, path: Path) -> None:
    if version + 1 not in _STEPS:
        raise JournalError(
            f"{path} has journal version {version}; invox-watcher {__version__} converts versions from "
            f"{min(_STEPS) - 1} on.",
            hint="Let the release that wrote it finish all recordings under way, then move the file away.",
        )


def _copied(path: Path, version: int) -> Path:
    copy = path.with_name(f"{path.name}.v{version}")
    try:
        copy_durably(path, copy)
    except OSError as error:
        raise JournalError(
            f"The journal {path} can't be copied before it is converted: {error.strerror}",
            hint=f"Is there space for {copy}, and may the daemon's user write it?",
        ) from None
    return copy


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


def _to_3(connection: sa.Connection) -> None:
    """Outputs and deliveries as rows, waiting as columns, plainer names."""
    for statement in _TO_3:
        connection.exec_driver_sql(statement)
    for column in ("refusal", "failure"):
        rows = connection.exec_driver_sql(f"SELECT id, {column} FROM jobs WHERE {column} IS NOT NULL")  # noqa: S608
        for job_id, text in rows.all():
            fields = json.loads(text)
            fields["retry_can_help"] = fields.pop("retryable")
            values = (json.dumps(fields), job_id)
            connection.exec_driver_sql(f"UPDATE jobs SET {column} = ? WHERE id = ?", values)  # noqa: S608
    rows = connection.exec_driver_sql(
        "SELECT job_id, state, detail FROM history WHERE state IN ('delivered', 'failed') ORDER BY id"
    )
    for job_id, state, text in rows.all():
        folder = "outbox" if state == "delivered" else "failed"
        for path, sha256 in json.loads(text).get("outputs", {}).items():
            connection.exec_driver_sql(
                "INSERT INTO outputs (job_id, folder, path, sha256) VALUES (?, ?, ?, ?)",
                (job_id, folder, os.fsencode(path), sha256),
            )


def _to_4(connection: sa.Connection) -> None:
    """What is odd about a transcript."""
    connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN suspect TEXT")


_STEPS: dict[int, Callable[[sa.Connection], None]] = {3: _to_3, 4: _to_4}
