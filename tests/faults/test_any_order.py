"""FAULTS 77: any of these faults, in any order. A state machine deals them out, and audits after each step.

The faults of the API, kills, clocks, outages with restarts in them, senders whose line stalls, and other
instances: on folders of this one, and beside it.

For a long run: `pytest -s tests/faults/test_any_order.py --hypothesis-profile=long --hypothesis-seed=1`.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.errors import StopTest
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from invox_watcher.job import State
from tests.faults import mishaps
from tests.faults.audit import Audit
from tests.faults.daemons import Daemons, Fate, Process
from tests.faults.mishaps import NOWHERE, OPERATIONS
from tests.faults.neighbours import OVERLAPS, Neighbour, is_marked, overlapping
from tests.faults.person import How, Person
from tests.kit.clinic import Clinic, free_port, sandbox
from tests.kit.waiting import wait_for

SECRET = "sandbox-secret-of-32-characters!"
STEPS = 40
# Events without which a run shows little.
TELLING = (
    *("done", "failed", "recording_changed", "upload_discarded", "recording_open", "upload_uncertain"),
    *("reply_repaired", "request_unknown", "api_refused", "breaker_opened", "retention_paused"),
)
THIRTY_DAYS = {"done_days": 30, "failed_days": 30, "transcripts_days": 30, "journal_days": 30}


@dataclass
class Tally:
    """How much was tried, and what came of it: how often each event was logged."""

    examples: int = 0
    whole_examples: int = 0
    steps: int = 0
    breaches: int = 0
    telling: tuple[str, ...] = TELLING
    events: Counter[str] = field(default_factory=Counter)

    def summary(self, seconds: float) -> str:
        """In one line for people."""
        met = ", ".join(f"{self.events[name]} {name}" for name in self.telling)
        return (
            f"{self.examples} examples, {self.whole_examples} of them with {STEPS} steps, {self.steps} steps"
            f" in all, {self.breaches} breaches, {seconds:.0f} seconds; {met}"
        )


class AnyOrder(RuleBasedStateMachine):
    """One clinic with its stand-in API, and one host; `tests.fleet.test_any_order` has two.

    `clinic` has the folders; each of `hosts` is a configuration, with a state directory and a log. What is
    done to a host is done to `host`, and to `daemon` if it runs.
    """

    def __init__(self, root: Path, daemons: Daemons, tally: Tally) -> None:
        super().__init__()
        tally.examples += 1
        self.root = root / f"{tally.examples}"
        self.tally = tally
        self.daemons = daemons
        self.daemon: Process | None = None
        self.may_end_by: set[int] = set()
        self.watched_before: dict[Path, int] = {}  # how often each host had, when it was started
        self.cleanup = contextlib.ExitStack()
        self.is_whole = True
        self.steps = 0
        self.oddly = False  # whether replies may have had their words in an odd form
        self.clock_was_wrong = False  # by more than results are waited for
        self.neighbour: Neighbour | None = None

    @initialize(webhooks=st.booleans(), mode=st.sampled_from(["native", "polling"]))
    def open_the_clinic(self, webhooks: bool, mode: str) -> None:
        self.api = self.cleanup.enter_context(
            sandbox(self.root / "api", token_lifetime_seconds=1, webhook_retries=1, result_delay_seconds=0.03)
        )
        changes: dict[str, dict[str, Any]] = {
            "api": {"base_url": self.api.base_url, "read_timeout_seconds": 2},
            "watch": {
                "mode": mode,
                "settle_seconds": 0.05,
                "rescan_seconds": 0.3,
                "polling_seconds": 0.1,
                "patience_seconds": 0.3,
                "unproven_seconds": 0.15,
            },
            # An upload whose sender was killed may take the sandbox a while to know of.
            "polling": {"first_seconds": 0.03, "max_seconds": 0.2, "unknown_seconds": 0.5},
            "retry": {"base_seconds": 0.01, "max_seconds": 0.1, "max_attempts": 4},
            "retention": THIRTY_DAYS,
        }
        if webhooks:
            listen = f"127.0.0.1:{free_port()}"
            changes |= {
                # Not `auto`, which believes the API's denial of a job only after ten minutes.
                "webhook": {
                    "enabled": True,
                    "public_url": f"http://{listen}/webhook",
                    "confirm": "always",
                },
                "http": {"listen": listen},
                "credentials": {"app_id": "sandbox-app", "api_key": "sandbox-key", "app_secret": SECRET},
            }
        self.clinic = Clinic(self.root / "clinic", self.api.base_url, **changes)
        self.hosts = self.make_hosts(changes)
        self.host = self.hosts[0]
        for folder in (self.clinic.outbox, self.clinic.done, self.clinic.failed, self.clinic.processing):
            folder.mkdir(mode=0o700)
        self.person = Person(self.clinic)
        self.cleanup.callback(self.person.leave)

    def make_hosts(self, changes: dict[str, dict[str, Any]]) -> list[Clinic]:
        """The configurations of the hosts, of which `changes` are part."""
        return [self.clinic]

    # ---- what happens ------------------------------------------------------------------------------------

    @rule(arrivals=mishaps.arrivals)
    def recordings_come(self, arrivals: list[tuple[str, bytes, How]]) -> None:
        with self.frozen():
            for name, content, how in arrivals:
                self.person.drop(name, content, how)

    @rule(deed=mishaps.deeds)
    def a_person_acts(self, deed: tuple[str, Any]) -> None:
        method, *arguments = deed
        if method == "retry":
            self.retry(*arguments)
            return
        with self.frozen():
            getattr(self.person, method)(*arguments)

    @rule(begun=mishaps.begun, size=st.sampled_from([420, 3000, 5000]), silence=st.floats(0.1, 0.7),
          then=st.sampled_from(["finish_writing", "finish_writing", "go_on_writing", None]))  # fmt: skip
    def a_line_stalls(self, begun: tuple[Any, ...], size: int, silence: float, then: str | None) -> None:
        """While the daemon works."""
        with self.frozen():
            self.person.begin_writing(*begun)
            self.person.go_on_writing(-1, size)
        if self.daemon is None:
            self.the_daemon_starts(Fate())
        time.sleep(silence)
        with self.frozen():
            if then == "finish_writing":
                self.person.finish_writing(-1)
            elif then == "go_on_writing":
                self.person.go_on_writing(-1, size)

    def retry(self, index: int | None) -> None:
        with self.frozen():
            jobs = self.look().jobs
        failed = [job for job in jobs if job.state is State.FAILED]
        if failed and index is None:
            self.person.back_from_failed |= {job.filed_as for job in failed}
            # By their ids, since --all leaves those that would only fail again. 1: one is no longer there.
            # 75, try later: a file that waits in the inbox has the name of a folder that is needed there.
            assert self.daemons.run(self.host, "retry", *(job.id for job in failed)) in (0, 1, 75)
        elif failed and index is not None:
            job = failed[index % len(failed)]
            self.person.back_from_failed.add(job.filed_as)
            # Its file may be gone from failed/, and another one lie there under its name.
            assert self.daemons.run(self.host, "retry", job.id) in (0, 1)

    @rule(fault=mishaps.faults)
    def the_api_falls_ill(self, fault: dict[str, Any]) -> None:
        self.oddly = self.oddly or fault["do"] == "odd_result"
        self.api.fault(fault)

    @rule(how=st.sampled_from(["well", "well", "well", "unavailable", "reset", "nobody listens"]))
    def the_api_changes(self, how: str) -> None:
        self.change_the_configuration(NOWHERE, self.api.base_url)
        self.api.clear_faults()
        if how == "nobody listens":
            self.change_the_configuration(self.api.base_url, NOWHERE)
        elif how != "well":
            fault = {"do": "reset"} if how == "reset" else {"do": "status", "status": 503}
            for operation in OPERATIONS:
                self.api.fault({"on": operation, "times": None, **fault})

    @precondition(lambda self: self.daemon is None)
    @rule(outage=st.sampled_from(mishaps.OUTAGES), starts=mishaps.starts)
    def it_starts_again_and_again_in_an_outage(
        self, outage: list[dict[str, Any]], starts: list[tuple[str, float]]
    ) -> None:
        self.the_api_changes("well" if outage else "nobody listens")
        for fault in outage:
            self.api.fault(fault)
        before = self.look()
        for how, seconds in starts:
            if how == "once":
                self.it_runs_once(Fate())
                continue
            self.the_daemon_starts(Fate())
            if how == "reload":
                self.the_daemon_works(seconds, signal.SIGHUP)
                self.the_daemon_works(seconds / 2, signal.SIGTERM)
            else:
                self.the_daemon_works(seconds, signal.SIGTERM if how == "term" else signal.SIGKILL)
        self.look().assert_blamed_for_nothing(before)

    @precondition(lambda self: self.daemon is None)
    @rule(kind=st.sampled_from(mishaps.ODD), arrivals=mishaps.arrivals)
    def all_results_are_odd(self, kind: str, arrivals: list[tuple[str, bytes, How]]) -> None:
        """For as long as a run takes: no words are thrown away, and no recording is blamed."""
        self.the_api_changes("well")
        self.the_api_falls_ill({"on": "status", "do": "odd_result", "kind": kind, "times": None})
        before = self.look()
        self.recordings_come(arrivals)
        self.it_runs_once(Fate())
        self.look().assert_blamed_for_nothing(before)
        self.api.clear_faults()

    @rule(where=st.sampled_from(OVERLAPS))
    def another_instance_has_folders_of_this_one(self, where: str) -> None:
        if not is_marked(self.clinic):
            return
        second = overlapping(self.clinic, self.root / "second", where)
        assert self.daemons.run(second, "run", "--once") == 78
        assert str(self.clinic.root) in second.log.read_text()

    @rule(arrivals=mishaps.few_arrivals, fate=mishaps.fates)
    def another_instance_works_beside_it(self, arrivals: list[tuple[str, bytes, How]], fate: Fate) -> None:
        if self.neighbour is None:
            self.neighbour = Neighbour(self.root / "neighbour", self.api, self.daemons)
        self.neighbour.work(arrivals, fate)

    @precondition(lambda self: self.daemon is None)
    @rule(fate=mishaps.fates)
    def it_runs_once(self, fate: Fate) -> None:
        self.heed(fate)
        run = self.daemons.start(self.host, "run", "--once", fate=fate)
        ended_by = {-signal.SIGKILL} if fate.death else set()
        if any(writing.held for writing in self.person.slow) and not run.has_ended(within_seconds=1):
            # It waits for a recording that turned out to be open after it was claimed.
            ended_by.add(-signal.SIGTERM)
            status = run.end(signal.SIGTERM)
        else:
            status = run.status()
        assert status in {0, 1, 69, 75, 77} | ended_by

    @precondition(lambda self: self.daemon is None)
    @rule(fate=mishaps.fates)
    def the_daemon_starts(self, fate: Fate) -> None:
        self.heed(fate)
        self.watched_before[self.host.root] = len(self.host.events("watching"))
        self.daemon = self.daemons.start(self.host, "run", fate=fate)
        # A signal that comes before the daemon has set itself up to be told ends it.
        self.may_end_by = {0, *({-signal.SIGKILL} if fate.death else ())}

    @precondition(lambda self: self.daemon is not None)
    @rule(
        seconds=st.floats(0, 0.4),
        end=st.sampled_from([None, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP]),
    )
    def the_daemon_works(self, seconds: float, end: signal.Signals | None) -> None:
        assert self.daemon is not None
        time.sleep(seconds)
        if end is None:
            return
        self.may_end_by.add(-end)
        if end is signal.SIGHUP:
            self.daemon.signal(end)
            return
        daemon, self.daemon = self.daemon, None
        assert daemon.end(end) in self.may_end_by

    def heed(self, fate: Fate) -> None:
        """What the audit has to know of a command's clock."""
        if max(abs(fate.clock_seconds), abs(fate.stepped_seconds)) >= mishaps.DAY / 2:
            self.clock_was_wrong = True

    # ---- what must be true -------------------------------------------------------------------------------

    @invariant()
    def the_promises_hold(self) -> None:
        self.steps += 1
        with self.frozen():
            self.audit()

    def teardown(self) -> None:
        self.tally.steps += self.steps
        self.tally.whole_examples += self.steps > STEPS
        for host in self.hosts:
            self.tally.events.update(event["event"] for event in host.events())
        error = sys.exc_info()[1]  # of a rule that failed, or with which Hypothesis ends an example
        try:
            with self.noting_a_breach():
                if error is not None:
                    raise error
                self.bring_to_rest()
        except StopTest:
            pass
        finally:
            for daemon in self.running():
                daemon.end(signal.SIGKILL)
            self.cleanup.close()
            if self.is_whole:
                shutil.rmtree(self.root, ignore_errors=True)

    def look(self) -> Audit:
        return Audit(self.clinic, self.person, oddly=self.oddly)

    def audit(self) -> Audit:
        audit = self.look()
        audit.assert_nothing_lost()
        audit.assert_nothing_half_done()
        ours, theirs = partition(self.api.stats()["requests"], self.neighbour)
        audit.assert_paid_once(ours, clock_was_wrong=self.clock_was_wrong)
        if self.neighbour is not None:
            self.neighbour.audit(theirs, oddly=self.oddly)
        return audit

    def bring_to_rest(self) -> None:
        """With the API well again and every failed recording sent once more, all of them get done."""
        self.the_api_changes("well")
        with self.frozen():
            while self.person.slow:
                self.person.finish_writing(0)
        self.restart_all()
        wait_for("all is done", self.is_all_done, seconds=60)
        self.stop_all()
        self.audit().assert_all_done()
        if self.neighbour is not None:
            self.neighbour.bring_to_rest(oddly=self.oddly)
        said = "".join(host.log.read_text() for host in self.hosts if host.log.exists())
        assert not [word for word in ("internal_error", "thread_died", "Traceback") if word in said]

    def restart_all(self) -> None:
        """Every host runs, and watches."""
        if self.daemon is not None:
            self.the_daemon_works(0, signal.SIGTERM)
        self.the_daemon_starts(Fate())
        wait_for("the daemon watches", self.is_watching)

    def is_watching(self) -> bool:
        """Since the daemon was started last."""
        return len(self.host.events("watching")) > self.watched_before[self.host.root]

    def stop_all(self) -> None:
        """They end in good order."""
        assert self.daemon is not None
        daemon, self.daemon = self.daemon, None
        assert daemon.end(signal.SIGTERM) == 0

    def is_all_done(self) -> bool:
        with self.frozen():
            audit = self.audit()
        if audit.is_at_rest and audit.failed_recordings:
            self.retry(None)
            return False
        return audit.is_at_rest

    def change_the_configuration(self, what: str, to: str) -> None:
        for host in self.hosts:
            changed = host.root / "changed.yaml"
            changed.write_text(host.config.read_text().replace(what, to))
            changed.replace(host.config)  # a daemon may be reading it just now

    def running(self) -> list[Process]:
        """Every daemon that was started and not yet waited for."""
        return [self.daemon] if self.daemon is not None else []

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing moves."""
        with contextlib.ExitStack() as frozen:
            for daemon in self.running():
                frozen.enter_context(daemon.frozen())
            yield

    @contextlib.contextmanager
    def noting_a_breach(self) -> Iterator[None]:
        """Say at once what was found, and leave the folders as they are: it may not come again."""
        try:
            yield
        except StopTest:
            raise
        except BaseException:
            self.is_whole = False
            self.tally.breaches += 1
            traceback.print_exc(file=sys.stdout)
            print(f"Left as it was found: {self.root}")
            raise


def partition(requests: list[dict[str, Any]], neighbour: Neighbour | None) -> tuple[Any, Any]:
    """The API's requests: those of this instance, and those of the one beside it."""
    theirs = {request["id"]: neighbour is not None and neighbour.owns(request) for request in requests}
    return tuple([one for one in requests if theirs[one["id"]] is which] for which in (False, True))


