"""Ten thousand jobs wait at the API.

The daemon uploads them; the API says PENDING. Half a minute later, and for a minute, its CPU is measured.
Then it is killed and started again, and the time from that start to the first poll is measured, and whether
anything was sent again.
"""

from __future__ import annotations

import time

from bench.processes import cpu_seconds, peak_mib, spawn, stopped_at_the_end, threads
from bench.recordings import write_wavs
from bench.scenario import Bench, Scenario
from bench.site import Site, wait_for

SIZE_BYTES = 4_000
NEVER_SECONDS = 1e6


def measure(bench: Bench, *, jobs: int, settle_seconds: float, window_seconds: float) -> None:
    """One daemon, and the next one after a kill."""
    server = bench.server
    server.set(result_seconds=NEVER_SECONDS)
    site = Site(bench.folder / "site", server.base_url, intake={"max_in_flight": jobs + 1})
    with site.daemon() as idle:
        few_threads = threads(idle.pid)
    write_wavs(site.inbox, jobs, SIZE_BYTES)
    process = spawn(site.command("run"), log=site.log)
    with stopped_at_the_end(process, kill=True):
        bench.progress(f"uploading {jobs:,}")
        wait_for("all are uploaded", lambda: server.counts().get("put", 0) >= jobs, seconds=400, pause=0.5)
        time.sleep(settle_seconds)
        polls, cpu, began = server.counts().get("result", 0), cpu_seconds(process.pid), time.monotonic()
        time.sleep(window_seconds)
        seconds = time.monotonic() - began
        polls, cpu = server.counts().get("result", 0) - polls, cpu_seconds(process.pid) - cpu
        bench.add("CPU", cpu / seconds * 100, "% of a core", at_most=5)
        bench.add("polls", polls / seconds, "a second")
        bench.add("CPU for each poll", cpu / polls * 1000 if polls else 0, "ms")
        bench.add("threads more than with none", threads(process.pid) - few_threads, "", at_most=10)
        bench.add("memory", peak_mib(process.pid), "MiB")
    sent = server.counts()
    server.set(result_seconds=NEVER_SECONDS, trace=True)
    server.trace()
    began = time.time()
    process = spawn(site.command("run"), log=site.log)
    with stopped_at_the_end(process):
        polled: list[float] = []

        def has_polled() -> bool:
            polled.extend(at for call, at in server.trace() if call == "result")
            return bool(polled)

        wait_for("the daemon polls", has_polled, seconds=60, pause=0.05)
        time.sleep(settle_seconds / 3)
    again = server.counts()["put"] - sent["put"] + again_asked(server.counts(), sent)
    bench.add("killed and started: first poll after", polled[0] - began, "s", at_most=3)
    bench.add("killed and started: sent again", again, "recordings", at_most=0)


def again_asked(now: dict[str, float], before: dict[str, float]) -> float:
    """How many upload addresses were asked for meanwhile."""
    return now["presign"] - before["presign"]


SCENARIO = Scenario(
    "10,000 jobs wait at the API",
    measure,
    {
        "full": {"jobs": 10_000, "settle_seconds": 30, "window_seconds": 60},
        "quick": {"jobs": 1_000, "settle_seconds": 5, "window_seconds": 20},
        "smoke": {"jobs": 20, "settle_seconds": 1, "window_seconds": 2},
    },
    600,
)
