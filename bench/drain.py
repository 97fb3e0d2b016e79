"""A full inbox, an API that answers at once: the daemon beside what a user would write instead.

Recordings of 100 kB lie in the inbox. In turns, each as a process of its own: the *naive* script that the
vendor's guide leads to (`requests` with a session, one recording after the other, no state), `invox-watcher
run --once`, the *floor* (`http.client` on one connection, nothing checked) and the *shell* (curl, as many
at once as is best for it, one token for all; an eighth of the recordings). Recordings per second are
counted from the first call until the last recording has been moved to `done/`; CPU is that of the whole
process tree, for each recording without that of an empty run.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.processes import Usage, cpu_seconds, run
from bench.recordings import write_wavs
from bench.scenario import Bench, Scenario
from bench.site import AT_ONCE, Site, files

PEERS = Path(__file__).with_name("peers")


@dataclass(frozen=True)
class Drain:
    """How one of them emptied an inbox."""

    count: int
    usage: Usage
    busy_seconds: float  # from its first call until the last recording was filed
    server_share: float  # of that, how long the server had to work

    @property
    def rate(self) -> float:
        """Recordings per second, without the start of the process."""
        return self.count / self.busy_seconds if self.busy_seconds else 0.0


Contestant = Callable[[Bench, Path, Path], Usage]


def configured(tree: Path | None = None, **changes: Mapping[str, Any]) -> Contestant:
    """The daemon, by `run --once`, with these settings beside those for an API that answers at once.

    With `tree`, the daemon of that checkout.
    """

    def contestant(bench: Bench, root: Path, pool: Path) -> Usage:
        site = Site(root, bench.server.base_url, **(dict(AT_ONCE) | changes))
        site.inbox.rmdir()
        os.rename(pool, site.inbox)
        usage = site.once(tree=tree)
        if usage.status != 0:
            raise RuntimeError(f"The daemon's exit status is {usage.status}: {site.log.read_text()[-2000:]}")
        return usage

    return contestant


def peer(command: list[str], *further: str) -> Contestant:
    """A script that is told URL, inbox, outbox and done, and anything `further`."""

    def contestant(bench: Bench, root: Path, pool: Path) -> Usage:
        folders = [root / name for name in ("inbox", "outbox", "done")]
        for folder in folders[1:]:
            folder.mkdir(parents=True)
        os.rename(pool, folders[0])
        usage = run(
            [*command, bench.server.base_url, *map(str, folders), *further], log=root / "log", seconds=600
        )
        if usage.status != 0:
            raise RuntimeError(f"{command} ended with {usage.status}: {(root / 'log').read_text()[-2000:]}")
        return usage

    return contestant


def python_peer(name: str) -> Contestant:
    """One of the modules in peers/."""
    return peer([sys.executable, "-m", f"bench.peers.{name}"])


def shell(at_once: int) -> Contestant:
    """curl, so many at once."""
    return peer([str(PEERS / "shell.sh")], str(at_once))


def emptied(bench: Bench, contestant: Contestant, pool: Path) -> Drain:
    """Let it have the recordings of `pool`, which are there again afterwards."""
    root = bench.folder / "contest"
    root.mkdir()
    count = len(files(pool))
    bench.server.reset()
    os.sync()
    server_cpu = cpu_seconds(bench.server.process.pid)
    usage = contestant(bench, root, pool)
    server_cpu = cpu_seconds(bench.server.process.pid) - server_cpu
    done = files(root / "done")
    uploads = bench.server.counts().get("put", 0)
    if len(done) != count or uploads != count:
        raise RuntimeError(f"{len(done)} of {count} are in done/, with {uploads:.0f} uploads.")
    ended = max((path.stat().st_ctime for path in done), default=usage.began)
    busy = ended - bench.server.counts().get("first", ended)
    os.rename(root / "done", pool)
    for mark in pool.glob(".invox-watcher*"):
        mark.unlink()
    shutil.rmtree(root)
    return Drain(count, usage, busy, server_cpu / busy if busy else 0.0)


def in_turns(
    bench: Bench,
    contestants: Mapping[str, Contestant],
    pool: Path,
    rounds: int,
    pools: Mapping[str, Path] = MappingProxyType({}),
) -> dict[str, list[Drain]]:
    """A B C, A B C, …, with `pool` for who has none of his own among `pools`."""
    found: dict[str, list[Drain]] = {name: [] for name in contestants}
    for turn in range(rounds):
        for name, contestant in contestants.items():
            drain = emptied(bench, contestant, pools.get(name, pool))
            found[name].append(drain)
            bench.progress(
                f"{turn + 1}/{rounds} {name}: {drain.rate:,.0f}/s, {drain.usage.seconds:.1f} s in all, "
                f"{drain.usage.cpu_seconds / max(drain.count, 1) * 1000:.2f} ms CPU each"
            )
    return found


def starts(bench: Bench, contestants: Mapping[str, Contestant]) -> dict[str, float]:
    """CPU seconds that each takes for an empty inbox."""
    found = {}
    for name, contestant in contestants.items():
        empty = bench.folder / "empty"
        empty.mkdir(exist_ok=True)
        found[name] = statistics.median(
            emptied(bench, contestant, empty).usage.cpu_seconds for _round in range(3)
        )
    return found


def median(drains: list[Drain], value: Callable[[Drain], float]) -> float:
    """Of all rounds."""
    return statistics.median(map(value, drains))


def ratio(found: Mapping[str, list[Drain]], one: str, other: str, value: Callable[[Drain], float]) -> float:
    """The median of the rounds' ratios: each beside its neighbour."""
    return statistics.median(value(a) / value(b) for a, b in zip(found[one], found[other], strict=True))


