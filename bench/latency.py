"""An API that takes 50 ms for each call, and 16 upload workers.

A recording takes three calls. If 16 workers did nothing but wait for them, there would be 107 recordings/s.
"""

from __future__ import annotations

from bench.drain import configured, emptied, median
from bench.recordings import write_wavs
from bench.scenario import Bench, Scenario

LATENCY_SECONDS = 0.05
WORKERS = 16
CALLS = 3


def measure(bench: Bench, *, recordings: int, rounds: int) -> None:
    """The daemon beside what latency and workers allow."""
    pool = bench.folder / "pool"
    write_wavs(pool, recordings)
    bench.server.set(latency_seconds=LATENCY_SECONDS)
    contestant = configured(upload={"workers": WORKERS})
    drains, polls = [], 0.0
    for turn in range(rounds):
        drains.append(emptied(bench, contestant, pool))
        polls = bench.server.counts()["result"] / recordings
        bench.progress(f"{turn + 1}/{rounds}: {drains[-1].rate:,.0f}/s")
    allowed = WORKERS / CALLS / LATENCY_SECONDS
    rate = median(drains, lambda drain: drain.rate)
    bench.add("allowed", allowed, "recordings/s")
    bench.add("reached", rate, "recordings/s")
    bench.add("of what is allowed", rate / allowed, "×", at_least=0.85)
    bench.add("polls for each", polls, "")


SCENARIO = Scenario(
    "50 ms latency, 16 workers",
    measure,
    {
        "full": {"recordings": 1500, "rounds": 3},
        "quick": {"recordings": 300, "rounds": 1},
        "smoke": {"recordings": 4, "rounds": 1},
    },
    240,
)
