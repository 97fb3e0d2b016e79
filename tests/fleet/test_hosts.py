"""Hosts with one journal: who is dead, who gets what it had, and that the dead write nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from invox_watcher.errors import FencedError, JournalError, StaleStateError
from invox_watcher.job import Job, State
from invox_watcher.journal import AuditLog, Journal, MinutesUsedUpError, Server, reserving
from invox_watcher.journal.fleet import Fleet, Host, Observation
from invox_watcher.spending import Limits, Reservation
from tests.unit.test_journal import SHA, added, job, uploaded

LIMIT_SECONDS = 30.0
Join = Callable[..., Journal]


def fleet_of(journal: Journal) -> Fleet:
    assert journal.fleet is not None
    return journal.fleet


@pytest.fixture
def join(tmp_path: Path, server: Server) -> Iterator[Join]:
    """A journal of another host, by its name."""
    opened: list[Journal] = []

    def join(name: str, *, instance: str = "", limit_seconds: float = LIMIT_SECONDS) -> Journal:
        journal = Journal(tmp_path, server=server)
        opened.append(journal)
        fleet_of(journal).join(name, instance=instance or name, limit_seconds=limit_seconds)
        return journal

    yield join
    for journal in opened:
        journal.close()


def test_hosts_that_run_take_over_after_the_same_time(tmp_path: Path, server: Server, join: Join) -> None:
    first = join("a")
    with closing(Journal(tmp_path, server=server)) as journal:
        other = fleet_of(journal)
        differs = r"^state.takeover_seconds is 60 here, and 30 at the hosts that run: a\.$"
        with pytest.raises(JournalError, match=differs) as refused:
            other.join("b", instance="b", limit_seconds=60)
        assert refused.value.code == "takeover_differs"
        assert [host.name for host in other.hosts()] == ["a"]
        fleet_of(first).leave()
        other.join("b", instance="b", limit_seconds=60)
    with psycopg.connect(server.url) as connection:  # all hosts lost power, and b has been silent since
        connection.execute("UPDATE hosts SET beat_at = beat_at - interval '61 s'")
    join("c")
    with (
        closing(Journal(tmp_path, server=server)) as journal,
        pytest.raises(JournalError, match="is 60 here, and 30"),
    ):
        fleet_of(journal).join("b", instance="b", limit_seconds=60)


def test_a_limit_of_many_digits_is_the_same_everywhere(join: Join) -> None:
    join("a", limit_seconds=1234.5678)
    assert as_seen(join("b", limit_seconds=1234.5678), "b").is_alive


def as_seen(journal: Journal, name: str) -> Host:
    return next(host for host in fleet_of(journal).hosts() if host.name == name)


# ---- who is dead -------------------------------------------------------------------------------------------


def host(name: str, beats: int, incarnation: int = 1) -> Host:
    return Host(name, incarnation, "", "1", "alive", beats, 99.0, 0)


def test_silent_is_who_was_watched_for_so_long() -> None:
    now = [0.0]
    watch = Observation(lambda: now[0])

    def silent_at(seconds: float, *hosts: Host) -> list[str]:
        now[0] = seconds
        return [one.name for one in watch.silent(hosts, 30)]

    assert silent_at(0, host("a", 5), host("b", 5)) == []
    assert silent_at(10, host("a", 5), host("b", 6)) == []
    assert silent_at(20, host("a", 5), host("b", 7)) == []
    assert silent_at(30, host("a", 5), host("b", 7)) == ["a"]
    assert silent_at(31, host("a", 5, incarnation=2), host("b", 7)) == []  # it has joined again
    # The database, or this host, was away: what it did not see meanwhile does not count.
    assert silent_at(131, host("a", 5, incarnation=2), host("b", 7)) == []
    assert silent_at(145, host("a", 5, incarnation=2)) == []
    assert silent_at(160, host("a", 5, incarnation=2)) == []
    assert silent_at(161, host("a", 5, incarnation=2)) == ["a"]


def test_a_host_is_known_by_name_and_by_what_it_does(join: Join) -> None:
    one, two = join("one"), join("two")
    added(one)
    before = as_seen(two, "one")
    fleet_of(one).beat()
    after = as_seen(two, "one")
    assert (after.state, after.jobs, after.beats) == ("alive", 1, before.beats + 1)
    fleet_of(one).leave()
    assert as_seen(two, "one").state == "left"


def test_two_hosts_can_not_have_one_name(join: Join) -> None:
    first = join("one", instance="of /var/lib/one")
    with pytest.raises(JournalError, match="Another host of the fleet is called one") as caught:
        join("one", instance="of /var/lib/other")
    assert "its own name" in caught.value.hint
    kept = added(first)
    again = join("one", instance="of /var/lib/one")  # a restart: the lock says that the first is gone
    with pytest.raises(FencedError):
        added(first)
    assert [one.id for one in fleet_of(again).jobs_of("one")] == [kept.id]


# ---- what it had -------------------------------------------------------------------------------------------


def test_a_dead_host_is_taken_over_once_and_writes_nothing(join: Join) -> None:
    dead, one, two = join("dead"), join("one"), join("two")
    waiting, done = uploaded(dead), uploaded(dead, "r-2", later=1)
    done = dead.move(dead.move(dead.move(done, State.TRANSCRIBED), State.DELIVERED), State.DONE)
    seen = as_seen(one, "dead")
    with ThreadPoolExecutor(2) as pool:
        taken = [*pool.map(lambda other: fleet_of(other).take_over(seen), (one, two))]
    assert taken.count(None) == 1
    winner = two if taken[0] is None else one
    assert [winner.get(waiting.id)] in taken
    writes: list[Callable[[], object]] = [
        lambda: dead.move(waiting, State.TRANSCRIBED),
        lambda: dead.update(waiting, polled_at=datetime.now(UTC)),
        lambda: added(dead),
        lambda: dead.finished.mark_deleted(done, "transcripts"),
        lambda: fleet_of(dead).take(waiting.id),
        fleet_of(dead).beat,
    ]
    for write in writes:
        with pytest.raises(FencedError, match="dead is no longer a host of the fleet"):
            write()
    assert winner.move(waiting, State.TRANSCRIBED).state is State.TRANSCRIBED
    assert winner.counts() == {State.TRANSCRIBED: 1, State.DONE: 1}


def test_a_host_that_left_its_jobs_is_taken_over_unless_it_comes_back(join: Join) -> None:
    stopped, other = join("stopped"), join("other")
    mine = added(stopped)
    fleet_of(stopped).leave()
    with pytest.raises(FencedError, match="or it has left"):
        stopped.identify(mine, SHA, follow=True)
    assert [host.name for host in fleet_of(other).silent(0.0)] == ["stopped"]
    seen = as_seen(other, "stopped")
    back = join("stopped")
    assert fleet_of(other).take_over(seen) is None
    assert back.identify(mine, SHA, follow=True).state is State.IDENTIFIED
    fleet_of(back).leave(lambda _connection, _jobs: None)
    assert fleet_of(other).silent(0.0) == []  # it has left nothing


def test_what_a_dead_host_delivered_counts_once(tmp_path: Path, server: Server, join: Join) -> None:
    """It was paused before it wrote, in one transaction, that transcript and recording are in place."""
    outputs, audit = {"smith.json": SHA}, AuditLog(tmp_path, host="dead")
    logged = {"on_transition": audit.record_transition, "before_commit": audit.sync}
    with closing(audit), closing(Journal(tmp_path, server=server, **logged)) as dead:  # type: ignore[arg-type]
        fleet_of(dead).join("dead", instance="dead", limit_seconds=LIMIT_SECONDS)
        transcribed = dead.move(uploaded(dead), State.TRANSCRIBED, reserve="smith")
        other = join("other")
        taken = fleet_of(other).take_over(as_seen(other, "dead"))
        assert taken is not None
        with pytest.raises(FencedError):
            dead.move(transcribed, State.DONE, via=State.DELIVERED, outputs=outputs)
        assert '"delivered"' not in (tmp_path / "audit.jsonl").read_text()
        done = other.move(taken[0], State.DONE, via=State.DELIVERED, outputs=outputs)
        states = [entry.state for entry in other.history(done.id)]
        assert states[-3:] == [State.TRANSCRIBED, State.DELIVERED, State.DONE]
        assert other.counts()[State.DONE] == 1
        assert other.finished.outputs(done.id) == outputs


def test_a_host_that_beats_in_time_is_not_taken_over(join: Join) -> None:
    late, other = join("late"), join("other")
    mine = added(late)
    seen = as_seen(other, "late")
    fleet_of(late).beat()
    assert fleet_of(other).take_over(seen) is None
    assert late.identify(mine, SHA, follow=True).state is State.IDENTIFIED


def test_only_the_host_of_a_job_moves_it(join: Join) -> None:
    one, two = join("one"), join("two")
    claimed = added(one)
    assert two.get(claimed.id) is not None
    with pytest.raises(StaleStateError, match="no longer of two"):
        two.identify(claimed, SHA, follow=True)
    queue: list[str] = []
    fleet_of(one).give(
        [claimed], lambda _connection, jobs: queue.extend(job_id for job_id, _priority in jobs)
    )
    assert queue == [claimed.id]
    with pytest.raises(StaleStateError):
        one.identify(claimed, SHA, follow=True)
    takers = [one, two] * 4
    with ThreadPoolExecutor(8) as pool:
        taken = [*pool.map(lambda host: fleet_of(host).take(claimed.id), takers)]
    assert len([one for one in taken if one is not None]) == 1


def test_a_queue_that_refuses_keeps_the_job(join: Join) -> None:
    one = join("one")
    claimed = added(one)

    def refuses(_connection: object, _jobs: object) -> None:
        raise JournalError("full")

    with pytest.raises(JournalError, match="full"):
        fleet_of(one).give([claimed], refuses)
    assert [one.id for one in fleet_of(one).jobs_of("one")] == [claimed.id]


def test_of_one_file_one_host_wins_the_claim(join: Join) -> None:
    one, two = join("one"), join("two")
    here, there = job(path="a.wav"), job(path="a.wav")
    assert one.reserve_all([(here, 1.0), (job(path="b.wav"), None)]) > {here.id}
    assert two.reserve_all([(there, 1.0)]) == set()
    one.withdraw_all([here])  # the rename has failed
    assert one.get(here.id) is None
    assert two.reserve_all([(there, 1.0)]) == {there.id}
    two.identify(there, SHA, follow=True)
    assert one.reserve_all([(here, 1.0)]) == {here.id}  # another file of that name


def test_of_two_hosts_with_the_same_content_one_uploads(join: Join) -> None:
    one, two = join("one"), join("two")
    for number in range(20):
        sha, barrier = f"{number:064}", threading.Barrier(2)

        def identify(journal: Journal, sha: str = sha, barrier: threading.Barrier = barrier) -> Job:
            claimed = added(journal)
            barrier.wait(10)
            return journal.identify(claimed, sha, follow=True)

        with ThreadPoolExecutor(2) as pool:
            found = [*pool.map(identify, (one, two))]
        assert sum(one.original_id is None for one in found) == 1


def test_a_webhook_finds_the_host_of_its_job(join: Join) -> None:
    one, two = join("one"), join("two")
    uploaded(one, "r-7")
    assert fleet_of(two).host_of_request("r-7") == "one"
    assert fleet_of(two).host_of_request("r-8") is None
    found: list[object] = []
    fleet_of(two).also(lambda connection: found.extend(connection.execute("SELECT 1").fetchall()))
    assert found == [(1,)]


def test_a_fleet_has_one_identity(join: Join) -> None:
    one, two = join("one"), join("two")
    assert fleet_of(one).identity() == fleet_of(two).identity() == fleet_of(one).identity()
    assert len(fleet_of(one).identity()) > 30


# ---- what all share ----------------------------------------------------------------------------------------


def at_once(journals: list[Journal], call: Callable[[Journal], object], times: int = 16) -> list[object]:
    with ThreadPoolExecutor(8) as pool:
        return [*pool.map(call, [journals[number % len(journals)] for number in range(times)])]


def test_slots_are_shared_and_those_of_the_dead_are_free(join: Join) -> None:
    hosts = [join("one"), join("two")]
    numbers = iter(range(99))
    assert fleet_of(hosts[1]).take_slot("uploads", "of two", 5)
    taken = at_once(hosts, lambda one: fleet_of(one).take_slot("uploads", f"{next(numbers)}", 5))
    assert sum(map(bool, taken)) == 4
    one = fleet_of(hosts[0])
    one.take_over(as_seen(hosts[0], "two"))
    again = [one.take_slot("uploads", f"again {number}", 5) for number in range(9)]
    assert 0 < sum(again) <= 5
    assert one.take_slot("uploads", "again 0", 5)  # it has that one
    for number in range(9):
        one.shared.free_slot("uploads", f"again {number}")
    assert one.take_slot("uploads", "other", 5)


def test_a_lease_is_one_hosts_until_it_dies(join: Join) -> None:
    one, two = join("one"), join("two")
    assert fleet_of(one).hold("target mail")
    assert fleet_of(one).hold("target mail")
    assert not fleet_of(two).hold("target mail")
    fleet_of(two).take_over(as_seen(two, "one"))
    assert fleet_of(two).hold("target mail")
    assert not fleet_of(one).hold("target mail")
    fleet_of(two).leave()
    three = join("three")
    assert fleet_of(three).hold("target mail")


def test_what_one_has_learned_all_know(join: Join) -> None:
    one, two = join("one"), join("two")
    assert fleet_of(two).shared.known("breaker") is None
    fleet_of(one).shared.tell("breaker", '{"open": true}', "one")
    known = fleet_of(two).shared.known("breaker")
    assert known is not None
    assert (known.value, known.host) == ('{"open": true}', "one")
    assert abs((known.at - datetime.now(UTC)).total_seconds()) < 60


def test_minutes_of_a_day_are_those_of_all_hosts(join: Join) -> None:
    hosts = [join("one"), join("two")]
    wanted = Reservation(day="2026-11-28", profile="ward", seconds=60.0)

    def upload(journal: Journal) -> bool:
        with suppress(MinutesUsedUpError):
            identified = journal.identify(added(journal), job().id, follow=False)
            journal.move(identified, State.UPLOADING, also=reserving(wanted, Limits(overall_minutes=5)))
            return True
        return False

    assert sum(map(bool, at_once(hosts, upload))) == 5
    assert hosts[0].counts()[State.UPLOADING] == 5


def test_audit_lines_name_the_host(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path, host="ward-1")
    audit.write("delivered", "a")
    audit.close()
    assert '"host": "ward-1"' in (tmp_path / "audit.jsonl").read_text()
