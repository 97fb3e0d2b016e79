"""When the engine holds new recordings back, and when it takes them again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.backoff import Backoff
from invox_watcher.budget import Held
from invox_watcher.errors import ApiRefusedError, ApiUnavailableError, ExitStatus, JournalError, StorageError
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal import Journal
from invox_watcher.plan import DEFAULT, Plan
from invox_watcher.priority import Priority
from invox_watcher.processing.context import Next
from invox_watcher.processing.engine import Engine
from invox_watcher.processing.gates import reasons
from invox_watcher.processing.lanes import Clock, local_lanes
from invox_watcher.recording import FileIdentity
from tests.kit.waiting import wait_for


class _Steps:
    """In place of the pipeline: each step is what the test says."""

    def __init__(self, step: Callable[[int, Job], Any]) -> None:
        self._step = step
        self.taken = 0

    def advance(self, job: Job) -> Any:
        self.taken += 1
        return self._step(self.taken, job)


def _identified(journal: Journal, priority: Priority = Priority.ROUTINE) -> Job:
    plan = Plan(DEFAULT, ("json",), priority=priority)
    identity = FileIdentity(1, 1, 1, 1)
    job = Job(new_job_id(), State.CLAIMED, "a.wav", identity, received_at=datetime.now(UTC), plan=plan)
    journal.add(job)
    return journal.identify(job, "5" * 64, follow=False)


def _transcribed(journal: Journal) -> Job:
    return journal.move(_identified(journal), State.TRANSCRIBED, reply={}, filed_as="a.wav")


def _fill(engine: Engine, journal: Journal, pipeline: _Steps, count: int) -> None:
    for _ in range(count):
        engine.add(_identified(journal))
    wait_for("each has taken a step", lambda: pipeline.taken == count)


@contextmanager
def _running(journal: Journal, pipeline: _Steps, upload_workers: int = 1) -> Iterator[Engine]:
    clock = Clock()
    engine = Engine(
        pipeline=pipeline,  # type: ignore[arg-type]
        journal=journal,
        lanes=local_lanes(clock),
        upload_workers=upload_workers,
        max_in_flight=5,
        max_attempts=8,
        backoff=Backoff(0.02, 0.1),
        unavailable=lambda: None,
        on_room=lambda: None,
        on_crash=lambda: None,
        clock=clock,
    )
    engine.start()
    try:
        yield engine
    finally:
        engine.stop(2)
        journal.close()


def _codes(engine: Engine) -> list[str]:
    return [reason.code for reason in reasons([engine.api_gate, engine.storage_gate])]


def test_a_fault_of_the_disk_ends_when_the_step_gets_past_it(tmp_path: Path) -> None:
    go_on = threading.Event()

    def step(number: int, job: Job) -> Any:
        if number == 1:
            raise JournalError("busy for a moment")
        go_on.wait(20)
        raise ApiUnavailableError("down")

    journal, pipeline = Journal(tmp_path), _Steps(step)
    with _running(journal, pipeline) as engine:
        assert engine.has_capacity()
        engine.add(_identified(journal))
        wait_for("the journal was busy", lambda: _codes(engine) == ["journal"])
        assert not engine.has_capacity()
        assert not engine.api_is_unavailable
        go_on.set()
        wait_for("the API is unavailable", lambda: pipeline.taken > 5)
        wait_for("only the API's gate is closed", lambda: _codes(engine) == ["api_unavailable"], seconds=5)
        assert engine.api_is_unavailable
        assert engine.has_capacity()


def test_what_cannot_be_filed_is_reported_and_two_stop_the_intake(tmp_path: Path) -> None:
    writable = threading.Event()

    def step(_number: int, job: Job) -> Any:
        if not writable.is_set():
            raise StorageError("Writing to outbox/ failed: Permission denied.")
        return Next(journal.move(job, State.DELIVERED, outputs={}), 60)

    journal = Journal(tmp_path)
    with _running(journal, _Steps(step)) as engine:
        engine.add(_transcribed(journal))
        wait_for("it is reported", lambda: _codes(engine) == ["storage"])
        assert engine.has_capacity()  # its name alone may be what the disk refuses
        engine.add(_transcribed(journal))
        wait_for("so is the other", lambda: not engine.has_capacity())
        writable.set()
        wait_for("both are written", lambda: _codes(engine) == [])
        assert engine.has_capacity()


def test_while_the_api_refuses_us_one_recording_is_the_probe(tmp_path: Path) -> None:
    def step(number: int, job: Job) -> Any:
        raise ApiRefusedError("Wrong credentials.")

    journal = Journal(tmp_path)
    with _running(journal, _Steps(step)) as engine:
        assert engine.has_capacity()
        assert engine.blocking_fault is None
        engine.add(_identified(journal))
        wait_for("the API refuses", lambda: _codes(engine) == ["api_refused"])
        assert not engine.has_capacity()
        assert engine.blocking_fault is not None
        assert engine.blocking_fault.exit_status is ExitStatus.PERMISSION


def test_there_is_extra_room_for_the_urgent(tmp_path: Path) -> None:
    journal, pipeline = Journal(tmp_path), _Steps(lambda _number, job: Next(job, 3600))
    with _running(journal, pipeline) as engine:
        _fill(engine, journal, pipeline, 5)
        assert not engine.has_capacity()
        assert engine.has_capacity(Priority.URGENT)
        engine.add(_identified(journal))
        assert not engine.has_capacity(Priority.STAT)


def test_what_is_taken_and_not_yet_claimed_counts(tmp_path: Path) -> None:
    with _running(Journal(tmp_path), _Steps(lambda _number, job: Next(job, 3600))) as engine:
        assert engine.has_capacity(accepted=4)
        assert not engine.has_capacity(accepted=5)
        assert engine.has_capacity(Priority.URGENT, accepted=5)
        assert not engine.has_capacity(Priority.URGENT, accepted=6)


def test_a_job_lets_a_more_urgent_one_go_first_between_steps(tmp_path: Path) -> None:
    journal, order = Journal(tmp_path), []
    routine, stat = _identified(journal), _identified(journal, Priority.STAT)

    def step(number: int, job: Job) -> Any:
        order.append(job.id)
        if number == 1:
            engine.add(stat)
        return Next(job, 0 if order.count(job.id) < 3 else 3600)

    with _running(journal, pipeline := _Steps(step)) as engine:
        engine.add(routine)
        wait_for("all steps are taken", lambda: pipeline.taken == 6)
    assert order == [routine.id, *[stat.id] * 3, *[routine.id] * 2]


@pytest.mark.parametrize(("uploads", "polls"), [(1, 3), (4, 4), (64, 16)])
def test_threads_for_polls_follow_those_for_uploads(tmp_path: Path, uploads: int, polls: int) -> None:
    with _running(Journal(tmp_path), _Steps(lambda _number, job: Next(job)), uploads) as engine:
        assert sum(part.name.startswith("poll-") for part in engine.parts) == polls


def test_what_is_held_takes_no_room(tmp_path: Path) -> None:
    held = Held(datetime.now(UTC), ("intake.daily_minutes",))
    journal, pipeline = Journal(tmp_path), _Steps(lambda _number, job: Next(job, 3600, held=held))
    with _running(journal, pipeline) as engine:
        _fill(engine, journal, pipeline, 7)
        wait_for("all are held", lambda: engine.held == 7)
        assert engine.in_flight == 7
        assert engine.has_capacity()


def test_what_waits_to_be_sent_again_takes_the_place_of_another(tmp_path: Path) -> None:
    """A host of several that can't reach the API claims no more than it can begin with."""
    held = Held(datetime.now(UTC), ("intake.daily_minutes",))

    def step(number: int, job: Job) -> Any:
        return Next(job, 3600, held=held if number == 1 else None)

    journal, pipeline, rooms = Journal(tmp_path), _Steps(step), []
    with _running(journal, pipeline, upload_workers=2) as engine:
        for count in range(1, 4):
            engine.add(_identified(journal))
            wait_for("it waits", lambda count=count: pipeline.taken == len(engine.due()) == count)  # type: ignore[misc]
            rooms.append(engine.has_room_for_upload)
    assert rooms == [True, True, False]  # the first is held for another day, and waits for no thread


def test_one_error_that_several_jobs_report_is_one_fault(tmp_path: Path) -> None:
    """As a failed purchase of a token is, for which all of them waited."""
    shared, others = ApiUnavailableError("no token"), threading.Event()

    def step(number: int, job: Job) -> Any:
        if number > 7:
            others.wait(20)
        raise shared if number <= 7 else ApiUnavailableError(f"down {number}")

    journal, pipeline = Journal(tmp_path), _Steps(step)
    with _running(journal, pipeline) as engine:
        for _ in range(3):
            engine.add(_identified(journal))
        wait_for("it is reported seven times", lambda: pipeline.taken > 7)
        assert not engine.api_is_unavailable
        others.set()
        wait_for("others count", lambda: engine.api_is_unavailable)
