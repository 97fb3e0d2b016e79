"""How fast several hosts are: `python -m tests.fleet.measure`; needs nginx with Lua, and PostgreSQL.

An API that answers each call after 200 ms, recordings of 100 kB in the inbox, the database on the same
machine with its syncs. Each host adds four uploads at once. Beside it, one host with a journal of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.processes import cpu_seconds
from bench.recordings import write_wavs
from bench.server import Server, serving
from bench.site import Site
from tests.kit.postgres import Cluster

UPLOADS_PER_HOST, LATENCY_SECONDS, SECONDS = 4, 0.2, 300


def measured(root: Path, api: Server, cluster: Cluster | None, hosts: int, count: int) -> dict[str, float]:
    """`count` recordings by so many hosts; without a cluster, by one with a journal of its own."""
    api.reset()
    tree = root / "tree"
    (tree / "inbox").mkdir(parents=True)
    write_wavs(tree / "inbox", count)
    url = None if cluster is None else cluster.create(f"fleet{hosts}")
    sites = []
    for number in range(hosts):
        state: dict[str, Any] = {"directory": str(root / f"state{number}")}
        if url is not None:
            state |= {"url": url, "host": f"host{number}"}
        sites.append(
            Site(
                root / f"host{number}", api.base_url,
                folders={"root": str(tree)}, state=state, http={"listen": None},
                upload={"workers": UPLOADS_PER_HOST * hosts}, watch={"grace_seconds": 0.001},
                polling={"first_seconds": 0.01},
            )
        )  # fmt: skip
    database_cpu = 0.0 if cluster is None else cpu_seconds(cluster.pid)
    with contextlib.ExitStack() as running:
        processes = []
        for site in sites:
            log = running.enter_context(site.log.open("wb"))
            processes.append(subprocess.Popen(site.command("run"), stderr=log))
        give_up = time.monotonic() + SECONDS
        while len(done := [*(tree / "done").glob("*.wav")]) < count:
            assert time.monotonic() < give_up
            assert not any(process.poll() for process in processes), "a daemon has ended; see its log"
            time.sleep(0.05)
        cpu = sum(cpu_seconds(process.pid) for process in processes)
        for process in processes:
            process.send_signal(signal.SIGTERM)
        statuses = [process.wait(30) for process in processes]
        assert statuses == [0] * hosts, [site.log.read_text()[-1500:] for site in sites]
    ended = max(path.stat().st_ctime for path in done)
    return {
        "recordings/s": count / (ended - api.counts()["first"]),
        "ms CPU per recording": 1000 * cpu / count,
        "ms CPU of the database": 1000
        * (0.0 if cluster is None else cpu_seconds(cluster.pid) - database_cpu)
        / count,
        "uploads": api.counts()["put"],
    }


def main() -> None:
    """Measure, and print a line each."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    print(f"{count} recordings, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder, "api")) as api:
        api.set(latency_seconds=LATENCY_SECONDS)
        with contextlib.closing(Cluster(options="")) as cluster:
            contests: dict[str, tuple[Cluster | None, int]] = {"alone": (None, 1)}
            contests |= {f"{hosts} in a fleet": (cluster, hosts) for hosts in (1, 2, 4)}
            for name, (database, hosts) in contests.items():
                found = measured(Path(folder, name.replace(" ", "-")), api, database, hosts, count)
                print(
                    f"{name:12}",
                    "  ".join(f"{what} {value:.1f}" for what, value in found.items()),
                    flush=True,
                )


if __name__ == "__main__":
    main()
