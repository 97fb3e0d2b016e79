"""What there is under a job's request id, and when to look again: by asking the API, or by its webhook.

A webhook's signature does not cover its words, so by default a webhook is only the moment to ask, and the
words are the API's. See docs/webhooks.md for the three ways of `webhook.confirm`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from invox_watcher.errors import ApiError, ApiRefusedError, ApiRejectedError, RequestUnknownError
from invox_watcher.events import Event, log
from invox_watcher.invox import InvoxApi, ReplyStatus, TranscriptionReply, parse_reply
from invox_watcher.job import Job, State
from invox_watcher.journal import Journal
from invox_watcher.times import utc_now

# A second look every quarter of the time already waited keeps a job's answer at most 25 % late.
_POLL_FRACTION = 0.25


def first_poll_delay(
    duration_seconds: float | None, ratio: float | None, *, first_seconds: float, max_seconds: float
) -> float:
    """When to ask first: the recording's length × the learned ratio, or `first_seconds` where unknown.

    Never later than `max_seconds`, the cap between any two looks: a look too early costs one small request,
    and the ratio of short recordings is mostly the fixed cost of each.
    """
    if duration_seconds is None or ratio is None:
        return min(first_seconds, max_seconds)
    return min(max(duration_seconds * ratio, 0.1), max_seconds)


def next_poll_delay(waited_seconds: float, *, first_seconds: float, max_seconds: float) -> float:
    """How long until the next look at a result that has been pending for `waited_seconds`."""
    return min(max(waited_seconds * _POLL_FRACTION, min(first_seconds, max_seconds)), max_seconds)


# After an upload of unknown fate: how long its result may stay pending before we hold that it never arrived.
# Generous, since waiting costs minutes once in a crash, and a second upload costs money.
_UNCERTAIN_FLOOR_SECONDS = 600.0
_UNCERTAIN_FACTOR = 3.0
_PENDING = TranscriptionReply(ReplyStatus.PENDING, None, None, {})
_UNKNOWN_HINT = (
    "Storage has taken the recording, so it is waited for until polling.deadline_seconds. If that is so for"
    " each recording, check api.status_path."
)


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
    """A reply, and by which way it came."""

    reply: TranscriptionReply
    delivered_by: Literal["polling", "webhook"]
    asked_api: bool = True

    @property
    def is_final(self) -> bool:
        """Whether there is a transcript or an error, and nothing more to wait for."""
        return self.reply.status is not ReplyStatus.PENDING


class ResultPoller:
    """Asks about jobs that the API has, or may have. Safe for several threads, one per job at a time."""

    def __init__(
        self,
        journal: Journal,
        api: InvoxApi,
        asking: PollingPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._api = api
        self._asking = asking
        self._clock = clock
        self._waiting_since: dict[str, float] = {}
        self._asked_since: dict[str, float] = {}
        self._denied_since: dict[str, float] = {}
        self._reported: set[str] = set()  # jobs of which it was logged that the API does not know them
        self._answered = False  # whether any question about a result has been answered
        # Whether the API has answered for a job whose result it sent; None where that is not known yet.
        self._api_answers: bool | None = None

    def ask(self, job: Job) -> PollOutcome | None:
        """What there is under the request id; None once the API has denied to know it for long enough.

        That is believed only of an upload of unknown fate: what storage has acknowledged is pending.
        """
        assert job.request_id is not None  # noqa: S101 - written with the states that ask
        self._asked_since.setdefault(job.id, self._clock())
        stored = self._journal.notice(job.request_id) if self._asking.callback_url else None
        if stored is None:
            reply = self._ask_api(job, job.request_id)
            if reply is None and (job.state is State.WAITING or self._may_come_by_webhook_only()):
                reply = _PENDING
            return None if reply is None else PollOutcome(reply, "polling")
        pushed = parse_reply(stored.payload, duration_seconds=job.duration_seconds, pushed=True)
        if self._asking.confirm == "never" or (stored.covers_body and self._asking.confirm == "auto"):
            return PollOutcome(pushed, "webhook", asked_api=False)
        reply = self._ask_api(job, job.request_id)
        if reply is not None and reply.status is not ReplyStatus.PENDING:
            self._api_answers = True
            return PollOutcome(reply, "webhook")
        if self._asking.confirm == "auto" and self._is_not_answering(job, reply, stored.at):
            return PollOutcome(pushed, "webhook")
        if reply is None and job.state is State.WAITING:
            reply = _PENDING
        return None if reply is None else PollOutcome(reply, "webhook")

    def _is_not_answering(self, job: Job, reply: TranscriptionReply | None, notified_at: datetime) -> bool:
        """Whether the API doesn't answer for jobs whose result it sends: it denies them, or says "pending".

        Not believed quickly, since a moment's denial must not open the way for a webhook's own words; but
        once it has done so with one job for long, and never answered for any, it is how this account works.
        """
        never_answers = self._api_answers is False
        denied = reply is None or (job.id in self._denied_since and never_answers)
        patience = self._asking.unknown_seconds if never_answers else self.patience_seconds(job)
        overdue = (utc_now() - notified_at).total_seconds() >= patience
        if (denied or overdue) and self._api_answers is None:
            self._api_answers = False
        return denied or overdue

    def _may_come_by_webhook_only(self) -> bool:
        """Whether an API that denies a job may be one that only ever sends such jobs' results."""
        expected = self._asking.callback_url is not None and self._asking.confirm != "always"
        return expected and self._api_answers is not True

    def _ask_api(self, job: Job, request_id: str) -> TranscriptionReply | None:
        """The API's reply; None once it has denied to know the request for long enough.

        Some APIs reject a question about a request whose result they send: that is a denial, too.
        """
        try:
            reply = self._api.result(request_id, duration_seconds=job.duration_seconds)
        except RequestUnknownError as error:
            if error.code == "not_found" and job.state is State.WAITING and not self._answered:
                raise _of_set_up(error) from None
            return self._denied(job)
        except ApiRejectedError as error:
            if self._asking.callback_url is None:
                raise error if self._answered else _of_set_up(error) from None
            return self._denied(job)
        self._answered = True
        self._denied_since.pop(job.id, None)
        return reply

    def _denied(self, job: Job) -> TranscriptionReply | None:
        # Its books may be behind its storage, or a part of it restarting: one denial is not believed.
        denied_since = self._denied_since.setdefault(job.id, self._clock())
        if self._clock() - denied_since < self._asking.unknown_seconds:
            return _PENDING
        if self._asking.callback_url is None and job.state is State.WAITING and job.id not in self._reported:
            self._reported.add(job.id)
            log.warning(Event.REQUEST_UNKNOWN, job=job.id, request_id=job.request_id, hint=_UNKNOWN_HINT)
        return None

    # ---- when --------------------------------------------------------------------------------------------

    def begin(self, job: Job) -> float:
        """The API has the recording now: start to count, and say in how many seconds to look first."""
        self._waiting_since[job.id] = self._clock()
        if self._asking.callback_url is not None:  # the webhook is expected to come first, and wakes the job
            return max(self._asking.max_seconds, job.duration_seconds or 0.0)
        return first_poll_delay(
            job.duration_seconds,
            min(self._ratios(), default=None),
            first_seconds=self._asking.first_seconds,
            max_seconds=self._asking.max_seconds,
        )

    def forget(self, job: Job) -> None:
        """Nothing more is asked about this job."""
        self._waiting_since.pop(job.id, None)
        self._asked_since.pop(job.id, None)
        self._denied_since.pop(job.id, None)
        self._reported.discard(job.id)

    def is_expected(self, job: Job) -> bool:
        """Whether storage has acknowledged the upload, and its deadline has not passed."""
        if job.uploaded_at is None:
            return False
        return (utc_now() - job.uploaded_at).total_seconds() < self._asking.deadline_seconds

    def waited_seconds(self, job: Job) -> float:
        """How long this job has been waiting. After a restart the wall clock is believed, forwards only."""
        now = self._clock()
        if job.id not in self._waiting_since:
            began = job.uploaded_at if job.state is State.WAITING else None
            earlier = max((utc_now() - began).total_seconds(), 0.0) if began else 0.0
            self._waiting_since[job.id] = now - earlier
        return now - self._waiting_since[job.id]

    def is_overdue(self, job: Job) -> bool:
        """Whether a job that is pending has waited for as long as any may.

        What the wall clock says of the time before a restart may be a clock that was set, or a host that was
        off: so in this run, too, it must have been asked about for as long as a result usually takes.
        """
        asked = self._clock() - self._asked_since[job.id]
        deadline = self._asking.deadline_seconds
        return self.waited_seconds(job) >= deadline and asked >= min(self.patience_seconds(job), deadline)

    def next_poll_delay(self, waited_seconds: float) -> float:
        """In how many seconds to look again at a job that has been waiting for so long."""
        return next_poll_delay(
            waited_seconds, first_seconds=self._asking.first_seconds, max_seconds=self._asking.max_seconds
        )

    def patience_seconds(self, job: Job) -> float:
        """How long an upload of unknown fate may stay pending before it counts as never arrived.

        A job is expected to take as long as the recording lasts, or as the slowest of late took; where the
        clock was set meanwhile that may be anything, and the deadline bounds it.
        """
        expected = (job.duration_seconds or 0.0) * max([1.0, *self._ratios()])
        patience = max(_UNCERTAIN_FLOOR_SECONDS, _UNCERTAIN_FACTOR * expected)
        return min(patience, max(_UNCERTAIN_FLOOR_SECONDS, self._asking.deadline_seconds))

    def _ratios(self) -> list[float]:
        # Where webhooks are expected, one that had to be asked for tells how long we waited, not the API.
        by = "polling" if self._asking.callback_url is None else "webhook"
        return self._journal.transcription_ratios(by)


def _of_set_up(error: ApiError) -> ApiRefusedError:
    """An answer that leaves open whether any question will ever be answered as things are set up."""
    code = "not_found" if isinstance(error, RequestUnknownError) else "rejected"
    return ApiRefusedError(error.message, code=code, hint=error.hint, status=error.status)
