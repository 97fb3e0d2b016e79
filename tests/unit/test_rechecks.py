"""`Rechecks`: when what was filed is looked at again, and what becomes of a recording that has changed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from invox_watcher.files import Folders, prepare_folders
from invox_watcher.inbox import Evidence, Waits
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal import AuditLog, Finished
from invox_watcher.processing import Rechecks
from invox_watcher.recording import FileIdentity

PART, WHOLE = b"a part", b"a part and the rest"
WAITS = Waits(grace_seconds=1, settle_seconds=5, unproven_seconds=30, patience_seconds=300)
LOOKS = [5, 35, 155, 755, 4355]  # seconds after the filing


@dataclass
class FakeFinished:
    """What the journal knows."""

    jobs: list[Job] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    superseded: list[Job] = field(default_factory=list)

    def recent(self, since: datetime) -> list[Job]:
        return self.jobs

    def outputs(self, job_id: str) -> dict[str, str]:
        return self.written

    def has_its_name(self, job: Job) -> bool:
        return job not in self.superseded


@dataclass
class FakeAudit:
    """The lines of the audit log."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def write(self, what: str, job_id: str, **facts: Any) -> None:
        self.lines.append((what, facts["name"]))


class Done:
    """A recording in done/ with its transcript, and a clock that only the test moves."""

    def __init__(self, root: Path) -> None:
        self.now = 100.0
        self.folders = Folders(*(root / name for name in ("inbox", "processing", "outbox", "done", "failed")))
        prepare_folders(self.folders)
        self.recording = self.folders.done / "smith.mp3"
        self.recording.write_bytes(PART)
        self.transcript = self.folders.outbox / "smith.json"
        self.transcript.write_bytes(b"half the words")
        self.finished, self.audit = FakeFinished(), FakeAudit()
        self.finished.written = {"smith.json": hashlib.sha256(b"half the words").hexdigest()}
        self.job = Job(
            new_job_id(), State.DONE, "smith.mp3", FileIdentity.of(self.recording.stat()), datetime.now(UTC),
            sha256=hashlib.sha256(PART).hexdigest(), filed_as="smith.mp3",
        )  # fmt: skip
        self.rechecks = Rechecks(
            self.folders, cast(Finished, self.finished), cast(AuditLog, self.audit), WAITS, clock=self.clock
        )

    def clock(self) -> float:
        return self.now

    def look_after(self, seconds: float) -> None:
        self.now = 100 + seconds
        self.rechecks.look()

    @property
    def started_over(self) -> bool:
        return not self.recording.exists() and (self.folders.inbox / "smith.mp3").read_bytes() == WHOLE


@pytest.fixture
def done(tmp_path: Path) -> Done:
    return Done(tmp_path)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(WHOLE[len(PART) :])


@pytest.mark.parametrize("evidence", [Evidence.LIKELY, Evidence.UNPROVEN])
@pytest.mark.parametrize("number", range(len(LOOKS)))
def test_what_was_not_proven_is_looked_at_for_an_hour(done: Done, number: int, evidence: Evidence) -> None:
    done.rechecks.add(done.job, evidence)
    for seconds in LOOKS[:number]:
        done.look_after(seconds)
    grow(done.recording)
    done.look_after(LOOKS[number] - 1)
    assert done.recording.exists()
    done.look_after(LOOKS[number])
    assert done.started_over
    assert not done.transcript.exists()
    assert done.audit.lines == [("withdrawn", "smith.mp3")]


def test_after_an_hour_nothing_is_remembered(done: Done) -> None:
    done.rechecks.add(done.job, Evidence.UNPROVEN)
    for seconds in LOOKS:
        done.look_after(seconds)
    grow(done.recording)
    done.look_after(1_000_000)
    assert done.recording.exists()


def test_what_was_proven_is_looked_at_once(done: Done) -> None:
    done.rechecks.add(done.job, Evidence.PROVEN)
    done.look_after(LOOKS[0])
    grow(done.recording)
    done.look_after(LOOKS[-1])
    assert done.recording.exists()
    done.rechecks.add(done.job, Evidence.PROVEN)
    done.look_after(LOOKS[-1] + 5)
    assert done.started_over


def test_an_open_recording_is_looked_at_when_it_is_closed(done: Done) -> None:
    done.rechecks.add(done.job, Evidence.UNPROVEN)
    with done.recording.open("ab", buffering=0) as file:
        file.write(WHOLE[len(PART) :])
        done.look_after(LOOKS[0])
        assert done.recording.exists()
    done.look_after(LOOKS[1])
    assert done.started_over


def test_a_recording_only_touched_stays(done: Done) -> None:
    done.rechecks.add(done.job, Evidence.UNPROVEN)
    os.utime(done.recording, (1, 1))
    done.look_after(LOOKS[0])
    assert done.recording.exists()
    grow(done.recording)
    done.look_after(LOOKS[1])
    assert done.started_over


def test_a_rewrite_of_the_same_size_is_a_change(done: Done) -> None:
    done.rechecks.add(done.job, Evidence.UNPROVEN)
    with done.recording.open("r+b") as file:
        file.write(b"A PART")
    os.utime(done.recording, (1, 1))
    done.look_after(LOOKS[0])
    assert (done.folders.inbox / "smith.mp3").read_bytes() == b"A PART"


def test_another_file_of_its_name_stays(done: Done) -> None:
    done.rechecks.add(done.job, Evidence.UNPROVEN)
    (done.folders.done / "other").write_bytes(WHOLE)
    os.replace(done.folders.done / "other", done.recording)
    done.look_after(LOOKS[0])
    assert done.recording.read_bytes() == WHOLE
    assert done.transcript.exists()


def test_a_recording_that_was_moved_away_is_no_change(done: Done) -> None:
    done.rechecks.add(done.job, Evidence.UNPROVEN)
    away = done.recording.rename(done.recording.with_name("elsewhere.mp3"))
    done.look_after(LOOKS[0])
    away.rename(done.recording)
    grow(done.recording)
    done.look_after(LOOKS[1])
    assert done.started_over


def test_an_edited_transcript_is_not_deleted(done: Done) -> None:
    done.rechecks.add(done.job, Evidence.UNPROVEN)
    done.transcript.write_bytes(b"corrected by hand")
    grow(done.recording)
    done.look_after(LOOKS[0])
    assert done.started_over
    assert done.transcript.read_bytes() == b"corrected by hand"


def test_nothing_in_the_inbox_is_overwritten(done: Done) -> None:
    done.rechecks.add(done.job, Evidence.UNPROVEN)
    (done.folders.inbox / "smith.mp3").write_bytes(b"the next one")
    grow(done.recording)
    done.look_after(LOOKS[0])
    assert (done.folders.inbox / "smith.mp3").read_bytes() == b"the next one"
    assert (done.folders.inbox / "smith-2.mp3").read_bytes() == WHOLE


def test_the_run_before_is_looked_at_when_this_one_starts(done: Done) -> None:
    class Stopped:
        def wait(self, _seconds: float) -> bool:
            return True

    done.finished.jobs = [done.job]
    grow(done.recording)
    done.rechecks.run(cast(Any, Stopped()))
    assert done.started_over


def test_a_name_that_a_later_recording_has_is_left_alone(done: Done) -> None:
    done.rechecks.add(done.job, Evidence.UNPROVEN)
    done.finished.superseded = [done.job]
    grow(done.recording)
    done.look_after(LOOKS[0])
    assert done.recording.read_bytes() == WHOLE
    assert done.transcript.exists()
    assert done.audit.lines == []
