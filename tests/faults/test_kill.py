"""FAULTS 29: SIGKILL at every system call, between every two steps, and at random moments.

After each restart the four promises hold.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults.crash_zygote import NEVER, Zygote
from tests.faults.promises import assert_kept, hashes
from tests.faults.tracing import Fault, Trace
from tests.kit.clinic import Clinic, sandbox, stop
from tests.kit.recordings import write_au, write_wav
from tests.kit.waiting import wait_for

_AT_ONCE = 4
# A killed upload's last bytes may still be on their way into the stand-in API when the restart asks for them.
SWEEP = {
    "watch": {"settle_seconds": 0.05, "rescan_seconds": 1, "patience_seconds": 1.5},
    "polling": {"first_seconds": 0.1, "max_seconds": 1, "unknown_seconds": 1},
}


@pytest.fixture(scope="module")
def zygotes() -> Iterator[list[Zygote]]:
    """One for each of the clinics that are at work at the same time."""
    running = [Zygote() for _ in range(_AT_ONCE)]
    yield running
    for zygote in running:
        zygote.close()


class Way:
    """One recording's way: how it begins, how it goes on after a kill, and what a person finds in the end."""

    arguments: tuple[str, ...] = ()

    def __init__(self, zygote: Zygote, root: Path, api: Sandbox) -> None:
        self.zygote = zygote
        self.api = api
        self.root = root

    def begin(self, number: int) -> None:
        self.clinic = Clinic(self.root / f"{number}", self.api.base_url, **SWEEP)
        self.lay(number)
        self.contents = hashes(self.clinic)

    def lay(self, number: int) -> None:
        write_wav(self.clinic.inbox / "ward 3" / "smith.wav", pitch=200 + number, seconds=0.1)

    def go_on(self) -> None:
        assert self.zygote.once(self.clinic) == 0, self.clinic.log.read_text()

    def assert_well(self) -> None:
        assert_kept(self.clinic, self.api, self.contents)


class Decoding(Way):
    """That of a recording which the API does not take, and which is decoded first."""

    def lay(self, number: int) -> None:
        write_au(self.clinic.inbox / "ward 3" / "smith.au", pitch=200 + number, seconds=0.1)


class Failure(Way):
    """That of a file that is no recording."""

    def lay(self, number: int) -> None:
        (self.clinic.inbox / "letter.wav").write_text("not audio\n")

    def go_on(self) -> None:
        assert self.zygote.once(self.clinic) in (0, 1), self.clinic.log.read_text()

    def assert_well(self) -> None:
        clinic = self.clinic
        assert clinic.files(clinic.failed) == ["letter.wav", "letter.wav.error.json"]
        assert clinic.files(clinic.inbox) == clinic.files(clinic.outbox) == clinic.files(clinic.done) == []
        assert clinic.under_way() == []
        assert self.api.stats()["presigns"] == 0


class Retry(Way):
    """That of a recording which storage rejected, and which `retry` puts back into the inbox."""

    arguments = ("retry", "--code", "too_large")

    def begin(self, number: int) -> None:
        super().begin(number)
        self.api.fault({"on": "upload", "do": "status", "status": 413})
        assert self.zygote.once(self.clinic) == 1
        assert self.clinic.files(self.clinic.failed) == ["ward 3/smith.wav", "ward 3/smith.wav.error.json"]

    def go_on(self) -> None:
        assert self.clinic.run(*self.arguments).returncode == 0
        super().go_on()


@contextlib.contextmanager
def ways_of(kind: type[Way], zygotes: list[Zygote], root: Path) -> Iterator[list[Way]]:
    """Ways that don't get into each other's: each with an API of its own."""
    with contextlib.ExitStack() as stack:
        places = [root / f"{number}" for number in range(len(zygotes))]
        apis = [stack.enter_context(sandbox(place / "api")) for place in places]
        yield [kind(*each) for each in zip(zygotes, places, apis, strict=True)]


def sweep(ways: list[Way], moments: Sequence[int], strike: Callable[[Way, int], Trace]) -> list[Trace]:
    """Kill at each moment, go on and look, until a command is through before its moment comes.

    The ways take the moments in turn, and are gone at the same time. Returns the traces of all runs.
    """

    def go(number: int) -> list[Trace]:
        traces = []
        for moment in moments[number :: len(ways)]:
            traces.append(struck(ways[number], moment, strike))
            if traces[-1].status != -signal.SIGKILL:
                break
        return traces

    with ThreadPoolExecutor(len(ways)) as pool:
        return list(itertools.chain.from_iterable(pool.map(go, range(len(ways)))))


