"""May a recording go now, and if not, why? Everything that can hold the intake up answers by one protocol."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from invox_watcher.errors import Reason


class Gate(Protocol):
    """Something that may hold recordings up."""

    def closed(self) -> Reason | None:
        """Why nothing may pass now; None while it is open. From any thread, without waiting."""


def reasons(gates: Iterable[Gate]) -> list[Reason]:
    """Why nothing may pass now, one reason for each code; empty while all are open."""
    found = {reason.code: reason for gate in gates if (reason := gate.closed()) is not None}
    return list(found.values())
