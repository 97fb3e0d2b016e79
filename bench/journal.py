"""What a recording costs the journal: all its writes and reads, as the daemon makes them.

Run it with `python -m bench.journal [--finished N] [--recordings N] [--folder PATH]`. In one run, in turns:
the journal as it is; and its peer, the same statements with a rollback journal and one transaction for each
write, as it was until version 3. Both with none and with a million finished recordings (`--finished`), by 1,
4 and 16 threads. Then how long it takes to open, what the page's searches and the commands take, and how long
a write waits while retention deletes 100,000.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from invox_watcher.files import Folders
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal import AuditLog, Journal, Wanted
from invox_watcher.journal.sqlite import connect
from invox_watcher.recording import FileIdentity
from invox_watcher.retention import Ages, Retention
from tests.kit.clinic import Clinic

THREADS = (1, 4, 16)
ROUNDS = 3
REPLY = {"status": "COMPLETED", "transcription": [{"text": "She complains of a pain in her knee."}] * 3}
FORGOTTEN = 100_000
# One finished recording again and again, under other ids.
SEED = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
INSERT INTO {table} ({columns}) SELECT {values} FROM {table} AS seed, numbers WHERE seed.{id} = '{job}'
"""


class OneTransactionEach:
    """The peer: a connection for each thread, a rollback journal, and four syncs for each write."""

    def __init__(self, path: Path, before_commit: Callable[[], None]) -> None:
        self._path = path
        self._before_commit = before_commit
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            connection = connect(self._path, create=False)
            assert connection.execute("PRAGMA journal_mode = DELETE").fetchall() == [("delete",)]
            self._opened.append(connection)
            self._local.connection = connection
        found: sqlite3.Connection = self._local.connection
        return found

    def read(self, query: str, values: Any = ()) -> list[Any]:
        found: list[Any] = self.write(lambda connection: connection.execute(query, values).fetchall())
        return found

    def write(self, write: Callable[[sqlite3.Connection], Any], *, durable: bool = True) -> Any:  # noqa: ARG002
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = write(connection)
            self._before_commit()
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return result

    def close(self) -> None:
        for connection in self._opened:
            connection.close()


@contextlib.contextmanager
def opened(directory: Path, *, peer: bool = False) -> Iterator[Journal]:
    """The journal with its audit log, or its peer."""
    with contextlib.ExitStack() as stack:
        audit = AuditLog(directory)
        stack.callback(audit.close)
        journal = Journal(directory, on_transition=audit.record_transition, before_commit=audit.sync)
        if peer:
            journal.close()
            with contextlib.closing(connect(journal.path, create=False)) as connection:
                connection.execute("PRAGMA journal_mode = DELETE").fetchall()
            other = OneTransactionEach(journal.path, audit.sync)
            journal._database = journal.finished._database = other  # type: ignore[assignment]
        stack.callback(journal.close)
        yield journal


def way(journal: Journal, number: int) -> float:
    """All that the daemon writes and asks for one recording; the longest write in seconds."""
    now, path = datetime.now(UTC), f"ward/{number}.wav"
    longest = 0.0
    began = time.perf_counter()

    def step(job: Job) -> Job:
        nonlocal began, longest
        longest = max(longest, time.perf_counter() - began)
        began = time.perf_counter()
        return job

    identity = FileIdentity(1, number + 10**7, 100_000, 1)
    job = Job(new_job_id(), State.CLAIMED, path, identity, received_at=now, format="WAV (PCM)")
    journal.add(job, waited_seconds=1.0)
    job = step(journal.identify(job, f"{number:064x}", follow=True))
    job = step(journal.move(job, State.UPLOADING, request_id=job.id, detail={"request_id": job.id}))
    job = step(journal.move(job, State.WAITING, uploaded_at=now, attempts=0))
    journal.transcription_ratios("polling")
    changes: dict[str, Any] = {"completed_at": now, "delivered_by": "polling", "filed_as": path}
    job = step(journal.move(job, State.TRANSCRIBED, reserve=path, reply=REPLY, **changes))
    journal.reply(job.id)
    outputs = {f"{path}.json": "5" * 64, f"{path}.srt": "6" * 64}
    job = step(journal.move(job, State.DELIVERED, reserve=path, outputs=outputs))
    step(journal.move(job, State.DONE, filed_as=path))
    return longest


def measure(journal: Journal, threads: int, first: int, count: int) -> tuple[float, float]:
    """Recordings per second, and milliseconds of CPU for each."""
    cpu, began = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda number: way(journal, number), range(first, first + count)))
    seconds = time.perf_counter() - began
    return count / seconds, (time.process_time() - cpu) / count * 1000


