"""The engine's threads: how many there are, that none ends unnoticed, and that stopping waits for them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NoReturn

import pytest

from invox_watcher.job import Job, State
from invox_watcher.processing.lanes import Clock, Lane, Lanes, local_lanes
from invox_watcher.processing.workers import Workers
from invox_watcher.recording import FileIdentity
from tests.kit.captured_log import LogStream

JOB = Job("1", State.CLAIMED, "a.wav", FileIdentity(1, 1, 1, 1), received_at=datetime.now(UTC))


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    made = local_lanes(Clock())
    yield made
    for lane in made:
        lane.close()


def workers_of(
    lanes: Lanes, count: int, take: Callable[[Job, Lane], None], on_crash: Callable[[], None] = lambda: None
) -> Workers:
    return Workers(lanes, count, take, on_crash)


@pytest.mark.parametrize(("uploads", "polls"), [(1, 3), (3, 3), (8, 8), (40, 16)])
def test_both_kinds_have_about_as_many_threads(lanes: Lanes, uploads: int, polls: int) -> None:
    names = [heartbeat.name for heartbeat in workers_of(lanes, uploads, lambda _job, _lane: None).heartbeats]
    expected = [f"upload-{number}" for number in range(1, uploads + 1)]
    assert names == expected + [f"poll-{number}" for number in range(1, polls + 1)]


def test_a_thread_that_dies_is_reported_and_named(lanes: Lanes, own_log: LogStream) -> None:
    def take(_job: Job, _lane: Lane) -> NoReturn:
        raise SystemExit

    died = threading.Event()
    workers_of(lanes, 1, take, died.set).start()
    lanes.uploads.put(JOB, 0, held_back=False)
    assert died.wait(30)
    (line,) = map(json.loads, own_log.getvalue().splitlines())
    assert (line["event"], line["level"], line["thread"]) == ("thread_died", "error", "upload-1")
    assert "SystemExit" in line["error"]


def test_stopping_waits_for_the_steps_under_way(lanes: Lanes) -> None:
    taken, go_on = threading.Event(), threading.Event()

    def take(_job: Job, _lane: Lane) -> None:
        taken.set()
        assert go_on.wait(30)

    workers = workers_of(lanes, 1, take)
    workers.start()
    lanes.polls.put(JOB, 0, held_back=False)
    assert taken.wait(30)
    assert not workers.stop(0)
    go_on.set()
    assert workers.stop(30)
