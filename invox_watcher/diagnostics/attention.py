"""What needs a person now: failed recordings that are still in failed/ and were not retried."""

from __future__ import annotations

import os
from pathlib import Path

from invox_watcher.files import Folders
from invox_watcher.job import Job, State
from invox_watcher.journal import Journal


def open_failures(journal: Journal, folders: Folders) -> list[Job]:
    """The failed jobs whose recording is in failed/ and has no retry, the oldest first.

    Of several whose recordings were filed under the same name, the last one's is there.

    Raises:
        PermissionError: failed/ may not be read.
    """
    latest = {job.filed_as or job.path: job for job in journal.open_failures()}
    return [job for name, job in latest.items() if _exists(folders.failed / name)]


def is_open_failure(job: Job, journal: Journal, folders: Folders) -> bool:
    """Whether a job, which failed, is one of those.

    Raises:
        PermissionError: failed/ may not be read.
    """
    name = job.filed_as or job.path
    latest = journal.latest([State.FAILED], filed_as=name)
    return (
        job.state is State.FAILED
        and job.successor_id is None
        and (latest is None or latest.id == job.id)
        and _exists(folders.failed / name)
    )


def _exists(path: Path) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
