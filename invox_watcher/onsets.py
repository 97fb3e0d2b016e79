"""Since when is each gate closed? If the cause outlasts a restart, since before that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from invox_watcher.errors import Reason
from invox_watcher.times import utc_now

# How long after a start a cause may take to show again: a breaker opens after several failed calls only.
_SHOWS_AGAIN_SECONDS = 600.0


@dataclass(frozen=True)
class Problem:
    """Why a gate is closed, and since when."""

    gate: str
    reason: Reason
    since: datetime


class Onsets:
    """Remembers since when each gate is closed, by its name. Safe to use from several threads."""

    def __init__(
        self,
        noted: Mapping[str, datetime],
        *,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`noted` is what `known` returned in the process before, or nothing."""
        self._now = now
        self._clock = clock
        self._forget_at = clock() + _SHOWS_AGAIN_SECONDS
        self._lock = threading.Lock()  # guards what follows
        self._noted = dict(noted)
        self._closed: dict[str, datetime] = {}
        self._is_open = True  # whether all gates were
        self._changed = now()

    def update(self, closed: Mapping[str, Reason], *, proven: Collection[str] = ()) -> list[Problem]:
        """The closed gates, one problem per code; `proven` are gates that have worked since the start."""
        with self._lock:
            now = self._now()
            past = {} if self._clock() >= self._forget_at else self._noted
            self._noted = {gate: since for gate, since in past.items() if gate not in proven}
            before, self._closed = self._closed, {}
            found: dict[str, Problem] = {}
            for gate, reason in closed.items():
                since = before.get(gate) or min(self._noted.pop(gate, now), now)
                self._closed[gate] = since
                known = found.get(reason.code)
                if known is None or since < known.since:
                    found[reason.code] = Problem(gate, reason, since)
            self._note_change(now)
            return list(found.values())

    def _note_change(self, now: datetime) -> None:
        since = min(self._closed.values(), default=now)
        if self._is_open != (not self._closed):
            self._is_open, self._changed = not self._closed, since
        elif self._closed:
            self._changed = min(self._changed, since)

    @property
    def changed(self) -> datetime:
        """Since when any gate has been closed without a break, or all have been open."""
        with self._lock:
            return self._changed

    @property
    def known(self) -> dict[str, datetime]:
        """Since when each gate is closed, and those of the process before that may show again."""
        with self._lock:
            return self._noted | self._closed
