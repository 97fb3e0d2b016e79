"""No question that the daemon asks its journal takes longer the more recordings are finished."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from invox_watcher.errors import Reason
from invox_watcher.job import ACTIVE, Failure, Fault, Job, State
from invox_watcher.journal import Journal, Wanted, releasing, reserving
from invox_watcher.journal.tables import insertion
from invox_watcher.notice import WebhookNotice
from invox_watcher.recording import FileIdentity
from invox_watcher.spending import Limits, Reservation
from tests.kit.jobs import claimed

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=1)
# They read no more rows than they return, or than a fixed number.
_BOUNDED = (
    r"FROM \(SELECT \* FROM jobs ORDER BY rowid DESC LIMIT \?\)",  # the latest processing times, at the start
    r"SELECT state, jobs FROM totals",
    r"LIMIT 200\s+\) AS filed JOIN jobs",
    r"\) AS found ORDER BY number LIMIT 1",  # of two rows
    r"\) AS whole\s+UNION",
    r"FROM sqlite_master WHERE type = 'table' AND name = ",  # tables and indices
)
# What takes longer with a history of failures, or of recordings of one name or content, and by how little.
_GROWING = (
    r"PRAGMA quick_check",  # of small journals alone
    r"SELECT jobs.attempts.* WHERE state IN \([?, ]+\) AND (id < |state <> 'done' ORDER)",  # what it returns
    r"SELECT id, coalesce\(filed_as, path\) FROM jobs",  # what it returns, and no whole jobs
    r"SELECT state, count\(\*\) FROM jobs",  # entries of an index, without their rows
    r"SELECT rowid FROM jobs WHERE (path|filed_as) = \? ORDER BY rowid DESC LIMIT",  # the same
    r"SELECT rowid, id, path, filed_as FROM jobs WHERE rowid < \?",  # some thousand names at a time
)


def finish(journal: Journal, path: str) -> Job:
    """The whole way of a recording."""
    job = claimed(journal, path)
    job = journal.identify(job, path * 8, follow=True)
    if job.original_id is None:
        minute = Reservation("2026-11-28", "default", 60.0)
        reserved = {"reservation": minute, "also": reserving(minute, Limits(overall_minutes=1e9))}
        job = journal.move(job, State.UPLOADING, request_id=f"r-{job.id}", **reserved)
        job = journal.move(job, State.IDENTIFIED, request_id=None, also=releasing(minute), reservation=None)
        job = journal.move(job, State.UPLOADING, request_id=f"r-{job.id}")
        job = journal.move(job, State.WAITING, uploaded_at=NOW)
        job = journal.update(job, durable=False, polled_at=NOW)
    changes = {"completed_at": NOW, "delivered_by": "polling", "duration_seconds": 1.0}
    job = journal.move(job, State.TRANSCRIBED, reserve=path, filed_as=path, reply={}, **changes)
    job = journal.move(job, State.DELIVERED, reserve=path, outputs={f"{path}.json": "5"})
    return journal.move(job, State.DONE, filed_as=path)


def fail(journal: Journal, path: str) -> Job:
    job = claimed(journal, path)
    failure = Failure(State.CLAIMED, Reason("not_audio", "", ""), retry_can_help=False)
    job = journal.move(job, State.FAILING, failure=failure, filed_as=path)
    return journal.move(job, State.FAILED, outputs={f"{path}.error.json": "5"})


def ask_everything(journal: Journal, done: Job, active: Job) -> None:
    """What the daemon and the commands ask."""
    finished = journal.finished
    journal.active(), journal.counts(), journal.check(), finished.open_failures(), journal.spent("2026-11-28")
    journal.lookup.latest_matching(lambda name: name == "none")
    journal.get(done.id), journal.lookup.by_id("2026", limit=5), journal.lookup.by_id("abc", limit=5)
    (
        journal.lookup.latest(path="a"),
        journal.lookup.latest([State.DONE], filed_as="a"),
        journal.original("5" * 64),
    )
    journal.jobs([State.FAILED]), journal.jobs(ACTIVE, limit=5), journal.jobs(since=NOW)
    journal.jobs(until=NOW)
    ask_for_the_page(journal)
    journal.history(done.id), journal.reply(done.id), journal.notice("r-1")
    journal.processing_times("polling")
    journal.record_notice(WebhookNotice("r-1", {}, "signature", "content", covers_body=True))
    journal.follow_again(active)
    (
        finished.outputs(done.id),
        finished.writer_of("a.json"),
        finished.recent(NOW),
    )
    finished.has_its_name(done)
    finished.same_recordings(replace(active, sha256="a" * 8))
    queue = journal.deliveries
    queue.next("mail", ordered=True), queue.backlogs(), queue.owed(limit=5), queue.failed(limit=5)
    queue.of(done.id), queue.send_again([done.id], "mail", NOW)
    owed = queue.next("mail", ordered=False)
    assert owed is not None
    queue.postpone(owed, Fault(Reason("down", "", ""), NOW), uncertain=True), queue.give_up("mail")
    queue.give_up_unless("hooks.", ["hooks.on_done"])
    for state in (State.DONE, State.FAILED):
        finished.kept("recording", state, LATER)
    finished.kept("transcripts", State.DONE, LATER)
    finished.mark_deleted(done, "transcripts"), finished.mark_deleted(done, "recording")
    finished.forget(finished.old(LATER)), finished.forget_signatures(LATER)


def ask_for_the_page(journal: Journal) -> None:
    ward, day = frozenset({"ward3", "ward4"}), {"since": NOW, "until": LATER}
    for wanted in (
        *(Wanted(), Wanted(text="smith"), Wanted(**day), Wanted(profiles=ward), Wanted(profiles=ward, **day)),
        *(Wanted(states=frozenset({State.FAILED, State.FAILING})), Wanted(states=frozenset({State.DONE}))),
        *(Wanted(suspect=True), Wanted(open_failure=True, profiles=ward)),
    ):
        journal.search.page(wanted, limit=5)
    queue = journal.deliveries
    queue.backlogs(ward), queue.failed_lately(ward, limit=5), queue.failed_lately(None, limit=5)


def use(journal: Journal) -> None:
    """Do with it what a daemon does; its target is mail."""
    fail(journal, "letter")
    done = finish(journal, "a")
    waiting = claimed(journal, "a")
    active = journal.identify(waiting, "a" * 8, follow=True)
    lost = claimed(journal, "letter")
    journal.move(lost, State.VANISHED)
    copy = claimed(journal, "b", identity=FileIdentity(1, 2, 3, 5))
    journal.discard(copy, done.id)
    again = claimed(journal, "a", identity=FileIdentity(1, 2, 3, 6))
    journal.finished.same_recordings(journal.identify(again, "5" * 64, follow=True))
    ask_everything(journal, done, active)


class Recorded(sqlite3.Connection):
    """Knows how much work each statement was: in tens of instructions of SQLite's machine, at most."""

    statements: ClassVar[dict[str, int]]
    done = 0

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        before = self.done
        self.set_progress_handler(self._note, 10)
        cursor = super().execute(statement, values)
        found = Rows(cursor) if cursor.description else cursor
        self.statements[statement] = max(self.statements.get(statement, 0), self.done - before)
        return found  # type: ignore[return-value]

    def executemany(self, statement: str, values: Any) -> sqlite3.Cursor:
        self.statements.setdefault(statement, 0)
        return super().executemany(statement, values)

    def _note(self) -> None:
        self.done += 1


