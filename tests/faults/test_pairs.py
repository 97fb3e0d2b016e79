"""FAULTS 78: each fault of `pairs`, and in the middle of it a restart, a reload, a timer, a second recording.

In every cell the recording that is well is done, once, and so is the other one when the fault is over.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults.clinics import put
from tests.faults.daemons import Daemons, Process
from tests.faults.evidence import assert_all_quiet, reason_for, uploaded
from tests.faults.pairs import CROSSINGS, ROWS, Row, Scene
from tests.kit.clinic import Clinic, sandbox
from tests.kit.waiting import wait_for

# What `make test` does: one of each kind of fault, and of each crossing.
SAMPLE = {
    ("37", "killed"),
    ("40a", "by a timer"),
    ("52", "stopped"),
    ("63a", "left alone"),
    ("24", "reloaded"),
}
QUICK: dict[str, dict[str, Any]] = {
    "watch": {
        "settle_seconds": 0.05,
        "unproven_seconds": 0.15,
        "rescan_seconds": 0.3,
        "patience_seconds": 0.6,
    },
    "polling": {"first_seconds": 0.05, "max_seconds": 0.2, "unknown_seconds": 0.3},
    "retry": {"base_seconds": 0.02, "max_seconds": 0.2},
}
CELLS = [
    pytest.param(
        number, crossing,
        id=f"{number} {ROWS[number].what}, {crossing}",
        marks=() if (number, crossing) in SAMPLE else pytest.mark.needs(),  # together it takes minutes
    )
    for number in ROWS for crossing in CROSSINGS
]  # fmt: skip


@pytest.fixture(scope="module")
def daemons() -> Iterator[Daemons]:
    made = Daemons()
    yield made
    made.close()


class Cell:
    """One fault and what happens in the middle of it."""

    def __init__(self, root: Path, api: Sandbox, row: Row, daemons: Daemons) -> None:
        changes = {section: QUICK.get(section, {}) | dict(keys) for section, keys in row.changes.items()}
        self.clinic = Clinic(root, api.base_url, **(QUICK | changes))
        self.scene = Scene(self.clinic, api)
        self.row = row
        self._daemons = daemons
        self._daemon: Process | None = None

    def start(self) -> None:
        seen = len(self.clinic.events("watching"))
        fate = self.row.fate
        self._daemon = daemon = self._daemons.start(self.clinic, "run", fate=fate)
        wait_for(
            "it watches, or refuses to start",
            lambda: len(self.clinic.events("watching")) > seen or daemon.has_ended(within_seconds=0),
            seconds=60,  # a locked journal is waited for
        )

    def cross(self, crossing: str) -> None:
        match crossing:
            case "killed":
                self.end(signal.SIGKILL)
                self.start()
            case "stopped":
                self.end(signal.SIGTERM)
                self.start()
            case "reloaded":
                assert self._daemon is not None
                self._daemon.signal(signal.SIGHUP)
            case "by a timer":
                for _time in range(2):
                    self.once()

    def once(self) -> None:
        """`run --once`, which a recording that waits for its API may keep from ending for a while."""
        run = self._daemons.start(self.clinic, "run", "--once", fate=self.row.fate)
        run.has_ended(within_seconds=3)
        run.end(signal.SIGTERM)

    def end(self, number: signal.Signals) -> None:
        if self._daemon is not None:
            daemon, self._daemon = self._daemon, None
            daemon.end(number)

    def come_to_rest(self) -> None:
        """The fault is over: all that is well gets done, by a daemon that starts anew."""
        self.scene.undo.close()
        self.end(signal.SIGTERM)
        self._daemon = self._daemons.start(self.clinic, "run")
        wait_for("all is done", self.is_done, seconds=40)
        self.end(signal.SIGTERM)

    def is_done(self) -> bool:
        waiting = self.clinic.files(self.clinic.inbox) or self.clinic.under_way()
        return not waiting and len(self.words()) == (1 if self.row.ends_as == "empty" else 2)

    def words(self) -> dict[str, str]:
        """The recordings in done/ that their transcripts are of: path → SHA-256."""
        found = {}
        for name in self.clinic.files(self.clinic.done):
            digest = hashlib.sha256((self.clinic.done / name).read_bytes()).hexdigest()
            with contextlib.suppress(FileNotFoundError):
                transcript = self.clinic.transcript(os.path.splitext(name)[0] + ".json")
                if transcript["source"]["sha256"] == digest and digest[:12] in transcript["text"]:
                    found[name] = digest
        return found


@pytest.mark.slow
@pytest.mark.parametrize(("number", "crossing"), CELLS)
def test_78_no_pair_of_faults_costs_a_recording(
    tmp_path: Path, daemons: Daemons, number: str, crossing: str
) -> None:
    row = ROWS[number]
    with sandbox(tmp_path / "api") as api:
        cell = Cell(tmp_path / "clinic", api, row, daemons)
        clinic = cell.clinic
        try:
            row.before(cell.scene)
            if crossing != "by a timer":
                cell.start()
            row.put(cell.scene)
            time.sleep(0.3)
            well = put(clinic, "jones.wav", pitch=700)
            row.during(cell.scene)
            cell.cross(crossing)
            time.sleep(0.3)
            assert failed_in(clinic) <= ({"smith.wav"} if row.ends_as == "empty" else set())
            cell.come_to_rest()
        finally:
            cell.end(signal.SIGKILL)
            cell.scene.undo.close()
        assert_all_quiet(clinic)
        wholes = cell.words()
        assert len(clinic.files(clinic.done)) == len(wholes)
        assert well in wholes.values()
        assert len(clinic.files(clinic.outbox)) == 2 * len(wholes)
        if row.ends_as == "empty":
            assert reason_for(clinic, "smith.wav")["code"] == "empty"
        else:
            assert failed_in(clinic) == set()
        paid = uploaded(api)
        assert [one for one in paid if one in wholes.values()] == sorted(wholes.values())
        assert row.parts or len(paid) == len(wholes)


def failed_in(clinic: Clinic) -> set[str]:
    """The recordings in failed/."""
    if not clinic.failed.exists():
        return set()
    return {name for name in clinic.files(clinic.failed) if not name.endswith(".error.json")}
