"""Formats, subfolders and webhooks: what the daemon does for its users costs how much?

The full inbox again, with WAV, MP3 and FLAC in 20 subfolders. In turns: as above; and with JSON, SRT and
VTT for each, and a webhook that announces each result 0.1 s after the upload and that the daemon confirms
by asking.
"""

from __future__ import annotations

from pathlib import Path

from bench.drain import configured, in_turns, median, ratio
from bench.processes import Usage
from bench.recordings import write_mixed
from bench.scenario import Bench, Scenario
from tests.kit.clinic import free_port


def with_webhooks(bench: Bench, root: Path, pool: Path) -> Usage:
    """The daemon with all of that."""
    port = free_port()
    bench.server.set(result_seconds=0.1)
    try:
        return configured(
            outputs={"formats": ["json", "srt", "vtt"]},
            http={"listen": f"127.0.0.1:{port}"},
            webhook={"enabled": True, "public_url": f"http://127.0.0.1:{port}/webhook"},
            polling={"first_seconds": 5, "max_seconds": 60},
        )(bench, root, pool)
    finally:
        bench.server.set()


def measure(bench: Bench, *, recordings: int, rounds: int) -> None:
    """The same recordings, in both ways."""
    pool = bench.folder / "pool"
    write_mixed(pool, recordings)
    found = in_turns(bench, {"plain": configured(), "mixed": with_webhooks}, pool, rounds)
    rate = ratio(found, "mixed", "plain", lambda drain: drain.rate)
    cpu = ratio(found, "mixed", "plain", lambda drain: drain.usage.cpu_seconds)
    bench.add("two outputs, no webhooks", median(found["plain"], lambda drain: drain.rate), "recordings/s")
    bench.add("three outputs, webhooks", median(found["mixed"], lambda drain: drain.rate), "recordings/s")
    bench.add("rate, of that without", rate, "×")
    bench.add("CPU, of that without", cpu, "×")


SCENARIO = Scenario(
    "formats, subfolders, webhooks",
    measure,
    {
        "full": {"recordings": 1500, "rounds": 3},
        "quick": {"recordings": 300, "rounds": 1},
        "smoke": {"recordings": 6, "rounds": 1},
    },
    300,
)