def seed(directory: Path, count: int) -> None:
    """Add `count` finished recordings, ended one after the other in the last 300 days."""
    with opened(directory) as journal:
        way(journal, 0)
        [job] = journal.jobs(limit=1)
    began = datetime.now(UTC) - timedelta(days=300)
    step = 300 * 86_400 / count
    time_text = f"strftime('%Y-%m-%dT%H:%M:%S', '{began:%Y-%m-%d %H:%M:%S}', ({step} * n) || ' seconds')"
    exact = f"({time_text} || '.000000+00:00')"
    new = {
        "id": "('seed-' || n)",
        "job_id": "('seed-' || n)", "request_id": "lower(hex(randomblob(16)))",
        "sha256": "lower(hex(randomblob(32)))", "path": "CAST('old/' || n || '.wav' AS BLOB)",
        "profile": f"CASE WHEN n IN (7, {count // 2}) THEN 'rare' ELSE 'ward' || (n % 20) END",
        "inode": "CAST(n AS TEXT)", "filed_as": "CAST('old/' || n || '.wav' AS BLOB)",
        **dict.fromkeys(("received_at", "updated_at", "ages_from", "remembered_from", "at"), exact),
    }  # fmt: skip
    with contextlib.closing(sqlite3.connect(directory / "journal.sqlite")) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -400000")
        for table, key in (
            ("jobs", "id"),
            ("history", "job_id"),
            ("outputs", "job_id"),
            ("replies", "job_id"),
        ):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            if key == "job_id" and "id" in columns:
                columns.remove("id")
            values = [new.get(name, name) for name in columns]
            text = SEED.format(
                count=count,
                table=table,
                columns=", ".join(columns),
                values=", ".join(values),
                id=key,
                job=job.id,
            )
            connection.execute(text)
            connection.commit()
        connection.execute("UPDATE totals SET jobs = jobs + ? WHERE state = 'done'", (count,))
        connection.commit()


def compare(old: Path, new: Path, recordings: int) -> None:
    """Both in turns; medians."""
    print("| threads | recordings/s | peer | ratio | ms CPU each | peer | ratio |")
    print("|---|---|---|---|---|---|---|")
    first = 10**6 + int(time.time()) * 1000
    for threads in THREADS:
        results: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for _round in range(ROUNDS):
            for peer, directory in ((True, old), (False, new)):
                with opened(directory, peer=peer) as journal:
                    results[peer].append(measure(journal, threads, first, recordings))
                first += recordings
        rate, cpu = (statistics.median(column) for column in zip(*results[False], strict=True))
        old_rate, old_cpu = (statistics.median(column) for column in zip(*results[True], strict=True))
        print(
            f"| {threads} | {rate:,.0f} | {old_rate:,.0f} | {rate / old_rate:.1f} "
            f"| {cpu:.2f} | {old_cpu:.2f} | {cpu / old_cpu:.2f} |",
            flush=True,
        )


def opening(directory: Path) -> None:
    """How long a daemon takes to open the journal and to know what is under way."""
    began = time.perf_counter()
    with opened(directory) as journal:
        journal.active()
        seconds = time.perf_counter() - began
        sizes = {path.name: path.stat().st_size >> 20 for path in directory.iterdir()}
    print(f"open and recover: {seconds * 1000:.0f} ms; MiB: {sizes}")


def commands(directory: Path) -> None:
    """What the commands take, as processes."""
    clinic = Clinic(directory.parent, "http://127.0.0.1:9")
    assert directory == clinic.root / "state"
    (clinic.inbox).mkdir(exist_ok=True)
    (clinic.inbox / "letter.wav").write_text("not audio")
    with contextlib.closing(Journal(directory, create=False)) as journal:
        [job] = journal.jobs(limit=1)
    for words in (
        ["--version"], ["jobs"], ["jobs", "--all", "--limit", "20"], ["jobs", "failed"], ["status"],
        ["show", job.id], ["show", job.id.rpartition("-")[2]], ["explain", str(clinic.inbox / "letter.wav")],
    ):  # fmt: skip
        took = []
        for _round in range(5):
            began = time.perf_counter()
            subprocess.run(clinic.command(*words), capture_output=True, check=False)
            took.append(time.perf_counter() - began)
        print(
            f"{' '.join(words[:1] + [w for w in words[1:] if '/' not in w])}: {statistics.median(took):.3f} s"
        )


