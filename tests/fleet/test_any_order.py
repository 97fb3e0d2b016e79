"""FAULTS 77 for two hosts on one tree: the same faults in any order, and those that only a fleet has.

A host is killed and taken over, paused for longer than its lease, cut off from the database; the database is
stopped and started. For a long run:
`pytest -s tests/fleet/test_any_order.py --hypothesis-profile=long --hypothesis-seed=1`.
"""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from invox_watcher.errors import ExitStatus
from invox_watcher.journal import Server
from tests.faults import mishaps
from tests.faults.audit import Audit
from tests.faults.daemons import Daemons, Fate, Process
from tests.faults.person import How
from tests.faults.test_any_order import TELLING, AnyOrder, Tally, run_machine
from tests.fleet.relay import Relay
from tests.kit.clinic import Clinic, free_port
from tests.kit.postgres import Cluster
from tests.kit.waiting import wait_for

NAMES = ("north", "south")
LIMIT_SECONDS = 5.0
# Within which the others have taken over: a transaction in which it was paused ends after 10 s.
PATIENCE_SECONDS = 40.0
# As of a host that is alone; fenced, it ends like after a crash.
FENCED = {ExitStatus.SOFTWARE, ExitStatus.TRY_LATER}
BRIEF_OR_LONG = [0.3, 2.0, LIMIT_SECONDS + 3]


