"""What has to be true at every moment, and what once everything has come to rest, whatever went before.

Looked at as a person would: what lies in the folders, what the journal says, what the API was sent.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from invox_watcher.errors import JournalError
from invox_watcher.job import FINAL, Job, State
from invox_watcher.journal.journal import Journal
from invox_watcher.journal.sqlite import FILENAME
from invox_watcher.sandbox.server import Sandbox
from tests.faults.person import Person, files, is_recording_of, sha256, visible
from tests.kit.clinic import Clinic

_TEXT = "This is recording *.\nIs that what was dictated?\nNo, only the first digits of its checksum: *."
_SRT = """\
1
00:00:00,000 --> 00:00:01,500
Speaker_00: This is recording
*.

2
00:00:01,500 --> 00:00:03,250
Speaker_01: Is that what was dictated?

3
00:00:03,500 --> 00:00:05,000
Speaker_00: No, only the first digits of
its checksum: *.

"""
_PUBLISHED = (State.DELIVERED, State.DONE)


class Audit:
    """One look at everything, taken while nothing moves."""

    def __init__(self, clinic: Clinic, person: Person) -> None:
        self._clinic = clinic
        self._person = person
        self.jobs = _journal(clinic)
        self._transcripts = self._read_transcripts()

    # ---- at every moment ---------------------------------------------------------------------------------

    def assert_nothing_lost(self) -> None:
        """Each file that was put in lies in exactly one place, unchanged; nothing of others was touched."""
        person, found = self._person, Counter[str]()
        for folder in (
            self._clinic.inbox, self._clinic.processing, self._clinic.done, self._clinic.failed
        ):  # fmt: skip
            found.update(self._contents(folder))
        being_written = Counter(sha256(writing.content[: writing.written]) for writing in person.slow)
        assert found == +person.put_in + being_written
        for path, content in person.foreign.items():
            assert path.read_bytes() == content, path
        # A failed one may be put back before the journal knows that it lay in failed/.
        vanished = {job.filed_as for job in self.jobs if job.state is State.VANISHED}
        assert vanished <= person.back_from_failed

    def assert_nothing_half_done(self) -> None:
        """What can be seen in the outbox is whole, and there is one transcript for each job that has one."""
        jobs = {job.id: job for job in self.jobs}
        assert set(self._transcripts) <= set(jobs)
        for job in self.jobs:
            found = self._transcripts.get(job.id)
            if found is not None:
                assert job.state in (State.TRANSCRIBED, *_PUBLISHED)
                path, transcript = found
                assert transcript["source"]["sha256"] == job.sha256
                if job.state in _PUBLISHED:
                    srt = path.with_suffix(".srt")
                    assert srt.exists() or srt in self._person.deleted
            elif job.state in _PUBLISHED:
                assert job.id in self._person.deleted_jobs
            if job.state is State.DONE:
                assert sha256((self._clinic.done / (job.filed_as or "")).read_bytes()) == job.sha256

    def assert_paid_once(self, api: Sandbox) -> None:
        """No content went up again, unless the API had answered ERROR for every earlier request."""
        answered = {
            job.request_id
            for job in self.jobs
            if job.failure and job.failure.reason.code == "transcription_failed"
        }
        unanswered = defaultdict(list)
        for request in api.stats()["requests"]:
            if request["uploads"]:
                assert request["uploads"] == 1, request
                assert request["sha256"] in self._person.recordings, request
                if request["id"] not in answered:
                    unanswered[request["sha256"]].append(request)
        assert all(len(requests) == 1 for requests in unanswered.values()), dict(unanswered)

    # ---- at rest -----------------------------------------------------------------------------------------

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is left to do."""
        folders = (self._clinic.inbox, self._clinic.processing)
        underway = [job for job in self.jobs if job.state not in FINAL]
        return not underway and not any(files(folder) for folder in folders)

    @property
    def failed_recordings(self) -> Counter[str]:
        """The recordings in failed/ that could be transcribed, by content."""
        return Counter(dict.fromkeys(self._person.recordings, 1)) & self._contents(self._clinic.failed)

    def assert_all_done(self) -> None:
        """Every recording is in done/, everything else in failed/ with its reason; nothing is left over."""
        clinic, person = self._clinic, self._person
        put_in = +person.put_in
        recordings = Counter({digest: put_in[digest] for digest in put_in if digest in person.recordings})
        assert self._contents(clinic.done) == recordings
        assert self._contents(clinic.failed) == put_in - recordings
        for path in files(clinic.failed):
            if path not in person.foreign and is_recording_of(clinic.failed, path):
                reason = json.loads(path.with_name(f"{path.name}.error.json").read_bytes())
                assert reason["code"] in ("not_audio", "truncated", "empty"), reason
        done = [clinic.done / (job.filed_as or "") for job in self.jobs if job.state is State.DONE]
        assert sorted(done) == sorted(path for path in files(clinic.done) if path not in person.foreign)
        assert not clinic.under_way()
        for folder in (clinic.inbox, clinic.outbox, clinic.done, clinic.failed):
            assert files(folder) == visible(folder)

    # ---- the parts ---------------------------------------------------------------------------------------

    def _contents(self, folder: Path) -> Counter[str]:
        return Counter(
            sha256(path.read_bytes())
            for path in files(folder)
            if path not in self._person.foreign and is_recording_of(folder, path)
        )

    def _read_transcripts(self) -> dict[str, tuple[Path, dict[str, Any]]]:
        """Every transcript in the outbox by its job; each of the files there is whole."""
        found: dict[str, tuple[Path, dict[str, Any]]] = {}
        for path in visible(self._clinic.outbox):
            if path in self._person.foreign:
                continue
            if path.suffix == ".srt":
                assert path.read_text() == _SRT.replace("*", self._mark(path))
                continue
            transcript = json.loads(path.read_bytes())
            assert transcript["text"] == _TEXT.replace("*", transcript["source"]["sha256"][:12])
            assert transcript["job_id"] not in found
            found[transcript["job_id"]] = (path, transcript)
        return found

    def _mark(self, srt: Path) -> str:
        """The mark that captions have to have: that of the transcript beside them."""
        beside = srt.with_suffix(".json")
        if beside in self._person.deleted:  # then of any recording that there ever was
            return next(digest[:12] for digest in self._person.ever if digest[:12] in srt.read_text())
        mark: str = json.loads(beside.read_bytes())["source"]["sha256"][:12]
        return mark


def _journal(clinic: Clinic) -> list[Job]:
    """The jobs, read in a copy: what a killed daemon left to be rolled back is left to the next one."""
    state, copy = clinic.root / "state", clinic.root / "desk" / "state"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for name in (FILENAME, f"{FILENAME}-journal", f"{FILENAME}-wal"):
        if (state / name).exists():
            shutil.copy(state / name, copy / name)
    if not (copy / FILENAME).exists():
        return []
    journal = Journal(copy, create=False)
    try:
        return journal.jobs()
    except JournalError as error:
        assert "no such table" in error.message  # noqa: PT017 - killed before it had any
        return []
    finally:
        journal.close()
