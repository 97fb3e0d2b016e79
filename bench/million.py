"""A million finished recordings in the journal.

Recordings are drained with an empty journal and with ever larger ones, in turns; CPU for each is without
that of an empty run with the same journal. Then, with the largest: how long it takes from the start of the
process until the inbox is watched, after a clean end and after a kill; what the daemon takes while nothing
happens, except that it reads its journal through, as after each start, and what a script takes that lists the
inbox every second; the commands, as processes beside the running daemon; and how long a recording's writes
wait while retention deletes 100,000 entries. `explain` watches a file for as long as `watch.grace_seconds`
says, which is 0 here.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from bench.drain import configured, emptied
from bench.journal import opened, retention, seed
from bench.processes import cpu_seconds, peak_mib, resident_mib
from bench.recordings import write_wavs
from bench.scenario import Bench, Scenario
from bench.site import Site
from invox_watcher.journal import Journal

_LISTING = "import os, sys, time\nwhile True:\n    os.listdir(sys.argv[1])\n    time.sleep(1)\n"


def measure(bench: Bench, *, finished: list[int], recordings: int, rounds: int, idle_seconds: float) -> None:
    """From an empty journal to the largest of `finished`."""
    states = {}
    for count in finished:
        states[count] = bench.folder / f"state-{count}"
        states[count].mkdir(mode=0o700)
        began = time.monotonic()
        seed(states[count], count)
        with opened(states[count]):
            pass
        bench.progress(f"{count:,} finished recordings, made in {time.monotonic() - began:.0f} s")
    _growth(bench, states, recordings, rounds)
    largest = max(finished)
    site = Site(
        bench.folder / "site",
        bench.server.base_url,
        state={"directory": str(states[largest])},
        watch={"grace_seconds": 0},
    )
    _starts(bench, site)
    _idle(bench, site, states[largest], idle_seconds)
    sweep = retention(states[largest], largest)
    bench.add("retention: entries deleted", sweep.gone, "")
    bench.add("retention: longest pause of a recording's writes", max(sweep.waits) * 1000, "ms", at_most=100)
    bench.add("the same without retention", max(sweep.waits_before) * 1000, "ms")


def _growth(bench: Bench, states: Mapping[int, Path], recordings: int, rounds: int) -> None:
    """CPU for each recording, beside a journal that is empty at first."""
    each: dict[int, list[float]] = {count: [] for count in (0, *states)}
    for turn in range(rounds):
        for count, found in each.items():
            contestant = configured(state={"directory": str(states[count])}) if count else configured()
            (bench.folder / "empty").mkdir(exist_ok=True)
            start = emptied(bench, contestant, bench.folder / "empty").usage.cpu_seconds
            pool = bench.folder / "pool"
            write_wavs(pool, recordings)
            drain = emptied(bench, contestant, pool)
            shutil.rmtree(pool)
            found.append((drain.usage.cpu_seconds - start) / recordings * 1000)
            bench.progress(f"{turn + 1}/{rounds} {count:,}: {found[-1]:.2f} ms, {drain.rate:,.0f}/s")
    medians = {count: statistics.median(values) for count, values in each.items()}
    for count, value in medians.items():
        bench.add(f"{count:,} finished: CPU for each recording", value, "ms")
    largest = max(medians)
    beside = statistics.median(b / a for a, b in zip(each[0], each[largest], strict=True))
    bench.add(f"{largest:,} finished: CPU beside an empty journal", beside, "×", at_most=1.1)
    bench.curve("CPU for each recording, ms", list(medians), list(medians.values()))


def _started(site: Site) -> float:
    """Seconds from the start of the process until it watches, by its log."""
    began = time.time()
    with site.daemon(wait_seconds=120):
        return datetime.fromisoformat(site.events("watching")[-1]["at"]).timestamp() - began


def _starts(bench: Bench, site: Site) -> None:
    empty = Site(bench.folder / "site-without-past", bench.server.base_url)
    found = [(_started(empty), _started(site)) for _round in range(5)]
    without, past = (statistics.median(column) for column in zip(*found, strict=True))
    bench.add("start with an empty journal", without, "s")
    bench.add("start", past, "s", at_most=1)
    with site.daemon(wait_seconds=120, kill=True):
        pass
    bench.add("start after a kill", _started(site), "s", at_most=1)


def _idle(bench: Bench, site: Site, state: Path, idle_seconds: float) -> None:
    with site.daemon(wait_seconds=120) as daemon:
        bench.add("idle: CPU", _share(daemon.pid, idle_seconds), "% of a core", at_most=0.3)
        bench.add("memory", resident_mib(daemon.pid) * 2**20 / 1e6, "MB", at_most=80)
        bench.add("memory at most", peak_mib(daemon.pid) * 2**20 / 1e6, "MB")
        with contextlib.closing(Journal(state, create=False)) as journal:
            [job] = journal.jobs(limit=1)
        for words in (["--version"], ["jobs"], ["jobs", "failed"], ["status"], ["show", job.id]):
            _command(bench, site, words)
    with subprocess.Popen([sys.executable, "-c", _LISTING, str(site.inbox)]) as script:
        time.sleep(1)
        bench.add("idle: CPU of the script", _share(script.pid, idle_seconds), "% of a core")
        script.kill()
    recording = site.inbox / "next.wav"
    write_wavs(site.inbox, 1)
    (site.inbox / "000000.wav").rename(recording)
    _command(bench, site, ["explain", str(recording)])


def _share(pid: int, seconds: float) -> float:
    """How much of a core the process uses in that time, in percent."""
    before = cpu_seconds(pid)
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / seconds * 100


def _command(bench: Bench, site: Site, words: list[str]) -> None:
    took = []
    for _round in range(5):
        began = time.perf_counter()
        subprocess.run(site.command(*words), capture_output=True, check=False)
        took.append(time.perf_counter() - began)
    shown = words[0] if words[0] in ("show", "explain") else " ".join(words)
    bench.add(f"`{shown}`", statistics.median(took), "s", at_most=None if "--" in shown else 0.5)


SCENARIO = Scenario(
    "a million finished recordings",
    measure,
    {
        "full": {
            "finished": [10_000, 100_000, 1_000_000], "recordings": 500, "rounds": 3, "idle_seconds": 60,
        },
        "quick": {"finished": [100_000], "recordings": 300, "rounds": 1, "idle_seconds": 10},
        "smoke": {"finished": [1_000], "recordings": 5, "rounds": 1, "idle_seconds": 1},
    },
    900,
)  # fmt: skip
