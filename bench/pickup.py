"""How soon after a recording is closed in the inbox does its first request arrive at the API?

A daemon runs; every 100 ms a WAV of 100 kB is written to its inbox. Measured from the return of close() to
the request for an upload address, on the server's clock, which is the same: with `watch.grace_seconds: 0`,
and with the default of one second.
"""

from __future__ import annotations

import statistics
import time

from bench.recordings import wav
from bench.scenario import Bench, Scenario
from bench.site import Site, wait_for

PAUSE_SECONDS = 0.1
WARM_UP = 5


def waits(bench: Bench, site: Site, count: int) -> list[float]:
    """Seconds from close to request, sorted; each file with the request that came in the same turn."""
    bench.server.reset()
    bench.server.set(trace=True)
    closed = []
    with site.daemon():
        for number in range(count + WARM_UP):
            content = wav()
            path = site.inbox / f"{number}.wav"
            with path.open("wb") as file:
                file.write(content)
            closed.append(time.time())
            time.sleep(PAUSE_SECONDS)
        wait_for(
            "every recording is uploaded",
            lambda: bench.server.counts().get("put", 0) >= len(closed),
            seconds=60,
            pause=0.2,
        )
    asked = sorted(at for call, at in bench.server.trace() if call == "presign")
    return sorted(later - earlier for earlier, later in zip(closed, asked, strict=True))[: -WARM_UP or None]


def measure(bench: Bench, *, recordings: int) -> None:
    """Both settings."""
    for grace in (0, 1):
        site = Site(bench.folder / f"grace-{grace}", bench.server.base_url, watch={"grace_seconds": grace})
        bench.progress(f"{recordings} recordings with a grace of {grace} s")
        found = [(seconds - grace) * 1000 for seconds in waits(bench, site, recordings)]
        beyond = f"grace {grace} s{', beyond it' * (grace > 0)}"
        bench.add(f"{beyond}: median", statistics.median(found), "ms", at_most=15)
        bench.add(f"{beyond}: 99 %", found[len(found) * 99 // 100], "ms", at_most=60)
        bench.add(f"{beyond}: worst", found[-1], "ms")


SCENARIO = Scenario(
    "from close to the first request",
    measure,
    {"full": {"recordings": 500}, "quick": {"recordings": 60}, "smoke": {"recordings": 5}},
    240,
)