def measure(bench: Bench, *, recordings: int, rounds: int, shell_at_once: list[int]) -> None:
    """Everybody in turns; the shell with the parallelism that was best for it."""
    pool = bench.folder / "pool"
    write_wavs(pool, recordings)
    contestants = {"naive": python_peer("naive"), "ours": configured(), "floor": python_peer("floor")}
    if bench.against is not None:
        contestants["before"] = configured(bench.against)
    emptied(bench, contestants["floor"], pool)  # warms caches up
    few = bench.folder / "few"  # as many as the shell gets done in the time of the others
    write_wavs(few, max(1, recordings // 8))
    best = max(shell_at_once, key=lambda at_once: emptied(bench, shell(at_once), few).rate)
    contestants["shell"] = shell(best)
    bench.progress(f"shell: {best} at once is best")
    start = starts(bench, contestants)
    found = in_turns(bench, contestants, pool, rounds, {"shell": few})

    def each_ms(name: str) -> Callable[[Drain], float]:
        return lambda drain: (drain.usage.cpu_seconds - start[name]) / drain.count * 1000

    for name in contestants:
        bench.add(f"{name}", median(found[name], lambda drain: drain.rate), "recordings/s")
    for name in contestants:
        bench.add(f"{name}: CPU for each", median(found[name], each_ms(name)), "ms")
    for name in contestants:
        bench.add(f"{name}: CPU of an empty run", start[name] * 1000, "ms")
    rate = lambda drain: drain.rate  # noqa: E731
    bench.add("beside the naive script", ratio(found, "ours", "naive", rate), "×", at_least=1.0)
    bench.add("beside the shell", ratio(found, "ours", "shell", rate), "×", at_least=4.0)
    bench.add("beside the floor", ratio(found, "ours", "floor", rate), "×")
    cpu = median(found["ours"], each_ms("ours")) / median(found["naive"], each_ms("naive"))
    bench.add("CPU for each beside the naive script's", cpu, "×", at_most=1.2)
    whole = ratio(found, "ours", "naive", lambda drain: drain.usage.cpu_seconds)
    bench.add("CPU with the start of the process beside the naive script's", whole, "×")
    seconds = ratio(found, "ours", "naive", lambda drain: drain.usage.seconds)
    bench.add("seconds from the command to its end beside the naive script's", seconds, "×")
    if bench.against is not None:
        bench.add("beside before", ratio(found, "ours", "before", rate), "×")
        cpu = median(found["ours"], each_ms("ours")) / median(found["before"], each_ms("before"))
        bench.add("CPU for each beside before", cpu, "×")
    bench.add("memory", median(found["ours"], lambda drain: drain.usage.peak_mib), "MiB")
    bench.add("server busy beside the daemon", median(found["ours"], lambda d: d.server_share) * 100, "%")
    bench.add("server busy beside the floor", median(found["floor"], lambda d: d.server_share) * 100, "%")


SCENARIO = Scenario(
    "a full inbox, an API that answers at once",
    measure,
    {
        "full": {"recordings": 2000, "rounds": 5, "shell_at_once": [2, 4, 8]},
        "quick": {"recordings": 300, "rounds": 3, "shell_at_once": [4]},
        "smoke": {"recordings": 3, "rounds": 1, "shell_at_once": [2]},
    },
    600,
)
