"""Results: what `webhook.confirm` decides, how long a job has waited, and what a poll finds."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from invox_watcher.errors import ApiRefusedError, ApiRejectedError, ApiUnavailableError, RequestUnknownError
from invox_watcher.invox import TranscriptionReply, parse_reply
from invox_watcher.job import Job, State
from invox_watcher.journal import ProcessingTime, StoredNotice
from invox_watcher.processing.polling import (
    ApiAnswer,
    Decision,
    Evidence,
    PollingPolicy,
    PollOutcome,
    ResultPoller,
    confirm_always,
    confirm_auto,
    confirm_never,
)
from invox_watcher.processing.waiting import WaitingTimes
from invox_watcher.recording import FileIdentity

FINAL, PENDING, DENIED, UNKNOWN = ApiAnswer.FINAL, ApiAnswer.PENDING, ApiAnswer.DENIED, ApiAnswer.UNKNOWN
ASK, API, WEBHOOK, WAIT, GIVE_UP = (
    Decision.ASK_API,
    Decision.TAKE_API,
    Decision.TAKE_WEBHOOK,
    Decision.WAIT,
    Decision.GIVE_UP,
)
DAY_SECONDS = 86400.0
START = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)

# ---- webhook.confirm ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("webhook", [False, True])
@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("api_answers", [None, False, True])
@pytest.mark.parametrize(
    ("api", "decision"), [(None, ASK), (FINAL, API), (PENDING, WAIT), (DENIED, WAIT), (UNKNOWN, GIVE_UP)]
)
def test_always_believes_the_api_alone(
    api: ApiAnswer | None, decision: Decision, webhook: bool, is_old: bool, api_answers: bool | None
) -> None:
    assert confirm_always(Evidence(api, webhook, is_old, api_answers)) is decision


@pytest.mark.parametrize("api", [None, *ApiAnswer])
@pytest.mark.parametrize("api_answers", [None, False, True])
def test_never_takes_a_webhook_at_once(api: ApiAnswer | None, api_answers: bool | None) -> None:
    assert confirm_never(Evidence(api, webhook=True, api_answers=api_answers)) is WEBHOOK


@pytest.mark.parametrize("confirm", [confirm_never, confirm_auto])
@pytest.mark.parametrize(
    ("api", "api_answers", "decision"),
    [
        (None, None, ASK),
        (FINAL, None, API),
        (FINAL, False, API),
        (PENDING, None, WAIT),
        (DENIED, None, WAIT),
        (DENIED, False, WAIT),
        (DENIED, True, WAIT),
        (UNKNOWN, None, WAIT),  # such results may come by webhook only
        (UNKNOWN, False, WAIT),
        (UNKNOWN, True, GIVE_UP),
    ],
)
def test_without_a_webhook_it_may_still_come(
    confirm: Any, api: ApiAnswer | None, api_answers: bool | None, decision: Decision
) -> None:
    assert confirm(Evidence(api, webhook=False, api_answers=api_answers)) is decision


@pytest.mark.parametrize(
    ("api", "is_old", "api_answers", "decision"),
    [
        (None, False, None, ASK),
        (None, True, False, ASK),
        (FINAL, False, None, API),
        (FINAL, True, False, API),
        (PENDING, False, None, WAIT),
        (PENDING, False, False, WAIT),
        (PENDING, True, None, WEBHOOK),
        (PENDING, True, True, WEBHOOK),
        (DENIED, False, None, WAIT),
        (DENIED, False, True, WAIT),
        (DENIED, False, False, WEBHOOK),  # it is how this account works
        (DENIED, True, None, WEBHOOK),
        (UNKNOWN, False, None, WEBHOOK),
        (UNKNOWN, False, False, WEBHOOK),
        (UNKNOWN, False, True, WEBHOOK),
    ],
)
def test_auto_takes_a_webhook_if_the_api_has_nothing(
    api: ApiAnswer | None, is_old: bool, api_answers: bool | None, decision: Decision
) -> None:
    assert confirm_auto(Evidence(api, True, is_old, api_answers)) is decision


# ---- clocks ------------------------------------------------------------------------------------------------


class Clocks:
    """The monotonic clock and the wall clock, which can be set by itself."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.wall = START

    def __call__(self) -> float:
        return self.monotonic

    def pass_seconds(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += timedelta(seconds=seconds)

    def jump(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    for module in ("times", "processing.waiting"):
        monkeypatch.setattr(f"invox_watcher.{module}.utc_now", lambda: made.wall)
    return made


def waiting_job(state: State = State.WAITING) -> Job:
    uploaded_at = START if state is State.WAITING else None
    return Job(
        "1", state, "a.wav", FileIdentity(1, 1, 1, 1), START, request_id="r-1", uploaded_at=uploaded_at
    )


class Polled:
    """A job, polled again and again; its columns are kept as the journal keeps them."""

    def __init__(self, clocks: Clocks, state: State = State.WAITING) -> None:
        self._clocks = clocks
        self.job = waiting_job(state)
        self.times = WaitingTimes(clocks)

    def restart(self) -> None:
        self.times = WaitingTimes(self._clocks)

    def poll(self, *, denied: bool = False) -> float:
        self.times.begin_poll(self.job)
        waiting = self.times.end_poll(self.job, denied=denied)
        self.polled_seconds = waiting.polled_seconds
        self.job = dataclasses.replace(self.job, **waiting.columns)
        return self.job.denied_seconds if denied else self.job.waited_seconds


@pytest.mark.parametrize("jump", [0, DAY_SECONDS, -DAY_SECONDS])
def test_a_clock_that_jumps_changes_nothing_in_a_run(clocks: Clocks, jump: float) -> None:
    polled = Polled(clocks)
    polled.times.start(polled.job)
    clocks.jump(jump)
    clocks.pass_seconds(2)
    assert polled.poll() == 2
    clocks.jump(jump)
    clocks.pass_seconds(5)
    assert polled.poll() == 7
    assert polled.polled_seconds == 5


@pytest.mark.parametrize(("off", "counted"), [(3600, 3600), (-3600, 0)])
def test_a_restart_is_bridged_by_the_wall_clock_forwards(clocks: Clocks, off: float, counted: float) -> None:
    polled = Polled(clocks)
    polled.times.start(polled.job)
    clocks.pass_seconds(10)
    polled.poll()
    polled.restart()
    clocks.jump(off)
    assert polled.poll() == 10 + counted
    assert polled.polled_seconds == 0
    clocks.jump(DAY_SECONDS)
    clocks.pass_seconds(1)
    assert polled.poll() == 11 + counted


def test_before_the_first_poll_it_counts_from_the_upload(clocks: Clocks) -> None:
    polled = Polled(clocks)
    clocks.jump(50)
    assert polled.poll() == 50


def test_an_uncertain_upload_counts_only_while_it_is_polled(clocks: Clocks) -> None:
    polled = Polled(clocks, State.UPLOADING)
    polled.times.begin_poll(polled.job)  # and no answer, for hours
    clocks.pass_seconds(7200)
    assert polled.poll() == 0
    clocks.pass_seconds(60)
    assert polled.poll() == 60
    polled.restart()
    clocks.pass_seconds(DAY_SECONDS)
    assert polled.poll() == 60
    clocks.pass_seconds(60)
    assert polled.poll() == 120


def test_denials_count_until_the_api_knows_the_job(clocks: Clocks) -> None:
    polled = Polled(clocks)
    assert polled.poll(denied=True) == 0
    clocks.pass_seconds(20)
    assert polled.poll(denied=True) == 20
    polled.restart()
    clocks.pass_seconds(DAY_SECONDS)
    assert polled.poll(denied=True) == 20, "nobody asked meanwhile"
    clocks.pass_seconds(5)
    assert polled.poll(denied=True) == 25
    polled.poll()
    assert polled.job.denied_seconds == 0
    clocks.pass_seconds(5)
    assert polled.poll(denied=True) == 0


def test_another_request_counts_from_zero(clocks: Clocks) -> None:
    polled = Polled(clocks, State.UPLOADING)
    polled.poll()
    clocks.pass_seconds(100)
    polled.job = dataclasses.replace(waiting_job(State.UPLOADING), request_id="r-2")
    assert polled.poll() == 0


# ---- a poll ------------------------------------------------------------------------------------------------

HELLO = {"status": "COMPLETED", "transcription": [{"text": "Hello.", "start": 0, "end": 1}]}
STILL = {"status": "PENDING"}
NOT_FOUND, REJECTED = RequestUnknownError("x", status=404), ApiRejectedError("x", status=400)


class Vendor:
    """The API and the journal, as far as a poll needs them."""

    def __init__(self) -> None:
        self.answer: Any = STILL
        self.webhook: Any = None
        self.covers_body = False
        self.asked = 0
        self.times: list[ProcessingTime] = []

    def result(self, request_id: str, *, duration_seconds: float | None) -> TranscriptionReply:
        assert request_id == "r-1"
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return parse_reply(self.answer)

    def notice(self, request_id: str) -> Any:
        return None if self.webhook is None else StoredNotice(self.webhook, START, self.covers_body)

    def processing_times(self, delivered_by: str) -> list[ProcessingTime]:
        return self.times if delivered_by == "polling" else []


def poller(vendor: Vendor, clocks: Clocks, confirm: Any = None, **options: Any) -> ResultPoller:
    if confirm:
        options |= {"callback_url": "https://clinic.example/webhook", "confirm": confirm}
    return ResultPoller(vendor, vendor, PollingPolicy(**options), clock=clocks)  # type: ignore[arg-type]


def found(outcome: PollOutcome) -> str:
    if outcome.is_unknown:
        return "unknown"
    return "pending" if outcome.reply is None else outcome.delivered_by


def test_a_denial_is_believed_after_a_while(clocks: Clocks) -> None:
    vendor = Vendor()
    polls = poller(vendor, clocks, unknown_seconds=30)
    vendor.answer = NOT_FOUND
    uncertain = waiting_job(State.UPLOADING)
    assert found(polls.poll(uncertain)) == "pending"
    clocks.pass_seconds(29)
    assert found(polls.poll(uncertain)) == "pending"
    clocks.pass_seconds(1)
    assert found(polls.poll(uncertain)) == "unknown"
    assert found(polls.poll(waiting_job())) == "pending"  # what storage has acknowledged is waited for
    vendor.answer = HELLO
    assert found(polls.poll(waiting_job())) == "polling"


def test_polls_are_spread_by_what_waits_at_all_hosts(clocks: Clocks) -> None:
    vendor = Vendor()
    for waiting, delay in ((1, 5), (10_500, 400)):
        polls = ResultPoller(
            vendor,  # type: ignore[arg-type]
            vendor,  # type: ignore[arg-type]
            PollingPolicy(),
            clock=clocks,
            waiting=lambda waiting=waiting: waiting,  # type: ignore[misc]
        )
        outcome = dataclasses.replace(polls.poll(waiting_job()).waiting, waited_seconds=20)
        assert polls.next_delay(waiting_job(), outcome) == delay


def test_never_does_not_ask_when_the_webhook_came(clocks: Clocks) -> None:
    vendor = Vendor()
    vendor.webhook = HELLO
    outcome = poller(vendor, clocks, "never").poll(waiting_job())
    assert (found(outcome), outcome.asked_api, vendor.asked) == ("webhook", False, 0)


def test_a_webhook_is_confirmed_by_the_api(clocks: Clocks) -> None:
    vendor = Vendor()
    vendor.webhook = HELLO | {"transcription": []}
    vendor.answer = HELLO
    outcome = poller(vendor, clocks, "auto").poll(waiting_job())
    assert (found(outcome), outcome.asked_api) == ("webhook", True)
    assert outcome.reply is not None
    assert outcome.reply.raw == HELLO


def test_auto_learns_that_the_api_has_no_such_results(clocks: Clocks) -> None:
    vendor = Vendor()
    vendor.webhook, vendor.answer = HELLO, REJECTED
    polls = poller(vendor, clocks, "auto", unknown_seconds=30)
    assert found(polls.poll(waiting_job())) == "pending"
    clocks.pass_seconds(30)
    assert found(polls.poll(waiting_job())) == "webhook"
    another = dataclasses.replace(waiting_job(), id="2")
    assert found(polls.poll(another)) == "webhook", "at once"


def test_a_rejected_poll_is_a_denial_if_a_webhook_may_come(clocks: Clocks) -> None:
    vendor = Vendor()
    vendor.answer = REJECTED
    for confirm in ("auto", "always", "never"):
        assert found(poller(vendor, clocks, confirm).poll(waiting_job())) == "pending"
    vendor.webhook = HELLO
    assert found(poller(vendor, clocks, "always").poll(waiting_job())) == "pending"


def test_a_rejected_poll_is_the_set_ups_until_one_is_answered(clocks: Clocks) -> None:
    vendor = Vendor()
    polls = poller(vendor, clocks)
    for answer in (REJECTED, RequestUnknownError("x", code="not_found", status=404)):
        vendor.answer = answer
        with pytest.raises(ApiRefusedError):
            polls.poll(waiting_job())
    vendor.answer = STILL
    polls.poll(waiting_job())
    vendor.answer = RequestUnknownError("x", code="not_found", status=404)
    assert found(polls.poll(waiting_job())) == "pending"
    vendor.answer = REJECTED
    with pytest.raises(ApiRejectedError):
        polls.poll(waiting_job())


def test_words_that_a_signature_covers_are_not_confirmed(clocks: Clocks) -> None:
    vendor = Vendor()
    vendor.webhook, vendor.covers_body = HELLO, True
    outcome = poller(vendor, clocks, "auto").poll(waiting_job())
    assert (found(outcome), outcome.asked_api, vendor.asked) == ("webhook", False, 0)
    assert found(poller(vendor, clocks, "always").poll(waiting_job())) == "pending"


def test_auto_learns_that_such_results_stay_pending(clocks: Clocks) -> None:
    vendor = Vendor()
    vendor.webhook = HELLO
    polls = poller(vendor, clocks, "auto", unknown_seconds=30)
    assert found(polls.poll(waiting_job())) == "pending"
    clocks.pass_seconds(600)
    assert found(polls.poll(waiting_job())) == "webhook"
    clocks.jump(-570)  # a webhook that came half a minute ago
    assert found(polls.poll(waiting_job())) == "webhook"


def test_an_outage_is_no_answer(clocks: Clocks) -> None:
    vendor = Vendor()
    vendor.answer = ApiUnavailableError("down")
    with pytest.raises(ApiUnavailableError):
        poller(vendor, clocks, "auto").poll(waiting_job())


def test_a_job_is_overdue_only_if_this_run_has_polled_for_long(clocks: Clocks) -> None:
    polls, job = poller(Vendor(), clocks), waiting_job()
    clocks.jump(2 * DAY_SECONDS)
    waiting = polls.poll(job).waiting
    assert waiting.waited_seconds == 2 * DAY_SECONDS
    assert not polls.is_overdue(job, waiting)
    clocks.pass_seconds(599)
    assert not polls.is_overdue(job, polls.poll(job).waiting)
    clocks.pass_seconds(1)
    assert polls.is_overdue(job, polls.poll(job).waiting)


def test_it_polls_when_the_latest_recordings_were_ready(clocks: Clocks) -> None:
    vendor, job = Vendor(), dataclasses.replace(waiting_job(), duration_seconds=100.0)
    vendor.times = [ProcessingTime(50, 9, 11)] * 24
    polls = poller(vendor, clocks)
    assert polls.start(job) == pytest.approx(20)
    clocks.pass_seconds(18)
    assert polls.next_delay(job, polls.poll(job).waiting) == pytest.approx(2)
    unknown = dataclasses.replace(job, id="2", duration_seconds=None)
    assert polls.start(unknown) == 2
    clocks.pass_seconds(20)
    assert polls.next_delay(unknown, polls.poll(unknown).waiting) == 5


def test_it_learns_by_no_wall_clock_how_long_it_took(clocks: Clocks) -> None:
    vendor, job = Vendor(), dataclasses.replace(waiting_job(), duration_seconds=100.0)
    polls = poller(vendor, clocks)
    assert polls.start(job) == 2
    clocks.pass_seconds(18)
    job = dataclasses.replace(job, **polls.poll(job).waiting.columns)
    clocks.pass_seconds(2)
    clocks.jump(DAY_SECONDS)
    vendor.answer = HELLO
    polls.learn(job, polls.poll(job))
    another = dataclasses.replace(job, id="2", duration_seconds=200.0)
    assert polls.start(another) == pytest.approx(38)


def test_a_webhook_is_waited_for_before_it_polls(clocks: Clocks) -> None:
    vendor, job = Vendor(), dataclasses.replace(waiting_job(), duration_seconds=100.0)
    vendor.times = [ProcessingTime(50, 9, 11)] * 24
    polls = poller(vendor, clocks, "auto")
    assert polls.start(job) == 100
    clocks.pass_seconds(100)
    assert polls.next_delay(job, polls.poll(job).waiting) == 25


def test_what_is_forgotten_goes_on_from_its_columns(clocks: Clocks) -> None:
    polls, job = poller(Vendor(), clocks), waiting_job()
    polls.start(job)
    clocks.pass_seconds(10)
    job = dataclasses.replace(job, **polls.poll(job).waiting.columns)
    polls.forget(job)
    clocks.pass_seconds(10)
    assert polls.poll(job).waiting.waited_seconds == 20
