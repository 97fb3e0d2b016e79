"""Three hosts, one inbox, one account: every recording once, whatever happens to one of them."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.promises import assert_kept
from tests.fleet.hosts import SECOND_ADDRESS, Fleet, Host, address_of, fleet
from tests.kit.clinic import free_port
from tests.kit.postgres import USER, Cluster
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

pytestmark = [pytest.mark.needs("root", "ip", "initdb", "unshare"), pytest.mark.timeout(300)]


def bring(fleet: Fleet, count: int, *, begin: int = 0) -> None:
    """So many recordings, each with other content."""
    for number in range(begin, begin + count):
        part = write_wav(fleet.tree.root / f".{number}.wav", pitch=200.0 + number)
        part.rename(fleet.tree.inbox / f"{number}.wav")


def contents(count: int) -> set[str]:
    """The SHA-256 of all that `bring` brings."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            hashlib.sha256(write_wav(Path(folder, "one.wav"), pitch=200.0 + number).read_bytes()).hexdigest()
            for number in range(count)
        }


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as made:
        made.add(3)
        yield made


def all_done(fleet: Fleet, count: int, *, seconds: float = 180) -> None:
    wait_for("all are done", lambda: len(fleet.tree.files(fleet.tree.done)) >= count, seconds=seconds)
    wait_for("nothing is under way", lambda: not fleet.tree.under_way(), seconds=60)


def test_work_is_spread_and_each_recording_done_once(three: Fleet) -> None:
    with ThreadPoolExecutor(3) as pool:  # at the same moment, on folders that none has used
        list(pool.map(Host.up, three.hosts))
    bring(three, 500)
    all_done(three, 500)
    reports = [json.loads(host.status()) for host in three.hosts]
    assert [report["hosts"].keys() for report in reports] == [{host.name for host in three.hosts}] * 3
    assert {one["state"] for report in reports for one in report["hosts"].values()} == {"alive"}
    for host in three.hosts:
        assert host.end() == 0
        assert {event["host"] for event in host.events("claimed", "done")} == {host.name}
    work = three.work()
    assert work.total() == 500
    assert min(work.values()) >= 50
    assert_kept(three.tree, three.api, contents(500))


def test_a_dead_host_is_taken_over_and_nothing_is_paid_twice(three: Fleet) -> None:
    first, *others = [host.up() for host in three.hosts]
    bring(three, 200)
    wait_for("it has work", lambda: first.ended() >= 10, seconds=60)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    all_done(three, 200)
    taken_over = [event for host in others for event in host.events("host_taken_over")]
    assert [event["lost"] for event in taken_over] == [first.name]
    for host in others:
        assert host.end() == 0
    assert_kept(three.tree, three.api, contents(200))


def test_a_host_that_was_only_paused_is_fenced_and_ends(tmp_path: Path) -> None:
    with fleet(tmp_path, upload_bytes_per_second=60_000) as slow:
        paused, other = [host.up() for host in slow.add(2)]
        paused_at = write_wav(slow.tree.root / ".long.wav", seconds=60)  # 16 s on that line
        other.pause()
        paused_at.rename(slow.tree.inbox / "long.wav")
        wait_for("it is being sent", lambda: bool(paused.events("upload_started")), seconds=60)
        paused.pause()
        other.wake()
        wait_for("the other has taken it over", lambda: bool(other.events("host_taken_over")), seconds=60)
        wait_for("and sends it again", lambda: bool(other.events("upload_started")), seconds=60)
        paused.wake()
        assert paused.process is not None
        assert paused.process.wait(20) != 0
        assert paused.events("fenced")
        assert not paused.events("uploaded", "delivered", "done", "thread_died")
        all_done(slow, 1)
        assert other.end() == 0
        requests = slow.api.stats()["requests"]
        assert sorted(request["uploads"] for request in requests) == [0, 1]


