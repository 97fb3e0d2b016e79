"""The history of each recording: a line for every state that it was in, written with the move to it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from invox_watcher.job import State
from invox_watcher.journal.backend import Connection
from invox_watcher.journal.tables import encode_time

_JSON = json.JSONEncoder(default=str)
_ADD = "INSERT INTO history (job_id, at, state, detail) VALUES (?, ?, ?, ?)"
_OF_JOB = "SELECT at, state, detail FROM history WHERE job_id = ? ORDER BY id"


@dataclasses.dataclass(frozen=True)
class HistoryEntry:
    """One line of a job's history."""

    at: datetime
    state: State
    detail: Mapping[str, Any]


def append(
    connection: Connection, job_id: str, state: State, detail: Mapping[str, Any], at: datetime
) -> None:
    """The job came to `state` at that time; what is None in `detail` is left out."""
    text = _JSON.encode({key: value for key, value in detail.items() if value is not None})
    connection.execute(_ADD, (job_id, encode_time(at), state, text))


def entries(read: Callable[[str, Sequence[Any]], Sequence[Any]], job_id: str) -> list[HistoryEntry]:
    """Those of one job, the oldest first; `read` answers a query."""
    return [
        HistoryEntry(datetime.fromisoformat(at), State(state), json.loads(detail))
        for at, state, detail in read(_OF_JOB, (job_id,))
    ]
