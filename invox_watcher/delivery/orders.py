"""Carries out what commands ask of deliveries: send some again, or give up what a target is owed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from invox_watcher.errors import FolderError, JournalError
from invox_watcher.events import Event, log
from invox_watcher.files import complete_order, placed_orders
from invox_watcher.journal import Deliveries

SEND_AGAIN, GIVE_UP = "send_again", "give_up"
_POLL_SECONDS = 1.0


class Orders:
    """The orders in one state directory; `run` is the body of a thread."""

    def __init__(self, directory: Path, deliveries: Deliveries, *, wake: Callable[[], None]) -> None:
        """`wake` is called when something may have to be sent."""
        self._directory = directory
        self._deliveries = deliveries
        self._wake = wake
        self._undeleted: set[str] = set()  # what was carried out, and is still there

    def run(self, stop: threading.Event) -> None:
        """Carry out what was asked, and look for more, until `stop` is set."""
        while not stop.is_set():
            with contextlib.suppress(FolderError, JournalError):  # tried again; their monitors report it
                self.carry_out()
            stop.wait(_POLL_SECONDS)

    def carry_out(self) -> None:
        """Carry out everything that was asked so far.

        Raises:
            FolderError, JournalError: something could not be; it still is asked for.
        """
        for name, order in placed_orders(self._directory):
            if name not in self._undeleted:
                self._do(name, order)
                self._wake()
            if complete_order(self._directory, name):
                self._undeleted.discard(name)
            else:
                self._undeleted.add(name)

    def _do(self, name: str, order: Mapping[str, Any]) -> None:
        match order:
            case {"do": "send_again", "jobs": list(jobs), "target": str(target), "at": str(at)} if (
                all(map(_is_plain, (*jobs, target))) and (asked_at := _time(at)) is not None
            ):
                self._deliveries.send_again(jobs, target, asked_at)
            case {"do": "give_up", "target": str(target)} if _is_plain(target):
                if count := self._deliveries.give_up(target):
                    log.warning(Event.DELIVERIES_GIVEN_UP, target=target, count=count)
            case _:
                log.warning(Event.ORDER_DISCARDED, order=name)


def _is_plain(value: object) -> bool:
    """Whether it is text as all our names are; a lone surrogate, for one, can't be put into the journal."""
    return isinstance(value, str) and value.isascii()


def _time(text: str) -> datetime | None:
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(text)
    return None
