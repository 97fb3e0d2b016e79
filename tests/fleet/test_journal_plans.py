"""No question takes PostgreSQL longer the more recordings are finished: how many rows it reads for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from invox_watcher.journal import Journal, Server
from invox_watcher.journal.dialect import translated
from invox_watcher.journal.session import Session
from invox_watcher.journal.tables import columns_in
from tests.unit.test_journal_plans import finish, use

Asked = dict[str, tuple[Any, ...]]
FINISHED = 20_000
# As many as the latest ratios, or a stretch of the page, look at, and some more.
MOST_ROWS = 3_000
LARGE = ("jobs", "history", "outputs", "replies")
# They read what they return, or a fixed number of rows at a time.
_BOUNDED = (r"AND received_at (>=|<) \?", r"SELECT rowid, id, path, filed_as FROM jobs WHERE rowid < \?")


@pytest.fixture
def asked(open_journal: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Every statement that a journal in use has run, with its values."""
    statements: Asked = {}
    execute = Session.execute

    def recorded(session: Session, statement: str, values: Any = ()) -> Any:
        statements.setdefault(statement, tuple(values))
        return execute(session, statement, values)

    with closing(open_journal(targets_of=lambda _job: ["mail"])) as journal:
        finish(journal, "first")
        assert journal.fleet is not None
        journal.fleet.join("one", instance="1", limit_seconds=30)
        monkeypatch.setattr(Session, "execute", recorded)
        use(journal)
        journal.fleet.jobs_of("two")
        journal.fleet.host_of_request("r")
        monkeypatch.undo()
        finish(journal, "kept")
    return statements


def fill(connection: psycopg.Connection[Any]) -> None:
    """The finished recording again and again, under other names."""
    other = {name: f"{name} || n" for name in ("id", "sha256", "request_id", "job_id")}
    other |= {name: f"{name} || n::text::bytea" for name in ("path", "filed_as")}
    done = "(SELECT min(id) FROM jobs WHERE state = 'done')"
    for table in reversed(LARGE):
        key = "id" if table == "jobs" else "job_id"
        columns = [name for name in columns_in(table) if name != "id" or table == "jobs"]
        values = ", ".join(other.get(name, name) for name in columns)
        query = (
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}, "
            f"generate_series(1, {FINISHED}) AS n WHERE {key} = {done}"
        )
        assert connection.execute(query.encode()).rowcount >= FINISHED
    connection.execute("ANALYZE")
    connection.commit()


def scans(plan: Any) -> Iterator[float]:
    """How many rows of a large table each part of a plan has read."""
    if plan.get("Relation Name") in LARGE:
        read = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        yield (read + plan.get("Rows Removed by Index Recheck", 0)) * plan["Actual Loops"]
    for part in plan.get("Plans", ()):
        yield from scans(part)


def test_no_question_reads_all_finished_jobs(asked: Asked, server: Server) -> None:
    explained, wrong = 0, []
    with psycopg.connect(server.url) as connection:
        fill(connection)
        for statement, values in asked.items():
            if not re.match(r"\s*(SELECT|UPDATE|DELETE|INSERT)\b", statement):
                continue
            query = "EXPLAIN (ANALYZE, FORMAT JSON) " + translated(statement)
            [[[plan]]] = connection.execute(query.encode(), values).fetchall()
            connection.rollback()
            explained += 1
            read = sum(scans(plan["Plan"]))
            if read > MOST_ROWS and not any(re.search(bounded, statement) for bounded in _BOUNDED):
                wrong.append(f"{read:.0f}: {statement} {values}")
    assert explained > 40
    assert not wrong, "\n".join(wrong)
