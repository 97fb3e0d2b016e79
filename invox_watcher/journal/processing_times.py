"""How long the API took for the latest recordings, as far as polling shows it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime

# So many are kept.
_LATEST = 24


@dataclass(frozen=True)
class ProcessingTime:
    """One recording: seconds since its upload when its result was last pending, and when it was found."""

    length_seconds: float
    pending_seconds: float  # zero if the first poll found it
    found_seconds: float


class ProcessingTimes:
    """The latest, apart for each way by which results come."""

    def __init__(self) -> None:
        self._latest: dict[str, deque[ProcessingTime]] = {}

    def add(
        self,
        by: str | None,
        length_seconds: float | None,
        pending_seconds: float,
        uploaded_at: datetime | None,
        completed_at: datetime | None,
    ) -> None:
        """One more, unless something of it is not known; a clock that was set back meanwhile says nothing."""
        if not by or not length_seconds or uploaded_at is None or completed_at is None:
            return
        found = (completed_at - uploaded_at).total_seconds()
        if found > 0:
            time = ProcessingTime(length_seconds, min(pending_seconds, found), found)
            self._latest.setdefault(by, deque(maxlen=_LATEST)).append(time)

    def latest(self, by: str) -> list[ProcessingTime]:
        """Those whose result came by polling, or by a webhook; the oldest first."""
        return list(self._latest.get(by, ()))
