"""The claim of several hosts: the journal first, then the file; and what is left of an interrupted one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invox_watcher.errors import StorageError
from invox_watcher.files import Folders
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal import Journal
from invox_watcher.processing.claiming import JournalFirst
from invox_watcher.recording import FileIdentity
from invox_watcher.times import utc_now

Open = Callable[..., Journal]


class Claimer:
    """A host, as far as it claims."""

    def __init__(self, journal: Journal, folders: Folders, name: str) -> None:
        assert journal.fleet is not None
        self.journal, self.folders = journal, folders
        journal.fleet.join(name, instance=name, limit_seconds=5)
        self.claiming = JournalFirst(folders, journal, threading.Event())

    def claim(self, *jobs: Job) -> list[object]:
        return [*self.claiming.claim_all([(job, 0.0) for job in jobs])]


@pytest.fixture
def hosts(open_journal: Open, folders: Folders) -> Iterator[list[Claimer]]:
    made = [Claimer(open_journal(), folders, name) for name in "ab"]
    yield made
    for one in made:
        one.journal.close()


def recording(folders: Folders, name: str = "smith.wav") -> Job:
    path = folders.inbox / name
    path.write_bytes(b"sound")
    return Job(new_job_id(), State.CLAIMED, name, FileIdentity.of(path.stat()), utc_now())


def test_of_two_hosts_one_wins_the_claim(hosts: list[Claimer], folders: Folders) -> None:
    seen = recording(folders)
    first, second = hosts
    again = Job(new_job_id(), State.CLAIMED, seen.path, seen.identity, utc_now())
    first.journal.reserve_all([(seen, 0.0)])  # it has not moved the file yet
    assert second.claim(again) == [False]
    assert second.claiming.is_taken(seen.path)
    assert [job.id for job in first.journal.active()] == [seen.id]
    assert folders.is_unclaimed(seen.id, seen.path, seen.identity)
    first.journal.withdraw_all([seen])
    assert second.claim(again) == [True]
    assert folders.has_recording(again.id, again.path)


def test_what_could_not_be_moved_leaves_no_row(hosts: list[Claimer], folders: Folders) -> None:
    here, gone = recording(folders), recording(folders, "gone.wav")
    (folders.inbox / "gone.wav").unlink()
    assert hosts[0].claim(here, gone) == [True, False]
    assert [job.id for job in hosts[1].journal.active()] == [here.id]


def test_a_disk_that_refuses_leaves_the_recording_in_the_inbox(
    hosts: list[Claimer], folders: Folders
) -> None:
    seen = recording(folders)
    (folders.processing / seen.id).write_text("where its folder should be")
    (outcome,) = hosts[0].claim(seen)
    assert isinstance(outcome, StorageError)
    assert hosts[1].journal.active() == []
    assert (folders.inbox / seen.path).exists()


def test_another_hosts_numbers_of_devices_do_not_matter(folders: Folders, tmp_path: Path) -> None:
    seen = recording(folders)
    elsewhere = FileIdentity(seen.identity.device + 1, *list(vars(seen.identity).values())[1:])
    assert folders.is_unclaimed(seen.id, seen.path, elsewhere)
    (folders.inbox / seen.path).write_bytes(b"another sound")
    assert not folders.is_unclaimed(seen.id, seen.path, elsewhere)
