"""A week in an hour: does anything grow?

A daemon in a time of its own in which dates run 168 times as fast (waits don't), with retention: a day for
recordings and transcripts, two for the journal. 50,000 recordings come at an even rate; a tenth of the time
the API answers every seventh call with 503. What the daemon has and holds is noted all the time; compared
are the means of the third day, when retention has begun to delete from the journal, and of the last.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import astuple, dataclass

from bench.processes import cpu_seconds, descriptors, resident_mib, spawn, stopped_at_the_end, threads
from bench.recordings import wav
from bench.scenario import Bench, Scenario
from bench.site import Site, files, wait_for

SIZE_BYTES = 8_000
DAYS = 7
DAY_SECONDS = 86_400
SAMPLES = 350
FAULTY, OF = 5, 50  # samples


@dataclass(frozen=True)
class Sample:
    """What the daemon has at one moment."""

    day: float
    memory_mib: float
    threads: float
    descriptors: float
    journal_mib: float


def sample(site: Site, pid: int, day: float) -> Sample:
    """What it has now."""
    journal = sum(path.stat().st_size for path in site.state.glob("journal.sqlite*"))
    return Sample(day, resident_mib(pid), threads(pid), descriptors(pid), journal / 2**20)


def lived(bench: Bench, site: Site, pid: int, seconds: float, recordings: int) -> list[Sample]:
    """The week."""
    samples: list[Sample] = []
    partial, began = site.root / "next", time.monotonic()
    for number in range(recordings):
        time.sleep(max(0.0, began + seconds * number / recordings - time.monotonic()))
        partial.write_bytes(wav(SIZE_BYTES))
        os.rename(partial, site.inbox / f"{number:06}.wav")
        passed = (time.monotonic() - began) / seconds
        if passed * SAMPLES > len(samples):
            samples.append(sample(site, pid, passed * DAYS))
            bench.server.set(fault_every=7 if len(samples) % OF < FAULTY else 0)
            if len(samples) % OF == 0:
                bench.progress(f"day {samples[-1].day:.1f}: {samples[-1].memory_mib:.1f} MiB")
    bench.server.set()
    return samples


def measure(bench: Bench, *, seconds: float, recordings: int) -> None:
    """One daemon, which has to finish everything in the end."""
    days = {"journal_days": 2, "done_days": 1, "transcripts_days": 1}
    site = Site(bench.folder / "site", bench.server.base_url, retention=days, watch={"grace_seconds": 0})
    [python, _module, _name, *rest] = site.command("run")
    assert python == sys.executable
    speed = DAYS * DAY_SECONDS / seconds
    process = spawn([python, "-m", "bench.fast_days", str(speed), *rest], log=site.log)
    with stopped_at_the_end(process):
        wait_for("the daemon watches", lambda: site.count("watching") > 0, seconds=60)
        samples = lived(bench, site, process.pid, seconds, recordings)
        wait_for("everything is done", lambda: site.count("done") == recordings, seconds=400, pause=2)
        cpu = cpu_seconds(process.pid) / recordings * 1000
    for name, allowed in (("memory_mib", 3.0), ("threads", 1.0), ("descriptors", 2.0), ("journal_mib", 2.0)):
        third, last = (
            statistics.mean(getattr(one, name) for one in samples if day <= one.day < day + 1)
            for day in (2, DAYS - 1)
        )
        bench.add(f"{name.replace('_mib', ', MiB')}: third day", third, "")
        bench.add(
            f"{name.replace('_mib', ', MiB')}: grew until the last by", last - third, "", at_most=allowed
        )
    bench.add("CPU for each recording", cpu, "ms")
    bench.add("left in failed/", len(files(site.failed)), "", at_most=0)
    bench.add("left in done/ of all", len(files(site.done)) / recordings * 100, "%")
    for number, name in enumerate(("memory", "threads", "descriptors", "journal"), 1):
        bench.curve(name, [one.day for one in samples], [astuple(one)[number] for one in samples])


SCENARIO = Scenario(
    "a week in an hour",
    measure,
    {
        "full": {"seconds": 3600, "recordings": 50_000},
        "quick": {"seconds": 120, "recordings": 1_500},
        "smoke": {"seconds": 14, "recordings": 100},
    },
    4200,
)
