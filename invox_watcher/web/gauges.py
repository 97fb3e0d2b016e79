"""What Prometheus reads: what the daemon has done, counted from its events, and how things stand right now.

Names and units follow https://prometheus.io/docs/practices/naming/. No label can hold a name or an id: except
for HTTP statuses, all values of labels are written in the code.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric

from invox_watcher.host import Probe
from invox_watcher.inbox import InboxStatus
from invox_watcher.job import ACTIVE, Job, State
from invox_watcher.times import seconds_since
from invox_watcher.web.metrics import Counters

# Less than the ten seconds that Prometheus gives a scrape, and than a person waits.
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class IntakeSnapshot:
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
        standing: Callable[[], IntakeSnapshot],
        under_way: Callable[[], Sequence[Job]],
        folders: Mapping[str, Path],
    ) -> None:
        """`under_way` asks the journal; `folders` says what to call the folders whose disks are measured."""
        self._standing = standing
        self._journal = Probe("journal", under_way)
        self._disks = {name: Probe(name, partial(os.statvfs, path)) for name, path in folders.items()}

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment; what could not be found out in time is left out."""
        looks: list[Probe[Any]] = [self._journal, *self._disks.values()]
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


def exposition(meter: Counters, gauges: Gauges) -> Callable[[], bytes]:
    """What gives everything as text (`CONTENT_TYPE`); for one thread at a time."""
    registry = CollectorRegistry()
    registry.register(meter.registry)
    registry.register(gauges)
    return lambda: prometheus_client.generate_latest(registry)


def _of_standing(standing: IntakeSnapshot) -> Iterator[Metric]:
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