def test_while_the_database_is_away_nothing_is_claimed_or_lost(three: Fleet) -> None:
    for host in three.hosts:
        host.up()
    bring(three, 60)
    wait_for("there is work", lambda: three.work().total() >= 20, seconds=60)
    three.cluster.stop("immediate")
    for host in three.hosts:
        wait_for("it is not ready", lambda host=host: not host.is_ready())  # type: ignore[misc]
    bring(three, 30, begin=60)
    time.sleep(60)
    waiting = three.tree.files(three.tree.inbox)
    assert {f"{number}.wav" for number in range(60, 90)} <= set(waiting)
    three.cluster.start()
    all_done(three, 90)
    for host in three.hosts:
        wait_for("it is ready", host.is_ready)
        assert host.events("host_taken_over", "fenced", "thread_died", "step_crashed") == []
        assert host.end() == 0
    assert_kept(three.tree, three.api, contents(90))


def test_after_a_failover_to_another_address_all_go_on(tmp_path: Path) -> None:
    """The primary dies, a standby that has every commit is promoted; daemons and queue find it themselves."""
    with fleet(tmp_path) as made:
        standby = Cluster(port=free_port(), address=SECOND_ADDRESS, primary=made.cluster)
        try:
            addresses = ",".join(f"{server.address}:{server.port}" for server in (made.cluster, standby))
            made.url = f"postgresql://{USER}@{addresses}/postgres"
            hosts = [host.up() for host in made.add(2)]
            bring(made, 60)
            wait_for("there is work", lambda: made.work().total() >= 20, seconds=60)
            made.cluster.stop("immediate")
            for host in hosts:
                wait_for("it is not ready", lambda host=host: not host.is_ready())  # type: ignore[misc]
            bring(made, 30, begin=60)
            standby.promote()
            all_done(made, 90)
            for host in hosts:
                wait_for("it is ready", host.is_ready)
                assert host.events("host_taken_over", "fenced", "thread_died", "step_crashed") == []
                assert host.end() == 0
            assert min(made.work().values()) >= 5
            assert_kept(made.tree, made.api, contents(90))
        finally:
            standby.close()


def test_a_host_that_is_cut_off_stops_and_comes_back(three: Fleet) -> None:
    cut, *others = [host.up() for host in three.hosts]
    bring(three, 90)
    wait_for("it has work", lambda: cut.ended() >= 5, seconds=60)
    cut.cut()
    all_done(three, 90)
    wait_for("it is not ready", lambda: not cut.is_ready())
    cut.mend()
    assert cut.process is not None
    assert cut.process.wait(60) != 0
    assert cut.events("fenced")
    assert not cut.events("thread_died")
    cut.up()  # as systemd does
    others[0].end()
    others[1].end()
    bring(three, 10, begin=90)
    all_done(three, 100)
    assert cut.end() == 0
    assert_kept(three.tree, three.api, contents(100))


def test_one_host_delivers_and_another_one_after_it(tmp_path: Path) -> None:
    """The operator's command is a target like others: each recording once, at one host at a time."""
    told = tmp_path / "told"
    line = f'echo "$INVOX_WATCHER_JOB $(hostname)" >> {told}'
    with fleet(tmp_path / "fleet") as made:
        first, second = made.add(2, hooks={"on_done": ["/bin/sh", "-c", line]})
        first.up()
        second.up()
        bring(made, 40)
        all_done(made, 40)
        wait_for("all are told", lambda: made.owed() == 0, seconds=60)
        by = {name for _job, name in map(str.split, told.read_text().splitlines())}
        assert len(by) == 1
        one, other = (first, second) if by == {first.name} else (second, first)
        one.end(signal.SIGKILL)
        bring(made, 10, begin=40)
        all_done(made, 50)
        wait_for("so are these", lambda: made.owed() == 0, seconds=60)
        assert other.end() == 0
        lines = told.read_text().splitlines()
        assert len({line.split()[0] for line in lines}) == len(lines) == 50
        assert {line.split()[1] for line in lines[40:]} == {other.name}


