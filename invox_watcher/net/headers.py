"""Times in HTTP headers: `Retry-After`."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after_seconds(header: str | None, *, now: datetime, max_seconds: float) -> float | None:
    """The delay in a `Retry-After` header (RFC 9110 §10.2.3: seconds or a date), clamped to 0…max_seconds.

    None if there is no header or it can't be parsed: the caller's own backoff then applies.
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            when = parsedate_to_datetime(header)
        except (ValueError, OverflowError):
            return None
        seconds = ((when if when.tzinfo else when.replace(tzinfo=UTC)) - now).total_seconds()
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), max_seconds)
