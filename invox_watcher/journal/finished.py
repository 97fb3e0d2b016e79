"""What the journal knows of recordings that are finished: their outputs, what is still to be delivered, and
what may be deleted."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from invox_watcher.job import Job, State
from invox_watcher.journal.backend import Connection
from invox_watcher.journal.contents import SAME_IN_DONE, SAME_UNDER_WAY
from invox_watcher.journal.database import Database
from invox_watcher.journal.tables import ENDED, JOB_COLUMNS, OPEN_FAILURE, OWED, encode_time, job_of
from invox_watcher.times import utc_now

Kind = Literal["recording", "transcripts"]

_AT_ONCE = 200
# In the history of a job that ended while nothing confirmed the clock.
UNCONFIRMED_CLOCK = {"clock": "unconfirmed"}
# Where the outputs lie that are written with a move to these states.
_OUTPUT_FOLDERS = {State.DELIVERED: "outbox", State.FAILED: "failed"}
_ADD_OUTPUT = "INSERT INTO outputs (job_id, folder, path, sha256) VALUES (?, ?, ?, ?)"
_ONE_MORE_DONE = (
    "INSERT INTO totals VALUES ('done', 1) ON CONFLICT (state) DO UPDATE SET jobs = totals.jobs + 1"
)
# What ended while nothing confirmed the clock has ended before this, which is confirmed.
_SETTLE_AGES = f"""
    UPDATE jobs SET ages_from = CASE WHEN updated_at > ? THEN updated_at ELSE ? END,
    remembered_from = CASE WHEN updated_at > ? THEN updated_at ELSE ? END
    WHERE ages_from IS NULL AND {ENDED}"""
_SELECT = f"SELECT {JOB_COLUMNS} FROM jobs"
_OUTPUTS = "SELECT path, sha256 FROM outputs WHERE job_id = ? ORDER BY id"
_WRITER = "SELECT job_id FROM outputs WHERE path = ? AND folder = 'outbox' ORDER BY id DESC LIMIT 1"
# Later is what was written later: clocks may be set.
_RECENT = f"""
    SELECT {JOB_COLUMNS} FROM (
        SELECT id, job_id FROM history WHERE id > (SELECT max(id) FROM history) - 10000 AND state = 'done'
        ORDER BY id DESC LIMIT {_AT_ONCE}
    ) AS filed JOIN jobs ON jobs.id = filed.job_id ORDER BY filed.id"""
_FILED_LATER = f"""
    SELECT 1 FROM jobs JOIN history ON history.job_id = jobs.id
    WHERE jobs.rowid IN (SELECT rowid FROM jobs WHERE filed_as = ? ORDER BY rowid DESC LIMIT {_AT_ONCE})
    AND jobs.state = 'done' AND history.state = 'done'
    AND +history.id > (SELECT max(id) FROM history WHERE job_id = ? AND state = 'done') LIMIT 1"""
_OPEN_FAILURES = f"SELECT id, coalesce(filed_as, path) FROM jobs WHERE {OPEN_FAILURE} ORDER BY rowid DESC"
_SAME_IN_DONE = f"{_SELECT} WHERE {SAME_IN_DONE} ORDER BY rowid LIMIT {_AT_ONCE}"
_SAME_UNDER_WAY = f"{_SELECT} WHERE {SAME_UNDER_WAY} ORDER BY rowid LIMIT {_AT_ONCE}"
_NOTHING_OWED = f"NOT EXISTS (SELECT 1 FROM deliveries WHERE job_id = jobs.id AND {OWED})"
# The file of that name may be that of a later job, because the recording was retried and filed again.
_NAME_IS_ITS_OWN = """NOT EXISTS (SELECT 1 FROM jobs AS later WHERE later.filed_as = jobs.filed_as
    AND later.ages_from >= ?) AND NOT EXISTS (SELECT 1 FROM jobs AS later
    WHERE later.filed_as = jobs.filed_as AND later.ages_from IS NULL)"""
_KEPT = f"""
    {_SELECT} WHERE state = ? AND ages_from < ? AND ages_from IS NOT NULL AND {{kind}}_deleted_at IS NULL
    AND filed_as IS NOT NULL AND {_NAME_IS_ITS_OWN} AND {_NOTHING_OWED} ORDER BY ages_from LIMIT ?"""
_OLD = f"""
    {_SELECT} WHERE remembered_from < ? AND remembered_from IS NOT NULL AND {_NOTHING_OWED}
    ORDER BY remembered_from LIMIT ?"""
_OLD_SIGNATURES = f"SELECT sha256 FROM signatures WHERE at < ? ORDER BY at LIMIT {_AT_ONCE}"


# ---- written with a move of a job --------------------------------------------------------------------------


def add_outputs(connection: Connection, job_id: str, state: State, outputs: Mapping[str, str]) -> None:
    """The files that were written for a job: path → SHA-256, in the folder that belongs to `state`."""
    folder = _OUTPUT_FOLDERS[state]
    for path, sha256 in outputs.items():
        connection.execute(_ADD_OUTPUT, (job_id, folder, os.fsencode(path), sha256))


def ages(now: datetime) -> dict[str, str]:
    """Columns of a job that ends at that time, which is confirmed: from when its age counts."""
    return dict.fromkeys(("ages_from", "remembered_from"), encode_time(now))


def add_end(connection: Connection, state: State, now: datetime, *, confirmed: bool) -> None:
    """One more job has ended in `state`; `confirmed`: this machine's clock is right."""
    if state is State.DONE:
        connection.execute(_ONE_MORE_DONE)
    if confirmed:
        connection.execute(_SETTLE_AGES, (encode_time(now),) * 4)


