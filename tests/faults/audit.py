"""What has to be true at every moment, and what once everything has come to rest, whatever went before.

Looked at as a person would: what lies in the folders, what the journal says, what the API was sent.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from invox_watcher.errors import JournalError
from invox_watcher.job import FINAL, Job, State
from invox_watcher.journal import HistoryEntry, Journal, Server
from invox_watcher.journal.audit import FILENAME as AUDIT_LOG
from invox_watcher.journal.sqlite import FILENAME
from tests.faults.evidence import sha256
from tests.faults.person import Person, files, is_recording_of, visible
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
# A segment that the odd reply `number_as_text` has besides.
_MORE = " 7"
# Failures that are about the recording, not about the API or the line to it.
OF_THE_RECORDING = {"not_audio", "truncated", "empty", "changing", "transcription_failed"}


class Audit:
    """One look at everything, taken while nothing moves."""

    def __init__(
        self,
        clinic: Clinic,
        person: Person,
        *,
        oddly: bool = False,
        hosts: Sequence[Clinic] = (),
        server: Server | None = None,
    ) -> None:
        """`oddly` if any reply of the API may have had its words in an odd form.

        Of a fleet: the configurations of its `hosts`, and the `server` with their journal.
        """
        self._clinic = clinic
        self._person = person
        self._oddly = oddly
        self._hosts = hosts or [clinic]
        self._server = server
        self.jobs = self._read_jobs()
        self._transcripts = self._read_transcripts()

    # ---- at every moment ---------------------------------------------------------------------------------

    def assert_nothing_lost(self) -> None:
        """Each file that was put in lies in exactly one place, unchanged; nothing of others was touched."""
        person, found = self._person, Counter[str]()
        for folder in (
            self._clinic.inbox, self._clinic.processing, self._clinic.done, self._clinic.failed
        ):  # fmt: skip
            found.update(self._contents(folder))
        being_written = Counter(sha256(writing.so_far) for writing in person.slow)
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
                path, transcript = found
                # What was discarded is withdrawn before the journal says so.
                assert job.state in (State.TRANSCRIBED, *_PUBLISHED)
                assert transcript["source"]["sha256"] == job.sha256
                if job.state in _PUBLISHED and not self._may_be_withdrawn(job):
                    srt = path.with_suffix(".srt")
                    assert srt.exists() or srt in self._person.deleted
            elif job.state in _PUBLISHED:
                assert job.id in self._person.deleted_jobs or self._may_be_withdrawn(job)
            if job.state is State.DONE and job.id not in self._withdrawn:
                path = self._clinic.done / (job.filed_as or "")
                # What its sender has written to meanwhile is found soon: see `assert_all_done`.
                assert sha256(path.read_bytes()) == job.sha256 or self._has_grown(path)

    def assert_paid_once(self, requests: list[dict[str, Any]], *, clock_was_wrong: bool) -> None:
        """No content went up again, unless every earlier request of it has come to nothing."""
        unanswered = defaultdict(list)
        for request in requests:
            if request["uploads"]:
                assert request["uploads"] == 1, request
                assert request["sha256"] in self._person.recordings | self._person.parts, request
                unanswered[request["sha256"]].append(request)
        for paid in unanswered.values():
            if len(paid) > 1:
                still = [one for one in paid if not self._came_to_nothing(one, clock_was_wrong)]
                assert len(still) <= 1, still

    def _came_to_nothing(self, request: dict[str, Any], clock_was_wrong: bool) -> bool:
        """Whether its content may be paid for again.

        The API answered ERROR; or the recording had changed by then, and its words were discarded; or the API
        denied it more than once, and the daemon could not know that storage had acknowledged it, or by a
        wrong clock not how long ago that was.
        """
        jobs = [job for job in self.jobs if job.request_id == request["id"]]
        failures = [job.failure.reason.code for job in jobs if job.failure]
        if "transcription_failed" in failures or "changing" in failures:
            return True
        if any(job.sha256 != request["sha256"] for job in jobs):  # it changed while it was sent
            return True
        acknowledged = False
        for entries in self._histories.values():
            ours = False
            for entry in entries:
                ours = ours or entry.detail.get("request_id") == request["id"]
                if ours and entry.state is State.CLAIMED:
                    return True
                acknowledged = acknowledged or (ours and entry.state is State.WAITING)
        return request["denials"] > 1 and (clock_was_wrong or not acknowledged)

    def assert_blamed_for_nothing(self, before: Audit) -> None:
        """With an API that was away or odd since `before`: no attempt was spent, no recording failed."""
        attempts = {job.id: (job.attempts, job.changed_uploads) for job in before.jobs}
        given_up = {job.id for job in before.jobs if job.state.is_given_up}
        for job in self.jobs:
            if job.state.is_given_up and job.failure is not None and job.id not in given_up:
                assert job.failure.reason.code in OF_THE_RECORDING, job
            spent, changed = attempts.get(job.id, (0, 0))
            # A stop after the last byte leaves an upload uncertain, which counts: it may have been paid for.
            uncertain = job.state is State.UPLOADING
            if job.asks_api and job.changed_uploads == changed and not uncertain:
                assert job.attempts <= spent, job

    # ---- at rest -----------------------------------------------------------------------------------------

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is left to do."""
        folders = (self._clinic.inbox, self._clinic.processing)
        underway = [job for job in self.jobs if job.state not in FINAL]
        return not underway and not any(files(folder) for folder in folders) and not self._parts_filed()

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
        filed = [job for job in self.jobs if job.state is State.DONE and job.id not in self._withdrawn]
        done = [clinic.done / (job.filed_as or "") for job in filed]
        looked_at = {job.id for job in self.jobs if self._is_looked_at(job)}
        for job_id, (_path, transcript) in self._transcripts.items():
            whole = transcript["source"]["sha256"] in person.recordings
            assert whole or job_id not in looked_at  # and not the words of a part
        assert sorted(done) == sorted(path for path in files(clinic.done) if path not in person.foreign)
        assert not clinic.under_way()
        for folder in (clinic.inbox, clinic.outbox, clinic.done, clinic.failed):
            assert files(folder) == visible(folder)

    # ---- what is looked at -------------------------------------------------------------------------------

    @cached_property
    def _withdrawn(self) -> set[str]:
        """The jobs whose transcript was withdrawn after the filing, or is just now: by the audit logs."""
        return {job_id for host in self._hosts for job_id in _withdrawn_by(host)}

    @cached_property
    def _histories(self) -> dict[str, list[HistoryEntry]]:
        with self._journal() as journal:
            return {job.id: journal.history(job.id) for job in self.jobs} if journal else {}

    def _read_jobs(self) -> list[Job]:
        with self._journal() as journal:
            try:
                return journal.jobs() if journal else []
            except JournalError as error:
                assert "no such table" in error.message  # noqa: PT017 - killed before it had any
                return []

    @contextlib.contextmanager
    def _journal(self) -> Iterator[Journal | None]:
        """The journal, a file's in a copy: what a killed daemon left to be rolled back is left to the next.

        None if there is none yet.
        """
        copy = self._clinic.root / "desk" / "state"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in (FILENAME, f"{FILENAME}-journal", f"{FILENAME}-wal"):
            if (found := self._clinic.root / "state" / name).exists():
                shutil.copy(found, copy / name)
        if self._server is None and not (copy / FILENAME).exists():
            yield None
            return
        try:
            journal = Journal(copy, create=False, server=self._server)
        except JournalError as error:
            if self._server is None or error.code != "journal_missing":
                raise
            yield None
            return
        with contextlib.closing(journal):
            yield journal

    def _may_be_withdrawn(self, job: Job) -> bool:
        """Whether its recording has changed. Before the filing, the withdrawal is written down last."""
        if job.id in self._withdrawn:
            return True
        path = self._clinic.processing / job.id / job.path
        return job.state is State.DELIVERED and path.exists() and sha256(path.read_bytes()) != job.sha256

    def _has_grown(self, path: Path) -> bool:
        return path.stat().st_ino in self._person.grown

    def _parts_filed(self) -> list[Job]:
        """The jobs whose recording in done/ is not what their words are of."""
        filed = [job for job in self.jobs if job.state is State.DONE and job.id not in self._withdrawn]
        return [job for job in filed if self._is_looked_at(job) and not self._is_of_its_words(job)]

    def _is_of_its_words(self, job: Job) -> bool:
        return sha256((self._clinic.done / (job.filed_as or "")).read_bytes()) == job.sha256

    def _is_looked_at(self, job: Job) -> bool:
        """What was claimed longer than an hour ago, by whatever clock, is not looked at after a restart."""
        return job.id >= (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y%m%dt%H%M%S")

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
                self._check_captions(path.read_text(), self._mark(path))
                continue
            transcript = json.loads(path.read_bytes())
            self._check_text(transcript["text"], transcript["source"]["sha256"][:12])
            assert transcript["job_id"] not in found
            found[transcript["job_id"]] = (path, transcript)
        return found

    def _check_text(self, text: str, mark: str) -> None:
        expected = _TEXT.replace("*", mark)
        if self._oddly:  # then without speakers, by which it is divided into lines
            words = " ".join(expected.split())
            assert " ".join(text.split()) in (words, words + _MORE)
        else:
            assert text == expected

    def _check_captions(self, captions: str, mark: str) -> None:
        expected = _SRT.replace("*", mark)
        if self._oddly:  # then without speakers, or at other times
            words = _words_of(expected)
            assert _words_of(captions) in (words, words + _MORE)
        else:
            assert captions == expected

    def _mark(self, srt: Path) -> str:
        """The mark that captions have to have: that of the transcript beside them."""
        beside = srt.with_suffix(".json")
        if not beside.exists():  # deleted, or just being withdrawn: then of anything that there ever was
            ever = self._person.ever | self._person.parts
            return next(digest[:12] for digest in ever if digest[:12] in srt.read_text())
        mark: str = json.loads(beside.read_bytes())["source"]["sha256"][:12]
        return mark


def _words_of(captions: str) -> str:
    """The words of captions, without numbers, times and speakers."""
    cues = [cue.split("\n", 2)[2] for cue in captions.strip().split("\n\n")]
    return " ".join(re.sub(r"^Speaker_\d+: ", "", " ".join(cue.split("\n"))) for cue in cues)


def _withdrawn_by(host: Clinic) -> set[str]:
    path = host.root / "state" / AUDIT_LOG
    lines = path.read_bytes().splitlines() if path.exists() else []
    entries = [json.loads(line) for line in lines if line.endswith(b"}")]
    last = {entry["job"]: entry["what"] for entry in entries if entry["what"] in ("filed", "withdrawn")}
    return {job_id for job_id, what in last.items() if what == "withdrawn"}