def struck(way: Way, moment: int, strike: Callable[[Way, int], Trace]) -> Trace:
    """One run that meets its fate, and if it was killed, the next one and what there is then."""
    way.begin(moment)
    trace = strike(way, moment)
    if trace.status != -signal.SIGKILL:
        assert trace.status in (0, 1), way.clinic.log.read_text()
        return trace
    seen = outputs(way.clinic)
    try:
        way.go_on()
        way.assert_well()
        whole = outputs(way.clinic)
        assert {path: whole.get(path, content) for path, content in seen.items()} == seen
    except AssertionError as error:
        error.add_note(f"killed at moment {moment}, {trace.hit}")
        raise
    return trace


def outputs(clinic: Clinic) -> dict[Path, bytes]:
    """What another program finds in outbox/ and failed/: everything but temporary files."""
    found = [path for folder in (clinic.outbox, clinic.failed) for path in folder.rglob("[!.]*")]
    return {path: path.read_bytes() for path in found if path.is_file()}


def kills_in(traces: list[Trace]) -> int:
    """How many of these runs were killed."""
    return sum(trace.status == -signal.SIGKILL for trace in traces)


def kill_at_call(way: Way, number: int) -> Trace:
    return way.zygote.traced(way.clinic, Fault(number), *way.arguments)


def kill_at_step(way: Way, number: int) -> Trace:
    return Trace(way.zygote.once(way.clinic, kill_at_step=number))


@pytest.mark.parametrize("kind", [Way, Decoding, Failure, Retry], ids=lambda kind: kind.__name__.lower())
def test_29_a_kill_at_some_system_calls_breaks_no_promise(
    tmp_path: Path, zygotes: list[Zygote], kind: type[Way]
) -> None:
    with ways_of(kind, zygotes, tmp_path) as ways:
        ways[0].begin(0)
        whole = kill_at_call(ways[0], NEVER)
        calls = len(whole.calls)
        traces = sweep(ways, range(2, calls, calls // 5), kill_at_call)
    assert kills_in(traces) >= 4


@pytest.mark.slow
@pytest.mark.needs("root")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kind", "at_least"),
    [(Way, 300), (Decoding, 300), (Failure, 150), (Retry, 5)],
    ids=["way", "decoding", "failure", "retry"],
)
def test_29_a_kill_at_every_system_call_breaks_no_promise(
    tmp_path: Path, zygotes: list[Zygote], kind: type[Way], at_least: int
) -> None:
    began = time.monotonic()
    with ways_of(kind, zygotes, tmp_path) as ways:
        traces = sweep(ways, range(1, 10_000), kill_at_call)
    kills, calls = kills_in(traces), max(trace.all_calls for trace in traces)
    print(f"{kills} kills, one at each call of {calls} that can be seen; {time.monotonic() - began:.0f} s")
    assert kills > at_least  # as many as the way had when this was written, or more


@pytest.mark.slow
@pytest.mark.needs  # minutes
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("kind", "at_least"), [(Way, 60), (Decoding, 60), (Failure, 20)], ids=["way", "decoding", "failure"]
)
def test_29_a_kill_between_every_two_steps_breaks_no_promise(
    tmp_path: Path, zygotes: list[Zygote], kind: type[Way], at_least: int
) -> None:
    with ways_of(kind, zygotes, tmp_path) as ways:
        kills = kills_in(sweep(ways, range(1, 1000), kill_at_step))
    print(f"{kills} moments killed at")
    assert kills > at_least


def test_29_a_name_taken_after_a_kill_at_the_filing_is_not_used(tmp_path: Path, api: Sandbox) -> None:
    """The recording is in done/, of which the journal knows nothing; an output is not what it was."""
    with contextlib.closing(Zygote()) as zygote:
        clinic = Clinic(tmp_path / "clinic", api.base_url, **SWEEP)
        assert zygote.once(clinic) == 0  # the first start alone syncs marks
        write_wav(clinic.inbox / "smith.wav")
        contents = hashes(clinic)
        assert zygote.traced(clinic, Fault(1, calls={"fsync"}, under=str(clinic.done))).hit is not None
        assert clinic.files(clinic.done) == ["smith.wav"]
        (clinic.outbox / "smith.json").write_text("a reader's own")
        assert zygote.once(clinic) == 0, clinic.log.read_text()
    assert (clinic.outbox / "smith.json").read_text() == "a reader's own"
    (clinic.outbox / "smith.json").unlink()
    assert clinic.files(clinic.done) == ["smith-2.wav"]
    assert_kept(clinic, api, contents)


@pytest.mark.needs  # minutes
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_29_random_kills_lose_none_of_forty_recordings(tmp_path: Path) -> None:
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
        wait_for("nothing is under way", lambda: not clinic.under_way())
        assert stop(daemon) == 0
        assert kills > 2
        assert_kept(clinic, api, contents)
