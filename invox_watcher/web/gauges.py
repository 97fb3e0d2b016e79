"""What Prometheus reads of the present: is the daemon ready, what waits and where, how full are the disks?

Each scrape queries again, and never takes longer than a second. Names and units are as in `metrics`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric

from invox_watcher.delivery import TargetHealth
from invox_watcher.host import Probe
from invox_watcher.inbox import InboxStatus
from invox_watcher.job import ACTIVE, Job, State
from invox_watcher.journal import TargetBacklog
from invox_watcher.times import seconds_since
from invox_watcher.web.metrics import Counters

if TYPE_CHECKING:
    from invox_watcher.journal import Host

# Less than the ten seconds that Prometheus allows for a scrape.
_PROBE_SECONDS = 1.0


@dataclass(frozen=True)
class IntakeSnapshot:
    """The daemon's status, as far as no disk has to be asked."""

    problems: Collection[str]  # codes of what keeps a recording from going through
    api_is_unavailable: bool  # nothing is sent to the API for now
    paused: bool  # no recording is taken from the inbox
    inbox: InboxStatus
    targets: Mapping[str, TargetHealth]
    held: int  # recordings for which the daily minutes are used up
    page_is_up: bool | None = None  # None: there is to be no page


class Gauges:
    """Collects the values at each scrape, in at most a second, whatever a disk does."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], IntakeSnapshot],
        under_way: Callable[[], Sequence[Job]],
        backlogs: Callable[[], Mapping[str, TargetBacklog]],
        failed: Callable[[], int],
        folders: Mapping[str, Path],
        hosts: Callable[[], Sequence[Host]] = lambda: (),
    ) -> None:
        """`under_way` and `backlogs` ask the journal; `failed` counts what is in failed/ and was not retried.

        `folders` are those whose disks are measured, by name. `hosts` are those of a fleet.
        """
        self._snapshot = snapshot
        self._backlogs = Probe("backlogs", backlogs)
        self._journal = Probe("journal", under_way)
        self._failed = Probe("failures", failed)
        self._hosts = Probe("hosts", hosts)
        self._disks = {name: Probe(name, partial(os.statvfs, path)) for name, path in folders.items()}

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment; what did not answer in time is left out."""
        measured: list[Probe[Any]] = [self._journal, *self._disks.values()]
        probes = [*measured, self._backlogs, self._failed, self._hosts]
        for probe in probes:
            probe.begin()
        snapshot = self._snapshot()
        yield from _of_snapshot(snapshot)
        give_up = time.monotonic() + _PROBE_SECONDS
        for probe in probes:
            probe.wait(give_up)
        if self._journal.answer is not None:
            yield from _of_journal(self._journal.answer)
        if self._backlogs.answer is not None:
            yield from _of_targets(snapshot.targets, self._backlogs.answer)
        if self._failed.answer is not None:
            yield _gauge(
                "failed_recordings",
                "Recordings in the failed folder that were not retried.",
                self._failed.answer,
            )
        if self._hosts.answer:
            yield from _of_hosts(self._hosts.answer)
        yield from _of_disks({name: disk.answer for name, disk in self._disks.items()})
        answered = {probe.name: probe.answer is not None for probe in measured}
        yield _gauges(
            "probe_success", "Whether the journal, or a folder's disk, answered in time.", "at", answered
        )


def exposition(counters: Counters, gauges: Gauges) -> Callable[[], bytes]:
    """A function that gives all metrics as text (`CONTENT_TYPE`); for one thread at a time."""
    registry = CollectorRegistry()
    registry.register(counters.registry)
    registry.register(gauges)
    return lambda: prometheus_client.generate_latest(registry)


