"""FAULTS 50: any of these faults, in any order. A state machine deals them out, and audits after each step.

For a long run: `pytest -s tests/faults/test_any_order.py --hypothesis-profile=long --hypothesis-seed=1`.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
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
from tests.faults.audit import Audit
from tests.faults.daemons import CRUCIAL, Daemons, Death, Fate, Process
from tests.faults.person import NOT_RECORDINGS, How, Person, recording
from tests.kit.clinic import Clinic, free_port, sandbox, wait_for

SECRET = "sandbox-secret-of-32-characters!"
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens
DAY = 86_400.0
STEPS = 30

NAMES = [
    "smith.wav",
    "ward/smith.wav",
    "ward/smith.WAV",
    "ward/smith.mp3",
    "ward/night/Smith.wav",
    "ward 3/Dr Müller/dictée.wav",
    "naïve\udcff.wav",
    "line\nbreak \x1b[31m.wav",
    "n" * 251 + ".wav",
    "dot. .wav",
    "smith.json",
    "ward",
]
FOREIGN = [
    *(f"outbox/{name}" for name in ("smith.json", "smith.srt", "smith-2.json", "ward/smith.srt", "ward")),
    *(f"done/{name}" for name in ("smith.wav", "smith-2.wav", "ward/smith.wav", "dot. .wav", "ward")),
    *(f"failed/{name}" for name in ("smith.wav.error.json", "ward/smith.wav.error.json", "ward")),
]
OPERATIONS = ["token", "presign", "upload", "status"]
ILLNESSES: list[dict[str, Any]] = [
    *({"do": "status", "status": status, "retry_after": 0} for status in (429, 500, 502, 503, 504)),
    *({"do": "status", "status": status} for status in (200, 400, 401, 403, 408, 413)),
    {"do": "html"},
    {"do": "redirect", "location": NOWHERE},
    {"do": "reset"},
    {"do": "silence", "seconds": 0.1},
    {"do": "latency", "seconds": 0.1},
    {"do": "drop_reply"},
    {"do": "slow_bytes", "seconds": 0.0005, "part": "all"},
    {"do": "truncate", "declared": "whole"},
    {"do": "truncate", "declared": "half"},
]
LIES: list[dict[str, Any]] = [
    {"on": "upload", "do": "drop_reply"},
    {"on": "upload", "do": "silence", "seconds": 0.1},
    *({"on": "upload", "do": "status", "status": status} for status in (200, 403, 504)),
    *({"on": "upload", "do": "close_after_bytes", "bytes": count} for count in (0, 1000, 20_000)),
    {"on": "token", "do": "missing_field", "field": "accessToken"},
    {"on": "presign", "do": "missing_field", "field": "presignedUrl"},
    {"on": "presign", "do": "missing_field", "field": "requestId"},
    {"on": "status", "do": "missing_field", "field": "processingStatus"},
    {"on": "status", "do": "missing_field", "field": "transcription"},
    {"on": "status", "do": "unknown_status"},
    *({"on": "webhook", **fault} for fault in ({"do": "drop"}, {"do": "error_result"})),
    {"on": "webhook", "do": "latency", "seconds": 0.2},
]

HOWS: list[How] = ["copied", "moved in", "renamed at the end", "with an old time"]
names = st.sampled_from(NAMES)
recordings = st.integers(0, 5).map(recording)
indexes = st.integers(0, 9)
hows = st.sampled_from(HOWS)
# What a person may do besides bringing recordings: a method of Person, and its arguments.
deeds = st.one_of(
    st.tuples(st.just("drop_something_else"), names, st.sampled_from(NOT_RECORDINGS), hows),
    st.tuples(st.just("begin_writing"), names, recordings, st.booleans()),
    st.tuples(st.just("go_on_writing"), indexes, st.sampled_from([1, 40, 5000])),
    st.tuples(st.just("finish_writing"), indexes),
    st.tuples(st.just("overwrite"), indexes, recordings),
    st.tuples(st.just("rename"), indexes, names),
    st.tuples(st.just("delete"), indexes),
    st.tuples(st.just("put_back"), indexes, st.booleans()),
    st.tuples(st.just("delete_output"), indexes),
    st.tuples(st.just("put_foreign"), st.sampled_from(FOREIGN)),
    st.tuples(st.just("retry"), st.none() | indexes),
)
an_illness = st.builds(
    lambda on, fault: {"on": on, **fault}, st.sampled_from(OPERATIONS), st.sampled_from(ILLNESSES)
)
an_error = st.just({"on": "status", "do": "error_result"})  # the only one after which it may be paid again
faults = st.builds(
    lambda fault, times: {"times": times, **fault},
    st.one_of(an_illness, st.sampled_from(LIES), an_error),
    st.integers(1, 5),
)
clocks = st.sampled_from([0.0, 0.0, -DAY, -60.0, 60.0, DAY / 2, DAY])
# The crash: never, at a step whatever it is, or (twice as often) at one of those that matter most.
at_any_step = st.builds(Death, st.none(), st.integers(1, 150))
at_a_crucial_one = st.builds(Death, st.sampled_from(CRUCIAL), st.integers(1, 6))
deaths = st.sampled_from([st.none(), at_any_step, at_a_crucial_one, at_a_crucial_one]).flatmap(
    lambda way: way
)
fates = st.builds(Fate, deaths, clocks, clocks, st.integers(0, 30))


@dataclass
class Tally:
    """How much was tried."""

    examples: int = 0
    whole_examples: int = 0
    steps: int = 0
    breaches: int = 0


class AnyOrder(RuleBasedStateMachine):
    """One clinic with its stand-in API."""

    def __init__(self, root: Path, daemons: Daemons, tally: Tally) -> None:
        super().__init__()
        tally.examples += 1
        self.root = root / f"{tally.examples}"
        self.tally = tally
        self.daemons = daemons
        self.daemon: Process | None = None
        self.cleanup = contextlib.ExitStack()
        self.is_whole = True
        self.steps = 0

    @initialize(webhooks=st.booleans(), mode=st.sampled_from(["native", "polling"]))
    def open_the_clinic(self, webhooks: bool, mode: str) -> None:
        self.api = self.cleanup.enter_context(
            sandbox(self.root / "api", token_lifetime_seconds=1, webhook_retries=1)
        )
        listen = f"127.0.0.1:{free_port()}"
        changes: dict[str, dict[str, Any]] = {
            "api": {"base_url": self.api.base_url, "read_timeout_seconds": 2},
            "watch": {
                "mode": mode,
                "settle_seconds": 0.05,
                "rescan_seconds": 0.3,
                "polling_seconds": 0.1,
                "patience_seconds": 0.3,
            },
            # An upload whose sender was killed may take the sandbox a while to know of.
            "polling": {"first_seconds": 0.03, "max_seconds": 0.2, "unknown_seconds": 0.5},
            "retry": {"base_seconds": 0.01, "max_seconds": 0.1, "max_attempts": 4},
        }
        if webhooks:
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
        for folder in (self.clinic.outbox, self.clinic.done, self.clinic.failed, self.clinic.processing):
            folder.mkdir(mode=0o700)
        self.person = Person(self.clinic)
        self.cleanup.callback(self.person.leave)

    # ---- what happens ------------------------------------------------------------------------------------

    @rule(arrivals=st.lists(st.tuples(names, recordings, hows), min_size=1, max_size=3))
    def recordings_come(self, arrivals: list[tuple[str, bytes, How]]) -> None:
        with self.frozen():
            for name, content, how in arrivals:
                self.person.drop(name, content, how)

    @rule(deed=deeds)
    def a_person_acts(self, deed: tuple[str, Any]) -> None:
        method, *arguments = deed
        if method == "retry":
            self.retry(*arguments)
            return
        with self.frozen():
            getattr(self.person, method)(*arguments)

    def retry(self, index: int | None) -> None:
        with self.frozen():
            jobs = Audit(self.clinic, self.person).jobs
        failed = [job for job in jobs if job.state is State.FAILED]
        if failed and index is None:
            self.person.back_from_failed |= {job.filed_as for job in failed}
            # 75, try later: a file that waits in the inbox has the name of a folder that is needed there.
            assert self.daemons.run(self.clinic, "retry", "--all") in (0, 75)
        elif failed and index is not None:
            job = failed[index % len(failed)]
            self.person.back_from_failed.add(job.filed_as)
            # Its file may be gone from failed/, and another one lie there under its name.
            assert self.daemons.run(self.clinic, "retry", job.id) in (0, 1)

    @rule(fault=faults)
    def the_api_falls_ill(self, fault: dict[str, Any]) -> None:
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
    @rule(fate=fates)
    def it_runs_once(self, fate: Fate) -> None:
        status = self.daemons.run(self.clinic, "run", "--once", fate=fate)
        killed = {-signal.SIGKILL} if fate.death else set()
        assert status in {0, 1, 69, 75, 77} | killed

    @precondition(lambda self: self.daemon is None)
    @rule(fate=fates)
    def the_daemon_starts(self, fate: Fate) -> None:
        self.daemon = self.daemons.start(self.clinic, "run", fate=fate)
        self.fate = fate

    @precondition(lambda self: self.daemon is not None)
    @rule(seconds=st.floats(0, 0.5), end=st.sampled_from([None, signal.SIGTERM, signal.SIGKILL]))
    def the_daemon_works(self, seconds: float, end: signal.Signals | None) -> None:
        assert self.daemon is not None
        time.sleep(seconds)
        if end is not None:
            daemon, self.daemon = self.daemon, None
            status = daemon.end(end)
            killed = {-signal.SIGKILL} if self.fate.death else set()
            # A signal that comes before the daemon has set itself up to be told ends it.
            assert status in {0, -end} | killed

    # ---- what must be true -------------------------------------------------------------------------------

    @invariant()
    def the_promises_hold(self) -> None:
        self.steps += 1
        with self.frozen():
            self.audit()

    def teardown(self) -> None:
        self.tally.steps += self.steps
        self.tally.whole_examples += self.steps > STEPS
        error = sys.exc_info()[1]  # of a rule that failed, or with which Hypothesis ends an example
        try:
            with self.noting_a_breach():
                if error is not None:
                    raise error
                self.bring_to_rest()
        except StopTest:
            pass
        finally:
            if self.daemon is not None:
                self.daemon.end(signal.SIGKILL)
            self.cleanup.close()
            if self.is_whole:
                shutil.rmtree(self.root, ignore_errors=True)

    def audit(self) -> Audit:
        audit = Audit(self.clinic, self.person)
        audit.assert_nothing_lost()
        audit.assert_nothing_half_done()
        audit.assert_paid_once(self.api)
        return audit

    def bring_to_rest(self) -> None:
        """With the API well again and every failed recording sent once more, all of them get done."""
        self.the_api_changes("well")
        with self.frozen():
            while self.person.slow:
                self.person.finish_writing(0)
        if self.daemon is not None:
            self.the_daemon_works(0, signal.SIGTERM)
        before = len(self.clinic.events("watching"))
        self.the_daemon_starts(Fate())
        wait_for("the daemon watches", lambda: len(self.clinic.events("watching")) > before)
        wait_for("all is done", self.is_all_done, seconds=60)
        assert self.daemon is not None
        daemon, self.daemon = self.daemon, None
        assert daemon.end(signal.SIGTERM) == 0
        self.audit().assert_all_done()
        said = self.clinic.log.read_text()
        assert not [word for word in ("step_crashed", "thread_died", "Traceback") if word in said]

    def is_all_done(self) -> bool:
        with self.frozen():
            audit = self.audit()
        if audit.is_at_rest and audit.failed_recordings:
            self.retry(None)
            return False
        return audit.is_at_rest

    def change_the_configuration(self, what: str, to: str) -> None:
        changed = self.clinic.root / "changed.yaml"
        changed.write_text(self.clinic.config.read_text().replace(what, to))
        changed.replace(self.clinic.config)  # a daemon may be reading it just now

    def frozen(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.daemon is None else self.daemon.frozen()

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


@pytest.mark.slow
@pytest.mark.timeout(0)  # a long run takes hours; every command ends by itself
def test_50_any_faults_in_any_order(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    given = request.config.getoption("--hypothesis-seed")
    seed, tally, daemons = int(given or 50), Tally(), Daemons()

    @hypothesis.seed(seed)
    def machine() -> AnyOrder:
        return AnyOrder(tmp_path, daemons, tally)

    long = hypothesis.settings.get_current_profile_name() == "long"
    settings = hypothesis.settings(
        max_examples=1250 if long else 16,
        stateful_step_count=STEPS + 1,  # the first opens the clinic
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],  # what real processes did once, they rarely do again
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    began = time.monotonic()
    try:
        run_state_machine_as_test(machine, settings=settings)
        assert not tally.breaches
    finally:
        daemons.close()
        print(
            f"{tally.examples} examples, {tally.whole_examples} of them with {STEPS} steps,"
            f" {tally.steps} steps in all, seed {seed}, {time.monotonic() - began:.0f} seconds"
        )
