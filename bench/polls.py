"""How often it asks for a result, and how late it gets it.

Recordings of 10 to 300 s (to 60 s in the quick size); the API takes 0.2 × the length ± 30 % for each. One
comes every second; the daemon has its default configuration, and knows nothing of that API when it starts.
Beside it, calculated from the same jobs: polling every 5 s.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import time

from bench.recordings import BYTES_PER_SECOND, wav
from bench.scenario import Bench, Scenario
from bench.site import Site, files, wait_for

SHARE, SPREAD = 0.2, 0.3
INTERVAL_SECONDS = 5.0


def measure(bench: Bench, *, recordings: int, longest_seconds: int, pause_seconds: float) -> None:
    """One daemon."""
    bench.server.set(result_share=SHARE, spread=SPREAD)
    site = Site(bench.folder / "site", bench.server.base_url)
    chance = random.Random(13)
    with site.daemon():
        for number in range(recordings):
            length = chance.uniform(10, longest_seconds)
            partial = site.root / "next"
            partial.write_bytes(wav(44 + int(length * BYTES_PER_SECOND) // 2 * 2))
            os.rename(partial, site.inbox / f"{number:04}.wav")
            time.sleep(pause_seconds)
        wait_for(
            "all are done",
            lambda: len(files(site.done)) == recordings,
            seconds=150 + longest_seconds,
            pause=0.5,
        )
    jobs = bench.server.jobs()
    took = [job.ready_at - job.uploaded_at for job in jobs]
    late = [(job.answered_at - job.ready_at) / seconds for job, seconds in zip(jobs, took, strict=True)]
    other_polls = [math.ceil(seconds / INTERVAL_SECONDS) for seconds in took]
    other_late = [
        (polls * INTERVAL_SECONDS - seconds) / seconds
        for polls, seconds in zip(other_polls, took, strict=True)
    ]
    bench.add("polls for each: median", statistics.median(job.polls for job in jobs), "", at_most=2)
    bench.add("polls for each: mean", statistics.mean(job.polls for job in jobs), "")
    bench.add("late by: median", statistics.median(late) * 100, "% of the processing time", at_most=15)
    bench.add("late by: 95 %", sorted(late)[len(late) * 95 // 100] * 100, "% of the processing time")
    bench.add("every 5 s, polls for each: median", statistics.median(other_polls), "")
    bench.add("every 5 s, polls for each: mean", statistics.mean(other_polls), "")
    bench.add("every 5 s, late by: median", statistics.median(other_late) * 100, "% of the processing time")


SCENARIO = Scenario(
    "when to ask",
    measure,
    {
        "full": {"recordings": 120, "longest_seconds": 300, "pause_seconds": 1},
        "quick": {"recordings": 30, "longest_seconds": 60, "pause_seconds": 0.5},
        "smoke": {"recordings": 3, "longest_seconds": 12, "pause_seconds": 0.2},
    },
    360,
)
