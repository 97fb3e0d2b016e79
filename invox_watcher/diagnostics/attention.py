"""What needs a person now: failed recordings that are still in failed/ and were not retried."""

from __future__ import annotations

import os
from collections.abc import Iterator

from invox_watcher.files import Folders
from invox_watcher.job import Job, State
from invox_watcher.journal import Journal


def open_failures(journal: Journal, folders: Folders) -> Iterator[Job]:
    """The failed jobs whose recording is in failed/ and has no retry, the newest first.

    Of several whose recordings were filed under the same name, the last one's is there.

    Raises:
        PermissionError: failed/ may not be read.
    """
    for job_id in _ids(journal, folders):
        if (job := journal.get(job_id)) is not None:
            yield job


def is_open_failure(job: Job, journal: Journal, folders: Folders) -> bool:
    """Whether a job is one of those.

    Raises:
        PermissionError: failed/ may not be read.
    """
    name = job.filed_as or job.path
    latest = journal.lookup.latest([State.FAILED], filed_as=name)
    return (
        job.state is State.FAILED
        and job.successor_id is None
        and (latest is None or latest.id == job.id)
        and _exists(f"{folders.failed}/{name}")
    )


def count_open_failures(journal: Journal, folders: Folders) -> int:
    """How many there are.

    Raises:
        PermissionError: failed/ may not be read.
    """
    return sum(1 for _id in _ids(journal, folders))


def _ids(journal: Journal, folders: Folders) -> Iterator[str]:
    names, failed = set[str](), os.fspath(folders.failed)
    for job_id, name in journal.finished.open_failures():
        if name not in names and _exists(f"{failed}/{name}"):
            yield job_id
        names.add(name)


def _exists(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
