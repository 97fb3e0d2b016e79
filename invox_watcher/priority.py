"""What goes first: the `Priority` of a recording, and `Turns`, by which nothing waits forever."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum

# Of so many turns in a row, one belongs to what has waited longest, whatever its priority.
_MOST_PASSED_OVER = 4


class Priority(IntEnum):
    """How urgent a recording is; the lowest number goes first."""

    STAT = 0
    URGENT = 1
    ROUTINE = 2


class Turns:
    """Whose turn it is: the most urgent, but after four of those it is that of what has waited longest.

    So a single urgent recording always goes next, and a flood of them takes four turns of five.
    """

    def __init__(self) -> None:
        self._passed_over = 0

    def next(self, waiting: Sequence[float | None]) -> int | None:
        """The queue whose turn it is; None if all are empty.

        `waiting` has for each queue, the most urgent first, since when its first entry has waited; None if
        it is empty. Only what this returns takes a turn.
        """
        waits = [(since, number) for number, since in enumerate(waiting) if since is not None]
        if not waits:
            return None
        most_urgent, longest = waits[0][1], min(waits)[1]
        if most_urgent == longest or self._passed_over >= _MOST_PASSED_OVER:
            self._passed_over = 0
            return longest
        self._passed_over += 1
        return most_urgent


def earliest(times: Iterable[float | None]) -> float | None:
    """The earliest of these times; None if there is none."""
    return min((time for time in times if time is not None), default=None)