class Finished:
    """The part of a journal that is about finished jobs; each call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def outputs(self, job_id: str) -> dict[str, str]:
        """The files that were written for a job: path below outbox/, or below failed/ → SHA-256."""
        return {os.fsdecode(path): sha256 for path, sha256 in self._database.read(_OUTPUTS, (job_id,))}

    def writer_of(self, path: str) -> str | None:
        """The id of the job that wrote outbox/`path` last; None if none did."""
        rows = self._database.read(_WRITER, (os.fsencode(path),))
        return rows[0][0] if rows else None

    def recent(self, since: datetime) -> list[Job]:
        """The latest of the jobs that were claimed since then and are done.

        Without those whose name in done/ a later job has: the file of that name is the later one's.
        """
        by_name = {job.filed_as: job for job in self._jobs(_RECENT, ())}
        since_id = since.strftime("%Y%m%dt%H%M%S")  # an id begins with its time
        return [job for job in by_name.values() if job.id >= since_id]

    def has_its_name(self, job: Job) -> bool:
        """Whether the file in done/ under the name of `job`, which is done, is still its own, as far as the
        journal knows: no other job was filed under that name later.
        """
        return not self._database.read(_FILED_LATER, (os.fsencode(job.filed_as or ""), job.id))

    def same_recordings(self, job: Job) -> list[Job]:
        """The jobs that `job` may be another copy of: same name and content, done or under way.

        Of those under way, the one whose transcript `job` waits for, and those taken before it, of which some
        may still have to be hashed: no two jobs wait for one another.
        """
        path = os.fsencode(job.path)
        done = self._jobs(_SAME_IN_DONE, (job.sha256, path, job.id))
        under_way = (path, job.id, job.sha256, job.original_id, job.id)
        return [*done, *self._jobs(_SAME_UNDER_WAY, under_way)]

    def open_failures(self) -> list[tuple[str, str]]:
        """Every failed job that was not retried and whose recording retention has not deleted.

        Its id and its name in failed/; the newest first.
        """
        return [(job_id, os.fsdecode(name)) for job_id, name in self._database.read(_OPEN_FAILURES)]

    # ---- retention ---------------------------------------------------------------------------------------

    def kept(self, kind: Kind, state: State, before: datetime, exclude: Collection[str] = ()) -> list[Job]:
        """Some of the jobs that ended in `state` before that time and whose files were not deleted yet.

        Without the ids in `exclude`, and without jobs whose name a later job has: the file of that name may
        be the later one's, because the recording was retried and filed again.

        If nothing confirmed the clock when a job ended, it may have ended later than its time says. Then
        another must have ended after it, and before that time by a clock that was confirmed.
        """
        time = encode_time(before)
        return self._some(_KEPT.format(kind=kind), (state, time, time), exclude)

    def mark_deleted(self, job: Job, kind: Kind) -> None:
        """The files of `job` are deleted; with its transcripts, also its words in the journal."""

        def write(connection: Connection) -> None:
            if kind == "transcripts":
                connection.execute("DELETE FROM replies WHERE job_id = ?", (job.id,))
                connection.execute("DELETE FROM notices WHERE request_id = ?", (job.request_id,))
                # A command may have printed them.
                connection.execute("UPDATE deliveries SET receipt = NULL WHERE job_id = ?", (job.id,))
            now = encode_time(utc_now())
            connection.execute(f"UPDATE jobs SET {kind}_deleted_at = ? WHERE id = ?", (now, job.id))

        self._database.write(write)

    def old(self, before: datetime, exclude: Collection[str] = ()) -> list[Job]:
        """Some of the jobs that ended before that time, in whichever state; without the ids in `exclude`.

        Not those of which a copy has come since: their entries are needed.
        """
        return self._some(_OLD, (encode_time(before),), exclude)

    def forget(self, jobs: Sequence[Job]) -> None:
        """Delete everything that the journal holds of these jobs."""

        def write(connection: Connection) -> None:
            connection.executemany(
                "DELETE FROM notices WHERE request_id = ?", [(job.request_id,) for job in jobs]
            )
            ids = [(job.id,) for job in jobs]
            for table in ("replies", "outputs", "deliveries", "history"):
                connection.executemany(f"DELETE FROM {table} WHERE job_id = ?", ids)
            connection.executemany("DELETE FROM jobs WHERE id = ?", ids)
            done = sum(job.state is State.DONE for job in jobs)
            connection.execute("UPDATE totals SET jobs = jobs - ? WHERE state = 'done'", (done,))

        self._database.write(write)

    def forget_signatures(self, before: datetime) -> bool:
        """Delete some of the signatures that came before that time; False if there are none left."""
        rows = self._database.read(_OLD_SIGNATURES, (encode_time(before),))
        if rows:
            self._database.write(
                lambda connection: connection.executemany("DELETE FROM signatures WHERE sha256 = ?", rows)
            )
        return bool(rows)

    def erase_deleted(self) -> bool:
        """Let deleted words leave the journal's files; False if who reads them prevents that now."""
        return self._database.erase_deleted()

    def _some(self, query: str, values: Sequence[Any], exclude: Collection[str]) -> list[Job]:
        found = self._jobs(query, (*values, _AT_ONCE + len(exclude)))
        return [job for job in found if job.id not in exclude][:_AT_ONCE]

    def _jobs(self, query: str, values: Sequence[Any]) -> list[Job]:
        return [job_of(row) for row in self._database.read(query, values)]
