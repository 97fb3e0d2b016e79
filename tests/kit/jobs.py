"""Jobs in a journal, as the steps of a recording write them."""

from __future__ import annotations

from typing import Any

from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal import Journal
from invox_watcher.recording import FileIdentity
from invox_watcher.times import utc_now


def claimed(journal: Journal, path: str, **changes: Any) -> Job:
    """One that was just claimed."""
    fields: dict[str, Any] = {"identity": FileIdentity(1, 2, 3, 4), "received_at": utc_now()} | changes
    job = Job(new_job_id(), State.CLAIMED, path, **fields)
    journal.add(job)
    return job


def done(journal: Journal, path: str) -> Job:
    """One that is done; its content is like that of none of another path."""
    job = journal.identify(claimed(journal, path), path * 8, follow=False)
    job = journal.move(job, State.TRANSCRIBED, reserve=path, filed_as=path, reply={})
    job = journal.move(job, State.DELIVERED, reserve=path, outputs={})
    return journal.move(job, State.DONE, filed_as=path)
