"""What is offered to the intake: claimed together, held while there is no room, and offered again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from invox_watcher.errors import InvoxError, StorageError
from invox_watcher.inbox.offers import Offers
from invox_watcher.inbox.reports import Reports
from invox_watcher.inbox.room import Room
from invox_watcher.inbox.screening import Candidate
from invox_watcher.inbox.stability import Snapshot, Stage, Tracker, Waits
from invox_watcher.priority import Priority
from invox_watcher.recording import FileIdentity


class Intake:
    """Takes what it is offered, until it `is_full`; some of it can't be moved."""

    def __init__(self) -> None:
        self.is_full = False
        self.on_offer: Callable[[], None] = lambda: None
        self.immovable: set[str] = set()
        self.taken: list[str] = []
        self.claimed: list[list[str]] = []

    def take(self, candidate: Candidate) -> bool:
        self.on_offer()
        if not self.is_full:
            self.taken.append(candidate.path)
        return not self.is_full

    def claim_taken(self) -> dict[str, OSError | InvoxError]:
        self.claimed.append(self.taken)
        self.taken = []
        return {path: StorageError("moving it") for path in self.claimed[-1] if path in self.immovable}


class Office:
    """Offers with all that they touch."""

    def __init__(self) -> None:
        self.now = 100.0
        self.notified = 0  # how often the room has called `notify`
        self.tracker, self.intake = Tracker(Waits(0, 0, 0, 100)), Intake()
        self.room = Room(self._notify)
        self.offers = Offers(self.tracker, Reports(), self.room, lambda: self.now)

    def _notify(self) -> None:
        self.notified += 1

    def find(self, path: str, priority: Priority = Priority.ROUTINE) -> None:
        self.tracker.see(path, Snapshot(1, 1, 1, 1, 1), self.now)
        self.tracker.queue(path, priority)

    def offer(self, path: str, priority: Priority = Priority.ROUTINE, size_bytes: int = 1000) -> None:
        self.find(path, priority)
        assert self.tracker.pop_queued() == path
        identity = FileIdentity(1, 1, size_bytes, 1)
        candidate = Candidate(path, identity, "WAV (PCM)", "audio/wav", duration_seconds=1.0, refusal=None)
        self.offers.offer(candidate, self.intake)


@pytest.fixture
def office() -> Office:
    return Office()


def test_an_urgent_file_is_claimed_before_a_less_urgent_one_is_judged(office: Office) -> None:
    for priority in Priority:
        office.find(priority.name, priority)
        assert office.tracker.pop_queued() == priority.name
        office.offers.claim_before(priority.name, office.intake)
    assert office.intake.claimed == []
    office.offer("a", Priority.URGENT)
    claimed = []
    for priority in Priority:
        office.offers.claim_before(priority.name, office.intake)
        claimed.append(len(office.intake.claimed))
    assert claimed == [0, 0, 1]


@pytest.mark.parametrize(("size_bytes", "together"), [(1000, 32), (40 << 20, 2), (64 << 20, 1)])
def test_many_small_files_or_a_few_large_ones_are_claimed_together(
    office: Office, size_bytes: int, together: int
) -> None:
    for number in range(together):
        assert office.intake.claimed == []
        office.offer(str(number), size_bytes=size_bytes)
    assert [len(batch) for batch in office.intake.claimed] == [together]


def test_what_was_claimed_is_forgotten_and_the_rest_is_retried(office: Office) -> None:
    office.intake.immovable = {"b"}
    for path in ("a", "b"):
        office.offer(path)
    office.offers.claim(office.intake)
    office.offers.claim(office.intake)
    assert office.intake.claimed == [["a", "b"]]
    assert not office.tracker.knows("a")
    assert office.tracker.count(Stage.ERROR) == 1


def test_what_is_refused_waits_until_there_is_room(office: Office) -> None:
    office.room.signal()  # nothing waits for it
    office.offer("a")
    office.offers.claim(office.intake)
    office.intake.is_full, office.intake.on_offer = True, lambda: office.find("c")
    office.offer("b")
    assert (office.room.refused, office.tracker.count(Stage.HELD), office.notified) == (
        Priority.ROUTINE,
        1,
        0,
    )
    for _ in range(3):
        office.room.signal()
    assert office.notified == 1, "once is enough"
    office.room.hear()
    due = office.room.due
    assert due is not None
    assert 100 < due < 101, "a moment after the last claim, so that more of them come together"
    office.room.update(100)
    assert office.room.refused is Priority.ROUTINE
    office.room.update(due)
    assert (office.room.refused, office.room.due) == (None, None)
    assert [office.tracker.pop_queued() for _ in range(2)] == ["b", "c"]


def test_room_that_comes_in_the_middle_of_an_offer_is_not_missed(office: Office) -> None:
    office.intake.is_full, office.intake.on_offer = True, office.room.signal
    office.offer("a")
    assert office.notified == 1


def test_during_a_long_scan_room_is_seen_without_its_signal(office: Office) -> None:
    office.intake.is_full = True
    office.offer("a")
    office.room.signal()
    office.room.update(office.now)
    assert office.room.refused is None
    office.room.hear()  # too late
    assert office.room.due is None
