"""The journal's group commit on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from invox_watcher.journal import Server
from invox_watcher.journal.backend import Connection
from invox_watcher.journal.postgresql import ServerBackend
from tests.unit.test_journal_writer import (
    House,
    add,
    test_a_database_that_is_only_read_refuses_to_be_written,
    test_a_single_write_that_fails_leaves_nothing,
    test_a_write_returns_when_it_can_be_read,
    test_a_write_that_fails_fails_alone,
    test_readers_are_not_kept_waiting_by_a_writer,
    test_what_is_refused_before_the_commit_is_not_written,
    test_what_is_undone_is_not_told_at_the_commit,
    test_writes_at_the_same_time_are_one_commit,
)

__all__ = [
    "test_a_database_that_is_only_read_refuses_to_be_written",
    "test_a_single_write_that_fails_leaves_nothing",
    "test_a_write_returns_when_it_can_be_read",
    "test_a_write_that_fails_fails_alone",
    "test_readers_are_not_kept_waiting_by_a_writer",
    "test_what_is_refused_before_the_commit_is_not_written",
    "test_what_is_undone_is_not_told_at_the_commit",
    "test_writes_at_the_same_time_are_one_commit",
]


@pytest.fixture
def house(server: Server) -> Iterator[House]:
    made = House(ServerBackend(server, create=True))
    yield made
    made.database.close()


def test_only_durable_writes_wait_for_the_disk(house: House) -> None:
    levels: list[str] = []

    def write(connection: Connection) -> None:
        levels.extend(connection.execute("SHOW synchronous_commit").fetchone())

    for durable in (False, True, False):
        house.database.write(write, durable=durable)
    assert levels == ["off", "on", "off"]


def test_a_deadlock_is_tried_again(house: House, server: Server) -> None:
    """With another program, which takes its locks in another order."""
    house.database.write(add("one"))
    house.database.write(add("two"))
    attempts: list[int] = []
    with psycopg.connect(server.url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SET deadlock_timeout = '60s'")  # it is ours that is ended
        other.execute("UPDATE names SET name = name WHERE name = 'two'")
        waiting: list[Any] = []

        def write(connection: Connection) -> None:
            attempts.append(1)
            if len(attempts) > 1:
                waiting[0].result()
                other.rollback()
            assert connection.execute("UPDATE names SET name = name WHERE name = 'one'").rowcount == 1
            if len(attempts) == 1:
                waiting.append(pool.submit(other.execute, "UPDATE names SET name = name WHERE name = 'one'"))
                while not _is_blocked(server):
                    pass
            connection.execute("UPDATE names SET name = 'three' WHERE name = 'two'")

        house.database.write(write)
    assert len(attempts) == 2
    assert house.names == ["one", "three"]


def _is_blocked(server: Server) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = 'journal'"
    with psycopg.connect(server.url) as third:
        return bool(third.execute(query).fetchall()[0][0])
