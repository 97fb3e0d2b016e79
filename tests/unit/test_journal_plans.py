"""No question that the daemon asks its journal takes longer the more recordings are finished."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.errors import Reason
from invox_watcher.job import ACTIVE, Failure, Fault, Job, State, new_job_id
from invox_watcher.journal import Journal, Wanted, releasing, reserving
from invox_watcher.notice import WebhookNotice
from invox_watcher.recording import FileIdentity
from invox_watcher.spending import Limits, Reservation

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=1)
# They read no more rows than they return, or than a fixed number.
_BOUNDED = (
    r"FROM \(SELECT \* FROM jobs ORDER BY rowid DESC LIMIT \?\)",  # the latest ratios, at the start
    r"SELECT state, jobs FROM totals",
    r"LIMIT 200\s+\) AS filed JOIN jobs",
)


def finish(journal: Journal, path: str) -> Job:
    """The whole way of a recording."""
    job = Job(new_job_id(), State.CLAIMED, path, FileIdentity(1, 2, 3, 4), received_at=NOW)
    journal.add(job)
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
    job = Job(new_job_id(), State.CLAIMED, path, FileIdentity(1, 2, 3, 4), received_at=NOW)
    journal.add(job)
    failure = Failure(State.CLAIMED, Reason("not_audio", "", ""), retry_can_help=False)
    job = journal.move(job, State.FAILING, failure=failure, filed_as=path)
    return journal.move(job, State.FAILED, outputs={f"{path}.error.json": "5"})


def ask_everything(journal: Journal, done: Job, active: Job) -> None:
    """What the daemon and the commands ask."""
    finished = journal.finished
    journal.active(), journal.counts(), journal.check(), journal.open_failures(), journal.spent("2026-11-28")
    journal.newest_named(lambda name: name == "none")
    journal.get(done.id), journal.find("2026", limit=5), journal.find("abc", limit=5)
    journal.latest(path="a"), journal.latest([State.DONE], filed_as="a"), journal.original("5" * 64)
    journal.jobs([State.FAILED]), journal.jobs(ACTIVE, limit=5), journal.jobs(since=NOW)
    journal.jobs(until=NOW)
    ask_for_the_page(journal)
    journal.history(done.id), journal.reply(done.id), journal.notice("r-1")
    journal.transcription_ratios("polling")
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
    waiting = Job(new_job_id(), State.CLAIMED, "a", FileIdentity(1, 2, 3, 4), received_at=NOW)
    journal.add(waiting)
    active = journal.identify(waiting, "a" * 8, follow=True)
    lost = Job(new_job_id(), State.CLAIMED, "letter", FileIdentity(1, 2, 3, 4), received_at=NOW)
    journal.add(lost)
    journal.move(lost, State.VANISHED)
    copy = Job(new_job_id(), State.CLAIMED, "b", FileIdentity(1, 2, 3, 5), received_at=NOW)
    journal.add(copy)
    journal.discard(copy, done.id)
    ask_everything(journal, done, active)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that a journal in use has run."""
    statements: list[str] = []

    class Recorded(sqlite3.Connection):
        def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
            statements.append(statement)
            return super().execute(statement, values)

        def executemany(self, statement: str, values: Any) -> sqlite3.Cursor:
            statements.append(statement)
            return super().executemany(statement, values)

    with closing(Journal(tmp_path)) as journal:
        finish(journal, "first")
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=Recorded))
    with closing(Journal(tmp_path, targets_of=lambda _job: ["mail"])) as journal:
        use(journal)
    monkeypatch.undo()
    return statements


def test_no_question_reads_all_finished_jobs(asked: list[str], tmp_path: Path) -> None:
    explained, scans = 0, []
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as connection:
        for statement in dict.fromkeys(asked):
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
