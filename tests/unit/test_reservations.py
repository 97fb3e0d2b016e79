"""Two jobs, one name: none is released between the check that it is free and its reservation."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from invox_watcher.errors import Reason
from invox_watcher.files import Folders, prepare_folders
from invox_watcher.job import Failure, Job, State, new_job_id
from invox_watcher.journal.journal import Journal
from invox_watcher.processing.reservations import Reservations
from invox_watcher.recording import FileIdentity

NOT_AUDIO = Failure(State.CLAIMED, Reason("not_audio", "It is text.", "Look."), retry_can_help=False)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = _Slow(*(tmp_path / name for name in ("inbox", "processing", "outbox", "done", "failed")))
    prepare_folders(made)
    return made


def claimed(journal: Journal, path: str) -> Job:
    now = datetime.now(UTC)
    job = Job(new_job_id(), State.CLAIMED, path, FileIdentity(1, 1, 1, 1), received_at=now)
    journal.add(job)
    return job


class _Slow(Folders):
    """Folders on a slow disk."""

    def failure_free(self, filed_as: str) -> bool:
        free = super().failure_free(filed_as)
        time.sleep(0.3)
        return free


def test_a_name_is_not_released_while_another_job_searches(journal: Journal, folders: Folders) -> None:
    names = Reservations(folders, journal)
    first, second = claimed(journal, "smith.wav"), claimed(journal, "smith.wav")
    first = names.reserve_failure(first, failure=NOT_AUDIO)
    assert first.filed_as == "smith.wav"
    with ThreadPoolExecutor() as pool:
        looking = pool.submit(names.reserve_failure, second, failure=NOT_AUDIO)
        time.sleep(0.1)  # it has checked by now, and has reserved nothing yet
        folders.publish(first.id, folders.failed, "smith.wav.error.json", b"{}")
        names.release(first, State.FAILED, filed_as="smith.wav")
    assert looking.result().filed_as == "smith-2.wav"
