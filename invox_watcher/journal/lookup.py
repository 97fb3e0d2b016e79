"""Which job a person means, who gives the beginning of an id, a name, or what a name looks like."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from invox_watcher.job import Job, State
from invox_watcher.journal.database import Database
from invox_watcher.journal.tables import JOB_COLUMNS, job_of, placeholders

# Among so many of the latest jobs of one name is the one that is asked for.
_NAMESAKES = 1000
_SELECT = f"SELECT {JOB_COLUMNS} FROM jobs"
_BEGINNING = f"""
    {_SELECT} WHERE id IN (
        SELECT * FROM (SELECT id FROM jobs WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT ?) AS whole
        UNION SELECT * FROM (SELECT id FROM jobs WHERE substr(id, 17) >= ? AND substr(id, 17) < ?
            ORDER BY substr(id, 17) LIMIT ?) AS second)
    ORDER BY rowid DESC LIMIT ?"""
_NAMES = "SELECT rowid, id, path, filed_as FROM jobs WHERE rowid < ? ORDER BY rowid DESC LIMIT 5000"
_BY_ID = f"{_SELECT} WHERE id = ?"


class Lookup:
    """The part of a journal that looks up single jobs; each query is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def by_id(self, beginning: str, *, limit: int) -> list[Job]:
        """Jobs whose id, or the second half of it, begins so; if there are too many, some of them."""
        beginning = beginning.lower()
        half = (beginning, beginning + "\U0010ffff", limit)
        return self._jobs(_BEGINNING, (*half, *half, limit))

    def latest(
        self, states: Iterable[State] = State, *, path: str | None = None, filed_as: str | None = None
    ) -> Job | None:
        """The newest job that came under that path, or was filed under it; None if there is none."""
        column, name = ("filed_as", filed_as) if path is None else ("path", path)
        wanted = tuple(states)
        # Of a name that comes every day, only the index is read.
        named = f"SELECT rowid FROM jobs WHERE {column} = ? ORDER BY rowid DESC LIMIT {_NAMESAKES}"
        query = (
            f"{_SELECT} WHERE rowid IN ({named}) AND state IN ({placeholders(wanted)}) "
            "ORDER BY rowid DESC LIMIT 1"
        )
        return next(iter(self._jobs(query, (os.fsencode(name or ""), *wanted))), None)

    def latest_matching(self, matches: Callable[[str], bool]) -> Job | None:
        """The newest job that came, or was filed, under a name that `matches`; all names are tried."""
        rowid = sys.maxsize
        while rows := self._database.read(_NAMES, (rowid,)):
            for rowid, job_id, *names in rows:  # noqa: B007 - the last one is where the next query begins
                if any(name is not None and matches(os.fsdecode(name)) for name in names):
                    return next(iter(self._jobs(_BY_ID, (job_id,))), None)
        return None

    def _jobs(self, query: str, values: Sequence[Any]) -> list[Job]:
        return [job_of(row) for row in self._database.read(query, values)]
