"""May a recording go now, and if not, why and since when? Whatever can hold recordings up is a gate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from invox_watcher.errors import InvoxError, JournalError, Reason
from invox_watcher.events import Event, log
from invox_watcher.heartbeat import beat
from invox_watcher.journal import Journal


class Gate(Protocol):
    """Something that may hold recordings up."""

    def closed(self) -> Reason | None:
        """Why nothing may pass now; None while it is open. From any thread, without waiting."""


@dataclass(frozen=True)
class FaultGate:
    """Closed while `fault` returns an error."""

    fault: Callable[[], InvoxError | None]

    def closed(self) -> Reason | None:
        """Its reason."""
        error = self.fault()
        return None if error is None else error.reason


def reasons(gates: Iterable[Gate]) -> list[Reason]:
    """Why nothing may pass now, one reason for each code; empty while all are open."""
    found = {reason.code: reason for gate in gates if (reason := gate.closed()) is not None}
    return list(found.values())


class JournalMonitor:
    """A gate that is closed while the journal does not answer; `watch` runs in a thread of its own."""

    def __init__(self, journal: Journal, check_seconds: float) -> None:
        self._journal = journal
        self._check_seconds = check_seconds
        self._fault: JournalError | None = None
        self._damage: JournalError | None = None

    def closed(self) -> Reason | None:
        """Why the journal can't be used, by the last check of `watch`; None if it can. Never blocks."""
        fault = self._damage or self._fault  # `watch` may change it meanwhile
        return fault.reason if fault is not None else None

    def watch(self, stop: threading.Event) -> None:
        """Check again and again until `stop` is set: a recording may only be taken if the journal answers."""
        while not stop.is_set():
            self.check()
            stop.wait(self._check_seconds)

    def verify(self, stop: threading.Event) -> None:
        """Read all of a large journal, slowly. If it is damaged, it stays closed until the next start."""
        try:
            self._journal.verify_in_steps(stop)
        except JournalError as error:
            self._damage = error
            log.error(Event.STORAGE_ERROR, code=error.code, error=error.message, hint=error.hint)

    def check(self) -> None:
        """Ask the journal once, and log when it stops or starts answering."""
        before, self._fault = self._fault, self._ask()
        if self._fault is None:
            beat()
            if before is not None:
                log.info(Event.STORAGE_RECOVERED)
        elif before is None:
            fault = self._fault
            log.error(Event.STORAGE_ERROR, code=fault.code, error=fault.message, hint=fault.hint)

    def _ask(self) -> JournalError | None:
        try:
            self._journal.check()
        except JournalError as error:
            return error
        return None
