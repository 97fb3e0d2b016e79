"""A target that is down for a week, in a process of its own whose clock leaps: its cost, and the drain.

`python -m tests.faults.week DIRECTORY PORT OWED`; after the week it prints a line, and goes on once it has
read one: by then something should listen on the port. Its last line has the times of the drain.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from invox_watcher.backoff import Backoff
from invox_watcher.delivery import Dispatcher, Pace, target_of_kind
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal import Journal, Receipt
from invox_watcher.processing import shipment_of
from invox_watcher.recording import FileIdentity
from tests.kit.http_target import http_target

WEEK_SECONDS = 7 * 86_400
MOST_PER_MINUTE = 600
BASE_SECONDS, MOST_SECONDS = 2.0, 300.0


def owe(journal: Journal, count: int) -> None:
    """One recording that is done, and copies of its rows."""
    identity = FileIdentity(1, 2, 3, 4)
    job = Job(new_job_id(), State.CLAIMED, "smith.wav", identity, received_at=datetime.now(UTC))
    journal.add(job)
    job = journal.identify(job, "5" * 64, follow=False)
    reply = {"text": "Words of the patient's. " * 100}
    job = journal.move(job, State.TRANSCRIBED, reserve="a", filed_as="smith.wav", reply=reply)
    journal.move(journal.move(job, State.DELIVERED, outputs={}), State.DONE)
    with closing(sqlite3.connect(journal.path)) as connection:
        for table, key in (("jobs", "id"), ("replies", "job_id"), ("deliveries", "job_id")):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            copied = ", ".join(f"{key} || '-' || n" if column == key else column for column in columns)
            connection.execute(
                "WITH RECURSIVE numbers (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?) "
                f"INSERT INTO {table} SELECT {copied} FROM {table} CROSS JOIN numbers",
                (count,),
            )
        connection.commit()


def resident_kib() -> int:
    """The memory that this process has now."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def main(directory: Path, port: int, count: int) -> None:
    """Wait for a week, then drain."""
    journal = Journal(directory, targets_of=lambda _job: ["ris"])
    owe(journal, count)
    options = http_target(directory, port, ca_bundle=None, proxy=None, timeout_seconds=10, fields={})
    kind, secret = options.pop("kind"), Path(options.pop("secret_file"))
    target = target_of_kind(kind, {**options, "secret_file": secret, "text": True, "formats": ("json",)})
    now, began = 0.0, datetime.now(UTC)
    sent: list[float] = []

    def send(job: Job, _stop: threading.Event) -> Receipt:
        receipt = target.send(shipment_of(job, "ris", target.formats, journal.reply(job.id), {}))
        sent.append(now)
        return Receipt(began.isoformat(), receipt)

    pace = Pace(
        Backoff(BASE_SECONDS, MOST_SECONDS), timedelta(days=30), min_interval_seconds=60 / MOST_PER_MINUTE
    )
    dispatcher, stop = (
        Dispatcher("ris", send, journal, pace, connection=target, clock=lambda: now),
        threading.Event(),
    )
    before_kib, before_seconds = resident_kib(), time.process_time()
    while now < WEEK_SECONDS:
        now += min(dispatcher.step(stop), 1.0)  # as it looks at the journal
    backlog = journal.deliveries.backlogs()["ris"]
    waited = {
        "owed": backlog.owed,
        "failed": backlog.failed,
        "attempts": dispatcher.health.failed_attempts,
        "grown_kib": resident_kib() - before_kib,
        "resident_kib": resident_kib(),
        "cpu_seconds": round(time.process_time() - before_seconds, 1),
    }
    print(json.dumps(waited), flush=True)
    sys.stdin.readline()
    while journal.deliveries.next("ris", ordered=False) is not None:
        now += dispatcher.step(stop)
    print(json.dumps([moment - sent[0] for moment in sent]), flush=True)
    target.close()
    journal.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
