"""The journal in a file beside the journal in PostgreSQL: recordings and writes per second, CPU for each.

Run it with `python -m bench.databases [--recordings N] [--folder PATH]`; needs PostgreSQL's programs. In one
run, in turns: the file; a server on this machine, by its Unix socket; and 1, 2 and 4 hosts, each a process of
its own with four threads, that write to one server. Each recording makes all the seven writes of its way, and
every commit is on disk, in both.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench.journal import measure, way
from invox_watcher.journal import AuditLog, Journal, Server
from tests.kit.postgres import Cluster

THREADS = (1, 4, 16)
HOSTS = (1, 2, 4)
ROUNDS = 3
WRITES = 7
_TICKS = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def opened(directory: Path, server: Server | None, host: str = "") -> Iterator[Journal]:
    """The journal with its audit log; with `host`, as that one of a fleet."""
    directory.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        audit = AuditLog(directory)
        stack.callback(audit.close)
        journal = Journal(
            directory, on_transition=audit.record_transition, before_commit=audit.sync, server=server
        )
        stack.callback(journal.close)
        if host and journal.fleet is not None:
            journal.fleet.join(host, instance=host, limit_seconds=30)
        yield journal


def server_seconds(cluster: Cluster) -> float:
    """The CPU that the server has used, of all its processes, those that have ended included."""
    leader = (cluster.data / "postmaster.pid").read_text().split()[0]
    children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
    total = 0.0
    for process, fields in ((leader, slice(11, 15)), *((child, slice(11, 13)) for child in children)):
        stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, stat[fields]))
    return total / _TICKS


def compare(folder: Path, cluster: Cluster, recordings: int) -> None:
    """The file and the server in turns, by several threads of one process."""
    print("| journal | threads | recordings/s | writes/s | CPU ms per write | of these, the server's |")
    print("|---|---|---|---|---|---|")
    server = Server(cluster.create("journal"))
    with opened(folder / "file", None) as file, opened(folder / "host", server, "one") as remote:
        numbers = iter(range(0, 10**9, 10**5))
        for threads in THREADS:
            found: dict[str, list[tuple[float, float, float]]] = {"file": [], "PostgreSQL": []}
            for _round in range(ROUNDS):
                for name, journal in (("file", file), ("PostgreSQL", remote)):
                    before = server_seconds(cluster)
                    rate, cpu = measure(journal, threads, next(numbers), recordings)
                    theirs = (server_seconds(cluster) - before) * 1000 / recordings
                    found[name].append((rate, cpu, theirs if name != "file" else 0.0))
            for name, rows in found.items():
                rate, cpu, theirs = (statistics.median(column) for column in zip(*rows, strict=True))
                print(
                    f"| {name} | {threads} | {rate:.0f} | {rate * WRITES:.0f} "
                    f"| {(cpu + theirs) / WRITES:.2f} | {theirs / WRITES:.2f} |"
                )


def host(folder: Path, server: Server, recordings: int, number: int) -> tuple[float, float]:
    """What one of several hosts writes, by four threads: from when until when."""
    with opened(folder / f"{number}", server, f"host-{number}") as journal, ThreadPoolExecutor(4) as pool:
        began = time.time()
        first = number * 10**6
        for _longest in pool.map(partial(way, journal), range(first, first + recordings)):
            pass
        return began, time.time()


def hosts(folder: Path, cluster: Cluster, recordings: int) -> None:
    """Several processes with one server."""
    print("\n| hosts | recordings/s | writes/s |")
    print("|---|---|---|")
    for count in HOSTS:
        rates = []
        for attempt in range(ROUNDS):
            server = Server(cluster.create(f"fleet{count}{attempt}"))
            with opened(folder / "made", server):
                pass
            each: Callable[[int], tuple[float, float]] = partial(host, folder, server, recordings)
            with ProcessPoolExecutor(count) as pool:
                spans = list(pool.map(each, range(count)))
            seconds = max(until for _since, until in spans) - min(since for since, _until in spans)
            rates.append(count * recordings / seconds)
        rate = statistics.median(rates)
        print(f"| {count} | {rate:.0f} | {rate * WRITES:.0f} |")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; by default a temporary one")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores\n")
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        cluster = Cluster(options="")
        try:
            compare(Path(temporary), cluster, options.recordings)
            hosts(Path(temporary), cluster, options.recordings)
        finally:
            cluster.close()


if __name__ == "__main__":
    main()
