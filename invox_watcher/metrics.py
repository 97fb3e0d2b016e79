"""What Prometheus reads: what the daemon has done, counted from its events, and how things stand right now.

Names and units follow https://prometheus.io/docs/practices/naming/. No label can hold a name or an id: except
for HTTP statuses, all values of labels are written in the code.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from platform import python_version
from typing import Any, Generic, Literal, TypeVar, get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric

from invox_watcher import __version__
from invox_watcher.errors import InvoxError
from invox_watcher.events import Event
from invox_watcher.inbox import InboxStatus
from invox_watcher.job import ACTIVE, Job, State, seconds_since

WebhookAnswer = Literal["taken", "refused", "not_kept"]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Less than the ten seconds that Prometheus gives a scrape, and than a person waits.
_LOOK_SECONDS = 1.0
# A second series beside each counter and histogram, which nothing reads.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

_SETTLE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_UPLOAD_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
_TRANSCRIPTION_BUCKETS = (1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 14400)
_TURNAROUND_BUCKETS = (2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)


class Meter:
    """Counts what the daemon does. Safe for several threads; one for the process, whatever is reloaded."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> prometheus_client.Counter:
            return prometheus_client.Counter(f"invox_watcher_{name}", meaning, labels, registry=registry)

        def histogram(name: str, meaning: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(f"invox_watcher_{name}", meaning, buckets=buckets, registry=registry)

        self._ended = counter("recordings_total", "Recordings that have come to an end, by how.", "state")
        # Apart from the above, whose series are there from the start: what an alert watches must not appear
        # with its first failure, since `increase` sees nothing in a series that begins at 1.
        self._failures = counter(
            "failures_total", "Recordings that have failed, by the reason's code.", "code"
        )
        self._uploaded = counter("uploaded_bytes_total", "Bytes of recordings that storage has taken.")
        self._calls = counter(
            "api_calls_total", "Calls of the API, by what was asked and the answer.", "call", "status"
        )
        self._webhooks = counter("webhooks_total", "Webhooks that came, by the answer.", "answer")
        self._misses = counter("rescan_misses_total", "Files found by a rescan that the watch had not shown.")
        self._hooks = counter("hooks_total", "Commands after a recording, by how they did.", "result")
        self._kept = counter("retention_refused_total", "Deletions by retention that the disk refused.")
        self._delivered = Gauge(
            "invox_watcher_last_delivery_timestamp_seconds",
            "When the last transcript was delivered (Unix time); 0 if none was since the start.",
            registry=registry,
        )
        self._settle = histogram(
            "settle_seconds", "From a recording's first being seen to its being taken.", _SETTLE_BUCKETS
        )
        self._upload = histogram("upload_seconds", "How long uploads took.", _UPLOAD_BUCKETS)
        self._transcription = histogram(
            "transcription_seconds",
            "From the upload to the result's being here.",
            _TRANSCRIPTION_BUCKETS,
        )
        self._turnaround = histogram(
            "turnaround_seconds",
            "From a recording's being taken to its transcript's being delivered.",
            _TURNAROUND_BUCKETS,
        )
        Info("invox_watcher_build", "What is running.", registry=registry).info(
            {"version": __version__, "python": python_version()}
        )
        ProcessCollector(registry=registry)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Have every series from the start that is known by then."""
        for state in (State.DONE, State.FAILED, State.VANISHED):
            self._ended.labels(state)
        for result in ("ran", "failed"):
            self._hooks.labels(result)
        for answer in get_args(WebhookAnswer):
            self._webhooks.labels(answer)

    def hear(self, event: Event, fields: Mapping[str, Any]) -> None:
        """Count one event; see docs/events.md for when each is logged and what its fields are."""
        match event:
            case Event.CLAIMED:
                self._settle.observe(fields["waited_seconds"])
            case Event.UPLOADED:
                self._uploaded.inc(fields["bytes"])
                self._upload.observe(fields["seconds"])
            case Event.TRANSCRIBED if fields["seconds"] is not None:
                self._transcription.observe(fields["seconds"])
            case Event.DELIVERED:
                self._turnaround.observe(fields["seconds"])
                self._delivered.set_to_current_time()
            case Event.DONE:
                self._ended.labels(State.DONE).inc()
            case Event.FAILED:
                self._ended.labels(State.FAILED).inc()
                self._failures.labels(fields["code"]).inc()
            case Event.VANISHED if fields["state"] != State.DELIVERED:  # that one will be done all the same
                self._ended.labels(State.VANISHED).inc()
            case Event.API_CALLED:
                self._calls.labels(fields["call"], fields["status"]).inc()
            case Event.HOOK_RAN:
                self._hooks.labels("ran").inc()
            case Event.HOOK_FAILED:
                self._hooks.labels("failed").inc()
            case Event.RETENTION_REFUSED:
                self._kept.inc()
            case Event.WATCH_MISSED:
                self._misses.inc(fields["count"])

    def webhook(self, answer: WebhookAnswer) -> None:
        """One more webhook. Not from an event: a flood of them is counted, but not logged one by one."""
        self._webhooks.labels(answer).inc()


@dataclass(frozen=True)
class Standing:
    """How things stand, as far as no disk has to be asked."""

    problems: Collection[str]  # codes of what keeps a recording from going through
    api_is_away: bool  # nothing is sent to the API for now
    takes: bool  # whether recordings are taken from the inbox
    inbox: InboxStatus


class Gauges:
    """Asks at each scrape how things stand; never for longer than a second, whatever a disk does."""

    def __init__(
        self,
        *,
        standing: Callable[[], Standing],
        under_way: Callable[[], Sequence[Job]],
        folders: Mapping[str, Path],
    ) -> None:
        """`under_way` asks the journal; `folders` says what to call the folders whose disks are measured."""
        self._standing = standing
        self._journal = _Look("journal", under_way)
        self._disks = {name: _Look(name, partial(os.statvfs, path)) for name, path in folders.items()}

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment; what could not be found out in time is left out."""
        looks: list[_Look[Any]] = [self._journal, *self._disks.values()]
        for look in looks:
            look.begin()
        yield from _of_standing(self._standing())
        give_up = time.monotonic() + _LOOK_SECONDS
        for look in looks:
            look.wait(give_up)
        if self._journal.answer is not None:
            yield from _of_journal(self._journal.answer)
        yield from _of_disks({name: look.answer for name, look in self._disks.items()})
        answered = {look.name: look.answer is not None for look in looks}
        yield _gauges(
            "look_success", "Whether the journal, or a folder's disk, has answered.", "at", answered
        )


def exposition(meter: Meter, gauges: Gauges) -> Callable[[], bytes]:
    """What gives everything as text (`CONTENT_TYPE`); for one thread at a time."""
    registry = CollectorRegistry()
    registry.register(meter.registry)
    registry.register(gauges)
    return lambda: prometheus_client.generate_latest(registry)


def _of_standing(standing: Standing) -> Iterator[Metric]:
    yield _gauge("ready", "Whether a recording could go through now.", not standing.problems)
    problems = dict.fromkeys(standing.problems, 1)
    yield _gauges("problem", "What keeps recordings from going through now.", "code", problems)
    yield _gauge(
        "breaker_open",
        "Whether nothing but a probe now and then is sent to the API, because it is ill or refuses us.",
        standing.api_is_away,
    )
    yield _gauge("intake_paused", "Whether no recording is taken now.", not standing.takes)
    yield from _of_inbox(standing.inbox)


def _of_inbox(inbox: InboxStatus) -> Iterator[Metric]:
    modes = {mode: mode == inbox.watching for mode in ("native", "polling")}
    yield _gauges("watch_mode", "How the inbox is watched: 1 for the mode that is in use.", "mode", modes)
    stages = {
        "settling": inbox.settling,
        "unfinished": inbox.unfinished,
        "waiting": inbox.refused_now,
        "troubled": inbox.troubled,
    }
    yield _gauges("inbox_recordings", "Recordings in the inbox, by why they wait.", "stage", stages)
    yield _gauge(
        "inbox_oldest_seconds",
        "For how long a recording has been in the inbox; 0 where none is.",
        0.0 if inbox.oldest is None else time.monotonic() - inbox.oldest,
    )


def _of_journal(under_way: Sequence[Job]) -> Iterator[Metric]:
    found = Counter(job.state for job in under_way)
    counts = {str(state): found[state] for state in State if state in ACTIVE}
    yield _gauges("jobs", "Recordings under way, by the state that the journal says.", "state", counts)
    yield _gauge(
        "jobs_oldest_seconds",
        "For how long a recording has been under way; 0 where none is.",
        max((seconds_since(job.received_at) for job in under_way), default=0.0),
    )


def _of_disks(disks: Mapping[str, os.statvfs_result | None]) -> Iterator[Metric]:
    known = {name: disk for name, disk in disks.items() if disk is not None}
    free = {name: disk.f_bavail * disk.f_frsize for name, disk in known.items()}
    size = {name: disk.f_blocks * disk.f_frsize for name, disk in known.items()}
    yield _gauges("storage_free_bytes", "Room that is left on a folder's file system.", "folder", free)
    yield _gauges("storage_size_bytes", "Size of a folder's file system.", "folder", size)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"invox_watcher_{name}", meaning, value=float(value))