def searches(directory: Path) -> None:
    """What the page takes to find recordings, and how many questions until nothing is left to search."""
    ward, rare = frozenset({"ward7"}), frozenset({"rare"})
    with contextlib.closing(Journal(directory, create=False)) as journal:
        for name, wanted, limit in (
            ("50 newest", Wanted(), 50), ("1,000 newest", Wanted(), 1000),
            ("1,000 newest of one profile of 20", Wanted(profiles=ward), 1000),
            ("a profile with two recordings", Wanted(profiles=rare), 1000),
            ("a name that is not there", Wanted(text="zebra"), 50),
        ):  # fmt: skip
            took: list[float] = []
            before, questions, found = None, 0, 0
            while questions == 0 or (before is not None and found < limit):
                began = time.perf_counter()
                page = journal.search.page(wanted, before=before, limit=limit)
                took.append(time.perf_counter() - began)
                before, questions, found = page.following, questions + 1, found + len(page.jobs)
            print(f"{name}: {took[0] * 1000:.1f} ms; {found} found by {questions} in {sum(took):.3f} s")


class RightClock:
    """Confirms the clock."""

    clock_ahead_seconds = 0.0
    confirms_clock = True

    def authenticate(self) -> None:
        """Nothing to ask."""


def of(seconds: list[float]) -> str:
    """Median, 99 % and worst."""
    ordered = sorted(seconds)
    picked = (ordered[len(ordered) * part // 100] * 1000 for part in (50, 99))
    middle, nearly_all = picked
    return f"median {middle:.1f} ms, 99 % {nearly_all:.1f} ms, worst {ordered[-1] * 1000:.1f} ms"


@dataclass(frozen=True)
class Sweep:
    """What retention did, and how long the longest write of each recording waited meanwhile, and before."""

    gone: int
    seconds: float
    waits: list[float]
    waits_before: list[float]


def retention(directory: Path, finished: int) -> Sweep:
    """Have retention delete entries of `finished` while recordings are written."""
    with contextlib.closing(sqlite3.connect(directory / "journal.sqlite")) as connection:
        query = (
            "SELECT remembered_from FROM jobs WHERE remembered_from IS NOT NULL ORDER BY 1 LIMIT 1 OFFSET ?"
        )
        ((until,),) = connection.execute(query, (min(FORGOTTEN, finished - 1),)).fetchall()
    days = (datetime.now(UTC) - datetime.fromisoformat(until)) / timedelta(days=1)
    inbox, processing, outbox, done, failed = (
        directory.parent / name for name in ("inbox", "processing", "outbox", "done", "failed")
    )
    folders = Folders(inbox, processing, outbox, done, failed)
    stop = threading.Event()
    with opened(directory) as journal, contextlib.closing(AuditLog(directory)) as audit:
        ages = Ages(None, None, None, int(days))
        sweeper = Retention(
            ages, journal.finished, folders, audit, unavailable=lambda: None, witness=RightClock()
        )
        waits_before = [way(journal, 10**9 + number) for number in range(300)]
        before, began = journal.counts(), time.perf_counter()
        thread = threading.Thread(target=sweeper._sweep, args=(stop,))
        thread.start()
        waits: list[float] = []
        try:
            while thread.is_alive():
                waits.append(way(journal, 2 * 10**9 + len(waits)))
                time.sleep(0.02)
        finally:
            stop.set()
            thread.join()
        seconds = time.perf_counter() - began
        gone = before[State.DONE] + len(waits) - journal.counts().get(State.DONE, 0)
    return Sweep(gone, seconds, waits, waits_before)


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--recordings", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; by default a temporary one")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        for finished in (0, options.finished):
            print(f"\n## {finished:,} finished recordings\n")
            new = Path(temporary, f"{finished}", "state")
            new.mkdir(parents=True, mode=0o700)
            began = time.perf_counter()
            if finished:
                seed(new, finished)
                print(f"(made in {time.perf_counter() - began:.0f} s)")
            with opened(new):
                pass
            old = Path(temporary, f"{finished}", "peer")
            shutil.copytree(new, old)
            opening(new)
            compare(old, new, options.recordings)
            shutil.rmtree(old)
            print()
            opening(new)
            if finished:
                searches(new)
                commands(new)
                sweep = retention(new, finished)
                print(f"longest write of a recording: {of(sweep.waits_before)}")
                print(f"while retention deletes {sweep.gone:,} in {sweep.seconds:.0f} s: {of(sweep.waits)}")
            shutil.rmtree(new.parent)


if __name__ == "__main__":
    main()
