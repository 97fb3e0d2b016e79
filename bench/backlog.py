"""A hundred thousand recordings wait in the inbox when the daemon starts.

In turns with 5,000, each of 4 kB. Measured from the start of the process until the first upload begins,
with the default configuration (a second of grace is part of it); the rate between the 500th and the 4,500th
upload; and the most memory until then.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from bench.processes import peak_mib, spawn, stopped_at_the_end
from bench.recordings import write_wavs
from bench.scenario import Bench, Scenario
from bench.site import AT_ONCE, Site, files, wait_for

SIZE_BYTES = 4_000


@dataclass(frozen=True)
class Start:
    """How a daemon began."""

    first_seconds: float
    rate: float
    memory_mib: float


def started(bench: Bench, pool: Path, part: int) -> Start:
    """Until it has uploaded `part` and most of another eight of them; the recordings are in `pool` again."""
    bench.server.reset()
    bench.server.set(trace=True)
    site = Site(bench.folder / "site", bench.server.base_url, polling=AT_ONCE["polling"])
    site.inbox.rmdir()
    os.rename(pool, site.inbox)
    began = time.time()
    process = spawn(site.command("run"), log=site.log)
    with stopped_at_the_end(process):
        wait_for(
            "the recordings are uploaded",
            lambda: bench.server.counts().get("put", 0) >= 9 * part,
            seconds=200,
            pause=0.1,
        )
        memory = peak_mib(process.pid)
    uploads = [at for call, at in bench.server.trace() if call == "put"]
    os.rename(site.inbox, pool)
    for number, path in enumerate([*files(site.done), *files(site.root / "processing")]):
        os.rename(path, pool / f"again-{time.time_ns()}-{number}.wav")
    with contextlib.suppress(FileNotFoundError):
        (pool / ".invox-watcher.mark").unlink()
    shutil.rmtree(site.root)
    return Start(uploads[0] - began, 8 * part / (uploads[9 * part - 1] - uploads[part - 1]), memory)


def measure(bench: Bench, *, few: int, many: int, rounds: int) -> None:
    """Few, many, few, many, …"""
    pools = {count: bench.folder / f"pool-{count}" for count in (few, many)}
    for count, pool in pools.items():
        bench.progress(f"writing {count:,} recordings")
        write_wavs(pool, count, SIZE_BYTES)
    found: dict[int, list[Start]] = {few: [], many: []}
    for turn in range(rounds):
        for count, pool in pools.items():
            start = started(bench, pool, few // 10)
            found[count].append(start)
            bench.progress(
                f"{turn + 1}/{rounds} {count:,}: first upload after {start.first_seconds:.2f} s, "
                f"{start.rate:.0f}/s, {start.memory_mib:.0f} MiB"
            )
    first = statistics.median(start.first_seconds for start in found[many])
    bench.add(
        f"{few:,} waiting: first upload after", statistics.median(s.first_seconds for s in found[few]), "s"
    )
    bench.add(f"{many:,} waiting: first upload after", first, "s", at_most=3)
    bench.add(f"{few:,} waiting: rate", statistics.median(start.rate for start in found[few]), "recordings/s")
    bench.add(
        f"{many:,} waiting: rate", statistics.median(start.rate for start in found[many]), "recordings/s"
    )
    rate = statistics.median(b.rate / a.rate for a, b in zip(found[few], found[many], strict=True))
    bench.add("rate beside that with few", rate, "×", at_least=0.9)
    memory = max(start.memory_mib for start in found[many])
    bench.add(f"{many:,} waiting: memory", memory * 2**20 / 1e6, "MB", at_most=150)


SCENARIO = Scenario(
    "100,000 recordings wait in the inbox",
    measure,
    {
        "full": {"few": 5_000, "many": 100_000, "rounds": 2},
        "quick": {"few": 500, "many": 10_000, "rounds": 1},
        "smoke": {"few": 30, "many": 100, "rounds": 1},
    },
    480,
)
