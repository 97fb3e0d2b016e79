"""80: a target that is down for a week while 5,000 are owed, and clocks that are wrong meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from bisect import bisect_left
from itertools import pairwise
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults.daemons import Daemons, Fate
from tests.faults.week import MOST_PER_MINUTE
from tests.kit.clinic import Clinic, free_port
from tests.kit.http_target import Receiver, http_target, receiving
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

OWED = 5_000
YEAR = 365 * 86_400.0


@pytest.mark.needs
@pytest.mark.timeout(900)
def test_80_a_week_costs_little_and_ends_without_a_flood(tmp_path: Path) -> None:
    port, receiver = free_port(), Receiver()
    command = [sys.executable, "-m", "tests.faults.week", str(tmp_path), str(port), str(OWED)]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        waited = json.loads(process.stdout.readline())
        print(waited)
        assert (waited["owed"], waited["failed"]) == (OWED, 0)
        # The delays are between half and all of five minutes.
        assert waited["attempts"] < 2 * 7 * 86_400 / 300
        assert waited["grown_kib"] < 20 * 1024
        with receiving(receiver, port):
            process.stdin.write(b"\n")
            process.stdin.flush()
            sent = json.loads(process.stdout.readline())
        assert process.wait(30) == 0
    assert len(receiver.keys) == len(set(receiver.keys)) == len(sent) == OWED
    gaps = [later - earlier for earlier, later in pairwise(sent)]
    assert gaps[1:5] == pytest.approx([2, 1, 0.5, 0.25])  # one by one, then faster and faster
    assert min(gaps) > 0.99 * 60 / MOST_PER_MINUTE
    most = max(bisect_left(sent, moment + 60) - index for index, moment in enumerate(sent))
    print(f"drained in {sent[-1]:.0f} s, at most {most} in a minute")
    assert most <= MOST_PER_MINUTE + 1
    assert (tmp_path / "log").read_text().count("target_unavailable") <= 7 * 24 + 1


@pytest.mark.parametrize("wrong_by", [YEAR, -YEAR], ids=["ahead", "behind"])
def test_80_a_clock_that_jumps_by_a_year_fails_no_delivery(
    tmp_path: Path, api: Sandbox, wrong_by: float
) -> None:
    port, receiver = free_port(), Receiver()
    target = http_target(tmp_path, port, deadline_days=1, retry_max_seconds=0.5)
    clinic = Clinic(tmp_path / "clinic", api.base_url, targets={"ris": target})
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0
    daemons = Daemons()
    try:
        daemon = daemons.start(clinic, "run", fate=Fate(stepped_seconds=wrong_by))
        write_wav(clinic.inbox / "jones.wav", pitch=500)
        wait_for("both are done", lambda: len(clinic.files(clinic.done)) == 2)
        wait_for("they were tried", lambda: owed(clinic) == [("due", True)] * 2)
        with receiving(receiver, port):
            wait_for("both arrive", lambda: len(receiver.keys) == 2)
            wait_for("that is noted", lambda: owed(clinic) == [])
        assert daemon.end(signal.SIGTERM) == 0
    finally:
        daemons.close()
    assert clinic.events("delivery_failed") == []


def owed(clinic: Clinic) -> list[tuple[str, bool]]:
    """The state of each, and whether it was tried more than once."""
    listed = json.loads(clinic.run("jobs", "--owed", "--json").stdout)
    return [(one["state"], one["attempts"] > 1) for one in listed]