def _of_snapshot(snapshot: IntakeSnapshot) -> Iterator[Metric]:
    yield _gauge("ready", "Whether a recording could go through now.", not snapshot.problems)
    problems = dict.fromkeys(snapshot.problems, 1)
    yield _gauges("problem", "What keeps recordings from going through now.", "code", problems)
    yield _gauge(
        "breaker_open",
        "Whether the API gets only a probe now and then, because it is unavailable or refuses the calls.",
        snapshot.api_is_unavailable,
    )
    yield _gauge("intake_paused", "Whether no recording is taken now.", snapshot.paused)
    yield _gauge(
        "held_recordings",
        "Recordings that are held until the next day, because the daily minutes are used up.",
        snapshot.held,
    )
    if snapshot.page_is_up is not None:
        yield _gauge("page_up", "Whether the process of the page runs.", snapshot.page_is_up)
    yield from _of_inbox(snapshot.inbox)


def _of_inbox(inbox: InboxStatus) -> Iterator[Metric]:
    modes = {mode: mode == inbox.watching for mode in ("native", "polling")}
    yield _gauges("watch_mode", "How the inbox is watched: 1 for the mode that is in use.", "mode", modes)
    stages = {
        "settling": inbox.settling,
        "unfinished": inbox.unfinished,
        "held": inbox.refused_now,
        "error": inbox.troubled,
    }
    yield _gauges("inbox_recordings", "Recordings in the inbox, by why they wait.", "stage", stages)
    yield _gauge(
        "inbox_oldest_seconds",
        "For how long the oldest recording has been in the inbox; 0 if it is empty.",
        0.0 if inbox.oldest is None else time.monotonic() - inbox.oldest,
    )


def _of_journal(under_way: Sequence[Job]) -> Iterator[Metric]:
    found = Counter(job.state for job in under_way)
    counts = {str(state): found[state] for state in State if state in ACTIVE}
    yield _gauges("jobs", "Recordings under way, by their state in the journal.", "state", counts)
    yield _gauge(
        "jobs_oldest_seconds",
        "For how long the oldest job has been under way; 0 if there is none.",
        max((seconds_since(job.received_at) for job in under_way), default=0.0),
    )


def _of_targets(
    targets: Mapping[str, TargetHealth], backlogs: Mapping[str, TargetBacklog]
) -> Iterator[Metric]:
    """Of those in the configuration, and of those that are owed something all the same."""
    known = {**dict.fromkeys(targets, TargetBacklog()), **backlogs}
    yield _gauges(
        "target_up",
        "Whether a target took the last delivery.",
        "target",
        {name: health.unavailable is None for name, health in targets.items()},
    )
    owed = {name: backlog.owed for name, backlog in known.items()}
    yield _gauges("deliveries_owed", "Deliveries that a target has not confirmed yet.", "target", owed)
    oldest = {
        name: 0.0 if backlog.oldest_at is None else seconds_since(backlog.oldest_at)
        for name, backlog in known.items()
    }
    yield _gauges(
        "deliveries_oldest_seconds", "For how long the oldest of them has been owed; 0 if there is none.",
        "target", oldest,
    )  # fmt: skip


def _of_hosts(hosts: Sequence[Host]) -> Iterator[Metric]:
    up = {host.name: host.is_alive for host in hosts}
    yield _gauges("host_up", "Whether a host of the fleet is running, as the others see it.", "host", up)
    jobs = {host.name: host.jobs for host in hosts}
    yield _gauges("host_jobs", "Recordings under way at a host of the fleet.", "host", jobs)


def _of_disks(disks: Mapping[str, os.statvfs_result | None]) -> Iterator[Metric]:
    known = {name: disk for name, disk in disks.items() if disk is not None}
    free = {name: disk.f_bavail * disk.f_frsize for name, disk in known.items()}
    size = {name: disk.f_blocks * disk.f_frsize for name, disk in known.items()}
    yield _gauges("storage_free_bytes", "Free space on a folder's file system.", "folder", free)
    yield _gauges("storage_size_bytes", "Size of a folder's file system.", "folder", size)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"invox_watcher_{name}", meaning, value=float(value))


def _gauges(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"invox_watcher_{name}", meaning, labels=[label])
    for value_of_label, value in values.items():
        family.add_metric([value_of_label], float(value))
    return family
