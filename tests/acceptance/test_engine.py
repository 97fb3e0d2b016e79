"""When the engine holds the intake back, and when no more."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from invox_watcher.errors import ApiUnavailableError, JournalError
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal.journal import Journal
from invox_watcher.processing.backoff import Backoff
from invox_watcher.processing.engine import Engine
from invox_watcher.processing.lanes import Clock
from invox_watcher.recording import FileIdentity
from tests.kit.clinic import wait_for


class _IllApi:
    """In place of the pipeline: a journal that is busy once, and then an API that is away."""

    def __init__(self) -> None:
        self.steps = 0
        self.go_on = threading.Event()

    def advance(self, job: Job) -> Any:
        self.steps += 1
        if self.steps == 1:
            raise JournalError("busy for a moment")
        self.go_on.wait(20)
        raise ApiUnavailableError("down")


def test_a_fault_of_the_disk_that_is_over_is_not_told_for_as_long_as_the_api_is_away(tmp_path: Path) -> None:
    journal, pipeline = Journal(tmp_path), _IllApi()
    job = Job(new_job_id(), State.CLAIMED, "a.wav", FileIdentity(1, 1, 1, 1), received_at=datetime.now(UTC))
    journal.add(job)
    job = journal.identify(job, "5" * 64, follow=True)
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
        engine.add(job)
        wait_for("the journal was busy", lambda: engine.health.storage is not None)
        assert not engine.has_capacity
        pipeline.go_on.set()
        wait_for("the API is away", lambda: pipeline.steps > 3)
        wait_for("no word of the journal", lambda: engine.health.storage is None, seconds=5)
        assert engine.has_capacity
    finally:
        engine.stop(2)
        journal.close()
