"""What goes first: whose turn it is, and the lanes that go by it."""

from __future__ import annotations

import queue
import threading
from datetime import UTC, datetime

import pytest

from invox_watcher.inbox import Snapshot, Waits
from invox_watcher.inbox.stability import Tracker
from invox_watcher.job import Job, State
from invox_watcher.plan import Plan
from invox_watcher.priority import Priority, Turns
from invox_watcher.processing.lanes import Clock, LocalLane
from invox_watcher.recording import FileIdentity


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        ((None, None, None), None),
        ((None, None, 1.0), 2),
        ((9.0, None, 1.0), 0),  # the urgent one goes first, however long the other has waited
        ((None, 5.0, 1.0), 1),
        ((1.0, 5.0, 9.0), 0),
    ],
)
def test_the_most_urgent_goes_next(waiting: tuple[float | None, ...], expected: int | None) -> None:
    assert Turns().next(waiting) == expected


@pytest.mark.parametrize(
    ("waiting", "turns"),
    [
        ((9.0, None, 1.0), [0, 0, 0, 0, 2] * 3),  # a flood overtakes four times of five
        ((9.0, 5.0, 1.0), [0, 0, 0, 0, 2] * 3),
        ((1.0, None, 9.0), [0] * 15),  # who has waited longest goes first anyway
        ((None, 9.0, 1.0), [1, 1, 1, 1, 2] * 3),
    ],
)
def test_nothing_is_overtaken_for_ever(waiting: tuple[float | None, ...], turns: list[int]) -> None:
    turn = Turns()
    assert [turn.next(waiting) for _ in turns] == turns


class Time(Clock):
    now = 0.0

    def __call__(self) -> float:
        return self.now


def job(name: str, priority: Priority | None = None) -> Job:
    plan = None if priority is None else Plan(name, (), priority=priority)
    return Job(
        name, State.IDENTIFIED, name, FileIdentity(1, 1, 1, 1), datetime.now(UTC), plan=plan,
        request_id=f"r-{name}",
    )  # fmt: skip


def taken(lane: LocalLane, count: int) -> str:
    return " ".join(found.id for _ in range(count) if (found := lane.take()))


def test_behind_500_routine_jobs_an_urgent_one_is_next() -> None:
    clock = Time()
    lane = LocalLane(clock, "uploads")
    for number in range(500):
        lane.put(job(f"r{number}"), number / 100, held_back=False)
    clock.now = 7200.0
    assert taken(lane, 2) == "r0 r1"
    lane.put(job("urgent", Priority.URGENT), 0, held_back=False)
    lane.put(job("stat", Priority.STAT), 0, held_back=False)
    assert taken(lane, 4) == "stat urgent r2 r3"


def test_a_flood_of_urgent_jobs_starves_no_routine_one() -> None:
    clock = Time()
    lane = LocalLane(clock, "uploads")
    for number in range(3):
        lane.put(job(f"r{number}"), 0, held_back=False)
    order = []
    for number in range(15):
        clock.now += 1
        lane.put(job(f"s{number}", Priority.STAT), 0, held_back=False)
        order.append(taken(lane, 1))
    assert [order.index(f"r{number}") for number in range(3)] == [4, 9, 14]


def test_what_is_not_due_yet_overtakes_nothing() -> None:
    clock = Time()
    lane = LocalLane(clock, "uploads")
    lane.put(job("stat", Priority.STAT), 10, held_back=False)
    lane.put(job("held", Priority.STAT), 20, held_back=True)
    lane.put(job("routine"), 0, held_back=False)
    assert taken(lane, 1) == "routine"
    assert lane.due() == {"stat": 10, "held": 20}
    lane.release()
    assert taken(lane, 1) == "held"
    assert lane.expedite("r-stat")
    assert taken(lane, 1) == "stat"


def test_a_thread_stays_with_its_job_unless_a_more_urgent_one_is_due() -> None:
    clock = Time()
    lane = LocalLane(clock, "uploads")
    lane.put(job("urgent", Priority.URGENT), 10, held_back=False)
    lane.put(job("routine"), 0, held_back=False)
    assert lane.may_go_on(job("another"))
    clock.now = 10
    assert not lane.may_go_on(job("another"))
    assert lane.may_go_on(job("equal", Priority.URGENT))
    lane.close()
    assert not lane.may_go_on(job("equal", Priority.URGENT))


def test_while_one_thread_works_another_waits_for_the_next_job() -> None:
    lane = LocalLane(Clock(), "polls")
    seen: queue.SimpleQueue[str] = queue.SimpleQueue()
    over = threading.Event()

    def work() -> None:
        while (found := lane.take()) is not None:
            seen.put(found.id)
            over.wait(20)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    lane.put(job("first"), 0.2, held_back=False)  # one waits for it, the other for that one
    lane.put(job("second"), 0.4, held_back=False)
    assert [seen.get(timeout=10) for _ in range(2)] == ["first", "second"]
    over.set()
    lane.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_each_job_is_taken_once_by_many_threads() -> None:
    lane = LocalLane(Clock(), "polls")
    seen: queue.SimpleQueue[str] = queue.SimpleQueue()

    def work() -> None:
        while (found := lane.take()) is not None:
            seen.put(found.id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    jobs = [job(str(number), Priority(number % 3)) for number in range(600)]
    for number, one in enumerate(jobs):
        lane.put(one, (number % 7) / 50, held_back=number % 11 == 0)
        if number % 50 == 0:
            lane.release()
        lane.expedite(f"r-{number // 2}")
    assert sorted(seen.get(timeout=10) for _ in jobs) == sorted(one.id for one in jobs)
    assert lane.due() == {}
    lane.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_the_inbox_offers_the_urgent_first() -> None:
    tracker = Tracker(Waits(0, 0, 0, 100))
    for number, path in enumerate(["a", "b", "stat/c", "d"]):
        tracker.see(path, Snapshot(1, number, 1, 1, 1), 0.0)
        tracker.queue(path, Priority.STAT if "/" in path else Priority.ROUTINE)
    assert tracker.pop_queued() == "stat/c"
    assert tracker.pop_queued() == "a"
    tracker.hold("a", first=True)
    assert tracker.pop_queued(above=Priority.ROUTINE) is None
    tracker.see("b", Snapshot(1, 1, 2, 2, 2), 1.0)  # it has changed: no longer ready
    assert [tracker.pop_queued() for _ in range(3)] == ["a", "d", None]
