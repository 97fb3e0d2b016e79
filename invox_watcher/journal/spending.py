"""The audio minutes of each day, reserved with the write that begins an upload: no commit of their own."""

from __future__ import annotations

from collections.abc import Callable

from invox_watcher.journal.backend import Connection
from invox_watcher.spending import OVERALL, Limits, Reservation, exceeded

SPENT = "SELECT profile, seconds FROM spending WHERE day = ?"
_ADD = (
    "INSERT INTO spending (day, profile, seconds) VALUES (?, ?, ?) "
    "ON CONFLICT (day, profile) DO UPDATE SET seconds = spending.seconds + excluded.seconds"
)
_SUBTRACT = (
    "UPDATE spending SET seconds = CASE WHEN seconds > ? THEN seconds - ? ELSE 0 END "
    "WHERE day = ? AND profile IN (?, ?)"
)

Change = Callable[[Connection], None]  # written together with a job


class MinutesUsedUpError(Exception):
    """Others were quicker: there is no room left for this reservation."""


def reserving(wanted: Reservation, limits: Limits) -> Change:
    """A change that reserves `wanted`, of its day's total and of its profile.

    Raises MinutesUsedUpError, when it is written, if it exceeds one of the limits.
    """

    def write(connection: Connection) -> None:
        spent = dict(connection.execute(SPENT, (wanted.day,)).fetchall())
        if exceeded(wanted, limits, spent):
            raise MinutesUsedUpError
        for profile in (OVERALL, wanted.profile):
            connection.execute(_ADD, (wanted.day, profile, wanted.seconds))

    return write


def releasing(reservation: Reservation) -> Change:
    """A change that gives `reservation` back: the API has certainly nothing of that upload."""
    seconds = reservation.seconds
    values = (seconds, seconds, reservation.day, OVERALL, reservation.profile)

    def write(connection: Connection) -> None:
        connection.execute(_SUBTRACT, values)

    return write
