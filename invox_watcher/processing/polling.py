"""What there is under a job's request id: from the API, or from its webhook.

A webhook's signature does not cover its words, so by default a webhook is only the moment to poll, and the
words are the API's. See docs/webhooks.md for the three values of `webhook.confirm`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Literal

from invox_watcher.errors import ApiRefusedError, ApiRejectedError, RequestUnknownError
from invox_watcher.events import Event, log
from invox_watcher.invox import InvoxApi, ReplyStatus, TranscriptionReply, parse_reply
from invox_watcher.job import Job, State
from invox_watcher.journal import MOST_TIMES, Journal, ProcessingTime
from invox_watcher.processing.poll_schedule import first_poll_delay, next_poll_delay
from invox_watcher.processing.waiting import Waiting, WaitingTimes
from invox_watcher.times import seconds_since

# After an upload of unknown fate: how long its result may stay pending before it counts as never arrived.
# Generous, since waiting costs minutes once in a crash, and a second upload costs money.
_UNCERTAIN_FLOOR_SECONDS = 600.0
_UNCERTAIN_FACTOR = 3.0
_UNKNOWN_HINT = (
    "Storage has acknowledged the upload, so the result stays pending until polling.deadline_seconds. If the"
    " same happens to each recording, check api.status_path."
)


# ---- webhook.confirm -------------------------------------------------------------------------------------


class ApiAnswer(Enum):
    """What the API says about a request id."""

    FINAL = auto()  # a transcript or an error
    PENDING = auto()
    DENIED = auto()  # it knows no such request, but has not said so for long: not to be believed yet
    UNKNOWN = auto()  # it has denied the request for `polling.unknown_seconds`


class Decision(Enum):
    """What to do about a job that waits."""

    ASK_API = auto()
    TAKE_API = auto()  # the API's reply counts
    TAKE_WEBHOOK = auto()  # the webhook's words count
    WAIT = auto()
    GIVE_UP = auto()  # the API has nothing under the request id


@dataclass(frozen=True)
class Evidence:
    """What is known when `webhook.confirm` decides."""

    api: ApiAnswer | None = None  # None: not asked yet
    webhook: bool = False  # whether one came
    webhook_is_old: bool = False  # it came so long ago that the API should have the result by now
    api_answers: bool | None = None  # whether the API answers for jobs whose result it sends; None: not known
    acknowledged: bool = False  # storage has acknowledged the upload, so a denial is not believed
    covers_body: bool = False  # the webhook's signature covers its words


def confirm_always(evidence: Evidence) -> Decision:
    """Only the API's words count. So too if no webhook is expected."""
    match evidence.api:
        case None:
            return Decision.ASK_API
        case ApiAnswer.FINAL:
            return Decision.TAKE_API
        case ApiAnswer.UNKNOWN if not evidence.acknowledged:
            return Decision.GIVE_UP
        case _:
            return Decision.WAIT


def confirm_never(evidence: Evidence) -> Decision:
    """A webhook's words count as soon as it comes."""
    return Decision.TAKE_WEBHOOK if evidence.webhook else _without_webhook(evidence)


def confirm_auto(evidence: Evidence) -> Decision:
    """The API's words count, or the webhook's if the API doesn't answer for jobs whose result it sends.

    Not believed quickly, since a moment's denial must not open the way for a webhook's own words; but once it
    has denied one job for long, and never answered for any, it is how this account works. Words that are
    covered by a signature need no confirmation.
    """
    if not evidence.webhook:
        return _without_webhook(evidence)
    if evidence.covers_body:
        return Decision.TAKE_WEBHOOK
    if evidence.api in (None, ApiAnswer.FINAL):
        return confirm_always(evidence)
    denied = evidence.api is ApiAnswer.UNKNOWN or (
        evidence.api is ApiAnswer.DENIED and evidence.api_answers is False
    )
    return Decision.TAKE_WEBHOOK if denied or evidence.webhook_is_old else Decision.WAIT


def _without_webhook(evidence: Evidence) -> Decision:
    """An API that denies a job may be one that only ever sends such jobs' results."""
    if evidence.api is ApiAnswer.UNKNOWN and evidence.api_answers is not True:
        return Decision.WAIT
    return confirm_always(evidence)


_CONFIRM: dict[str, Callable[[Evidence], Decision]] = {
    "auto": confirm_auto,
    "always": confirm_always,
    "never": confirm_never,
}


