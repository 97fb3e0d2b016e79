"""When the engine holds new recordings back, and when it takes them again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from invox_watcher.errors import ApiRefusedError, ApiUnavailableError, ExitStatus, JournalError
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal import Journal
from invox_watcher.processing.backoff import Backoff
from invox_watcher.processing.engine import Engine
from invox_watcher.processing.gates import reasons
from invox_watcher.processing.lanes import Clock
from invox_watcher.recording import FileIdentity
from tests.kit.clinic import wait_for


class _Steps:
    """In place of the pipeline: each step is what the test says."""

    def __init__(self, step: Callable[[int, Job], Any]) -> None:
        self._step = step
        self.taken = 0

    def advance(self, job: Job) -> Any:
        self.taken += 1
        return self._step(self.taken, job)


def _identified(journal: Journal) -> Job:
    job = Job(new_job_id(), State.CLAIMED, "a.wav", FileIdentity(1, 1, 1, 1), received_at=datetime.now(UTC))
    journal.add(job)
    return journal.identify(job, "5" * 64, follow=False)


@contextmanager
def _running(journal: Journal, pipeline: _Steps) -> Iterator[Engine]:
    engine = Engine(
        pipeline=pipeline,  # type: ignore[arg-type]
        journal=journal,
        upload_workers=1,
        max_in_flight=5,
        max_attempts=8,
        backoff=Backoff(0.02, 0.1),
        unavailable=lambda: None,
        on_room=lambda: None,
        on_crash=lambda: None,
        clock=Clock(),
    )
    engine.start()
    try:
        yield engine
    finally:
        engine.stop(2)
        journal.close()


def _codes(engine: Engine) -> list[str]:
    return [reason.code for reason in reasons(engine.gates)]


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
