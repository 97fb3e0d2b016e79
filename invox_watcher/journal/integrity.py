"""Is the journal's file whole? A small one is read at each start; a large one afterwards, in small steps."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from invox_watcher.errors import JournalError
from invox_watcher.journal.backend import Connection, Read
from invox_watcher.journal.sqlite import DAMAGED

CHECK = "PRAGMA quick_check(1)"
# Reading so much takes a tenth of a second on a slow disk.
_SMALL_BYTES = 16 << 20
_STEP_ROWS = 500  # a few milliseconds
# A million recordings take some 12 s of computing, so three or four hours; nothing else is slower for it.
_SHARE_OF_A_CORE = 0.001


def is_small(path: Path) -> bool:
    """Whether the journal can be read at each start without anybody noticing."""
    return os.stat(path).st_size <= _SMALL_BYTES


def require_ok(rows: Sequence[Sequence[Any]], path: Path) -> None:
    """Raise JournalError unless `rows`, the answer to `CHECK`, says that all is well."""
    if rows[0][0] != "ok":
        raise JournalError(f"The journal {path} can't be used.", hint=DAMAGED)


def check_small(connection: Connection, path: Path) -> None:
    """Read every page of a small journal: damage is better found before a recording is taken than later.

    Raises:
        JournalError, sqlite3.Error: it is damaged.
    """
    if is_small(path):
        require_ok(connection.execute(CHECK).fetchall(), path)


def check_in_steps(read: Read, stop: threading.Event) -> None:
    """Read every row of every table, some at a time, with long pauses; then return.

    Raises:
        JournalError: it is damaged.
    """
    pause_seconds = 0.0
    for query in _walks(read):
        after: int | None = None
        while not stop.wait(pause_seconds):
            began = time.thread_time()
            ((count, after),) = read(query, (after,))
            pause_seconds = (time.thread_time() - began) / _SHARE_OF_A_CORE
            if count < _STEP_ROWS:
                break


def _walks(read: Read) -> Iterator[str]:
    """For each table, a query that reads its next rows after a `rowid`; None: its first."""
    for (table,) in read(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'", ()
    ):
        columns = [row[1] for row in read(f"PRAGMA table_info({table})", ())]
        # The length of a text can only be told by reading all of it.
        lengths = " + ".join(f"ifnull(length({column}), 0)" for column in columns)
        yield (
            f"SELECT count(*), max(number) FROM (SELECT rowid AS number, {lengths} AS size FROM {table} "
            f"WHERE rowid > ifnull(?, -1) ORDER BY rowid LIMIT {_STEP_ROWS}) WHERE size >= 0"
        )
