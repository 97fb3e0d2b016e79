"""Hosts of two releases on one journal, and hosts that start at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from invox_watcher.errors import JournalError
from invox_watcher.job import State
from invox_watcher.journal import Journal, Server, migrations
from invox_watcher.journal.backend import Connection
from tests.unit.test_journal import added, uploaded

NEXT = migrations.VERSION + 1
Release = Callable[[int], Journal]


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Server) -> Release:
    """Opens the journal as the next release would, whose step adds a column; by its `MIN_READER`."""

    def step(connection: Connection) -> None:
        connection.execute("ALTER TABLE jobs ADD COLUMN mood VARCHAR")

    def open_newer(min_reader: int) -> Journal:
        with monkeypatch.context() as patched:
            patched.setattr(migrations, "VERSION", NEXT)
            patched.setattr(migrations, "MIN_READER", min_reader)
            patched.setitem(migrations._STEPS, NEXT, step)
            return Journal(tmp_path, server=server)

    return open_newer


def join(journal: Journal, name: str) -> None:
    assert journal.fleet is not None
    journal.fleet.join(name, instance=name, limit_seconds=30)


def test_hosts_that_start_at_once_make_one_journal(tmp_path: Path, server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = [*pool.map(lambda _number: Journal(tmp_path, server=server), range(4))]
    for number, journal in enumerate(opened):
        with closing(journal):
            added(journal)
            assert len(journal.jobs()) == number + 1
    with psycopg.connect(server.url) as connection:
        releases = connection.execute("SELECT version, min_reader FROM releases").fetchall()
    assert releases == [(migrations.VERSION, migrations.MIN_READER)]


def test_an_older_host_works_on_beside_a_newer_one(tmp_path: Path, server: Server, newer: Release) -> None:
    with closing(Journal(tmp_path, server=server)) as older:
        join(older, "older")
        waiting = uploaded(older)
        with closing(newer(migrations.VERSION)) as upgraded:
            join(upgraded, "newer")
            assert upgraded.get(waiting.id) is not None
            added(upgraded)
            assert older.move(waiting, State.TRANSCRIBED).state is State.TRANSCRIBED
            added(older)
            # It may also be started again, for example after a crash, and its commands work.
            with closing(Journal(tmp_path, server=server)) as again:
                added(again)
            with closing(Journal(tmp_path, server=server, create=False)) as command:
                assert len(command.jobs()) == 4
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT max(version) FROM releases").fetchall() == [(NEXT,)]


def test_a_step_that_older_hosts_do_not_bear_waits_for_them(
    tmp_path: Path, server: Server, newer: Release
) -> None:
    with closing(Journal(tmp_path, server=server)) as older:
        join(older, "older")
        with pytest.raises(JournalError, match="whose release could not use it afterwards: older") as caught:
            newer(NEXT)
        assert caught.value.code == "journal_in_use"
        added(older)
        assert older.fleet is not None
        older.fleet.leave()
    newer(NEXT).close()
    with pytest.raises(JournalError, match=f"journal version {NEXT}") as caught:
        Journal(tmp_path, server=server)
    assert caught.value.code == "journal_newer"


def test_a_step_that_fails_changes_nothing(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Journal(tmp_path, server=server)) as journal:
        added(journal)

    def fails(connection: Connection) -> None:
        connection.execute("ALTER TABLE jobs ADD COLUMN mood VARCHAR")
        connection.execute("ALTER TABLE jobs DROP COLUMN nothing")

    with monkeypatch.context() as patched:
        patched.setattr(migrations, "VERSION", NEXT)
        patched.setitem(migrations._STEPS, NEXT, fails)
        with pytest.raises(JournalError, match="nothing"):
            Journal(tmp_path, server=server)
    with psycopg.connect(server.url) as connection:
        columns = connection.execute("SELECT * FROM jobs").description
    assert columns is not None
    assert "mood" not in [column.name for column in columns]
    with closing(Journal(tmp_path, server=server)) as journal:
        assert len(journal.jobs()) == 1


def test_a_command_makes_no_journal(tmp_path: Path, server: Server) -> None:
    with pytest.raises(JournalError, match="There is no journal in") as caught:
        Journal(tmp_path, server=server, create=False)
    assert caught.value.code == "journal_missing"
    with closing(Journal(tmp_path, server=server)) as journal:
        claimed = added(journal)
    with closing(Journal(tmp_path, server=server, create=False)) as command:
        assert command.jobs() == [claimed]
        with pytest.raises(JournalError, match="reading only"):
            added(command)