@pytest.mark.slow
@pytest.mark.timeout(0)  # a long run takes hours; every command ends by itself
def test_77_any_faults_in_any_order(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    tally = run_machine(
        lambda daemons, tally: AnyOrder(tmp_path, daemons, tally), request, seed=77, examples=6, long=1600
    )
    assert tally.examples >= 6
    assert not tally.breaches


def run_machine(
    make: Callable[[Daemons, Tally], AnyOrder],
    request: pytest.FixtureRequest,
    *,
    seed: int,
    examples: int,
    long: int,
    telling: tuple[str, ...] = TELLING,
) -> Tally:
    """So many examples, or with the long profile `long` ones. The command line may give another seed."""
    seed = int(request.config.getoption("--hypothesis-seed") or seed)
    tally, daemons, began = Tally(telling=telling), Daemons(), time.monotonic()

    @hypothesis.seed(seed)
    def machine() -> AnyOrder:
        if tally.examples % 50 == 49:
            print(f"seed {seed}: {tally.summary(time.monotonic() - began)}", flush=True)
        return make(daemons, tally)

    is_long = hypothesis.settings.get_current_profile_name() == "long"
    settings = hypothesis.settings(
        max_examples=long if is_long else examples,
        stateful_step_count=STEPS + 1,  # the first opens the clinic
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],  # what real processes did once, they rarely do again
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        run_state_machine_as_test(machine, settings=settings)
    finally:
        daemons.close()
        print(f"seed {seed}: {tally.summary(time.monotonic() - began)}", flush=True)
    return tally
