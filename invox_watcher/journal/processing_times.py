"""How long the API took for the latest recordings, as far as polling shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

# So many are of use, and looked for among so many of the latest jobs.
MOST_TIMES, _AMONG_JOBS = 24, 500
LATEST = """
    SELECT duration_seconds, waited_seconds, uploaded_at, completed_at
    FROM (SELECT * FROM jobs ORDER BY rowid DESC LIMIT ?) AS latest
    WHERE delivered_by = ? AND uploaded_at IS NOT NULL AND completed_at IS NOT NULL AND duration_seconds > 0
    ORDER BY completed_at"""


@dataclass(frozen=True)
class ProcessingTime:
    """One recording: seconds since its upload when its result was last pending, and when it was found."""

    length_seconds: float
    pending_seconds: float  # zero if the first poll found it
    found_seconds: float


def processing_times(
    read: Callable[[str, Sequence[Any]], Sequence[Any]], delivered_by: str
) -> list[ProcessingTime]:
    """Those of the latest jobs whose result came that way, the oldest first; `read` answers a query.

    They are told from dates: if the clock was set back meanwhile, they say nothing.
    """
    times = []
    for length, waited, *dates in read(LATEST, (_AMONG_JOBS, delivered_by)):
        uploaded_at, completed_at = map(datetime.fromisoformat, dates)
        found = (completed_at - uploaded_at).total_seconds()
        if found > 0:
            times.append(ProcessingTime(length, min(waited, found), found))
    return times[-MOST_TIMES:]
