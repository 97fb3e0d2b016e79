"""A journal is copied to the database and back, whole or not at all."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from invox_watcher.errors import ExitStatus, JournalError, WrongJournalError
from invox_watcher.host import Locks
from invox_watcher.job import Job, State
from invox_watcher.journal import (
    Journal,
    Server,
    copy_journal,
    copying,
    identity_in,
    require_copied,
    reserving,
)
from invox_watcher.journal.copying import Place
from invox_watcher.notice import WebhookNotice
from invox_watcher.spending import Limits, Reservation
from tests.kit.postgres import Cluster
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


def test_a_journal_goes_there_and_back_unchanged(tmp_path: Path, cluster: Cluster, server: Server) -> None:
    here, back = tmp_path / "here", tmp_path / "back"
    here.mkdir()
    back.mkdir()
    fill(here)
    with closing(Journal(here)) as journal:
        before, under_way = everything(journal), len(journal.active())
    steps: list[tuple[str, int]] = []
    there = copy_journal(here, server, lambda table, rows: steps.append((table, rows)))
    assert ("jobs", 32) in steps
    assert all(one.rows for one in there)
    with closing(Journal(tmp_path, server=server)) as new:
        assert everything(new) == before
    assert copy_journal(server, back) == there
    assert (back / "journal.sqlite").stat().st_mode & 0o777 == 0o600
    again = Server(cluster.create("again"))
    assert copy_journal(back, again) == there
    with closing(Journal(tmp_path, server=again)) as new:
        assert everything(new) == before
        assert new.fleet is not None
        adopted = new.fleet.join("first", instance="1", limit_seconds=30)
        assert len(adopted) == under_way  # nobody else would take them
        as_before(added(new), new)
        assert new.move(adopted[-1], State.WAITING, uploaded_at=datetime.now(UTC)).host == "first"


def refused(open_it: Callable[[], object]) -> str:
    with pytest.raises(WrongJournalError) as error:
        open_it()
    assert error.value.exit_status == ExitStatus.CONFIGURATION
    return f"{error.value.code}: {error.value}"


def test_of_two_copies_one_is_the_journal(tmp_path: Path, cluster: Cluster, server: Server) -> None:
    file, other = tmp_path, Server(cluster.create("other"))

    def start(place: Place) -> None:
        journal = Journal(tmp_path / "x", server=place) if isinstance(place, Server) else Journal(place)
        journal.close()

    def moved_to(place: Place) -> str | None:
        at = (tmp_path, place) if isinstance(place, Server) else (place, None)
        with closing(Journal(at[0], create=False, server=at[1])) as journal:
            return journal.moved_to

    fill(file)
    require_copied(tmp_path / "nothing", "x")
    assert "never copied to the fleet's" in refused(lambda: require_copied(file, "the fleet's"))
    copy_journal(file, server)
    require_copied(file, server.name)
    assert "never copied to the fleet's" in refused(lambda: require_copied(file, "the fleet's"))
    for wrong in (lambda: start(file), lambda: copy_journal(file, other), lambda: copy_journal(file, server)):
        assert f"journal_moved: The journal {file}/journal.sqlite was copied to {server.name}" in refused(
            wrong
        )
    assert moved_to(file) == server.name
    start(server)
    # The way back, with nothing changed meanwhile: both have the same content, and the signs change.
    copy_journal(server, file)
    start(file)
    assert (moved_to(file), moved_to(server)) == (None, str(file))
    assert f"was copied to {file}" in refused(lambda: start(server))
    assert f"was copied to {file}" in refused(lambda: identity_in(server))
    with closing(Journal(file)) as journal:
        added(journal)
    assert "journal_not_empty" in refused(lambda: copy_journal(file, server))
    assert moved_to(file) is None
    copy_journal(file, other)
    start(other)
    for place in (file, server):  # as docs/database.md has it, if the copy was lost
        remove = "DELETE FROM known WHERE name = 'moved'"
        if isinstance(place, Server):
            with psycopg.connect(place.url) as connection:
                connection.execute(remove)
        else:
            with sqlite3.connect(place / "journal.sqlite") as connection:
                connection.execute(remove)
        start(place)


def test_a_copy_killed_before_its_sign_is_finished_by_the_next(tmp_path: Path, server: Server) -> None:
    fill(tmp_path)
    process = os.fork()
    if process == 0:
        copying.note_moved = lambda *_arguments: os.kill(os.getpid(), signal.SIGKILL)
        try:
            copy_journal(tmp_path, server)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    Journal(tmp_path).close()  # it can still be used
    assert "never copied" in refused(lambda: require_copied(tmp_path, server.name))
    copied = copy_journal(tmp_path, server)
    assert all(one.rows for one in copied)
    assert "was copied to" in refused(lambda: Journal(tmp_path))


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
    with closing(Journal(tmp_path, server=server)) as journal:
        added(journal)
    with pytest.raises(WrongJournalError, match="is in use already: nothing was copied"):
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
