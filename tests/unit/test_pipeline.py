"""A recording's steps, one by one, with real folders, a real journal, and an API in memory."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

import pytest

from invox_watcher.errors import (
    ApiUnavailableError,
    Reason,
    RecordingChangingError,
    StorageError,
    TemplateError,
    UploadUncertainError,
    UploadUrlRefusedError,
)
from invox_watcher.files import Folders, prepare_folders
from invox_watcher.formats.decoder import Decoder
from invox_watcher.inbox import Evidence
from invox_watcher.invox import TranscriptionReply, parse_reply
from invox_watcher.job import ACTIVE, Failure, Job, Payload, State, new_job_id
from invox_watcher.journal import Journal
from invox_watcher.plan import Plan
from invox_watcher.processing import Pipeline, ProcessingOptions
from invox_watcher.processing.pipeline import STEPS
from invox_watcher.processing.steps.prepare import needs_preparing
from invox_watcher.recording import FileIdentity, Remedy
from invox_watcher.spending import Limits, day_of
from tests.kit.documents import save, text_of
from tests.kit.recordings import write_wav

CONTENT = b"RIFF and what follows"
HELLO = {"status": "COMPLETED", "transcription": [{"text": "Hello.", "start": 0, "end": 1}]}
STILL = {"status": "PENDING"}


class Api:
    """Takes every upload; `answer` is what it says of results."""

    def __init__(self) -> None:
        self.answer: Any = STILL
        self.sent: list[tuple[bytes, str]] = []
        self.loses_answers = False
        self.confirms_clock = True
        self.while_sending: Callable[[], None] = lambda: None
        self.fields: list[Any] = []

    def presign(self, mime_type: str, callback_url: str | None, *, fields: Any) -> Any:
        self.fields.append(fields)
        return mock.Mock(request_id=f"r-{len(self.sent) + 1}", mime_type=mime_type)

    def upload(
        self, presigned: Any, file: BinaryIO, *, size_bytes: int, mime_type: str, on_progress: Any
    ) -> None:
        assert presigned.mime_type == mime_type
        self.while_sending()
        self.sent.append((file.read(size_bytes), mime_type))
        if self.loses_answers:
            raise UploadUncertainError("no answer")

    def has_stored(self, mime_type: str) -> bool:
        return True

    def result(self, request_id: str, *, duration_seconds: float | None) -> TranscriptionReply:
        return parse_reply(self.answer)


class Clinic:
    """One recording in the inbox, and all that processes it; its clock moves only if a test moves it."""

    def __init__(self, root: Path, listener: Any = None, **options: Any) -> None:
        self.now = 0.0
        self.api = Api()
        self.folders = Folders(*(root / name for name in ("inbox", "processing", "outbox", "done", "failed")))
        prepare_folders(self.folders)
        self.journal = Journal(root)
        self.pipeline = Pipeline(
            decoder=Decoder(),
            folders=self.folders,
            journal=self.journal,
            api=self.api,  # type: ignore[arg-type]
            options=ProcessingOptions(mime_types=["audio/wav"], **options),
            stop=threading.Event(),
            clock=lambda: self.now,
            listener=listener,
        )

    def claim(
        self,
        evidence: Evidence = Evidence.PROVEN,
        *,
        name: str = "smith.wav",
        content: bytes = CONTENT,
        **fields: Any,
    ) -> Job:
        path = self.folders.inbox / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        job = Job(
            new_job_id(), State.CLAIMED, name, FileIdentity.of(path.stat()), datetime.now(UTC),
            mime_type="audio/wav", **fields,
        )  # fmt: skip
        assert self.pipeline.claim(job, evidence=evidence)
        return job

    def found_grown(self, job: Job) -> Job:
        """Its file grows, which the next step finds out; the job after that."""
        with (self.folders.processing / job.id / job.path).open("ab") as file:
            file.write(b", and the rest")
        with pytest.raises(RecordingChangingError):
            self.pipeline.advance(job)
        again = self.journal.get(job.id)
        assert again is not None
        return again

    def until(self, state: State, **claimed: Any) -> Job:
        job = self.claim(**claimed)
        with self.filing_at_once_refused() if state is State.DELIVERED else contextlib.nullcontext():
            while job.state is not state:
                job = self.pipeline.advance(job).job
        return job

    @contextlib.contextmanager
    def filing_at_once_refused(self) -> Iterator[None]:
        """Something stands in its way at the moment, whatever it is."""

        def refused(*_arguments: Any, **_options: Any) -> str:
            raise StorageError("no")

        with mock.patch.object(Folders, "file_away", refused):
            yield


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    made = Clinic(tmp_path)
    yield made
    made.journal.close()


def test_every_state_that_is_not_final_has_a_step() -> None:
    assert STEPS.keys() == ACTIVE


def test_the_way_of_a_recording(clinic: Clinic) -> None:
    job, states = clinic.claim(), [State.CLAIMED]
    clinic.api.answer = HELLO
    while not job.state.is_final:
        job = clinic.pipeline.advance(job).job
        states.append(job.state)
    assert states == [
        State.CLAIMED, State.IDENTIFIED, State.WAITING, State.TRANSCRIBED, State.DONE,
    ]  # fmt: skip
    history = [entry.state for entry in clinic.journal.history(job.id)]
    assert history[-3:] == [State.TRANSCRIBED, State.DELIVERED, State.DONE]
    assert clinic.journal.finished.outputs(job.id).keys() == {"smith.json", "smith.srt"}
    assert (clinic.folders.done / "smith.wav").read_bytes() == CONTENT
    assert clinic.api.sent == [(CONTENT, "audio/wav")]


def test_a_payload_is_sent_and_the_recording_is_kept(clinic: Clinic) -> None:
    job = clinic.until(State.IDENTIFIED)
    prepared = b"fLaC"
    payload = Payload("smith.flac", len(prepared), hashlib.sha256(prepared).hexdigest(), "audio/flac")
    file = clinic.folders.processing / job.id / payload.path
    file.write_bytes(prepared)
    clinic.journal.update(job, payload=payload)
    loaded = clinic.journal.get(job.id)
    assert loaded is not None
    assert loaded.payload == payload
    job = clinic.pipeline.advance(loaded).job
    assert clinic.api.sent == [(prepared, "audio/flac")]
    assert job.uploaded_bytes == len(prepared)
    assert clinic.journal.history(job.id)[-1].detail["sha256"] == payload.sha256
    assert job.sha256 == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("found", [None, b"fL"])
def test_a_payload_that_is_not_whole_is_prepared_again(clinic: Clinic, found: bytes | None) -> None:
    job = clinic.until(State.IDENTIFIED)
    assert not needs_preparing(clinic.pipeline._context, job)
    job = clinic.journal.update(job, payload=Payload("smith.flac", 4, "0" * 64, "audio/flac"))
    if found is not None:
        (clinic.folders.processing / job.id / "smith.flac").write_bytes(found)
    assert needs_preparing(clinic.pipeline._context, job)


def test_a_recording_that_changes_while_sent_is_claimed_again(clinic: Clinic) -> None:
    job = clinic.until(State.IDENTIFIED)
    recording = clinic.folders.processing / job.id / "smith.wav"

    def append() -> None:
        recording.write_bytes(CONTENT * 2)

    clinic.api.while_sending = append
    with pytest.raises(RecordingChangingError):
        clinic.pipeline.advance(job)
    (job,) = clinic.journal.jobs()
    assert (job.state, job.request_id, job.changed_uploads) == (State.CLAIMED, None, 1)


def test_a_pending_poll_is_one_write(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    job = clinic.until(State.WAITING)
    written: list[dict[str, Any]] = []
    update = clinic.journal.update

    def record(job: Job, **changes: Any) -> Job:
        written.append(changes)
        return update(job, **changes)

    monkeypatch.setattr(clinic.journal, "update", record)
    clinic.now += 10
    following = clinic.pipeline.advance(dataclasses.replace(job, attempts=2))
    assert following.after_seconds == 2.5
    assert [set(changes) for changes in written] == [
        {"durable", "attempts", "last_fault", "polled_at", "waited_seconds", "denied_seconds"}
    ]
    stored = clinic.journal.get(job.id)
    assert stored is not None
    assert stored.polled_at is not None
    assert (stored.waited_seconds, stored.denied_seconds, stored.attempts) == (10, 0, 0)


def uncertain(clinic: Clinic) -> Job:
    job = clinic.until(State.IDENTIFIED)
    clinic.api.loses_answers = True
    with pytest.raises(UploadUncertainError):
        clinic.pipeline.advance(job)
    clinic.api.loses_answers = False
    (job,) = clinic.journal.jobs()
    assert job.state is State.UPLOADING
    return job


def test_an_upload_sent_again_waits_from_zero(clinic: Clinic) -> None:
    job = clinic.pipeline.advance(uncertain(clinic)).job
    clinic.now += 599
    job = clinic.pipeline.advance(job).job
    assert (job.state, job.waited_seconds) == (State.UPLOADING, 599)
    clinic.now += 1
    job = clinic.pipeline.advance(job).job
    assert (job.state, job.request_id) == (State.IDENTIFIED, None)
    job = clinic.pipeline.advance(job).job
    assert (job.state, job.request_id) == (State.WAITING, "r-2")
    assert (job.polled_at, job.waited_seconds, job.denied_seconds) == (None, 0, 0)


def test_an_upload_found_later_counts_from_the_first_poll(clinic: Clinic) -> None:
    job = clinic.pipeline.advance(uncertain(clinic)).job
    first = job.polled_at
    assert first is not None
    later = {"polled_at": first + timedelta(seconds=300), "waited_seconds": 300.0}
    job = clinic.journal.update(job, **later)
    clinic.api.answer = HELLO
    job = clinic.pipeline.advance(job).job
    assert (job.state, job.uploaded_at) == (State.TRANSCRIBED, first)


def test_one_recording_shows_when_to_poll_for_the_next(clinic: Clinic) -> None:
    def delays(name: str, *later: float) -> list[float]:
        """After its upload, and after each poll in vain; the last one finds the result."""
        job = clinic.until(State.IDENTIFIED, name=name, content=name.encode(), duration_seconds=100.0)
        clinic.api.answer = STILL
        following = clinic.pipeline.advance(job)
        found = [following.after_seconds]
        for seconds in later:
            clinic.now += seconds
            if seconds == later[-1]:
                clinic.api.answer = HELLO
            following = clinic.pipeline.advance(following.job)
            found.append(following.after_seconds)
        assert following.job.state is State.TRANSCRIBED
        return found

    assert delays("a.wav", 18, 4) == [2, 4.5, 0]
    assert delays("b.wav", 20, 0.5) == pytest.approx([20, 2, 0])


def test_the_refused_are_filed_with_their_reason(clinic: Clinic) -> None:
    job = clinic.claim()
    following = clinic.pipeline.fail(job, StorageError("The disk is on fire.", code="fire"))
    assert following.job.state is State.FAILING
    assert clinic.pipeline.advance(following.job).job.state is State.FAILED
    assert "The disk is on fire." in (clinic.folders.failed / "smith.wav.error.json").read_text()
    assert (clinic.folders.failed / "smith.wav").read_bytes() == CONTENT


def test_of_a_recording_that_vanished_the_transcript_counts(clinic: Clinic) -> None:
    clinic.api.answer = HELLO
    job = clinic.until(State.DELIVERED)
    assert clinic.pipeline.vanish(job).job.state is State.DONE


def test_a_recording_that_vanished_before_is_closed(clinic: Clinic) -> None:
    assert clinic.pipeline.vanish(clinic.claim()).job.state is State.VANISHED


@pytest.mark.parametrize("state", [State.TRANSCRIBED, State.DELIVERED])
def test_a_recording_changed_before_it_is_filed_starts_over(clinic: Clinic, state: State) -> None:
    """Its sender has it open by its old name: what was published of a part is withdrawn."""
    clinic.api.answer = HELLO
    job = clinic.until(state)
    again = clinic.found_grown(job)
    assert (again.state, again.changed_uploads) == (State.CLAIMED, 1)
    assert list(clinic.folders.outbox.iterdir()) == []
    while not again.state.is_final:
        again = clinic.pipeline.advance(again).job
    assert again.state is State.DONE
    assert (clinic.folders.done / "smith.wav").read_bytes() == CONTENT + b", and the rest"
    assert [name.name for name in sorted(clinic.folders.outbox.iterdir())] == ["smith.json", "smith.srt"]
    assert [content for content, _ in clinic.api.sent] == [CONTENT, CONTENT + b", and the rest"]


@pytest.fixture
def documents(tmp_path: Path) -> Iterator[Clinic]:
    """A clinic that writes documents, stopped after it had written one and before the journal knew."""
    save(tmp_path / "letter.docx", "first")
    made = Clinic(tmp_path, formats=("docx", "json"), docx_template=str(tmp_path / "letter.docx"))
    made.api.answer = HELLO
    yield made
    made.journal.close()


def written_before_a_kill(clinic: Clinic, template: Path) -> Job:
    """The recording; its document is in the outbox, and the template is another by now."""
    job, publish_all = clinic.until(State.TRANSCRIBED), Folders.publish_all

    def killed(folders: Folders, job_id: str, root: Path, contents: Mapping[str, bytes]) -> None:
        publish_all(folders, job_id, root, dict([next(iter(contents.items()))]))
        raise KeyboardInterrupt

    with mock.patch.object(Folders, "publish_all", killed), pytest.raises(KeyboardInterrupt):
        clinic.pipeline.advance(job)
    assert text_of((clinic.folders.outbox / "smith.docx").read_bytes()) == "first"
    save(template, "second")
    return job


def test_a_template_changed_after_a_kill_leaves_one_set(documents: Clinic, tmp_path: Path) -> None:
    job = written_before_a_kill(documents, tmp_path / "letter.docx")
    assert documents.pipeline.advance(job).job.state is State.DONE
    assert {path.name for path in documents.folders.outbox.iterdir()} == {"smith.docx", "smith.json"}
    assert text_of((documents.folders.outbox / "smith.docx").read_bytes()) == "second"


def test_a_document_of_another_template_is_withdrawn(documents: Clinic, tmp_path: Path) -> None:
    job = written_before_a_kill(documents, tmp_path / "letter.docx")
    with (documents.folders.processing / job.id / job.path).open("ab") as file:
        file.write(b", and the rest")
    with pytest.raises(RecordingChangingError):
        documents.pipeline.advance(job)
    assert list(documents.folders.outbox.iterdir()) == []


def test_a_document_of_others_is_left_alone(documents: Clinic) -> None:
    job = documents.until(State.TRANSCRIBED)
    save(documents.folders.outbox / "smith.docx", "a letter of somebody's")
    while job.state is not State.DONE:
        job = documents.pipeline.advance(job).job
    names = {path.name for path in documents.folders.outbox.iterdir()}
    assert names == {"smith.docx", "smith-2.docx", "smith-2.json"}
    assert text_of((documents.folders.outbox / "smith.docx").read_bytes()) == "a letter of somebody's"


def test_no_file_is_written_while_a_template_is_broken(documents: Clinic, tmp_path: Path) -> None:
    job = documents.until(State.TRANSCRIBED)
    save(tmp_path / "letter.docx", "{{ patient }}")
    with pytest.raises(TemplateError):
        documents.pipeline.advance(job)
    assert list(documents.folders.outbox.iterdir()) == []
    save(tmp_path / "letter.docx", "{{ text }}")
    assert documents.pipeline.advance(job).job.state is State.DONE
    assert len(documents.api.sent) == 1


def test_a_host_that_may_be_taken_over_files_nothing_first(clinic: Clinic) -> None:
    """The journal refuses what it has lost; until then the recording stays where the other host looks."""
    clinic.api.answer = HELLO
    job = clinic.until(State.TRANSCRIBED)
    clinic.pipeline._context = dataclasses.replace(clinic.pipeline._context, may_file_first=lambda: False)
    job = clinic.pipeline.advance(job).job
    assert job.state is State.DELIVERED
    assert clinic.folders.has_recording(job.id, job.path)
    assert clinic.pipeline.advance(job).job.state is State.DONE


@pytest.mark.parametrize("on_another_host", [False, True])
def test_killed_after_filing_it_ends_as_if_it_had_not_been(clinic: Clinic, on_another_host: bool) -> None:
    """Transcript and recording are where they belong, and the journal knows of neither."""
    clinic.api.answer = HELLO
    job, move = clinic.until(State.TRANSCRIBED), Journal.move

    def killed(journal: Journal, job: Job, to: State, **changes: Any) -> Job:
        if to is State.DONE:
            raise KeyboardInterrupt
        return move(journal, job, to, **changes)

    with mock.patch.object(Journal, "move", killed), pytest.raises(KeyboardInterrupt):
        clinic.pipeline.advance(job)
    assert (clinic.folders.done / "smith.wav").exists()
    if on_another_host:  # which sees the share under numbers of its own
        seen = dataclasses.replace(job.identity, device=job.identity.device + 1, inode=1)
        job = clinic.journal.update(job, identity=seen)
    while not job.state.is_final:
        job = clinic.pipeline.advance(job).job
    assert (job.state, job.filed_as) == (State.DONE, "smith.wav")
    assert sorted(path.name for path in clinic.folders.outbox.iterdir()) == ["smith.json", "smith.srt"]
    assert [path.name for path in clinic.folders.done.iterdir()] == ["smith.wav"]
    assert len(clinic.api.sent) == 1


@pytest.mark.parametrize("state", [State.CLAIMED, State.WAITING, State.TRANSCRIBED, State.DELIVERED])
def test_an_open_recording_is_waited_for(clinic: Clinic, state: State) -> None:
    clinic.api.answer = HELLO
    job = clinic.until(state)
    with (clinic.folders.processing / job.id / job.path).open("ab"):
        following = clinic.pipeline.advance(job)
        assert following.job.state is state
        assert following.after_seconds > 0
    assert clinic.pipeline.advance(job).job.state is not state


def test_what_was_filed_is_handed_on_with_its_evidence(clinic: Clinic) -> None:
    filed: list[Evidence] = []
    clinic.pipeline._on_filed = lambda _job, evidence: filed.append(evidence)
    clinic.api.answer = HELLO
    for evidence in Evidence:
        job = clinic.claim(evidence)
        while not job.state.is_final:
            job = clinic.pipeline.advance(job).job
    assert filed == list(Evidence)


def test_a_copy_from_another_file_system_is_not_waited_for(clinic: Clinic) -> None:
    job = clinic.claim()
    elsewhere = dataclasses.replace(job.identity, device=1, inode=2, mtime_ns=job.identity.mtime_ns + 10**9)
    assert (
        clinic.pipeline.advance(clinic.journal.update(job, identity=elsewhere)).job.state is State.IDENTIFIED
    )


def test_a_recording_that_grows_after_its_claim_is_waited_for(clinic: Clinic) -> None:
    job = clinic.claim()
    again = clinic.found_grown(job)
    assert clinic.pipeline.advance(again).job.state is State.IDENTIFIED


def test_one_refused_as_cut_off_that_grows_is_judged_anew(clinic: Clinic) -> None:
    path = write_wav(clinic.folders.inbox / "smith.wav", seconds=2.0)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8000])
    cut = Reason("truncated", "The recording is incomplete.", "Copy it again.")
    failure = Failure(State.CLAIMED, cut, retry_can_help=False, remedy=Remedy.VERIFY)
    identity = FileIdentity.of(path.stat())
    job = Job(new_job_id(), State.CLAIMED, "smith.wav", identity, datetime.now(UTC), refusal=failure)
    assert clinic.pipeline.claim(job)
    (clinic.folders.processing / job.id / job.path).write_bytes(whole)
    with pytest.raises(RecordingChangingError):
        clinic.pipeline.advance(job)
    again = clinic.journal.get(job.id)
    assert again is not None
    assert (again.refusal, again.mime_type, again.duration_seconds) == (None, "audio/wav", 2.0)
    assert clinic.pipeline.advance(again).job.state is State.IDENTIFIED


# ---- plans -------------------------------------------------------------------------------------------------


def test_a_plan_decides_fields_formats_and_names(clinic: Clinic) -> None:
    clinic.api.answer = HELLO
    plan = Plan("one", ("txt",), {"Speaker_00": "Doctor"}, presign_fields={"language": "es-ES"})
    clinic.until(State.DONE, plan=plan)
    assert clinic.api.fields == [{"language": "es-ES"}]
    assert sorted(path.name for path in clinic.folders.outbox.iterdir()) == ["smith.txt"]
    (job,) = clinic.journal.jobs()
    assert job.plan == plan


def test_a_copy_gets_what_its_own_plan_says(clinic: Clinic) -> None:
    clinic.api.answer = HELLO
    clinic.until(State.DONE, name="a.wav", plan=Plan("one", ("txt",)))
    clinic.until(State.DONE, name="b.wav", plan=Plan("two", ("vtt", "json")))
    names = sorted(path.name for path in clinic.folders.outbox.iterdir())
    assert names == ["a.txt", "b.json", "b.vtt"]
    assert len(clinic.api.sent) == 1


# ---- audio minutes per day ---------------------------------------------------------------------------------


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Clinic]:
    made = Clinic(tmp_path, limits=Limits(10, {"one": 5}))
    made.api.answer = HELLO
    yield made
    made.journal.close()


def spent(clinic: Clinic) -> dict[str, float]:
    return clinic.journal.spent(day_of(datetime.now(UTC)))


def claimed(name: str, minutes: float, profile: str = "one") -> dict[str, Any]:
    plan = Plan(profile, ("txt",))
    return {"name": name, "content": name.encode(), "duration_seconds": minutes * 60, "plan": plan}


def test_minutes_are_counted_in_all_and_by_profile(limited: Clinic) -> None:
    limited.until(State.DONE, **claimed("a.wav", 2))
    limited.until(State.DONE, **claimed("b.wav", 3))
    limited.until(State.DONE, **claimed("c.wav", 4, "two"))
    assert spent(limited) == {"": 540, "one": 300, "two": 240}


def test_beyond_the_minutes_a_recording_is_held(limited: Clinic) -> None:
    limited.until(State.DONE, **claimed("a.wav", 4))
    job = limited.until(State.IDENTIFIED, **claimed("b.wav", 2))
    following = limited.pipeline.advance(job)
    assert following.job == job
    assert following.held is not None
    assert following.held.keys == ("daily_minutes of the profile one",)
    assert following.held.until.astimezone().strftime("%H:%M:%S") == "00:00:00"
    assert not following.asked_api
    assert 0 < following.after_seconds <= 300
    assert len(limited.api.fields) == 1, "the API was not even asked"
    # One that fits is not held up by it, nor is a copy, which costs nothing.
    assert limited.until(State.DONE, **claimed("c.wav", 1)).reservation is not None
    assert limited.until(State.DONE, **claimed("d.wav", 4) | {"content": b"a.wav"}).reservation is None
    # What all have together.
    other = limited.pipeline.advance(limited.until(State.IDENTIFIED, **claimed("e.wav", 6, "two")))
    assert other.held is not None
    assert other.held.keys == ("intake.daily_minutes",)


def test_the_next_day_lets_it_go(limited: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    limited.until(State.DONE, **claimed("a.wav", 4))
    job = limited.until(State.IDENTIFIED, **claimed("b.wav", 2))
    assert limited.pipeline.advance(job).held
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for step in ("hold", "upload"):
        monkeypatch.setattr(f"invox_watcher.processing.steps.{step}.utc_now", lambda: tomorrow)
    assert limited.pipeline.advance(job).job.state is State.WAITING
    assert limited.journal.spent(day_of(tomorrow)) == {"": 120, "one": 120}


@pytest.mark.parametrize(
    "error", [ApiUnavailableError("reset"), UploadUrlRefusedError("expired", status=403)]
)
def test_an_upload_that_never_arrived_gives_its_minutes_back(limited: Clinic, error: Exception) -> None:
    def fail() -> None:
        raise error

    job = limited.until(State.IDENTIFIED, **claimed("a.wav", 4))
    limited.api.while_sending = fail
    with contextlib.suppress(ApiUnavailableError):
        limited.pipeline.advance(job)
    assert spent(limited) == {"": 0, "one": 0}
    (job,) = limited.journal.jobs()
    assert (job.state, job.reservation) == (State.IDENTIFIED, None)


def test_an_upload_of_unknown_fate_is_counted_once(limited: Clinic) -> None:
    limited.api.answer = STILL
    job = limited.until(State.IDENTIFIED, **claimed("a.wav", 4))
    limited.api.loses_answers = True
    with pytest.raises(UploadUncertainError):
        limited.pipeline.advance(job)
    limited.api.loses_answers = False
    (job,) = limited.journal.jobs()
    limited.pipeline.advance(job)
    limited.now += 86400
    job = limited.pipeline.advance(job).job
    assert job.state is State.IDENTIFIED, "it counts as lost"
    assert limited.pipeline.advance(job).job.state is State.WAITING
    assert spent(limited) == {"": 240, "one": 240}


def test_a_recording_sent_again_because_it_grew_counts_again(limited: Clinic) -> None:
    job = limited.until(State.IDENTIFIED, **claimed("a.wav", 2))

    def grow() -> None:
        with (limited.folders.processing / job.id / "a.wav").open("ab") as file:
            file.write(b"more")

    limited.api.while_sending = grow
    with pytest.raises(RecordingChangingError):
        limited.pipeline.advance(job)
    limited.api.while_sending = lambda: None
    (job,) = limited.journal.jobs()
    assert job.reservation is None
    while job.state is not State.DONE:
        job = limited.pipeline.advance(job).job
    assert spent(limited) == {"": 240, "one": 240}


def test_what_others_reserved_first_is_not_reserved_again(limited: Clinic) -> None:
    job = limited.until(State.IDENTIFIED, **claimed("a.wav", 3))
    presign = limited.api.presign

    def quicker(*arguments: Any, **fields: Any) -> Any:
        limited.api.presign = presign  # type: ignore[method-assign]
        limited.until(State.DONE, **claimed("b.wav", 3))
        return presign(*arguments, **fields)

    limited.api.presign = quicker  # type: ignore[method-assign]
    following = limited.pipeline.advance(job)
    assert (following.job.state, following.held) == (State.IDENTIFIED, None)
    assert limited.pipeline.advance(following.job).held is not None
    assert spent(limited) == {"": 180, "one": 180}
    assert len(limited.api.sent) == 1
