"""At the start: every job under way goes on, and what no job owns goes back to the inbox."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from invox_watcher.errors import StorageError
from invox_watcher.files import Folders
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal import Journal
from invox_watcher.processing import recover, return_stranded
from invox_watcher.recording import FileIdentity


def claimed(folders: Folders, name: str, journal: Journal | None = None) -> Job:
    (folders.inbox / name).write_bytes(name.encode())
    identity = FileIdentity.of((folders.inbox / name).stat())
    job = Job(new_job_id(), State.CLAIMED, name, identity, received_at=datetime.now(UTC))
    assert folders.claim(job.id, name, identity)
    if journal is not None:
        journal.add(job)
    return job


def test_jobs_under_way_go_on(journal: Journal, folders: Folders) -> None:
    job = claimed(folders, "smith.wav", journal)
    assert recover(journal, folders) == [job]
    assert (folders.processing / job.id / "smith.wav").exists()


def test_a_recording_without_a_row_goes_back(journal: Journal, folders: Folders) -> None:
    claimed(folders, "smith.wav")
    assert recover(journal, folders) == []
    assert (folders.inbox / "smith.wav").read_bytes() == b"smith.wav"
    assert folders.processing_ids() == []


def test_a_job_whose_recording_is_gone_goes_on_too(journal: Journal, folders: Folders) -> None:
    job = claimed(folders, "smith.wav", journal)
    (folders.processing / job.id / "smith.wav").unlink()
    assert recover(journal, folders) == [job]


def test_a_folder_that_can_not_be_returned_stays(
    journal: Journal, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = claimed(folders, "smith.wav"), claimed(folders, "jones.wav")
    unclaim = Folders.unclaim

    def refuse(self: Folders, job_id: str) -> list[str]:
        if job_id == stuck.id:
            raise StorageError("refused")
        return unclaim(self, job_id)

    monkeypatch.setattr(Folders, "unclaim", refuse)
    assert recover(journal, folders) == []
    assert folders.processing_ids() == [stuck.id]
    assert (folders.inbox / "jones.wav").exists()
    assert not (folders.processing / other.id).exists()


def test_stranded_claims_go_back_and_others_stay(folders: Folders) -> None:
    stranded, other = claimed(folders, "smith.wav"), claimed(folders, "jones.wav")
    waiting = {stranded.id}
    return_stranded(waiting, folders)
    assert waiting == set()
    assert (folders.inbox / "smith.wav").exists()
    assert folders.processing_ids() == [other.id]
