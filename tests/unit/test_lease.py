"""The lease of a host of several: no job is taken and no byte sent once the others may have taken over."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from invox_watcher.errors import JournalError
from invox_watcher.job import Job, State
from invox_watcher.processing.lanes import Clock, LocalLane
from invox_watcher.processing.lease import Lease, LeasedLane
from invox_watcher.recording import FileIdentity
from invox_watcher.times import utc_now
from tests.kit.clock import ManualClock


@dataclass
class FewSlots:
    """So many at once."""

    limit: int
    taken: set[str] = field(default_factory=set)
    asked: int = 0

    def take(self, key: str) -> bool:
        self.asked += 1
        if key not in self.taken and len(self.taken) >= self.limit:
            return False
        self.taken.add(key)
        return True

    def free(self, key: str) -> None:
        self.taken.discard(key)


def job(job_id: str) -> Job:
    return Job(job_id, State.CLAIMED, f"{job_id}.wav", FileIdentity(1, 2, 3, 4), utc_now())


@pytest.mark.parametrize(
    ("renewed_at", "answered_at", "now", "valid"),
    [
        (None, None, 100, False),  # it has never been heard of
        (100, 100, 105.9, True),
        (100, 100, 106.1, False),  # well before the others act, after ten seconds
        (100, 105, 106.1, False),  # it counts from the question, not from the answer
        (104, 104, 106.1, True),
    ],
)
def test_a_lease_ends_before_the_others_act(
    renewed_at: float | None, answered_at: float | None, now: float, valid: bool
) -> None:
    time = ManualClock()
    lease = Lease(10, clock=time)
    if renewed_at is not None and answered_at is not None:
        time.now = renewed_at
        asked_at = lease.now()
        time.now = answered_at
        lease.renew(asked_at)
    time.now = now
    assert lease.is_valid is valid
    if not valid:
        with pytest.raises(JournalError, match="No heartbeat of this host"):
            lease.require()


def test_a_host_that_was_taken_over_has_no_lease() -> None:
    lease = Lease(10, clock=ManualClock())
    lease.renew(lease.now())
    lease.revoke()
    assert not lease.is_valid


def test_no_job_is_taken_while_the_lease_has_expired() -> None:
    time = ManualClock()
    lease = Lease(10, clock=time)
    lane = LeasedLane(LocalLane(Clock(), "polls"), lease)
    lease.renew(lease.now())
    lane.put(job("a"), 0, held_back=False)
    lane.put(job("b"), 0, held_back=False)
    taken = lane.take()
    assert taken is not None
    assert taken.id == "a"
    assert lane.may_go_on(taken)
    time.now += 7
    assert not lane.may_go_on(taken)
    assert lane.silent_seconds == 0
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lane.take)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        lane.close()
        assert waiting.result(5) is None
    assert list(lane.due()) == ["b"]


def test_a_slot_is_had_until_the_thread_comes_for_the_next_job() -> None:
    lease, slots = Lease(10), FewSlots(1)
    lease.renew(lease.now())
    first = LeasedLane(LocalLane(Clock(), "uploads"), lease, slots)
    second = LeasedLane(LocalLane(Clock(), "uploads"), lease, slots)
    first.put(job("a"), 0, held_back=False)
    second.put(job("b"), 0, held_back=False)
    assert first.take() is not None
    assert slots.taken == {"a"}
    first.close()
    assert first.take() is None
    taken = second.take()
    assert taken is not None
    assert slots.taken == {taken.id} == {"b"}


def test_while_others_have_all_slots_they_are_asked_for_now_and_then() -> None:
    """However many jobs wait for one: each question is a write in the database."""
    lease, slots = Lease(10), FewSlots(0)
    lease.renew(lease.now())
    lane = LeasedLane(LocalLane(Clock(), "uploads"), lease, slots)
    for number in range(100):
        lane.put(job(f"{number}"), 0, held_back=False)
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lane.take)
        with pytest.raises(TimeoutError):
            waiting.result(1)
        lane.close()
        assert waiting.result(5) is None
    assert 2 <= slots.asked <= 1 + (time.monotonic() - began) / 0.2
    assert len(lane.due()) == 100


def test_what_is_sent_ends_with_the_lease() -> None:
    from invox_watcher.invox.client import _Guarded

    time = ManualClock()
    lease = Lease(10, clock=time)
    lease.renew(lease.now())
    body = _Guarded(io.BytesIO(b"sound"), lease.require)
    assert body.read(2) == b"so"
    time.now += 7
    with pytest.raises(JournalError):
        body.read(2)
