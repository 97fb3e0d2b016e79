"""What several threads write at the same time is committed together, and each stands or falls alone."""

from __future__ import annotations

import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.errors import JournalError
from invox_watcher.journal import NameReservedError
from invox_watcher.journal.backend import Backend, Connection, UncertainError
from invox_watcher.journal.database import Database
from invox_watcher.journal.file import FileBackend

Write = Callable[[Connection], Any]


class Refused(Exception):
    """A write that its caller gives up."""


class House:
    """A database with one table of unique names, and what happened to it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.commits = 0
        self.refusal: Exception | None = None
        self.database = Database(backend, create=True, before_commit=self._before_commit)
        self.database.prepare(
            lambda connection: connection.execute("CREATE TABLE names (name TEXT UNIQUE)"),
            alone=lambda _connection: None,
        )
        self.commits = 0
        self.held = threading.Event()

    def _before_commit(self) -> None:
        self.commits += 1
        if self.refusal:
            raise self.refusal

    def together(self, *writes: Write) -> list[Future[Any]]:
        """Write these at once: they gather while another write is under way."""
        begun, release = threading.Event(), threading.Event()

        def hold(_connection: Connection) -> None:
            begun.set()
            assert release.wait(5)

        with ThreadPoolExecutor(len(writes) + 1) as pool:
            first = pool.submit(self.database.write, hold)
            assert begun.wait(5)
            futures = [pool.submit(self.database.write, write) for write in writes]
            while len(self.database._waiting) < len(writes):
                pass
            self.commits = 0
            release.set()
        first.result()
        return futures

    @property
    def names(self) -> list[str]:
        """What is committed, as any other program sees it."""
        with closing(self.backend.open_reader()) as connection:
            return [row[0] for row in connection.execute("SELECT name FROM names ORDER BY name")]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(FileBackend(tmp_path / "journal.sqlite", create=True))
    yield made
    made.database.close()


def add(name: str) -> Write:
    return lambda connection: connection.execute("INSERT INTO names VALUES (?)", (name,)).rowcount


def refused(connection: Connection) -> None:
    connection.execute("INSERT INTO names VALUES ('refused')")
    raise Refused


def test_writes_at_the_same_time_are_one_commit(house: House) -> None:
    futures = house.together(*(add(f"{number}") for number in range(8)))
    assert [future.result() for future in futures] == [1] * 8
    assert house.names == [f"{number}" for number in range(8)]
    assert house.commits == 2  # of the write that was under way, and of the eight


def test_a_write_that_fails_fails_alone(house: House) -> None:
    one, gone, same, two = house.together(add("one"), refused, add("one"), add("two"))
    assert (one.result(), two.result()) == (1, 1)
    assert isinstance(gone.exception(), Refused)
    assert isinstance(same.exception(), NameReservedError)
    assert house.names == ["one", "two"]


def test_what_is_undone_is_not_told_at_the_commit(house: House) -> None:
    told: list[str] = []

    def telling(name: str, *, then: Write = lambda _connection: None) -> Write:
        def write(connection: Connection) -> None:
            house.database.at_commit(partial(told.append, name))
            add(name)(connection)
            then(connection)

        return write

    house.together(telling("one"), telling("gone", then=refused), telling("one"), telling("two"))
    assert sorted(told) == ["one", "two"] == house.names
    with pytest.raises(Refused):
        house.database.write(telling("alone", then=refused))
    house.database.write(telling("three"))
    assert sorted(told) == ["one", "three", "two"] == house.names


@pytest.mark.parametrize("write", [refused, add("there")])
def test_a_single_write_that_fails_leaves_nothing(house: House, write: Write) -> None:
    house.database.write(add("there"))
    with pytest.raises((Refused, NameReservedError)):
        house.database.write(write)
    assert house.names == ["there"]
    house.database.write(add("next"))
    assert house.names == ["next", "there"]


def test_what_is_refused_before_the_commit_is_not_written(house: House) -> None:
    house.refusal = JournalError("the audit log is full")
    with pytest.raises(JournalError, match="full"):
        house.database.write(add("one"))
    house.refusal = None
    assert house.names == []
    assert house.database.write(add("one")) == 1


def test_a_commit_whose_sync_fails_is_uncertain_for_all(house: House) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    house.refusal = error
    with pytest.raises(UncertainError, match="disk I/O error") as caught:
        house.database.write(add("one"))
    assert "kernel log" in caught.value.hint
    house.refusal = None


def test_a_write_returns_when_it_can_be_read(house: House) -> None:
    def write(number: int) -> bool:
        house.database.write(add(f"{number:03}"), durable=number % 2 == 0)
        return bool(house.database.read("SELECT 1 FROM names WHERE name = ?", (f"{number:03}",)))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(write, range(200)))
    assert len(house.names) == 200


def test_only_durable_writes_are_synced(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[int] = []

    def write(name: str, connection: Connection) -> None:
        levels.extend(connection.execute("PRAGMA synchronous").fetchone())
        add(name)(connection)

    house.database.write(partial(write, "a"), durable=False)
    house.database.write(partial(write, "b"))
    house.database.write(partial(write, "c"), durable=False)
    assert levels == [1, 3, 1]  # NORMAL, EXTRA


def test_what_is_written_is_opened_at_the_start(house: House) -> None:
    """What SQLite opens while the disk is full it opens for reading only, until the daemon ends."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))  # no other file can be opened
    try:
        house.database.write(add("smith"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert house.names == ["smith"]


def test_readers_are_not_kept_waiting_by_a_writer(house: House) -> None:
    begun, release = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        add("one")(connection)
        begun.set()
        assert release.wait(5)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(house.database.write, slow)
        assert begun.wait(5)
        assert house.database.read("SELECT name FROM names") == []
        release.set()
        writing.result()
    assert house.database.read("SELECT name FROM names") == [("one",)]


def test_where_it_can_not_write_ahead_it_writes_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as other:
        other.execute("CREATE TABLE others (name TEXT)")
        other.execute("BEGIN")
        other.execute("SELECT * FROM others").fetchall()  # a program that reads it
        monkeypatch.setattr("invox_watcher.journal.sqlite._BUSY_SECONDS", 0.1)
        backend = FileBackend(tmp_path / "journal.sqlite", create=True)
        database = Database(backend, create=True, before_commit=lambda: None)
        other.execute("COMMIT")
        other.execute("BEGIN")
        with closing(database):
            assert database._writer is not None
            database._writer.execute("CREATE TABLE names (name TEXT UNIQUE)")
            other.execute("SELECT * FROM others").fetchall()
            with pytest.raises(JournalError, match="locked"):
                database.prepare(add("one"), alone=lambda _connection: None)
            other.execute("COMMIT")
            database.prepare(add("one"), alone=lambda _connection: None)
            database.write(add("two"), durable=False)
            assert database.read("SELECT count(*) FROM names") == [(2,)]


def test_a_database_that_is_only_read_refuses_to_be_written(house: House) -> None:
    reader = Database(house.backend, create=False, before_commit=lambda: None)
    with closing(reader), pytest.raises(JournalError, match="reading only"):
        reader.write(add("one"))