def test_a_webhook_at_any_host_wakes_the_job_at_its_own(tmp_path: Path) -> None:
    with fleet(tmp_path, result_delay_seconds=6) as made:
        url = f"http://{address_of(1)}:9090/webhook"
        secret = {"app_secret": made.api.settings.app_secret}
        owner, receiver = made.add(
            2,
            credentials={"app_id": "sandbox-app", "api_key": "sandbox-key", **secret},
            webhook={"enabled": True, "public_url": url},
            http={"listen": "0.0.0.0:9090"},
            polling={"first_seconds": 60, "max_seconds": 60},
        )
        owner.up()
        bring(made, 1)
        wait_for("it is uploaded", lambda: bool(owner.events("uploaded")))
        receiver.up()
        all_done(made, 1, seconds=30)
        assert receiver.events("webhook_accepted")
        wait_for("its host has logged it", lambda: bool(owner.events("delivered")))
        assert [event["delivered_by"] for event in owner.events("delivered")] == ["webhook"]
        assert owner.end() == receiver.end() == 0


def test_a_host_that_stops_hands_over_at_once(three: Fleet) -> None:
    """As for an upgrade, one by one: nobody waits for it, and nobody takes it for dead."""
    for host in three.hosts:
        host.up()
    bring(three, 150)
    for host in three.hosts:
        wait_for("there is work", lambda host=host: host.ended() >= 5, seconds=60)  # type: ignore[misc]
        assert host.end() == 0
        host.up()
    all_done(three, 150)
    for host in three.hosts:
        assert host.end() == 0
        assert host.events("host_taken_over", "fenced") == []
    assert_kept(three.tree, three.api, contents(150))


def test_what_one_host_learns_of_the_api_all_know(tmp_path: Path) -> None:
    with fleet(tmp_path) as made:
        without_api, other = [host.up() for host in made.add(2)]
        without_api.relay.close()
        bring(made, 60)
        wait_for("it notices", lambda: bool(without_api.events("breaker_opened")), seconds=60)
        wait_for("and tells", lambda: bool(other.events("breaker_opened")), seconds=60)
        assert other.events("breaker_opened")[0]["error"].startswith(f"At the host {without_api.name}: ")
        wait_for("the other has found out that it can", lambda: bool(other.events("breaker_closed")))
        wait_for("the other goes on", lambda: other.ended() >= 30, seconds=60)
        without_api.end()  # what it had is the other's
        all_done(made, 60)
        assert other.end() == 0
        assert_kept(made.tree, made.api, contents(60))


def test_one_host_can_drain_the_inbox_and_exit(tmp_path: Path) -> None:
    with fleet(tmp_path) as made:
        (host,) = made.add(1)
        bring(made, 50)
        assert subprocess.run(host.command("run", "--once"), check=False, timeout=120).returncode == 0
        assert_kept(made.tree, made.api, contents(50))


@pytest.mark.needs("bindfs")
def test_hosts_may_see_the_folders_through_other_file_systems(tmp_path: Path) -> None:
    """Other device numbers, and polled, as over NFS. What the local host had, the other one finishes."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    with fleet(tmp_path / "fleet") as made:
        subprocess.run(["bindfs", made.tree.root, mounted], check=True)
        try:
            (local,) = made.add(1)
            (remote,) = made.add(1, folders={"root": str(mounted)}, watch={"polling_seconds": 0.5})
            local.up()
            remote.up()
            bring(made, 80)
            wait_for("both work", lambda: min(made.work().values()) >= 5, seconds=60)
            local.end(signal.SIGKILL)
            all_done(made, 80)
            assert remote.end() == 0
            assert remote.events("watching")[0]["filesystem"].startswith("fuse")
            assert_kept(made.tree, made.api, contents(80))
        finally:
            subprocess.run(["umount", mounted], check=True)