def _gauges(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"invox_watcher_{name}", meaning, labels=[label])
    for value_of_label, value in values.items():
        family.add_metric([value_of_label], float(value))
    return family


T = TypeVar("T")


class _Look(Generic[T]):
    """One question to a disk, asked in a thread of its own: one that hangs holds up nobody."""

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        self.name = name
        self.answer: T | None = None  # to the last `wait`
        self._ask = ask
        self._asked: Future[T | None] | None = None

    def begin(self) -> None:
        """Ask, unless the last time still waits for its answer."""
        if self._asked is None or self._asked.done():
            self._asked = Future()
            threading.Thread(
                target=self._run, args=(self._asked,), name=f"look-{self.name}", daemon=True
            ).start()

    def wait(self, give_up: float) -> None:
        """Wait until that moment, on the monotonic clock, for the answer."""
        assert self._asked is not None  # noqa: S101 - `begin` comes first
        try:
            self.answer = self._asked.result(max(give_up - time.monotonic(), 0))
        except TimeoutError:
            self.answer = None

    def _run(self, asked: Future[T | None]) -> None:
        try:
            asked.set_result(self._ask())
        except (OSError, InvoxError):
            asked.set_result(None)
        except BaseException as error:  # whoever waits must hear of it, whatever it is
            asked.set_exception(error)
            raise
