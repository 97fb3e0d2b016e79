"""What Prometheus reads of the past: what the daemon has done, counted from its events.

Names and units follow https://prometheus.io/docs/practices/naming/. No label can hold a name or an id: except
for HTTP statuses, all values of labels are written in the code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from platform import python_version
from typing import Any, Literal, get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from invox_watcher import version
from invox_watcher.events import Event
from invox_watcher.job import State
from invox_watcher.suspicion import Doubt

WebhookAnswer = Literal["taken", "tested", "refused", "not_stored"]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Otherwise there is a second series beside each counter and histogram, which nothing reads.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

_NAMESPACE = "invox_watcher"


class Counters:
    """Counts what the daemon does. Safe for several threads; one for the whole process, across reloads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, namespace=_NAMESPACE, registry=self.registry)
        self._ended = counter(
            "recordings_total", "Recordings that have ended, by their final state.", ["state"]
        )
        # Apart from the above, whose series exist from the start: a series that an alert watches must not
        # appear with its first failure, since `increase` sees nothing in one that begins at 1.
        self._failures = counter(
            "failures_total", "Recordings that have failed, by the reason's code.", ["code"]
        )
        self._suspect = counter(
            "suspect_transcripts_total",
            "Transcripts that may not be what was said, by each reason that applies.",
            ["reason"],
        )
        self._uploaded = counter("uploaded_bytes_total", "Bytes of recordings that storage has confirmed.")
        self._calls = counter(
            "api_calls_total", "Calls of the API, by the kind of call and the answer.", ["call", "status"]
        )
        self._webhooks = counter("webhooks_total", "Webhooks received, by the answer.", ["answer"])
        self._misses = counter("rescan_misses_total", "Files found by a rescan that the watch had missed.")
        self._sent = counter(
            "deliveries_total",
            "Deliveries to targets that ended, by target and result.",
            ["target", "result"],
        )
        self._kept = counter("retention_refused_total", "Deletions by retention that failed.")
        self._delivered = Gauge(
            "last_delivery_timestamp_seconds",
            "When the last transcript was delivered (Unix time); 0 if none was since the start.",
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self._durations = _Durations(self.registry)
        _describe_process(self.registry)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Create every series that is known from the start."""
        for state in (State.DONE, State.FAILED, State.VANISHED):
            self._ended.labels(state)
        for reason in Doubt:
            self._suspect.labels(reason)
        for answer in get_args(WebhookAnswer):
            self._webhooks.labels(answer)

    def begin_targets(self, names: Iterable[str]) -> None:
        """Create the series of these targets."""
        for name in names:
            for result in ("sent", "failed"):
                self._sent.labels(name, result)

    def record(self, event: Event, fields: Mapping[str, Any]) -> None:
        """Count one event; see docs/events.md for when each is logged and what its fields are."""
        match event:
            case Event.CLAIMED:
                self._durations.settle.observe(fields["waited_seconds"])
            case Event.UPLOADED:
                self._uploaded.inc(fields["bytes"])
                self._durations.upload.observe(fields["seconds"])
            case Event.TRANSCRIBED if fields["seconds"] is not None:
                self._durations.transcription.observe(fields["seconds"])
            case Event.TRANSCRIPT_SUSPECT:
                self._count_suspect(fields["reasons"])
            case Event.DELIVERED:
                self._durations.turnaround.observe(fields["seconds"])
                self._delivered.set_to_current_time()
            case Event.DONE:
                self._ended.labels(State.DONE).inc()
            case Event.FAILED:
                self._ended.labels(State.FAILED).inc()
                self._failures.labels(fields["code"]).inc()
            case Event.VANISHED if fields["state"] != State.DELIVERED:  # that one still becomes done
                self._ended.labels(State.VANISHED).inc()
            case Event.API_CALLED:
                self._calls.labels(fields["call"], fields["status"]).inc()
            case Event.DELIVERY_SENT | Event.DELIVERY_FAILED:
                self._sent.labels(
                    fields["target"], "sent" if event is Event.DELIVERY_SENT else "failed"
                ).inc()
            case Event.RETENTION_REFUSED:
                self._kept.inc()
            case Event.WATCH_MISSED:
                self._misses.inc(fields["count"])

    def _count_suspect(self, reasons: Iterable[str]) -> None:
        for reason in reasons:
            self._suspect.labels(reason).inc()

    def webhook(self, answer: WebhookAnswer) -> None:
        """One more webhook. Not from an event: in a flood each is counted, but not each is logged."""
        self._webhooks.labels(answer).inc()


class _Durations:
    """How long recordings took from one stage to another."""

    def __init__(self, registry: CollectorRegistry) -> None:
        histogram = partial(Histogram, namespace=_NAMESPACE, registry=registry)
        self.settle = histogram(
            "settle_seconds",
            "From when a recording was first seen until it was taken.",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200),
        )
        self.upload = histogram(
            "upload_seconds",
            "How long uploads took.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600),
        )
        self.transcription = histogram(
            "transcription_seconds",
            "From the end of the upload until the result arrived.",
            buckets=(1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 14400),
        )
        self.turnaround = histogram(
            "turnaround_seconds",
            "From when a recording was taken until its transcript was delivered.",
            buckets=(2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400),
        )


def _describe_process(registry: CollectorRegistry) -> None:
    """What is running, and the processor time, memory and files that it uses."""
    build = Info("build", "What is running.", namespace=_NAMESPACE, registry=registry)
    build.info({"version": version(), "python": python_version()})
    ProcessCollector(registry=registry)
