"""Finds recordings among all that the journal knows, a page at a time, the newest first.

`rowid` is the order. A question begins with the index that leaves least to read, and reads it in stretches:
after a while it returns what it has found, and where it continues, so that none takes long, however many
recordings there are.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from invox_watcher.job import Job, State
from invox_watcher.journal.database import Database
from invox_watcher.journal.tables import (
    JOB_COLUMNS,
    OPEN_FAILURE,
    SUSPECT,
    UNFINISHED,
    encode_time,
    job_of,
    placeholders,
)

# An id is made, by the same clock, just before the recording counts as received.
_ID_MARGIN = timedelta(seconds=5)
_LEAST_STRETCH, _LARGEST_STRETCH = 500, 5_000
_ROWS_AT_ONCE = 500
_PLAIN = re.compile(r"[\w .,-]+", re.ASCII)
_LIMITS = "SELECT min(rowid), max(rowid) FROM jobs WHERE id >= ? AND id < ?"
_OLDEST, _NEWEST = "SELECT min(rowid) FROM jobs", "SELECT max(rowid) FROM jobs"


@dataclass(frozen=True)
class Wanted:
    """Which recordings are looked for."""

    profiles: frozenset[str] | None = None  # None: all, and those without one
    states: frozenset[State] = frozenset()  # empty: all
    since: datetime | None = None
    until: datetime | None = None
    suspect: bool = False
    open_failure: bool = False  # failed, not retried, and not deleted by retention
    text: str = ""  # in the name or the author, whatever its case


@dataclass(frozen=True)
class Found:
    """What was found, the newest first, and where the search continues; None if that was all."""

    jobs: Sequence[Job]
    following: int | None


@dataclass(frozen=True)
class _Stream:
    """A condition, with its values, for which an index gives the rows in the order of `rowid`."""

    condition: str
    values: tuple[Any, ...] = ()


_ALL = _Stream("TRUE")


class Search:
    """The part of a journal that looks for recordings; each query is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, wanted: Wanted, *, before: int | None = None, limit: int, seconds: float = 0.25) -> Found:
        """At most `limit` recordings, which follow `before`, given by an earlier page as `following`.

        After `seconds` it returns what it has by then: perhaps none, although more follow.
        """
        give_up = time.monotonic() + seconds
        floor, position = self._bounds(wanted, sys.maxsize if before is None else before)
        streams, stretch = _streams(wanted), max(limit, _LEAST_STRETCH)
        found: list[Job] = []
        while position > floor:
            end = max(self._end(streams, position, stretch), floor)
            rows = sorted(self._rows(wanted, streams, position, end), key=lambda row: -row[-1])
            enough = rows[: limit - len(found)]
            found += [job_of(row[:-1]) for row in enough]
            if len(enough) < len(rows) or (len(found) == limit and end > floor):
                return Found(found, enough[-1][-1] if enough else end)
            position = end
            if time.monotonic() > give_up and position > floor:
                return Found(found, position)
            stretch = min(stretch * 4, _LARGEST_STRETCH)
        return Found(found, None)

    def _bounds(self, wanted: Wanted, before: int) -> tuple[int, int]:
        """The lowest `rowid` that may be found, and the one below which the search begins."""
        if wanted.since is None or wanted.until is None:
            ((oldest,),) = self._database.read(_OLDEST)
            ((newest,),) = self._database.read(_NEWEST)
        else:
            moments = (wanted.since - _ID_MARGIN, wanted.until + _ID_MARGIN)
            ids = [f"{moment.astimezone(UTC):%Y%m%dt%H%M%S}" for moment in moments]
            ((oldest, newest),) = self._database.read(_LIMITS, ids)
        if oldest is None or wanted.profiles == frozenset():
            return 0, 0
        return oldest, min(before, newest + 1)

    def _end(self, streams: Sequence[_Stream], position: int, count: int) -> int:
        """How far back about `count` rows lead: to where the first stream has its share of them."""
        if list(streams) == [_ALL]:
            return position - count
        ends = []
        for stream in streams:
            query = (
                f"SELECT rowid FROM jobs WHERE {stream.condition} AND rowid < ? "
                "ORDER BY rowid DESC LIMIT 1 OFFSET ?"
            )
            rows = self._database.read(query, (*stream.values, position, count // len(streams)))
            ends += [row[0] for row in rows]
        return max(ends, default=0)

    def _rows(
        self, wanted: Wanted, streams: Sequence[_Stream], position: int, end: int
    ) -> Iterator[tuple[Any, ...]]:
        """The rows below `position`, down to `end`, each with its `rowid` last."""
        conditions, values = _filters(wanted)
        for stream in streams:
            where = " AND ".join((stream.condition, *conditions, "rowid < ?", "rowid >= ?"))
            given = (*stream.values, *values, position, end)
            if wanted.text:
                yield from self._naming(wanted.text, where, given)
            else:
                yield from self._database.read(f"SELECT {JOB_COLUMNS}, rowid FROM jobs WHERE {where}", given)

    def _naming(self, text: str, where: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Those whose name or author contains `text`."""
        needle = _folded(text)
        rows = self._database.read(f"SELECT path, plan, rowid FROM jobs WHERE {where}", values)
        matching = [row[-1] for row in rows if needle in _folded(os.fsdecode(row[0])) or _by(needle, row[1])]
        for start in range(0, len(matching), _ROWS_AT_ONCE):
            few = matching[start : start + _ROWS_AT_ONCE]
            query = f"SELECT {JOB_COLUMNS}, rowid FROM jobs WHERE rowid IN ({placeholders(few)})"
            yield from self._database.read(query, few)


def _streams(wanted: Wanted) -> list[_Stream]:
    """What is read, each by an index of its own: together, all that is wanted, and no row twice."""
    if wanted.open_failure:
        return [_Stream(OPEN_FAILURE)]
    if wanted.suspect:
        return [_Stream(f"{SUSPECT} AND state = ?", (state,)) for state in sorted(wanted.states or State)]
    if wanted.states and State.DONE not in wanted.states:
        return [_Stream(f"{UNFINISHED} AND state = ?", (state,)) for state in sorted(wanted.states)]
    if wanted.profiles is not None:
        return [_Stream("profile = ?", (profile,)) for profile in sorted(wanted.profiles)]
    return [_ALL]


def _filters(wanted: Wanted) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    for column, chosen in (("state", wanted.states), ("profile", wanted.profiles or ())):
        if chosen:
            # Not by an index: the stream has one.
            conditions.append(f"coalesce({column}, '') IN ({placeholders(chosen)})")
            values += sorted(chosen)
    for operator, moment in ((">=", wanted.since), ("<", wanted.until)):
        if moment is not None:
            conditions.append(f"received_at {operator} ?")
            values.append(encode_time(moment))
    return conditions, values


def _folded(text: str) -> str:
    """Without case, and with accents in one form: names from a Mac have theirs apart."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _by(needle: str, plan: str | None) -> bool:
    """Whether the author in a job's plan contains `needle`."""
    if plan is None or '"author"' not in plan:
        return False
    # Most are told apart without being parsed: only these letters are in JSON as they are.
    if _PLAIN.fullmatch(needle) and "\\u" not in plan and needle not in plan.lower():
        return False
    return needle in _folded(str(json.loads(plan)["attributes"].get("author", "")))
