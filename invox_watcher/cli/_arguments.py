"""What an argument of the command line says. Each function raises ArgumentTypeError if it says nothing."""

from __future__ import annotations

import argparse
import fnmatch
import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def text(given: str) -> str:
    """A text that is not empty."""
    if not given:
        raise argparse.ArgumentTypeError("must not be empty")
    return given


def path(given: str) -> Path:
    """The path of a file or folder."""
    return Path(text(given))


def positive(given: str) -> int:
    """A whole number above 0."""
    if not (given.isascii() and given.isdigit() and int(given) > 0):
        raise argparse.ArgumentTypeError("must be a whole number above 0")
    return int(given)


def since(given: str) -> datetime:
    """`2h` ago, a day, from its beginning, or a time as in RFC 3339; without a zone it is local."""
    day = _day(given)
    return _moment(given) if day is None else _begin_of(day)


def until(given: str) -> datetime:
    """The same, but of a day its end."""
    day = _day(given)
    return _moment(given) if day is None else _begin_of(day + timedelta(days=1))


def port(given: str) -> int:
    """A TCP port; 0 is any that is free."""
    if not (given.isascii() and given.isdigit() and int(given) < 65536):
        raise argparse.ArgumentTypeError("must be a number from 0 (any free port) to 65535")
    return int(given)


def glob(given: str) -> re.Pattern[str]:
    """What matches a name like `*.wav`."""
    return re.compile(fnmatch.translate(given))


def _day(given: str) -> date | None:
    """The local day that is meant; None if it is a time."""
    today = datetime.now().astimezone().date()
    if given in ("today", "yesterday"):
        return today if given == "today" else today - timedelta(days=1)
    try:
        return date.fromisoformat(given)
    except ValueError:
        return None


def _begin_of(day: date) -> datetime:
    return datetime.combine(day, time.min).astimezone(UTC)


def _moment(given: str) -> datetime:
    try:
        if match := re.fullmatch(r"(\d+)([smhdw])", given, re.ASCII):
            return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        return datetime.fromisoformat(given).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            "must look like 90m, 2h, 3d, today, yesterday, 2026-11-23 or 2026-11-23T18:00Z"
        ) from None
