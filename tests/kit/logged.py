"""What is logged in a test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from invox_watcher.events import log


@contextmanager
def captured() -> Iterator[list[dict[str, Any]]]:
    """The events of the block with their fields; nothing is written."""
    events: list[dict[str, Any]] = []
    log.write_to(lambda _level, event, fields: events.append({"event": event} | dict(fields)))
    try:
        yield events
    finally:
        log.write_to(None)
