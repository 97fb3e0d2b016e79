"""What leaves for targets: one row for each job and target, written with the job's end.

A row is owed until its target has confirmed it, has refused it for good, or an operator has given it up.
Every write names the attempt that it is about, so that of two attempts of the same delivery one alone counts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from invox_watcher.job import Fault
from invox_watcher.journal.database import Database
from invox_watcher.journal.tables import (
    OWED,
    DeliveryState,
    decode_fault,
    encode_fault,
    encode_time,
    placeholders,
)
from invox_watcher.times import utc_now

_COLUMNS = "job_id, target, state, attempts, priority, queued_at, receipt, fault"
_SELECT = f"SELECT {_COLUMNS} FROM deliveries"
# One that failed comes after all that were attempted less often: a single bad one holds up no other.
_NEXT = f"{_SELECT} WHERE target = ? AND {OWED} ORDER BY priority, attempts, rowid LIMIT 1"
_NEXT_IN_ORDER = f"{_SELECT} WHERE target = ? AND {OWED} ORDER BY rowid LIMIT 1"
_OF_JOB = f"{_SELECT} WHERE job_id = ? ORDER BY target"
_OWED = f"{_SELECT} WHERE {OWED} ORDER BY target, rowid LIMIT ?"
_FAILED = f"{_SELECT} WHERE state = 'failed' ORDER BY target, rowid LIMIT ?"
_COUNT_OWED = f"""
    SELECT target, count(*), sum(state = 'uncertain'), min(queued_at) FROM deliveries WHERE {OWED}
    GROUP BY target"""
_COUNT_FAILED = "SELECT target, count(*) FROM deliveries WHERE state = 'failed' GROUP BY target"
_SETTLE = f"""
    UPDATE deliveries SET state = ?, attempts = attempts + 1, receipt = ?, fault = ?
    WHERE job_id = ? AND target = ? AND attempts = ? AND {OWED}"""
_ADD = """
    INSERT INTO deliveries (job_id, target, state, attempts, priority, queued_at)
    VALUES (?, ?, 'due', 0, ?, ?)
    ON CONFLICT (job_id, target) DO UPDATE SET state = 'due', attempts = 0, queued_at = excluded.queued_at,
    fault = NULL WHERE deliveries.state IN ('failed', 'cancelled', 'sent')"""
_GIVE_UP = f"UPDATE deliveries SET state = 'cancelled' WHERE target = ? AND (state = 'failed' OR {OWED})"


@dataclass(frozen=True)
class Receipt:
    """What a target said of a delivery."""

    at: str  # as RFC 3339
    text: str  # "250 2.0.0 Ok: queued", "ended with status 0"
    output: str = ""  # what a command printed; may contain words, and is deleted with them


@dataclass(frozen=True)
class QueuedDelivery:
    """What left, or has to leave, for one target."""

    job_id: str
    target: str
    state: DeliveryState
    attempts: int
    priority: int  # the least first
    queued_at: datetime | None
    receipt: Receipt | None  # of the last attempt; None before the first, or after its words were deleted
    fault: Fault | None  # why the last attempt did not work


@dataclass(frozen=True)
class TargetBacklog:
    """How much there is for one target."""

    owed: int = 0
    uncertain: int = 0  # of those: sent, and perhaps received
    failed: int = 0
    oldest_at: datetime | None = None  # of what is owed


class Deliveries:
    """The part of a journal that is about targets; each call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---- for the thread of a target ----------------------------------------------------------------------

    def next(self, target: str, *, ordered: bool) -> QueuedDelivery | None:
        """What is to be sent to `target` next; with `ordered`, what was done first."""
        rows = self._database.read(_NEXT_IN_ORDER if ordered else _NEXT, (target,))
        return _delivery(rows[0]) if rows else None

    def sent(self, delivery: QueuedDelivery, receipt: Receipt) -> bool:
        """It was received. False if another attempt has ended meanwhile, or it was given up."""
        return self._settle(delivery, DeliveryState.SENT, receipt, None)

    def postpone(self, delivery: QueuedDelivery, fault: Fault, *, uncertain: bool) -> bool:
        """It is tried again. `uncertain`: it may have been received. False as for `sent`."""
        again = uncertain or delivery.state is DeliveryState.UNCERTAIN  # one that never came does not tell
        return self._settle(delivery, DeliveryState.UNCERTAIN if again else DeliveryState.DUE, None, fault)

    def fail(self, delivery: QueuedDelivery, fault: Fault, receipt: Receipt | None) -> bool:
        """It has failed for good, unless an operator sends it again. False as for `sent`."""
        return self._settle(delivery, DeliveryState.FAILED, receipt, fault)

    def _settle(
        self, delivery: QueuedDelivery, state: DeliveryState, receipt: Receipt | None, fault: Fault | None
    ) -> bool:
        values = (
            state,
            None if receipt is None else json.dumps(dataclasses.asdict(receipt)),
            None if fault is None else encode_fault(fault),
            delivery.job_id,
            delivery.target,
            delivery.attempts,
        )
        return self._database.write(lambda connection: connection.execute(_SETTLE, values).rowcount) == 1

    # ---- for people --------------------------------------------------------------------------------------

    def of(self, job_id: str) -> list[QueuedDelivery]:
        """All of one job, by target."""
        return self._deliveries(_OF_JOB, (job_id,))

    def owed(self, *, limit: int) -> list[QueuedDelivery]:
        """What has not arrived yet, by target."""
        return self._deliveries(_OWED, (limit,))

    def failed(self, *, limit: int) -> list[QueuedDelivery]:
        """What will not arrive unless it is sent again, by target."""
        return self._deliveries(_FAILED, (limit,))

    def backlogs(self) -> dict[str, TargetBacklog]:
        """How much there is for each target for which there is anything."""
        found = {
            target: TargetBacklog(owed, uncertain, 0, datetime.fromisoformat(oldest) if oldest else None)
            for target, owed, uncertain, oldest in self._database.read(_COUNT_OWED)
        }
        for target, failed in self._database.read(_COUNT_FAILED):
            found[target] = dataclasses.replace(found.get(target, TargetBacklog()), failed=failed)
        return found

    def send_again(self, job_id: str, target: str, *, priority: int = 0) -> None:
        """Owe `target` this job once more, whatever happened before."""
        values = (job_id, target, priority, encode_time(utc_now()))
        self._database.write(lambda connection: connection.execute(_ADD, values))

    def give_up(self, target: str) -> int:
        """Nothing more is sent to `target` of what it is owed; return how much that was."""
        return self._database.write(lambda connection: connection.execute(_GIVE_UP, (target,)).rowcount)

    def give_up_unless(self, prefix: str, wanted: Collection[str]) -> None:
        """The same for every target whose name begins with `prefix`, unless it is one of `wanted`."""
        query = f"{_SELECT} WHERE {OWED} AND target NOT IN ({placeholders(wanted)}) GROUP BY target"
        for delivery in self._deliveries(query, tuple(wanted)):
            if delivery.target.startswith(prefix):
                self.give_up(delivery.target)

    def _deliveries(self, query: str, values: tuple[Any, ...]) -> list[QueuedDelivery]:
        return [_delivery(row) for row in self._database.read(query, values)]


def _delivery(row: Any) -> QueuedDelivery:
    job_id, target, state, attempts, priority, queued_at, receipt, fault = row
    return QueuedDelivery(
        job_id,
        target,
        DeliveryState(state),
        attempts,
        priority,
        None if queued_at is None else datetime.fromisoformat(queued_at),
        None if receipt is None else Receipt(**json.loads(receipt)),
        None if fault is None else decode_fault(fault),
    )