class Rows:
    """All rows of a cursor, read at once."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._rows = cursor.fetchall()

    def fetchone(self) -> Any:
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[Any]:
        return self._rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)


def asked(directory: Path, *, history: int = 0) -> dict[str, int]:
    """Every statement that a journal in use has run, with its work; `history`: see `remember`."""
    directory.mkdir()
    with closing(Journal(directory)) as journal:
        finish(journal, "first")
    remember(directory / "journal.sqlite", history)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorded, "statements", {}, raising=False)
        # A search reads in stretches, for as long as it may: none of them is longer with more history.
        for name in ("_LEAST_STRETCH", "_LARGEST_STRETCH"):
            patch.setattr(f"invox_watcher.journal.search.{name}", 10)
        patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Recorded))
        with closing(Journal(directory, targets_of=lambda _job: ["mail"])) as journal:
            use(journal)
        return Recorded.statements


def remember(path: Path, times: int) -> None:
    """As if each of these had come so many times before: copies of one recording, of one name, others."""
    failure = '{"code": "x", "message": "", "hint": "", "stage": "claimed", "retry_can_help": false}'
    copy = {"sha256": "5" * 64, "path": "a", "filed_as": "a"}
    kinds = (
        {"state": "failed", "failure": failure, **copy, "successor_id": "another"},
        {"state": "failed", "failure": failure, **copy, "request_id": "r", "successor_id": "another"},
        {"state": "failed", "failure": failure, "path": "letter", "filed_as": "letter"},
        {"state": "vanished", "path": "a"},
        {"state": "done", **copy, "transcripts_deleted_at": "2026"},
        {"state": "done", **copy, "filed_as": "b", "recording_deleted_at": "2026"},
        {"state": "done", "path": "a", "filed_as": "a"},
    )
    long_ago = "2026-01-01T00:00:00.000000+00:00"
    always = dict.fromkeys(("received_at", "updated_at", "ages_from", "remembered_from"), long_ago)
    always |= dict.fromkeys(
        ("size_bytes", "attempts", "refused_urls", "changed_uploads", "uploaded_bytes"), 0
    )
    always |= {"device": "1", "mtime_ns": "4", "suspect": "[]"}
    rows = [
        always | kind | {"id": f"20260101t000000-{number:012x}", "inode": str(100 + number)}
        for number, kind in enumerate(kinds * times)
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        for row in rows:
            values = [os.fsencode(row[key]) if key in ("path", "filed_as") else row[key] for key in row]
            connection.execute(insertion("jobs", row), values)
            connection.execute(
                "INSERT INTO history (job_id, at, state, detail) VALUES (?, ?, ?, '{}')",
                (row["id"], long_ago, row["state"]),
            )


def test_no_question_reads_all_finished_jobs(tmp_path: Path) -> None:
    explained, scans = 0, []
    statements = asked(tmp_path / "state")
    with closing(sqlite3.connect(tmp_path / "state" / "journal.sqlite")) as connection:
        for statement in statements:
            if not re.match(r"\s*(SELECT|UPDATE|DELETE|INSERT)\b", statement):
                continue
            explained += 1
            nothing = [None] * statement.count("?")
            rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", nothing).fetchall()
            plan = [row[3] for row in rows]
            partial = r"SCAN \w+ USING (COVERING )?INDEX (jobs_unfinished|jobs_in_doubt|deliveries_\w+)"
            wrong = [line for line in plan if line.startswith("SCAN") and not re.match(partial, line)]
            if wrong and not any(re.search(bounded, statement) for bounded in _BOUNDED):
                scans.append(f"{statement}\n    {plan}")
    assert explained > 40
    assert not scans, "\n".join(scans)


def test_no_question_takes_longer_with_more_history(tmp_path: Path) -> None:
    """Not even with thousands of copies of one recording, or files of one name, or failures."""
    little, much = (asked(tmp_path / str(history), history=history) for history in (100, 400))
    growing = [
        f"{work} instead of {little[statement]}: {statement}"
        for statement, work in much.items()
        if work > 1.5 * little[statement] + 20
        and not any(re.search(allowed, " ".join(statement.split())) for allowed in _GROWING)
    ]
    assert len(much) > 60
    assert not growing, "\n".join(growing)