class TwoHosts(AnyOrder):
    """Two daemons. The rules of one host are about the one that is meant: see `the_other_host_is_meant`."""

    def __init__(self, root: Path, daemons: Daemons, tally: Tally, cluster: Cluster) -> None:
        super().__init__(root, daemons, tally)
        self.cluster = cluster
        self.other_daemon: Process | None = None
        self.other_may_end_by: set[int] = set()

    def make_hosts(self, changes: dict[str, dict[str, Any]]) -> list[Clinic]:
        """Each has its own way to the database, and its own address for webhooks, which come to the first."""
        self.server = Server(self.cluster.create(f"example{self.tally.examples}"))
        self.relays = [Relay(self.cluster) for _name in NAMES]
        made = []
        for name, relay in zip(NAMES, self.relays, strict=True):
            self.cleanup.callback(relay.close)
            root = self.root / name
            url = f"postgresql://watcher@127.0.0.1:{relay.port}/example{self.tally.examples}?sslmode=disable"
            own: dict[str, dict[str, Any]] = {
                "folders": {"root": str(self.clinic.root)},
                "state": {
                    "directory": str(root / "state"), "url": url, "host": name,
                    "takeover_seconds": LIMIT_SECONDS,
                },
            }  # fmt: skip
            if made and "http" in changes:
                own["http"] = {"listen": f"127.0.0.1:{free_port()}"}
            made.append(Clinic(root, self.api.base_url, **(changes | own)))
        return made

    # ---- what happens ------------------------------------------------------------------------------------

    @rule()
    def the_other_host_is_meant(self) -> None:
        """From now on, by the rules that are about one host."""
        self.hosts.reverse()
        self.relays.reverse()
        self.host = self.hosts[0]
        self.daemon, self.other_daemon = self.other_daemon, self.daemon
        self.may_end_by, self.other_may_end_by = self.other_may_end_by, self.may_end_by

    @rule()
    def both_run(self) -> None:
        """What has ended, of which it may have died, is started again."""
        for _host in NAMES:
            if self.daemon is not None and self.daemon.has_ended(within_seconds=0):
                self.the_daemon_works(0, signal.SIGTERM)
            if self.daemon is None:
                self.the_daemon_starts(Fate())
            wait_for("it watches, or has ended", self.is_watching_or_has_ended, seconds=60)
            self.the_other_host_is_meant()

    @rule(arrivals=mishaps.arrivals, moment=st.floats(0, 0.3))
    def one_is_killed_and_taken_over(self, arrivals: list[tuple[str, bytes, How]], moment: float) -> None:
        self.both_run()
        self.recordings_come(arrivals)
        self.the_daemon_works(moment, signal.SIGKILL)
        wait_for("it is taken over", self.is_taken_over, seconds=PATIENCE_SECONDS)

    @rule(arrivals=mishaps.arrivals, moment=st.floats(0, 0.3))
    def one_is_paused(self, arrivals: list[tuple[str, bytes, How]], moment: float) -> None:
        """And wakes up. If the other one has what it had, it sends no byte more, and writes no row."""
        self.both_run()
        assert self.daemon is not None
        assert self.other_daemon is not None
        self.recordings_come(arrivals)
        time.sleep(moment)
        self.may_end_by |= FENCED
        with contextlib.ExitStack() as other_stands:
            with self.daemon.frozen():
                wait_for("it is taken over", self.is_taken_over, seconds=PATIENCE_SECONDS)
                time.sleep(1)
                other_stands.enter_context(self.other_daemon.frozen())
                time.sleep(0.5)  # what it has sent arrives
                seen, stored, state = self.look().jobs, self.stored(), self.state()
            time.sleep(1)
            if state == "dead":
                assert self.look().jobs == seen
                # One: it may have been between its last look at its lease and the last block of a file.
                assert self.stored() <= stored + 1

    @rule(
        mode=st.sampled_from(["fast", "immediate"]),
        seconds=st.sampled_from(BRIEF_OR_LONG),
        meanwhile=st.sampled_from([None, "kill", "stop", "start"]),
        arrivals=mishaps.arrivals,
    )
    def the_database_is_away(
        self, mode: str, seconds: float, meanwhile: str | None, arrivals: list[tuple[str, bytes, How]]
    ) -> None:
        self.recordings_come(arrivals)
        for statuses in (self.may_end_by, self.other_may_end_by):
            statuses.add(ExitStatus.TRY_LATER)  # of one that just starts, for want of a journal
        self.cluster.stop(mode)
        try:
            if meanwhile == "start" and self.daemon is None:
                self.the_daemon_starts(Fate())
                self.may_end_by.add(ExitStatus.TRY_LATER)
            elif meanwhile in ("kill", "stop") and self.daemon is not None:
                self.the_daemon_works(0.1, signal.SIGKILL if meanwhile == "kill" else signal.SIGTERM)
            time.sleep(seconds)
        finally:
            self.cluster.start()

    @precondition(lambda self: self.daemon is not None)
    @rule(how=st.sampled_from(["cut", "hang"]), seconds=st.sampled_from(BRIEF_OR_LONG),
          arrivals=mishaps.arrivals)  # fmt: skip
    def one_is_cut_off_from_the_database(
        self, how: str, seconds: float, arrivals: list[tuple[str, bytes, How]]
    ) -> None:
        self.recordings_come(arrivals)
        self.may_end_by |= FENCED
        relay = self.relays[0]
        (relay.cut if how == "cut" else relay.hang)()
        try:
            time.sleep(seconds)
        finally:
            relay.mend()

    # ---- what must be true -------------------------------------------------------------------------------

    def is_watching_or_has_ended(self) -> bool:
        assert self.daemon is not None
        return self.is_watching() or self.daemon.has_ended(within_seconds=0)

    def state(self) -> str | None:
        """What the journal says of the host that is meant."""
        with psycopg.connect(self.server.url) as connection:
            query = "SELECT state FROM hosts WHERE name = %s"
            found = connection.execute(query, (self.host.root.name,)).fetchone()
        return None if found is None else found[0]

    def is_taken_over(self) -> bool:
        """Or the other host has ended meanwhile."""
        assert self.other_daemon is not None
        return self.state() != "alive" or self.other_daemon.has_ended(within_seconds=0)

    def stored(self) -> int:
        return sum(request["uploads"] for request in self.api.stats()["requests"])

    def look(self) -> Audit:
        return Audit(self.clinic, self.person, oddly=self.oddly, hosts=self.hosts, server=self.server)

    def running(self) -> list[Process]:
        return [daemon for daemon in (self.daemon, self.other_daemon) if daemon is not None]

    def restart_all(self) -> None:
        """If the other one does not run now, it never does again."""
        super().restart_all()
        self.the_other_host_is_meant()
        if self.daemon is not None:
            super().restart_all()
            self.the_other_host_is_meant()

    def stop_all(self) -> None:
        for _host in NAMES:
            if self.daemon is not None:
                super().stop_all()
            self.the_other_host_is_meant()


@pytest.mark.timeout(0)  # a long run takes hours; every command ends by itself
def test_any_faults_of_two_hosts_in_any_order(
    tmp_path: Path, own: Cluster, request: pytest.FixtureRequest
) -> None:
    tally = run_machine(
        lambda daemons, tally: TwoHosts(tmp_path, daemons, tally, own),
        request,
        seed=17,
        examples=4,
        long=200,
        telling=(*TELLING, "host_joined", "host_taken_over", "fenced", "returned"),
    )
    assert tally.examples >= 4
    assert not tally.breaches
