"""What leaves for targets: one row for each job and target, written with the job's end.

A row is owed until its target has confirmed it, has refused it for good, or an operator has given it up.
Every write names the attempt that it is about, so that of two attempts of the same delivery one alone counts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from invox_watcher.job import Fault, Job
from invox_watcher.journal.backend import Connection
from invox_watcher.journal.database import Database
from invox_watcher.journal.tables import (
    ENDED,
    OWED,
    TRIED_SECONDS,
    DeliveryState,
    decode_fault,
    encode_fault,
    encode_time,
    placeholders,
)
from invox_watcher.priority import Priority

_COLUMNS = (
    "job_id, target, state, attempts, priority, queued_at, receipt, fault, "
    f"{TRIED_SECONDS.replace('?', 'target')} - tried_from"
)
_SELECT = f"SELECT {_COLUMNS} FROM deliveries"
# One that failed comes after all that were attempted less often: a single bad one holds up no other.
_NEXT = f"{_SELECT} WHERE target = ? AND {OWED} ORDER BY priority, attempts, rowid LIMIT 1"
_NEXT_IN_ORDER = f"{_SELECT} WHERE target = ? AND {OWED} ORDER BY rowid LIMIT 1"
_OF_JOB = f"{_SELECT} WHERE job_id = ? ORDER BY target"
_OWED = f"{_SELECT} WHERE {OWED} ORDER BY target, rowid LIMIT ?"
_FAILED = f"{_SELECT} WHERE state = 'failed' ORDER BY target, rowid LIMIT ?"
_OVERDUE = f"""
    {_SELECT} WHERE target = ? AND {OWED} AND attempts > 0 AND {TRIED_SECONDS} - tried_from > ?
    ORDER BY rowid LIMIT 100"""
_COUNT_OWED = f"""
    SELECT target, count(*), sum(CASE WHEN state = 'uncertain' THEN 1 ELSE 0 END), min(queued_at)
    FROM deliveries WHERE {OWED} GROUP BY target"""
_TARGETS_OWED = f"SELECT DISTINCT target FROM deliveries WHERE {OWED}"
_COUNT_FAILED = "SELECT target, count(*) FROM deliveries WHERE state = 'failed' GROUP BY target"
# The same for those who may see only some profiles.
_OF_PROFILES = "EXISTS (SELECT 1 FROM jobs WHERE id = deliveries.job_id AND profile IN ({profiles}))"
_COUNT_OWED_OF = _COUNT_OWED.replace("GROUP", f"AND {_OF_PROFILES} GROUP")
_COUNT_FAILED_OF = _COUNT_FAILED.replace("GROUP", f"AND {_OF_PROFILES} GROUP")
_FAILED_LATELY = f"{_SELECT} WHERE state = 'failed' ORDER BY +rowid DESC LIMIT ?"
_FAILED_LATELY_OF = _FAILED_LATELY.replace("ORDER", f"AND {_OF_PROFILES} ORDER")
_SETTLE = f"""
    UPDATE deliveries SET state = ?, attempts = ?, receipt = ?, fault = ?
    WHERE job_id = ? AND target = ? AND attempts = ? AND {OWED}"""
_ADD_FIRST = (
    "INSERT INTO deliveries (job_id, target, state, attempts, priority, queued_at, tried_from) "
    f"VALUES (?, ?, 'due', 0, ?, ?, {TRIED_SECONDS})"
)
# `queued_at` tells a repeat: an order that was carried out already changes nothing.
_ADD = f"""
    INSERT INTO deliveries (job_id, target, state, attempts, priority, queued_at, tried_from)
    SELECT id, ?, 'due', 0, 0, ?, {TRIED_SECONDS} FROM jobs WHERE id = ? AND {ENDED}
    ON CONFLICT (job_id, target) DO UPDATE SET state = 'due', attempts = 0, queued_at = excluded.queued_at,
    tried_from = excluded.tried_from, fault = NULL
    WHERE deliveries.state IN ('failed', 'cancelled', 'sent')
    AND (deliveries.queued_at IS NULL OR deliveries.queued_at <> excluded.queued_at)"""
_TRY_LONGER = """
    INSERT INTO targets VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET tried_seconds = targets.tried_seconds + excluded.tried_seconds"""
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
    tried_seconds: float  # how long the target has been tried in vain meanwhile, not by the wall clock


@dataclass(frozen=True)
class TargetBacklog:
    """How much there is for one target."""

    owed: int = 0
    uncertain: int = 0  # of those: sent, and perhaps received
    failed: int = 0
    oldest_at: datetime | None = None  # of what is owed


def add(connection: Connection, job: Job, targets: Iterable[str], now: datetime) -> None:
    """The job has ended: from now on it is owed to these targets."""
    priority = Priority.ROUTINE if job.plan is None else job.plan.priority
    owed = [(job.id, name, priority, encode_time(now), name) for name in targets]
    connection.executemany(_ADD_FIRST, owed)


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

    def postpone(
        self, delivery: QueuedDelivery, fault: Fault, *, uncertain: bool, tried_seconds: float = 0.0
    ) -> bool:
        """It is tried again. `uncertain`: it may have been received. False as for `sent`.

        `tried_seconds`: for how much longer its target was tried in vain.
        """
        again = uncertain or delivery.state is DeliveryState.UNCERTAIN  # one that never came does not tell
        state = DeliveryState.UNCERTAIN if again else DeliveryState.DUE
        return self._settle(delivery, state, None, fault, tried_seconds)

    def fail(self, delivery: QueuedDelivery, fault: Fault, receipt: Receipt | None) -> bool:
        """It has failed for good, unless an operator sends it again. False as for `sent`."""
        return self._settle(delivery, DeliveryState.FAILED, receipt, fault)

    def overdue(self, target: str, deadline_seconds: float) -> list[QueuedDelivery]:
        """Some of what `target` did not take although it was tried for longer than this."""
        return self._deliveries(_OVERDUE, (target, target, deadline_seconds))

    def expire(self, delivery: QueuedDelivery) -> bool:
        """It has failed because of its last fault, without another attempt. False as for `sent`."""
        return self._settle(delivery, DeliveryState.FAILED, None, delivery.fault, attempted=False)

    def _settle(
        self,
        delivery: QueuedDelivery,
        state: DeliveryState,
        receipt: Receipt | None,
        fault: Fault | None,
        tried_seconds: float = 0.0,
        *,
        attempted: bool = True,
    ) -> bool:
        values = (
            state,
            delivery.attempts + attempted,
            None if receipt is None else json.dumps(dataclasses.asdict(receipt)),
            None if fault is None else encode_fault(fault),
            delivery.job_id,
            delivery.target,
            delivery.attempts,
        )

        def write(connection: Connection) -> int:
            if tried_seconds:
                connection.execute(_TRY_LONGER, (delivery.target, tried_seconds))
            return connection.execute(_SETTLE, values).rowcount

        return self._database.write(write) == 1

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

    def failed_lately(self, profiles: Collection[str] | None, *, limit: int) -> list[QueuedDelivery]:
        """What was refused for good, of recordings with these profiles, None for all; the newest first."""
        if profiles is None:
            return self._deliveries(_FAILED_LATELY, (limit,))
        query = _FAILED_LATELY_OF.format(profiles=placeholders(profiles))
        return self._deliveries(query, (*profiles, limit))

    def backlogs(self, profiles: Collection[str] | None = None) -> dict[str, TargetBacklog]:
        """How much there is for each target for which there is anything; of these profiles, None for all."""
        owed, failed, values = _COUNT_OWED, _COUNT_FAILED, tuple(profiles or ())
        if profiles is not None:
            names = placeholders(profiles)
            owed, failed = (text.format(profiles=names) for text in (_COUNT_OWED_OF, _COUNT_FAILED_OF))
        found = {
            target: TargetBacklog(count, uncertain, 0, datetime.fromisoformat(oldest) if oldest else None)
            for target, count, uncertain, oldest in self._database.read(owed, values)
        }
        for target, count in self._database.read(failed, values):
            found[target] = dataclasses.replace(found.get(target, TargetBacklog()), failed=count)
        return found

    def send_again(self, job_ids: Iterable[str], target: str, asked_at: datetime) -> int:
        """Owe `target` these jobs once more, whatever happened before; return how many that are.

        Jobs that have not ended, or are not known, are left out, and so are those for which this was asked at
        the same time before: asked twice, it is done once.
        """
        rows = [(target, encode_time(asked_at), target, job_id) for job_id in job_ids]
        return self._database.write(lambda connection: connection.executemany(_ADD, rows).rowcount)

    def give_up(self, target: str) -> int:
        """Nothing more is sent to `target` of what it is owed; return how much that was."""
        return self._database.write(lambda connection: connection.execute(_GIVE_UP, (target,)).rowcount)

    def give_up_unless(self, prefix: str, wanted: Collection[str]) -> None:
        """The same for every target whose name begins with `prefix`, unless it is one of `wanted`."""
        query = f"{_TARGETS_OWED} AND target NOT IN ({placeholders(wanted)})"
        for (target,) in self._database.read(query, tuple(wanted)):
            if target.startswith(prefix):
                self.give_up(target)

    def _deliveries(self, query: str, values: tuple[Any, ...]) -> list[QueuedDelivery]:
        return [_delivery(row) for row in self._database.read(query, values)]


def _delivery(row: Any) -> QueuedDelivery:
    job_id, target, state, attempts, priority, queued_at, receipt, fault, tried_seconds = row
    return QueuedDelivery(
        job_id,
        target,
        DeliveryState(state),
        attempts,
        priority,
        None if queued_at is None else datetime.fromisoformat(queued_at),
        None if receipt is None else Receipt(**json.loads(receipt)),
        None if fault is None else decode_fault(fault),
        tried_seconds,
    )
