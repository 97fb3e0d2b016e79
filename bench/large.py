"""A recording of 2 GB: its upload beside `curl -T`.

In turns, over http and https, from the page cache. Both are measured at the server, from the upload's
header to its last byte. Memory is the daemon's most before the recording came, and afterwards.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.processes import cpu_seconds, peak_mib, run
from bench.scenario import Bench, Scenario
from bench.site import AT_ONCE, Site, files, wait_for

RATE, BYTES_PER_FRAME = 96_000, 6  # 24 bits, two channels: 2 GB are an hour
BLOCK = 8 * 2**20


def write_large(path: Path, size_bytes: int) -> Path:
    """A WAV of noise, whole; another each time."""
    data = size_bytes - 44
    chunk = struct.pack("<4sI2H2I2H", b"fmt ", 16, 1, 2, RATE, RATE * BYTES_PER_FRAME, BYTES_PER_FRAME, 24)
    header = struct.pack("<4sI4s", b"RIFF", size_bytes - 8, b"WAVE") + chunk
    block = random.randbytes(BLOCK)
    with path.open("wb") as file:
        file.write(header + struct.pack("<4sI", b"data", data))
        for left in range(data, 0, -BLOCK):
            file.write(block[:left])
    return path


def uploaded(bench: Bench) -> float:
    """Seconds of the one upload since the last reset."""
    [began] = [at for call, at in bench.server.trace() if call == "put"]
    [job] = bench.server.jobs()
    return job.uploaded_at - began


def by_curl(bench: Bench, recording: Path, url: str) -> tuple[float, float]:
    """Seconds of the upload, and of CPU."""
    bench.server.reset()
    further = ["--cacert", str(bench.server.certificate)] if url.startswith("https") else []
    command = ["curl", "-sSf", *further, "-H", "Expect:", "-T", str(recording), f"{url}/put/curl"]
    usage = run(command, log=bench.folder / "curl.log", seconds=120)
    if usage.status != 0:
        raise RuntimeError(f"curl ended with {usage.status}: {(bench.folder / 'curl.log').read_text()}")
    return uploaded(bench), usage.cpu_seconds


def by_daemon(bench: Bench, recording: Path, root: Path, url: str) -> tuple[float, float, float, float]:
    """Seconds of the upload, of CPU, and from the rename into the inbox to done; MiB that it grew by."""
    secure: Mapping[str, Any] = {"base_url": url}
    if url.startswith("https"):
        secure = {**secure, "ca_bundle": str(bench.server.certificate)}
    site = Site(root, url, api=secure, **AT_ONCE)
    bench.server.reset()
    with site.daemon() as daemon:
        memory, cpu = peak_mib(daemon.pid), cpu_seconds(daemon.pid)
        began = time.time()
        os.rename(recording, site.inbox / recording.name)
        wait_for("the recording is done", lambda: bool(files(site.done)), seconds=180, pause=0.05)
        cpu, memory = cpu_seconds(daemon.pid) - cpu, peak_mib(daemon.pid) - memory
    [done] = files(site.done)
    seconds = done.stat().st_ctime - began
    os.rename(done, recording)
    shutil.rmtree(root)
    return uploaded(bench), cpu, seconds, memory


def measure(bench: Bench, *, size_bytes: int, rounds: int) -> None:
    """A B, A B, … over http, then over https."""
    recording = write_large(bench.folder / "large.wav", size_bytes)
    os.sync()
    bench.server.set(trace=True, reply_seconds=(size_bytes - 44) / RATE / BYTES_PER_FRAME)
    for scheme, url in {"http": bench.server.base_url, "https": bench.server.tls_url}.items():
        by_curl(bench, recording, url)  # warms the page cache up
        curl, ours = [], []
        for turn in range(rounds):
            curl.append(by_curl(bench, recording, url))
            ours.append(by_daemon(bench, recording, bench.folder / "site", url))
            bench.progress(f"{scheme} {turn + 1}/{rounds}: {ours[-1][0]:.2f} s, curl {curl[-1][0]:.2f} s")
        rate = statistics.median(size_bytes / one[0] for one in ours) / 1e6
        beside = statistics.median(a[0] / b[0] for a, b in zip(curl, ours, strict=True))
        bench.add(f"{scheme}: upload", rate, "MB/s")
        bench.add(f"{scheme}: rate beside curl's", beside, "×", at_least=0.95)
        cpu = statistics.median(a[1] / b[1] for a, b in zip(ours, curl, strict=True))
        bench.add(f"{scheme}: CPU beside curl's, with reading it for its SHA-256", cpu, "×")
        whole = statistics.median(a[2] / b[0] for a, b in zip(ours, curl, strict=True))
        bench.add(f"{scheme}: from the inbox to done beside curl's upload", whole, "×")
        bench.add(f"{scheme}: memory grew by", statistics.median(one[3] for one in ours), "MiB", at_most=16)


SCENARIO = Scenario(
    "an upload of 2 GB beside curl",
    measure,
    {
        "full": {"size_bytes": 2_000_000_040, "rounds": 5},
        "quick": {"size_bytes": 200_000_036, "rounds": 1},
        "smoke": {"size_bytes": 5_000_042, "rounds": 1},
    },
    300,
)