# ---- polling ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PollingPolicy:
    """What the configuration says about getting results; see config.example.yaml, `polling` and `webhook`."""

    first_seconds: float = 2.0
    max_seconds: float = 60.0
    deadline_seconds: float = 86400.0
    unknown_seconds: float = 30.0
    callback_url: str | None = None  # where the API is asked to send results
    confirm: Literal["auto", "always", "never"] = "auto"


@dataclass(frozen=True)
class PollOutcome:
    """What a poll found: a final reply, or that it is pending, or (`is_unknown`) that nothing will come."""

    reply: TranscriptionReply | None
    delivered_by: Literal["polling", "webhook"]
    waiting: Waiting
    is_unknown: bool = False
    asked_api: bool = True


class ResultPoller:
    """Polls for jobs that the API has, or may have. Safe for several threads, one per job at a time."""

    def __init__(
        self,
        journal: Journal,
        api: InvoxApi,
        policy: PollingPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
        waiting: Callable[[], int] = lambda: 0,
    ) -> None:
        """`waiting`: how many jobs of all hosts wait for a result."""
        self._waiting = waiting
        self._journal = journal
        self._api = api
        self._policy = policy
        self._times = WaitingTimes(clock)
        self._confirm = _CONFIRM["always" if policy.callback_url is None else policy.confirm]
        self._api_answers: bool | None = None  # see `Evidence`
        self._answered = False  # whether any poll was answered
        self._reported: set[str] = set()  # jobs logged as unknown to the API
        # If webhooks are expected, the time of one that had to be polled for says how long we waited.
        self._usual: Literal["polling", "webhook"] = "polling" if policy.callback_url is None else "webhook"
        self._took = deque(journal.processing_times(self._usual), maxlen=MOST_TIMES)

    def poll(self, job: Job) -> PollOutcome:
        """What there is under the request id of `job`."""
        assert job.request_id is not None  # noqa: S101 - written with the states that are polled
        self._times.begin_poll(job)
        stored = self._journal.notice(job.request_id) if self._policy.callback_url else None
        by: Literal["polling", "webhook"] = "polling" if stored is None else "webhook"
        evidence, notice = Evidence(acknowledged=job.state is State.WAITING), None
        if stored is not None:
            notice = parse_reply(stored.payload, duration_seconds=job.duration_seconds, pushed=True)
            evidence = replace(evidence, webhook=True, covers_body=stored.covers_body)
        if self._confirm(evidence) is Decision.TAKE_WEBHOOK:
            return PollOutcome(notice, by, self._times.end_poll(job), asked_api=False)
        answer, reply, waiting = self._ask_api(job, job.request_id)
        if stored is not None:
            is_old = answer is not ApiAnswer.FINAL and self._is_old(job, seconds_since(stored.at))
            self._learn(answer, webhook_is_old=is_old)
            evidence = replace(evidence, webhook_is_old=is_old)
        decision = self._confirm(replace(evidence, api=answer, api_answers=self._api_answers))
        taken = {Decision.TAKE_API: reply, Decision.TAKE_WEBHOOK: notice}.get(decision)
        return PollOutcome(taken, by, waiting, is_unknown=decision is Decision.GIVE_UP)

    def _ask_api(self, job: Job, request_id: str) -> tuple[ApiAnswer, TranscriptionReply | None, Waiting]:
        """What the API says. Some reject a question about a request whose result they send: a denial, too.

        Raises:
            ApiRefusedError: no poll was ever answered, and this answer is not about the request.
        """
        try:
            reply = self._api.result(request_id, duration_seconds=job.duration_seconds)
        except RequestUnknownError as error:
            if error.code == "not_found" and job.state is State.WAITING and not self._answered:
                raise ApiRefusedError(error.message, code="not_found", hint=error.hint, status=404) from None
            return self._denied(job)
        except ApiRejectedError as error:
            if self._policy.callback_url is None:
                if self._answered:
                    raise
                raise ApiRefusedError(
                    error.message, code="rejected", hint=error.hint, status=error.status
                ) from None
            return self._denied(job)
        self._answered = True
        pending = reply.status is ReplyStatus.PENDING
        return ApiAnswer.PENDING if pending else ApiAnswer.FINAL, reply, self._times.end_poll(job)

    def _denied(self, job: Job) -> tuple[ApiAnswer, None, Waiting]:
        # Its books may be behind its storage, or a part of it restarting: one denial is not believed.
        waiting = self._times.end_poll(job, denied=True)
        if waiting.denied_seconds < self._policy.unknown_seconds:
            return ApiAnswer.DENIED, None, waiting
        polled_for = job.state is State.WAITING and self._policy.callback_url is None
        if polled_for and job.id not in self._reported:
            self._reported.add(job.id)
            log.warning(Event.REQUEST_UNKNOWN, job=job.id, request_id=job.request_id, hint=_UNKNOWN_HINT)
        return ApiAnswer.UNKNOWN, None, waiting

    def _is_old(self, job: Job, seconds: float) -> bool:
        """Whether the API should have the result of a webhook that came `seconds` ago."""
        never_answers = self._api_answers is False
        return seconds >= (self._policy.unknown_seconds if never_answers else self.patience_seconds(job))

    def _learn(self, answer: ApiAnswer, *, webhook_is_old: bool) -> None:
        """Of a job whose webhook has come: does the API answer for those at all?"""
        if answer is ApiAnswer.FINAL:
            self._api_answers = True
        elif self._api_answers is None and (answer is ApiAnswer.UNKNOWN or webhook_is_old):
            self._api_answers = False

    # ---- when --------------------------------------------------------------------------------------------

    def start(self, job: Job) -> float:
        """The API has the recording now: start to count, and return in how many seconds to poll first."""
        self._times.start(job)
        if self._policy.callback_url is not None:  # the webhook is expected to come first, and wakes the job
            return max(self._policy.max_seconds, job.duration_seconds or 0.0)
        return first_poll_delay(
            job.duration_seconds,
            list(self._took),
            first_seconds=self._policy.first_seconds,
            max_seconds=self._policy.max_seconds,
        )

    def learn(self, job: Job, outcome: PollOutcome) -> None:
        """The transcript of `job`, as it was before that poll, is here: so long it took, by no wall clock."""
        found = outcome.waiting.waited_seconds
        if outcome.delivered_by == self._usual and job.duration_seconds and found > 0:
            pending = min(job.waited_seconds, found)
            self._took.append(ProcessingTime(job.duration_seconds, pending, found))

    def forget(self, job: Job) -> None:
        """This job is no longer polled."""
        self._times.forget(job)
        self._reported.discard(job.id)

    def is_expected(self, job: Job) -> bool:
        """Whether storage has acknowledged the upload, and its deadline has not passed."""
        if job.uploaded_at is None:
            return False
        return seconds_since(job.uploaded_at) < self._policy.deadline_seconds

    def is_overdue(self, job: Job, waiting: Waiting) -> bool:
        """Whether a job that is pending has waited for as long as any may.

        The waiting time from before a restart is by the wall clock, which may have been set, or the host was
        off: so in this run, too, it must have been polled for as long as a result usually takes.
        """
        deadline = self._policy.deadline_seconds
        if waiting.waited_seconds < deadline:
            return False
        return waiting.polled_seconds >= min(self.patience_seconds(job), deadline)

    def next_delay(self, job: Job, waiting: Waiting) -> float:
        """In how many seconds to poll again."""
        # Where a webhook was expected, it is unknown how long this takes.
        times = list(self._took) if self._policy.callback_url is None else []
        return next_poll_delay(
            waiting.waited_seconds,
            job.duration_seconds,
            times,
            first_seconds=self._policy.first_seconds,
            max_seconds=self._policy.max_seconds,
            jobs=max(self._times.jobs, self._waiting()),
        )

    def patience_seconds(self, job: Job) -> float:
        """How long an upload of unknown fate may stay pending before it counts as never arrived.

        A job is expected to take as long as the recording lasts, or as the slowest of late took; if the clock
        was set meanwhile that may be anything, and the deadline bounds it.
        """
        slowest = max((time.found_seconds / time.length_seconds for time in list(self._took)), default=1.0)
        expected = (job.duration_seconds or 0.0) * max(1.0, slowest)
        patience = max(_UNCERTAIN_FLOOR_SECONDS, _UNCERTAIN_FACTOR * expected)
        return min(patience, max(_UNCERTAIN_FLOOR_SECONDS, self._policy.deadline_seconds))
