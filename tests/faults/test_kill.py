"""FAULTS 29: SIGKILL at every system call, between every two steps, and at random moments.

After each restart the four promises hold.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults.crash_zygote import NEVER, Zygote
from tests.faults.promises import assert_kept, hashes
from tests.faults.tracing import Fault, Trace
from tests.support import Clinic, sandbox, stop, wait_for, write_wav

# A killed upload's last bytes may still be on their way into the stand-in API when the restart asks for them.
SWEEP = {
    "watch": {"settle_seconds": 0.05, "rescan_seconds": 1, "patience_seconds": 1.5},
    "polling": {"first_seconds": 0.1, "max_seconds": 1, "unknown_seconds": 1},
}


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    running = Zygote()
    yield running
    running.close()


class Way:
    """One recording's way: how it begins, how it goes on after a kill, and what a person finds in the end."""

    arguments: tuple[str, ...] = ()

    def __init__(self, zygote: Zygote, root: Path, api: Sandbox) -> None:
        self.zygote = zygote
        self.api = api
        self.root = root
        self.contents: set[str] = set()

    def begin(self, number: int) -> Clinic:
        clinic = Clinic(self.root / f"{number}", self.api.base_url, **SWEEP)
        write_wav(clinic.inbox / "ward 3" / "smith.wav", pitch=200 + number, seconds=0.1)
        self.contents = hashes(clinic)
        return clinic

    def go_on(self, clinic: Clinic) -> None:
        assert self.zygote.once(clinic) == 0, clinic.log.read_text()

    def assert_well(self, clinic: Clinic) -> None:
        assert_kept(clinic, self.api, self.contents)


class Failure(Way):
    """That of a file that is no recording."""

    def begin(self, number: int) -> Clinic:
        clinic = Clinic(self.root / f"{number}", self.api.base_url, **SWEEP)
        (clinic.inbox / "letter.wav").write_text("not audio\n")
        return clinic

    def go_on(self, clinic: Clinic) -> None:
        assert self.zygote.once(clinic) in (0, 1), clinic.log.read_text()

    def assert_well(self, clinic: Clinic) -> None:
        assert clinic.files(clinic.failed) == ["letter.wav", "letter.wav.error.json"]
        assert clinic.files(clinic.inbox) == clinic.files(clinic.outbox) == clinic.files(clinic.done) == []
        assert list(clinic.processing.iterdir()) == []
        assert self.api.stats()["presigns"] == 0


class Retry(Way):
    """That of a recording which the API rejected, and which `retry` puts back into the inbox."""

    arguments = ("retry", "--all")

    def begin(self, number: int) -> Clinic:
        clinic = super().begin(number)
        self.api.fault({"on": "presign", "do": "status", "status": 400})
        assert self.zygote.once(clinic) == 1
        assert clinic.files(clinic.failed) == ["ward 3/smith.wav", "ward 3/smith.wav.error.json"]
        return clinic

    def go_on(self, clinic: Clinic) -> None:
        assert clinic.run("retry", "--all").returncode == 0
        super().go_on(clinic)


def sweep(
    way: Way, moments: Iterator[int] | range, strike: Callable[[Clinic, int], Trace]
) -> tuple[int, list[Trace]]:
    """Kill at each moment, go on and look; the number of kills, and the traces of all runs."""
    traces = []
    for moment in moments:
        clinic = way.begin(moment)
        trace = strike(clinic, moment)
        traces.append(trace)
        if trace.status != -signal.SIGKILL:
            assert trace.status in (0, 1), clinic.log.read_text()
            break
        try:
            way.go_on(clinic)
            way.assert_well(clinic)
        except AssertionError as error:
            error.add_note(f"killed at moment {moment}, {trace.hit}")
            raise
    return sum(trace.status == -signal.SIGKILL for trace in traces), traces


def kill_at_call(way: Way) -> Callable[[Clinic, int], Trace]:
    return lambda clinic, number: way.zygote.traced(clinic, Fault(number), *way.arguments)


def kill_at_step(way: Way) -> Callable[[Clinic, int], Trace]:
    return lambda clinic, number: Trace(way.zygote.once(clinic, kill_at_step=number))


@pytest.mark.parametrize("kind", [Way, Failure, Retry], ids=lambda kind: kind.__name__.lower())
def test_29_a_kill_at_one_in_so_many_system_calls_breaks_no_promise(
    tmp_path: Path, zygote: Zygote, api: Sandbox, kind: type[Way]
) -> None:
    way = kind(zygote, tmp_path / "clinics", api)
    whole = zygote.traced(way.begin(0), Fault(NEVER), *way.arguments)
    calls = len(whole.calls)
    kills, _traces = sweep(way, range(2, calls, calls // 5), kill_at_call(way))
    assert kills >= 4


@pytest.mark.slow
@pytest.mark.needs("root")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kind", "at_least"), [(Way, 300), (Failure, 150), (Retry, 5)], ids=["way", "failure", "retry"]
)
def test_29_a_kill_at_every_system_call_breaks_no_promise(
    tmp_path: Path, zygote: Zygote, api: Sandbox, kind: type[Way], at_least: int
) -> None:
    way = kind(zygote, tmp_path, api)
    began = time.monotonic()
    kills, traces = sweep(way, range(1, 10_000), kill_at_call(way))
    seconds = time.monotonic() - began
    print(f"{kills} kills, one at each call of {traces[-1].all_calls} that can be seen; {seconds:.0f} s")
    assert kills > at_least  # as many as the way had when this was written, or more


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("kind", "at_least"), [(Way, 60), (Failure, 20)], ids=["way", "failure"])
def test_29_a_kill_between_every_two_steps_breaks_no_promise(
    tmp_path: Path, zygote: Zygote, api: Sandbox, kind: type[Way], at_least: int
) -> None:
    way = kind(zygote, tmp_path, api)
    kills, _traces = sweep(way, range(1, 1000), kill_at_step(way))
    print(f"{kills} moments killed at")
    assert kills > at_least


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_29_kills_at_random_moments_lose_none_of_forty_recordings(tmp_path: Path) -> None:
    chance = random.Random(2026)
    with sandbox(tmp_path / "api") as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        for number in range(40):
            write_wav(clinic.inbox / f"ward {number % 4}" / f"{number}.wav", pitch=200 + number)
        contents = hashes(clinic)
        kills = 0
        while len(clinic.files(clinic.done)) < 40 and kills < 60:
            daemon = clinic.start()
            time.sleep(chance.uniform(0, 0.4))
            daemon.kill()
            daemon.wait()
            kills += 1
        daemon = clinic.start()
        wait_for("all forty are done", lambda: len(clinic.files(clinic.done)) == 40)
        wait_for("nothing is under way", lambda: not list(clinic.processing.iterdir()))
        assert stop(daemon) == 0
        assert kills > 2
        assert_kept(clinic, api, contents)
