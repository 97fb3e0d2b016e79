"""The claim: what `Intake` answers the inbox, and when the intake is closed or paused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from invox_watcher.errors import (
    DiskFullError,
    FoldersGoneError,
    InvoxError,
    JournalError,
    Reason,
    StorageError,
)
from invox_watcher.files import Folders
from invox_watcher.inbox import Candidate, Evidence, Inbox, InboxStatus
from invox_watcher.job import Job, State
from invox_watcher.plan import DEFAULT, Plan
from invox_watcher.priority import Priority
from invox_watcher.processing import Engine, Gate, Intake, Pipeline
from invox_watcher.profiles import Conditions, Profile, Profiles
from invox_watcher.recording import FileIdentity

SETTLED = InboxStatus(1, 0, 0, 0, 0, None, available=True, watching="native")
AWAY = Reason("inbox_unavailable", "The inbox can't be read.", "")
CANDIDATE = Candidate(
    path="ward 3/smith.wav",
    identity=FileIdentity(1, 2, 8044, 3),
    format="WAV (PCM)",
    mime_type="audio/wav",
    duration_seconds=0.25,
    refusal=None,
    evidence=Evidence.PROVEN,
    waited_seconds=1.5,
)

STAT = Profile(Conditions(folder="stat"), Plan("stat", ("txt",), priority=Priority.STAT))
PROFILES = [STAT]


@dataclass
class FakeInbox:
    status: InboxStatus = SETTLED
    reason: Reason | None = None
    woken: int = 0

    def closed(self) -> Reason | None:
        return self.reason

    def has_room(self) -> None:
        self.woken += 1


@dataclass
class FakeEngine:
    room_for: frozenset[Priority] = frozenset(Priority)
    capacity: int = 10
    jobs: list[Job] = field(default_factory=list)

    def has_capacity(self, priority: Priority = Priority.ROUTINE, accepted: int = 0) -> bool:
        return priority in self.room_for and accepted < self.capacity

    def add(self, job: Job) -> None:
        self.jobs.append(job)


@dataclass
class FakePipeline:
    """A pipeline whose claims end as `outcome` says."""

    outcome: bool | InvoxError = True
    claimed: list[tuple[str, str, float]] = field(default_factory=list)

    def is_taken(self, path: str) -> bool:
        return False

    def claim_all(self, wanted: Sequence[tuple[Job, float, Evidence]]) -> list[bool | InvoxError]:
        for job, waited_seconds, evidence in wanted:
            assert evidence is CANDIDATE.evidence
            if not isinstance(self.outcome, InvoxError):
                self.claimed.append((job.id, job.path, waited_seconds))
        return [self.outcome for _ in wanted]


@dataclass
class FakeFolders:
    """Folders in whose processing/ are `stranded` jobs."""

    stranded: set[str] = field(default_factory=set)
    returned: list[str] = field(default_factory=list)

    def processing_ids(self) -> list[str]:
        return sorted(self.stranded)

    def unclaim(self, job_id: str) -> list[str]:
        self.returned.append(job_id)
        return ["smith.wav"]


class Room:
    """An intake and the fakes around it."""

    def __init__(self) -> None:
        self.folders, self.pipeline, self.engine, self.inbox = (
            *(FakeFolders(), FakePipeline()),
            *(FakeEngine(), FakeInbox()),
        )
        self.stop = threading.Event()
        self.other, self.journal = FakeInbox(), FakeInbox()
        self.intake = Intake(
            cast(Folders, self.folders),
            cast(Pipeline, self.pipeline),
            cast(Engine, self.engine),
            cast(Inbox, self.inbox),
            profiles=Profiles(PROFILES, Plan(DEFAULT, ("json",))),
            gates=[self.other],
            journal=cast(Gate, self.journal),
            stop=self.stop,
        )

    def take(self, candidate: Candidate = CANDIDATE) -> dict[str, InvoxError]:
        assert self.intake.take(candidate)
        return self.intake.claim_taken()

    def refuse(self, error: InvoxError) -> None:
        self.pipeline.outcome = error
        assert self.take() == {CANDIDATE.path: error}


@pytest.fixture
def room() -> Room:
    return Room()


# ---- taking ------------------------------------------------------------------------------------------------


def test_a_claimed_recording_is_the_engines(room: Room) -> None:
    assert room.take() == {}
    (job,) = room.engine.jobs
    assert room.pipeline.claimed == [(job.id, "ward 3/smith.wav", 1.5)]
    assert (job.state, job.identity, job.refusal) == (State.CLAIMED, CANDIDATE.identity, None)
    assert (job.format, job.mime_type, job.duration_seconds) == ("WAV (PCM)", "audio/wav", 0.25)


def test_a_refused_recording_is_claimed_with_its_reason(room: Room) -> None:
    not_audio = Reason("not_audio", "This is a letter.", "")
    assert room.take(replace(CANDIDATE, refusal=not_audio)) == {}
    (job,) = room.engine.jobs
    assert job.refusal is not None
    assert (job.refusal.stage, job.refusal.reason) == (State.CLAIMED, not_audio)
    assert not job.refusal.retry_can_help


def test_the_plan_is_fixed_at_the_claim(room: Room) -> None:
    stat = replace(CANDIDATE, path="stat/smith.wav", attributes={"author": "SMITH"})
    assert room.intake.take(CANDIDATE)
    assert room.intake.take(stat)
    assert room.intake.claim_taken() == {}
    plans = [job.plan for job in room.engine.jobs]
    assert plans == [Plan(DEFAULT, ("json",)), replace(STAT.plan, attributes={"author": "SMITH"})]


def test_room_for_the_urgent_is_not_for_the_routine(room: Room) -> None:
    room.engine.room_for = frozenset({Priority.STAT})
    assert not room.intake.take(CANDIDATE)
    assert room.intake.take(replace(CANDIDATE, path="stat/smith.wav"))


@pytest.mark.parametrize("what", ["stop", "capacity", "journal"])
def test_nothing_is_claimed_when_stopping_full_or_damaged(room: Room, what: str) -> None:
    if what == "stop":
        room.stop.set()
    elif what == "journal":
        room.journal.reason = AWAY
    else:
        room.engine.room_for = frozenset()
    assert not room.intake.take(CANDIDATE)
    assert room.intake.claim_taken() == {}
    assert room.pipeline.claimed == room.engine.jobs == []


def test_what_is_claimed_together_counts_before_it_is_claimed(room: Room) -> None:
    room.engine.capacity = 2
    others = [replace(CANDIDATE, path=f"{number}.wav") for number in range(3)]
    assert [room.intake.take(candidate) for candidate in others] == [True, True, False]
    assert room.intake.claim_taken() == {}
    assert [job.path for job in room.engine.jobs] == ["0.wav", "1.wav"]


def test_a_recording_that_changed_is_left_to_the_inbox(room: Room) -> None:
    room.pipeline.outcome = False
    assert room.take() == {}
    assert room.engine.jobs == []


@pytest.mark.parametrize(
    ("outcome", "woken"), [(True, 0), (False, 1), (JournalError("locked"), 1), (StorageError("no"), 1)]
)
def test_what_was_not_claimed_leaves_room_for_another(
    room: Room, outcome: bool | InvoxError, woken: int
) -> None:
    room.pipeline.outcome = outcome
    room.take()
    assert room.inbox.woken == woken


def test_what_a_broken_claim_stranded_goes_back_first(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invox_watcher.processing.intake.new_job_id", lambda: "job-1")
    room.refuse(FoldersGoneError("The share is not mounted."))
    room.folders.stranded = {"job-1", "under-way"}
    room.pipeline.outcome = True
    for _ in range(2):
        assert room.take() == {}
    assert room.folders.returned == ["job-1"]


def test_a_journal_that_refuses_strands_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invox_watcher.processing.intake.new_job_id", lambda: "job-1")
    room.refuse(JournalError("The journal is locked."))
    room.folders.stranded = {"job-1"}
    room.pipeline.outcome = True
    assert room.take() == {}
    assert room.folders.returned == []


# ---- closed and paused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "closed"),
    [
        (DiskFullError("full"), {"settling": 1}, True),
        (DiskFullError("full"), {"troubled": 1}, True),
        (JournalError("locked"), {"troubled": 1}, True),
        (DiskFullError("full"), {}, False),  # no recording waits for it any more
        (StorageError("one file can't be moved"), {"troubled": 1}, False),
        (FoldersGoneError("not mounted"), {"troubled": 1}, False),  # the folders' own gate says so
    ],
)
def test_it_is_closed_while_a_recording_waits(
    room: Room, error: InvoxError, status: dict[str, int], closed: bool
) -> None:
    room.refuse(error)
    room.inbox.status = replace(SETTLED, **cast(Any, status))
    assert room.intake.closed() == (error.reason if closed else None)
    assert room.intake.paused is closed


def test_the_next_claim_opens_it_again(room: Room) -> None:
    room.inbox.status = replace(SETTLED, troubled=1)
    room.refuse(DiskFullError("full"))
    assert room.intake.closed() is not None
    room.pipeline.outcome = True
    assert room.take() == {}
    assert room.intake.closed() is None


def _full(room: Room) -> None:
    room.engine.room_for = frozenset()


def _inbox_unavailable(room: Room) -> None:
    room.inbox.reason = AWAY


def _other_gate_closed(room: Room) -> None:
    room.other.reason = AWAY


def _journal_closed(room: Room) -> None:
    room.journal.reason = AWAY


@pytest.mark.parametrize("happens", [_full, _inbox_unavailable, _other_gate_closed, _journal_closed])
def test_it_is_paused_by_capacity_and_by_each_gate(room: Room, happens: Callable[[Room], None]) -> None:
    assert not room.intake.paused
    happens(room)
    assert room.intake.paused
    assert room.intake.closed() is None
