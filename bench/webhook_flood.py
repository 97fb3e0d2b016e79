"""Fifty recordings with results by webhook, first in peace, then under 2,000 forged webhooks a second.

Run it with `python -m bench.webhook_flood [SECONDS]` (30 by default). It prints what was offered and
answered, how long the fifty took each time, how the daemon's memory grew, and what the API was asked.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.kit.clinic import Clinic, peak_kib, sandbox, stop
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for
from tests.kit.webhook_clinic import webhook_clinic

RATE = 2000
CONNECTIONS = 40
RECORDINGS = 50


def forged_requests() -> list[bytes]:
    """One of each kind of forgery and garbage, as whole HTTP requests."""
    signature = "QUFB" * 24
    bodies = [
        {
            "requestId": secrets.token_hex(8),
            "status": "COMPLETED",
            "transcription": [],
            "signature": signature,
        },
        {"requestId": "1", "signature": "U2FsdGVkX1" + "A" * 78},
        {"requestId": "1"},
        [1, 2, 3],
    ]
    texts = [json.dumps(body).encode() for body in bodies] + [b"<html>", b"[" * 5000]
    return [
        b"POST /webhook HTTP/1.1\r\nHost: clinic\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
        for text in texts
    ]


async def _attack(host: str, port: int, seconds: float, counts: dict[str, int]) -> None:
    requests, until = forged_requests(), time.monotonic() + seconds
    spacing = CONNECTIONS / RATE
    number, due = 0, time.monotonic()
    reader = writer = None
    while time.monotonic() < until:
        await asyncio.sleep(max(due - time.monotonic(), 0))
        due += spacing
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(host, port)
            counts["offered"] += 1
            writer.write(requests[number % len(requests)])
            number += 1
            assert reader is not None
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            counts[head[9:12].decode()] = counts.get(head[9:12].decode(), 0) + 1
        except (OSError, asyncio.IncompleteReadError):
            counts["dropped"] = counts.get("dropped", 0) + 1
            writer = None


def _attacker(host: str, port: int, seconds: float, queue: multiprocessing.Queue[dict[str, int]]) -> None:
    counts = {"offered": 0}

    async def all_of_them() -> None:
        await asyncio.gather(*(_attack(host, port, seconds, counts) for _ in range(CONNECTIONS)))

    asyncio.run(all_of_them())
    queue.put(counts)


def _fifty(clinic: Clinic, pitch: int) -> float:
    began, already = time.monotonic(), len(clinic.files(clinic.done))
    for number in range(RECORDINGS):
        write_wav(clinic.inbox / f"{pitch}-{number}.wav", pitch=pitch + number, seconds=0.2)
    done = already + RECORDINGS
    wait_for("fifty are done", lambda: len(clinic.files(clinic.done)) == done, seconds=300)
    return time.monotonic() - began


def main(seconds: float = 30.0) -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder) / "api") as api:
        clinic = webhook_clinic(Path(folder) / "clinic", api, logging={"level": "info"})
        daemon = clinic.start()
        host, _, port = clinic.events("listening")[0]["address"].rpartition(":")
        in_peace = _fifty(clinic, 300)
        asked, memory = api.stats()["status_calls"], peak_kib(daemon.pid)
        queue: multiprocessing.Queue[dict[str, int]] = multiprocessing.Queue()
        attacker = multiprocessing.Process(target=_attacker, args=(host, int(port), seconds, queue))
        attacker.start()
        time.sleep(1)
        under_attack = _fifty(clinic, 1000)
        counts = queue.get()
        attacker.join()
        asked_under_attack = api.stats()["status_calls"] - asked
        grown = peak_kib(daemon.pid) - memory
        status = stop(daemon)
    rows = [
        ("forged webhooks offered", f"{counts.pop('offered') / seconds:.0f} a second for {seconds:.0f} s")
    ]
    rows += [
        (f"  answered {key}", f"{count / seconds:.0f} a second") for key, count in sorted(counts.items())
    ]
    rows += [
        (f"{RECORDINGS} recordings in peace", f"{in_peace:.1f} s"),
        (f"{RECORDINGS} recordings under attack", f"{under_attack:.1f} s ({under_attack / in_peace:.1f} ×)"),
        ("peak memory grew by", f"{grown / 1024:.1f} MiB"),
        ("the API was asked", f"{asked_under_attack} times, for {RECORDINGS} genuine webhooks"),
        ("the daemon's exit status", str(status)),
    ]
    for name, value in rows:
        print(f"{name:<28} {value}")


if __name__ == "__main__":
    main(*(float(argument) for argument in sys.argv[1:]))
