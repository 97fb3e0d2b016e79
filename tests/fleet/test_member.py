"""What a host does for one that died, and for what no host takes care of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from invox_watcher.errors import FencedError
from invox_watcher.files import Folders
from invox_watcher.inbox import InboxStatus
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal import Journal, Server, queue
from invox_watcher.plan import Plan
from invox_watcher.priority import Priority
from invox_watcher.processing.claiming import JournalFirst
from invox_watcher.processing.fleet import Member, Membership, Tasks
from invox_watcher.processing.lease import Lease
from invox_watcher.recording import FileIdentity
from invox_watcher.times import utc_now
from tests.kit.waiting import wait_for

LIMIT_SECONDS = 0.6


@dataclass
class FakeEngine:
    """Takes care of jobs, and does nothing with them."""

    jobs: dict[str, Job] = field(default_factory=dict)
    room: int = 100
    api_fault: None = None
    expedited: list[str] = field(default_factory=list)

    @property
    def has_room_for_upload(self) -> bool:
        return len(self.jobs) < self.room

    @property
    def in_flight(self) -> int:
        return len(self.jobs)

    def has_capacity(self) -> bool:
        return True

    def cares_for(self, job_id: str) -> bool:
        return job_id in self.jobs

    def add(self, job: Job) -> None:
        assert job.id not in self.jobs
        self.jobs[job.id] = job

    def expedite(self, request_id: str) -> None:
        self.expedited.append(request_id)


class FakeInbox:
    status = InboxStatus(1, 0, 0, 0, 0, None, available=True, watching="native")


class Host:
    """A member with an engine that does nothing."""

    def __init__(self, name: str, journal: Journal, folders: Folders) -> None:
        assert journal.fleet is not None
        self.journal, self.folders, self.engine = journal, folders, FakeEngine()
        self.fenced, self.stop = threading.Event(), threading.Event()
        self.threads: list[threading.Thread] = []
        self.member = Member(
            Membership(name, instance=name, address="", limit_seconds=LIMIT_SECONDS, uploads=4),
            journal,
            journal.fleet,
            folders,
            Lease(LIMIT_SECONDS),
            tasks=Tasks(queue.install, queue.place, queue.send_wake),
            duties=["target mail"],
            on_fenced=self.fenced.set,
        )
        self.member.join(self.engine, FakeInbox())  # type: ignore[arg-type]

    def run(self, *bodies: Callable[[threading.Event], None]) -> None:
        self.threads += [threading.Thread(target=body, args=(self.stop,)) for body in bodies]
        for thread in self.threads:
            if not thread.is_alive():
                thread.start()

    def queue(self) -> queue.Queue:
        assert self.journal.fleet is not None
        member, conninfo = self.member, self.journal.fleet.conninfo
        calls = queue.Calls(member.has_room, member.take, member.expedite)
        return queue.Queue(conninfo, member.name, calls, limit_seconds=LIMIT_SECONDS)

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()
        self.threads.clear()


@pytest.fixture
def host(tmp_path: Path, server: Server, folders: Folders) -> Iterator[Callable[[str], Host]]:
    made: list[Host] = []

    def make(name: str) -> Host:
        made.append(Host(name, Journal(tmp_path, server=server), folders))
        return made[-1]

    yield make
    for one in made:
        one.end()
        one.journal.close()


def recording(folders: Folders, name: str, plan: Plan | None = None) -> Job:
    path = folders.inbox / name
    path.write_bytes(b"sound")
    return Job(new_job_id(), State.CLAIMED, name, FileIdentity.of(path.stat()), utc_now(), plan=plan)


def claimed(host: Host, name: str, plan: Plan | None = None) -> Job:
    job = recording(host.folders, name, plan)
    claiming = JournalFirst(host.folders, host.journal, threading.Event())
    assert claiming.claim_all([(job, 0.0)]) == [True]
    return job


def tasks(server: Server) -> list[Any]:
    with psycopg.connect(server.url) as connection:
        return connection.execute("SELECT task_name, args FROM procrastinate_jobs ORDER BY id").fetchall()


def test_what_a_dead_host_had_is_another_ones_and_its_claims_are_undone(
    host: Callable[[str], Host], folders: Folders
) -> None:
    dead, heir = host("dead"), host("heir")
    moved = claimed(dead, "moved.wav")
    not_moved = recording(folders, "not moved.wav")
    dead.journal.reserve_all([(not_moved, 0.0)])
    (folders.processing / not_moved.id).mkdir()
    heir.run(heir.member.run, heir.member.watch, heir.queue().run)
    wait_for("it takes over", lambda: list(heir.engine.jobs) == [moved.id])
    wait_for("the claim is undone", lambda: heir.journal.get(not_moved.id) is None)
    wait_for("its folder is gone", lambda: folders.processing_ids() == [moved.id])
    assert (folders.inbox / not_moved.path).exists()
    assert [job.id for job in heir.journal.active()] == [moved.id]
    with pytest.raises(FencedError):
        dead.journal.move(moved, State.VANISHED)
    dead.run(dead.member.run, dead.member.watch)
    wait_for("the dead one ends", dead.fenced.is_set)
    assert not dead.member.lease.is_valid


def test_what_a_host_can_not_begin_with_another_one_takes(
    host: Callable[[str], Host], server: Server
) -> None:
    busy, idle = host("busy"), host("idle")
    busy.engine.room = 1
    jobs = [claimed(busy, f"{number}.wav") for number in range(3)]
    busy.member.accept(jobs)
    assert list(busy.engine.jobs) == [jobs[0].id]
    assert busy.member.unowned() == 2
    urgent = claimed(busy, "urgent.wav", Plan("stat", ("txt",), priority=Priority.STAT))
    busy.member.accept([urgent])
    assert list(busy.engine.jobs) == [jobs[0].id, urgent.id]
    busy.run(busy.member.run, busy.member.watch)
    idle.run(idle.member.run, idle.member.watch, idle.queue().run)
    wait_for("the other has them", lambda: set(idle.engine.jobs) == {job.id for job in jobs[1:]})
    wait_for("the queue is empty", lambda: tasks(server) == [])
    idle.member.take(jobs[1].id)  # an interrupted attempt is made again
    idle.member.take(jobs[0].id)  # it is the other's
    assert len(idle.engine.jobs) == 2


def test_what_no_host_takes_care_of_is_found(host: Callable[[str], Host], folders: Folders) -> None:
    one = host("one")
    lost = claimed(one, "lost.wav")  # as if the database had failed in the moment that it got it
    one.run(one.member.run, one.member.watch, one.member.sweep)
    wait_for("the job is resumed", lambda: list(one.engine.jobs) == [lost.id])
    for name in ("orphan.wav", "another.wav"):  # the second one after whole rounds with the first
        orphan = folders.processing / new_job_id()
        orphan.mkdir()
        (orphan / name).write_bytes(b"sound")
        wait_for("the file returns", (folders.inbox / name).exists)
    assert folders.has_recording(lost.id, lost.path)


def test_a_webhook_goes_to_the_host_of_its_job(host: Callable[[str], Host], server: Server) -> None:
    owner, receiver = host("owner"), host("receiver")
    job = owner.journal.identify(claimed(owner, "a.wav"), "0" * 64, follow=True)
    owner.journal.move(job, State.UPLOADING, request_id="r-1")
    receiver.member.wake("r-1")
    receiver.member.wake("unknown")
    assert receiver.engine.expedited == ["unknown"]
    owner.run(owner.member.run, owner.member.watch, owner.queue().run)
    wait_for("the owner hears of it", lambda: owner.engine.expedited == ["r-1"])


def test_each_host_knows_for_how_many_results_all_wait(host: Callable[[str], Host]) -> None:
    owner, other = host("owner"), host("other")
    for name in ("a.wav", "b.wav"):
        job = owner.journal.identify(claimed(owner, name), name[0] * 64, follow=True)
        job = owner.journal.move(job, State.UPLOADING, request_id=name)
        owner.journal.move(job, State.WAITING)
    assert other.member.waiting() == 0  # it has not beaten yet
    other.run(other.member.run, other.member.watch)
    wait_for("the other knows of both", lambda: other.member.waiting() == 2)


def test_a_duty_is_one_hosts_until_it_dies(host: Callable[[str], Host]) -> None:
    first, second = host("first"), host("second")
    first.run(first.member.run, first.member.watch)
    wait_for("one has it", lambda: first.member.on_duty("target mail"))
    second.run(second.member.run, second.member.watch)
    assert not second.member.on_duty("target mail")
    first.end()
    wait_for("the other has it", lambda: second.member.on_duty("target mail"))
    wait_for("its lease ends", lambda: not first.member.on_duty("target mail"))
