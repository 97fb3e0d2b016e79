"""When what the intake had no room for is offered again."""

from __future__ import annotations

import math
from collections.abc import Callable

from invox_watcher.priority import Priority

# While recordings end one after the other, those that come in their place are claimed several at once.
_ROOM_SECONDS = 0.02


class Room:
    """Whether there is room for files of a priority: not for what was refused, until that may have changed.

    All but `signal` is for one thread, and `now` is always passed in.
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        """`notify` lets that thread call `hear` soon; it is called by `signal`, if anything was refused."""
        self.refused: Priority | None = None  # what is not more urgent than this is not taken now
        self.due: float | None = None  # when there will be room for it
        self._notify = notify
        self._signalled = False  # whether `signal` was called since `ask` was
        self._notified = False  # whether `hear` will be called, or its moment waited for
        self._claimed_at = -math.inf  # the last time that anything was

    def signal(self) -> None:
        """There may be room again. From any thread."""
        self._signalled = True  # in this order, since `refuse` looks in the other
        if self.refused is not None and not self._notified:
            self._notified = True
            self._notify()

    def hear(self) -> None:
        """`notify` was called: there will be room a moment after the last claim."""
        if self._notified:
            self.due = self._claimed_at + _ROOM_SECONDS

    def update(self, now: float) -> None:
        """There is room from now on, if it is `due`."""
        # Also without `hear`: during a long scan nothing is heard.
        if (self._signalled or self._notified) and now >= self._claimed_at + _ROOM_SECONDS:
            self.due, self._notified, self.refused = None, False, None

    def reset(self) -> None:
        """Offer everything again."""
        self.refused = None

    def ask(self) -> None:
        """A file is about to be offered: what was signalled before counts no more."""
        self._signalled = False

    def refuse(self, priority: Priority) -> None:
        """It was refused: there is no room for files of that priority, or less urgent ones."""
        self.refused = priority
        if self._signalled:  # called before it could see the above
            self.signal()

    def note_claim(self, now: float) -> None:
        """Files were claimed."""
        self._claimed_at = now
