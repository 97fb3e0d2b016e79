"""The verdict on a transcript is in the journal before its files are, and outlives an attempt that failed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from invox_watcher.coverage import ListenerBusyError, Stretch, UnheardError
from invox_watcher.errors import RecordingChangingError, StorageError
from invox_watcher.job import Job, State
from tests.unit.test_pipeline import CONTENT, HELLO
from tests.unit.test_pipeline import Clinic as _Clinic

GAP = {
    "status": "COMPLETED",
    "transcription": [
        {"text": "Hello.", "start": 0, "end": 1},
        {"text": "Good bye.", "start": 21, "end": 22},
    ],
}
MARK = {"reason": "untranscribed_speech", "start": 5.0, "end": 8.0}


class Ears:
    """Hears somebody speak from the fifth to the eighth second, unless an error is set."""

    def __init__(self) -> None:
        self.asked: list[Sequence[Stretch]] = []
        self.error: Exception | None = None

    def speech(
        self, recording: BinaryIO, stretches: Sequence[Stretch], stop: threading.Event
    ) -> list[Stretch]:
        assert recording.read() == CONTENT
        self.asked.append(stretches)
        if self.error is not None:
            raise self.error
        return [Stretch(5.0, 8.0)]


class Clinic(_Clinic):
    """One whose pipeline has ears, and whose recording is 22 seconds long."""

    def __init__(self, root: Path) -> None:
        self.ears = Ears()
        super().__init__(root, listener=self.ears)

    def transcribed(self, answer: Any) -> Job:
        self.api.answer = answer
        return self.journal.update(self.until(State.TRANSCRIBED), duration_seconds=22.0)

    def delivered(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folders.outbox / "smith.json").read_text())
        return content


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    made = Clinic(tmp_path)
    yield made
    made.journal.close()


def test_speech_without_words_is_marked(clinic: Clinic) -> None:
    job = clinic.pipeline.advance(clinic.transcribed(GAP)).job
    assert clinic.ears.asked == [[Stretch(1.0, 21.0)]]
    assert clinic.delivered()["suspect"] == [MARK]
    assert [one.id for one in clinic.journal.jobs(suspect=True)] == [job.id]


def test_a_whole_transcript_asks_for_nothing(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    job = clinic.journal.update(clinic.transcribed(HELLO), duration_seconds=1.2)
    monkeypatch.setattr(clinic.journal, "update", None)  # one write, the move
    assert clinic.pipeline.advance(job).job.suspect is None
    assert clinic.ears.asked == []
    assert "suspect" not in clinic.delivered()


def test_a_verdict_outlives_a_failed_attempt(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    job = clinic.transcribed(GAP)
    with monkeypatch.context() as patch:
        patch.setattr(clinic.journal, "move", _fail)
        with pytest.raises(StorageError):
            clinic.pipeline.advance(job)
    first = (clinic.folders.outbox / "smith.json").read_bytes()
    (job,) = clinic.journal.jobs()
    clinic.ears.error = UnheardError("failed")
    assert clinic.pipeline.advance(job).job.state is State.DELIVERED
    assert len(clinic.ears.asked) == 1
    assert (clinic.folders.outbox / "smith.json").read_bytes() == first
    assert sorted(path.name for path in clinic.folders.outbox.glob("smith*")) == ["smith.json", "smith.srt"]


def _fail(*_arguments: object, **_changes: object) -> None:
    raise StorageError("the power went")


def test_what_is_not_heard_is_delivered_for_good(clinic: Clinic) -> None:
    job = clinic.transcribed(GAP)
    clinic.ears.error = UnheardError("failed")
    job = clinic.pipeline.advance(job).job
    assert (job.state, job.suspect) == (State.DONE, ())
    assert "suspect" not in clinic.delivered()
    assert clinic.journal.jobs(suspect=True) == []


def test_while_another_is_listened_to_it_waits(clinic: Clinic) -> None:
    job = clinic.transcribed(GAP)
    clinic.ears.error = ListenerBusyError()
    following = clinic.pipeline.advance(job)
    assert (following.job.state, following.after_seconds) == (State.TRANSCRIBED, 1.0)
    assert list(clinic.folders.outbox.glob("smith*")) == []


def test_times_are_judged_even_if_the_recording_is_gone(clinic: Clinic) -> None:
    job = clinic.journal.update(clinic.transcribed(GAP), duration_seconds=4.0)
    (clinic.folders.processing / job.id / "smith.wav").unlink()
    clinic.pipeline.advance(job)
    assert clinic.ears.asked == []
    assert clinic.delivered()["suspect"] == [{"reason": "beyond_end", "start": 21.0, "end": 22.0}]


def test_another_recording_gets_another_verdict(clinic: Clinic) -> None:
    job = clinic.transcribed(GAP)
    with clinic.filing_at_once_refused():
        job = clinic.pipeline.advance(job).job
    (clinic.folders.processing / job.id / "smith.wav").write_bytes(CONTENT * 2)
    with pytest.raises(RecordingChangingError):
        clinic.pipeline.advance(job)
    (job,) = clinic.journal.jobs()
    assert (job.state, job.suspect) == (State.CLAIMED, None)
