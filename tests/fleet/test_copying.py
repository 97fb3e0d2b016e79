"""A journal is copied to the database and back, whole or not at all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from invox_watcher.errors import JournalError
from invox_watcher.host import Locks
from invox_watcher.job import Job, State
from invox_watcher.journal import Journal, Server, copy_journal, reserving
from invox_watcher.notice import WebhookNotice
from invox_watcher.spending import Limits, Reservation
from tests.unit.test_journal import DEADLINE, FAULT, added, uploaded


def fill(directory: Path) -> None:
    """A journal with something in every table, and every odd name."""
    with closing(Journal(directory, targets_of=lambda _job: ["mail"])) as journal:
        added(journal, path="ward/na\udcffïve\n.wav", duration_seconds=0.1 + 0.2, last_fault=FAULT)
        for number in range(30):
            waiting = uploaded(journal, f"r-{number}", later=number)
            if number % 3:
                reply = {"text": "Él \u0000 \udcff 🦴" * number}
                moved = journal.move(waiting, State.TRANSCRIBED, reply=reply, reserve=f"Ä{number}.json")
                moved = journal.move(moved, State.DELIVERED, outputs={f"ä\udcff{number}.json": "1" * 64})
                journal.move(moved, State.DONE, filed_as=f"{number}.wav")
            elif number % 2:
                journal.move(journal.move(waiting, State.FAILING, failure=DEADLINE), State.FAILED)
        first = journal.deliveries.next("mail", ordered=True)
        assert first is not None
        journal.deliveries.postpone(first, FAULT, uncertain=True, tried_seconds=1.5)
        journal.record_notice(WebhookNotice("r-0", {"a": "\u0000"}, "signature", "content", covers_body=True))
        journal.record_notice(WebhookNotice("r-6", {}, "signature2", "content", covers_body=False))
        wanted = Reservation("2026-11-28", "ward", 60.1)
        identified = journal.identify(added(journal), "7" * 64, follow=False)
        journal.move(identified, State.UPLOADING, also=reserving(wanted, Limits(overall_minutes=5)))


def everything(journal: Journal) -> list[object]:
    jobs = journal.jobs()
    return [
        jobs,
        [journal.history(job.id) for job in jobs],
        [journal.reply(job.id) for job in jobs],
        [journal.finished.outputs(job.id) for job in jobs],
        [journal.deliveries.of(job.id) for job in jobs],
        [journal.notice(f"r-{number}") for number in range(30)],
        journal.counts(),
        journal.spent("2026-11-28"),
        journal.deliveries.backlogs(),
        journal.finished.open_failures(),
    ]


def as_before(job: Job, journal: Journal) -> None:
    """The order goes on where it was."""
    assert [one.id for one in journal.jobs()][-1] == job.id


def test_a_journal_goes_there_and_back_unchanged(tmp_path: Path, server: Server) -> None:
    here, back = tmp_path / "here", tmp_path / "back"
    here.mkdir()
    back.mkdir()
    fill(here)
    steps: list[tuple[str, int]] = []
    there = copy_journal(here, server, lambda table, rows: steps.append((table, rows)))
    assert ("jobs", 32) in steps
    assert all(one.rows for one in there)
    assert copy_journal(server, back) == there
    assert (back / "journal.sqlite").stat().st_mode & 0o777 == 0o600
    with closing(Journal(here)) as old, closing(Journal(tmp_path, server=server)) as new:
        assert everything(old) == everything(new)
        with closing(Journal(back)) as third:
            assert everything(third) == everything(old)
            as_before(added(third), third)
        assert new.fleet is not None
        adopted = new.fleet.join("first", instance="1", limit_seconds=30)
        assert len(adopted) == len(old.active())  # nobody else would take them
        as_before(added(new), new)
        assert new.move(adopted[-1], State.WAITING, uploaded_at=datetime.now(UTC)).host == "first"


def test_a_journal_in_use_is_not_copied(tmp_path: Path, server: Server) -> None:
    fill(tmp_path)
    locks = Locks()
    locks.hold(tmp_path / "lock")
    with pytest.raises(JournalError, match="Another daemon is running on"):
        copy_journal(tmp_path, server)
    locks.close()
    with (
        closing(Journal(tmp_path, server=server)),
        pytest.raises(JournalError, match="A daemon is running with the journal in postgresql:///journal"),
    ):
        copy_journal(tmp_path, server)
    copy_journal(tmp_path, server)
    with pytest.raises(JournalError, match="is in use already: nothing was copied"):
        copy_journal(tmp_path, server)


def test_a_copy_that_differs_is_undone(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    fill(here)
    Journal(there).close()
    meddle = "CREATE TRIGGER meddle AFTER INSERT ON targets BEGIN UPDATE targets SET tried_seconds = 9; END"
    with closing(sqlite3.connect(there / "journal.sqlite")) as other:
        other.execute(meddle)
    with pytest.raises(JournalError, match="has other values in the table targets"):
        copy_journal(here, there)
    with closing(Journal(there)) as journal:
        assert journal.jobs() == []


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, server: Server) -> None:
    fill(tmp_path)

    def full(table: str, _rows: int) -> None:
        if table == "deliveries":
            raise OSError("a disk is full")

    with pytest.raises(OSError, match="full"):
        copy_journal(tmp_path, server, full)
    with psycopg.connect(server.url) as connection:
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        assert connection.execute(tables).fetchall() == [(0,)]
    (tmp_path / "other").mkdir()
    with pytest.raises(OSError, match="full"):
        copy_journal(tmp_path, tmp_path / "other", full)
    copy_journal(tmp_path, tmp_path / "other")
    with pytest.raises(JournalError, match="There is no journal"):
        copy_journal(server, tmp_path / "other")
