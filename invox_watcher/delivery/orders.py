"""Carries out what commands ask of deliveries: send one again, or give up what a target is owed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
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
            self._do(order)
            complete_order(self._directory, name)
            self._wake()

    def _do(self, order: Mapping[str, Any]) -> None:
        target = str(order.get("target"))
        match order.get("do"):
            case "send_again":
                self._deliveries.send_again(str(order.get("job")), target)
            case "give_up":
                count = self._deliveries.give_up(target)
                log.warning(Event.DELIVERIES_GIVEN_UP, target=target, count=count)
