"""Deliveries to one target: order, faults, uncertain outcomes, and a journal that can't be written."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.backoff import Backoff
from invox_watcher.delivery import Dispatcher, Pace
from invox_watcher.errors import (
    DeliveryUncertainError,
    JournalError,
    TargetRefusedError,
    TargetUnavailableError,
    UnsendableError,
)
from invox_watcher.job import Job
from invox_watcher.journal import DeliveryState, Journal, Receipt
from tests.kit.captured_log import LogStream
from tests.kit.jobs import done

NOW = datetime.now(UTC)
DOWN = TargetUnavailableError("The server does not answer.", code="down", hint="Start it.")
CUT = DeliveryUncertainError("The line was cut.", code="cut")
NO = TargetRefusedError("No such patient.", code="no_patient", hint="Correct the number.")
NEVER_SENT = UnsendableError("The recording has no attribute ward.", code="missing_attribute")
PACE = Pace(Backoff(2, 8), timedelta(days=1))


class Ward:
    """A journal, a target that answers as told, and a clock that moves only when told."""

    def __init__(self, directory: Path) -> None:
        self.journal = Journal(directory, targets_of=lambda _job: ["mail"])
        self.now = 1000.0
        self.answers: dict[str, list[Exception]] = {}  # by recording; then it is taken
        self.fault: Exception | None = None  # of all
        self.sent: list[str] = []
        self.stop = threading.Event()
        self.dispatcher = self.dispatch()

    def dispatch(self, pace: Pace = PACE) -> Dispatcher:
        """The dispatcher of a process that has just started."""
        self.dispatcher = Dispatcher("mail", self.send, self.journal, pace, clock=lambda: self.now)
        return self.dispatcher

    def send(self, job: Job, stop: threading.Event) -> Receipt | None:
        self.sent.append(job.path)
        if self.fault:
            raise self.fault
        if self.answers.get(job.path):
            raise self.answers[job.path].pop(0)
        return None if stop.is_set() else Receipt("2026-11-23T18:50:56.123Z", "250 Ok")

    def record(self, *paths: str) -> None:
        """Recordings that are done."""
        for path in paths:
            done(self.journal, path)

    def work(self, seconds: float = 0.0) -> None:
        """Let that much time pass, and do what can be done meanwhile."""
        until = self.now + seconds
        while True:
            idle = self.journal.deliveries.next("mail", ordered=False) is None
            wait = self.dispatcher.step(self.stop)
            if idle or (wait and self.now >= until):
                return
            self.now = min(self.now + wait, max(until, self.now))

    @property
    def states(self) -> list[tuple[str, str, int]]:
        """Path, state and attempts of each delivery."""
        jobs = {job.id: job.path for job in self.journal.jobs()}
        found = [one for job in jobs for one in self.journal.deliveries.of(job)]
        return sorted((jobs[one.job_id], str(one.state), one.attempts) for one in found)


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = Ward(tmp_path)
    yield ward
    ward.journal.close()


def events(log: LogStream) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["event"].startswith(("delivery_", "target_"))]


def test_all_are_sent_once_in_their_order(ward: Ward) -> None:
    ward.record("a", "b", "c")
    ward.work(100)
    assert ward.sent == ["a", "b", "c"]
    assert ward.states == [(path, "sent", 1) for path in "abc"]
    [one] = ward.journal.deliveries.of(ward.journal.jobs()[0].id)
    assert one.receipt == Receipt("2026-11-23T18:50:56.123Z", "250 Ok")


def test_an_outage_costs_few_attempts_and_loses_nothing(ward: Ward, own_log: LogStream) -> None:
    ward.record(*"abcde")
    ward.fault = DOWN
    ward.work(3600)
    assert 3600 / 8 <= len(ward.sent) <= 3600 / 4 + 3  # the longest delay is 8 s, with jitter from 4
    assert {state for _path, state, _attempts in ward.states} == {"due"}
    health = ward.dispatcher.health
    assert (health.unavailable, health.failed_attempts) == (DOWN.reason, len(ward.sent))
    ward.fault, ward.sent = None, []
    ward.work(60)
    assert sorted(ward.sent) == list("abcde")
    assert ward.dispatcher.health.unavailable is None
    # Not at every attempt: when it begins, and when it ends.
    assert [line["event"] for line in events(own_log)[:2]] == ["target_unavailable", "target_available"]


def test_after_an_outage_the_rate_grows_step_by_step(ward: Ward) -> None:
    ward.record(*(f"r{number:03}" for number in range(40)))
    ward.fault = DOWN
    ward.work(60)
    ward.fault, ward.sent, began = None, [], ward.now
    ward.work(8)
    first = len(ward.sent)
    assert 1 <= first <= 40
    ward.work(60)
    assert len(ward.sent) == 40
    assert ward.now - began > 2


def test_one_bad_delivery_holds_up_no_other(ward: Ward) -> None:
    ward.answers["a"] = [DOWN] * 50
    ward.record("a", "b", "c")
    ward.work(30)
    assert [row[:2] for row in ward.states] == [("a", "due"), ("b", "sent"), ("c", "sent")]


def test_a_new_one_is_tried_while_another_one_is_not_taken(ward: Ward) -> None:
    pace = Pace(Backoff(1000, 1000), timedelta(days=9))
    ward.dispatch(pace)
    ward.answers["a"] = [DOWN] * 50
    ward.record("a")
    ward.work(1)
    ward.record("b")
    ward.work(16)
    assert ("b", "sent", 1) in ward.states


@pytest.mark.parametrize(("patience", "most"), [(None, 1 + 3), (3000.0, 1)], ids=["backoff", "Retry-After"])
def test_a_target_that_is_down_is_not_asked_for_each_new_one(
    ward: Ward, patience: float | None, most: int
) -> None:
    ward.dispatch(Pace(Backoff(4000, 4000), timedelta(days=9)))
    ward.fault = TargetUnavailableError("Busy.", code="down", retry_after_seconds=patience)
    for path in "abcdefghij":
        ward.record(path)
        ward.work(100)
    assert len(ward.sent) == most


def test_in_order_nothing_overtakes(ward: Ward) -> None:
    ward.dispatch(Pace(Backoff(2, 8), timedelta(days=1), ordered=True))
    ward.answers["a"] = [DOWN] * 3
    ward.record("a", "b")
    ward.work(100)
    assert ward.sent == ["a", "a", "a", "a", "b"]


def test_a_refused_one_fails_and_the_next_is_sent(ward: Ward, own_log: LogStream) -> None:
    ward.answers["a"] = [NO]
    ward.record("a", "b")
    ward.work(100)
    assert ward.states == [("a", "failed", 1), ("b", "sent", 1)]
    [failed] = [line for line in events(own_log) if line["event"] == "delivery_failed"]
    assert (failed["code"], failed["hint"]) == ("no_patient", "Correct the number.")
    assert ward.dispatcher.health.unavailable is None


def test_what_is_uncertain_is_shown_so_until_it_is_confirmed(ward: Ward) -> None:
    ward.answers["a"] = [CUT, DOWN]
    ward.record("a")
    ward.dispatcher.step(ward.stop)
    assert ward.states == [("a", "uncertain", 1)]
    ward.now += 100
    ward.dispatcher.step(ward.stop)
    assert ward.states == [("a", "uncertain", 2)]  # the second attempt says nothing about the first
    assert ward.journal.deliveries.backlogs()["mail"].uncertain == 1
    ward.work(100)
    assert ward.states == [("a", "sent", 3)]


def test_what_is_never_sent_does_not_end_an_outage(ward: Ward, own_log: LogStream) -> None:
    ward.record("a", "b", "c")
    ward.fault = DOWN
    ward.work(30)
    ward.fault, ward.answers = None, {path: [NEVER_SENT] if path == "b" else [DOWN] * 50 for path in "abc"}
    ward.work(60)
    assert [row[:2] for row in ward.states] == [("a", "due"), ("b", "failed"), ("c", "due")]
    assert ward.dispatcher.health.unavailable is not None
    assert [line["event"] for line in events(own_log)] == ["target_unavailable", "delivery_failed"]


def test_after_the_deadline_it_fails_and_can_be_sent_again(ward: Ward) -> None:
    pace = Pace(Backoff(2, 8), timedelta(seconds=1000))
    ward.dispatch(pace)
    ward.fault = DOWN
    ward.record("a")
    ward.work(600)
    ward.now += 10 * 86_400  # nobody tried
    ward.dispatch(pace)
    ward.work(350)
    ward.record("b")
    assert [row[:2] for row in ward.states] == [("a", "due"), ("b", "due")]
    ward.work(600)
    assert [row[:2] for row in ward.states] == [("a", "failed"), ("b", "due")]
    ward.fault = None
    [failed] = ward.journal.deliveries.failed(limit=9)
    ward.journal.deliveries.send_again([failed.job_id], "mail", NOW)
    ward.work(100)
    assert ("a", "sent", 1) in ward.states


def test_a_quiet_month_between_two_faults_is_not_counted(ward: Ward) -> None:
    ward.answers = {"a": [DOWN], "b": [DOWN, DOWN]}
    ward.record("a")
    ward.work(60)
    ward.now += 30 * 86_400
    ward.record("b")
    ward.work(60)
    assert ward.states == [("a", "sent", 2), ("b", "sent", 3)]


@pytest.mark.parametrize("jump", [timedelta(days=366), timedelta(days=-366)], ids=["ahead", "back"])
def test_no_jump_of_the_wall_clock_makes_anything_fail(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    ward.record(*"abc")
    ward.fault = DOWN
    ward.work(100)
    for module in ("times", "delivery.dispatcher", "journal.journal"):
        monkeypatch.setattr(f"invox_watcher.{module}.utc_now", lambda: datetime.now(UTC) + jump)
    ward.work(100)
    ward.record("d")
    ward.work(100)
    assert {state for _path, state, _attempts in ward.states} == {"due"}
    ward.fault = None
    ward.work(100)
    assert {state for _path, state, _attempts in ward.states} == {"sent"}


def test_a_delivery_asked_for_twice_is_made_once(ward: Ward) -> None:
    ward.record("a")
    ward.work(10)
    [job] = ward.journal.jobs()
    for _ in range(2):  # as after a kill between what is done and its order's deletion
        ward.journal.deliveries.send_again([job.id], "mail", NOW)
        ward.work(10)
    assert ward.sent == ["a", "a"]
    ward.journal.deliveries.send_again([job.id], "mail", NOW + timedelta(seconds=1))
    ward.work(10)
    assert ward.sent == ["a", "a", "a"]


def test_what_was_sent_is_not_sent_again_for_the_journal(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.record("a")
    deliveries, write = ward.journal.deliveries, ward.journal.deliveries.sent

    def refuse(*_arguments: object) -> bool:
        raise JournalError("full")

    monkeypatch.setattr(deliveries, "sent", refuse)
    for _ in range(3):
        with pytest.raises(JournalError):
            ward.dispatcher.step(ward.stop)
    monkeypatch.setattr(deliveries, "sent", write)
    ward.work(10)
    assert ward.sent == ["a"]
    assert ward.states == [("a", "sent", 1)]


def test_a_defect_in_a_target_stops_nothing(ward: Ward, own_log: LogStream) -> None:
    ward.answers["a"] = [ZeroDivisionError("Words.")]
    ward.record("a")
    ward.work(100)
    assert ward.states == [("a", "sent", 2)]
    assert "Words." not in own_log.getvalue()
    assert "ZeroDivisionError" in own_log.getvalue()


def test_a_stop_leaves_it_due(ward: Ward) -> None:
    ward.record("a")
    ward.stop.set()
    ward.dispatcher.step(ward.stop)
    assert ward.states == [("a", "due", 0)]


def test_a_target_that_is_given_up_is_owed_nothing(ward: Ward) -> None:
    ward.record("a", "b")
    assert ward.journal.deliveries.give_up("mail") == 2
    ward.work(100)
    assert ward.sent == []
    assert {state for _path, state, _attempts in ward.states} == {DeliveryState.CANCELLED}


def test_a_limited_target_gets_no_more_than_that(ward: Ward) -> None:
    ward.dispatch(Pace(Backoff(2, 8), timedelta(days=1), min_interval_seconds=6.0))
    ward.record(*"abcdefghij")
    ward.work(30)
    assert len(ward.sent) == 6  # at 0, 6, … 30
