"""What happens to a recording: `Pipeline.advance` takes one job one step further, and nothing else does.

Read it from top to bottom: claim, identify, upload, look, publish, file; then what happens when it fails.
Each step begins from what the journal says and ends with a guarded journal write, so that a step that was
killed anywhere is simply taken again. *When* a step is taken, and what a fault does to that, is `engine`'s.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from invox_watcher.audio import current_mime_type
from invox_watcher.errors import (
    ApiRefusedError,
    FolderBlockedError,
    InvoxError,
    JournalError,
    RecordingChangingError,
    RecordingError,
    RecordingVanishedError,
    StoppedError,
    StorageError,
    TranscriptionFailedError,
    UploadUncertainError,
    UploadUrlRefusedError,
)
from invox_watcher.events import Event, log
from invox_watcher.files import ERROR_SUFFIX, Folders, NameTakenError, numbered_folders, output_path
from invox_watcher.heartbeat import beat
from invox_watcher.invox import InvoxApi, ReplyStatus, TranscriptionReply, parse_reply
from invox_watcher.job import FINAL, Failure, Job, State
from invox_watcher.journal import Journal
from invox_watcher.outputs import OutputFormat, error_file, render
from invox_watcher.processing.documents import delivery_of
from invox_watcher.processing.polling import PollingPolicy, PollOutcome, ResultPoller
from invox_watcher.processing.reservations import FOLDER_TRIES, Reservations
from invox_watcher.recording import FileIdentity
from invox_watcher.times import rfc3339, seconds_since, utc_now

_HASH_BLOCK_BYTES = 1 << 20
_FOLLOW_SECONDS = 2.0
_URL_REFUSALS = 3
_MOST_UPLOADS = 3  # whose last byte went out, and of which the API then knows nothing
_SHOWN_REPAIRS = 5
_VOIDS = 6
_PROGRESS_SECONDS = 1.0
# The inbox sees at once what comes back to it: a journal that refuses must not keep us spinning.
_REFUSED_SECONDS = 2.0


@dataclass(frozen=True)
class Next:
    """What comes after a step: the job as it is now, and when to look at it again (0: at once)."""

    job: Job
    after_seconds: float = 0.0
    asked_api: bool = True  # where the state says that the step asks: False if a webhook was answer enough


@dataclass(frozen=True)
class ProcessingOptions:
    """What the configuration says about the way of a recording; see config.example.yaml for each."""

    on_duplicate: Literal["reuse", "process", "fail"] = "reuse"
    mime_types: Sequence[str] = ()  # that the account takes now
    formats: Sequence[OutputFormat] = ("json", "srt")
    speaker_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    asking: PollingPolicy = dataclasses.field(default_factory=PollingPolicy)


class Pipeline:
    """The state machine. Safe to use from several threads, one thread per job at a time."""

    def __init__(
        self,
        *,
        folders: Folders,
        journal: Journal,
        api: InvoxApi,
        rules: ProcessingOptions,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders = folders
        self._journal = journal
        self._api = api
        self._rules = rules
        self._stop = stop
        self._clock = clock
        self._results = ResultPoller(journal, api, rules.asking, clock=clock)
        self._names = Reservations(folders, journal)
        self._steps: dict[State, Callable[[Job], Next]] = {
            State.CLAIMED: self._identify,
            State.IDENTIFIED: self._upload_or_reuse,
            State.UPLOADING: self._reconcile,
            State.WAITING: self._look,
            State.TRANSCRIBED: self._publish,
            State.DELIVERED: self._file_as_done,
            State.FAILING: self._file_as_failed,
        }

    def claim(self, job: Job, waited_seconds: float = 0.0) -> bool:
        """Take the recording out of the inbox. False where it is gone or changed: it will be seen again."""
        if not self._folders.claim(job.id, job.path, job.identity):
            return False
        try:
            self._journal.add(job, waited_seconds=round(waited_seconds, 3))
        except BaseException:
            self._folders.unclaim(job.id)  # no row would ever lead to it
            self._stop.wait(_REFUSED_SECONDS)
            raise
        log.info(
            Event.CLAIMED, job=job.id, recording=job.path, bytes=job.size_bytes, format=job.format,
            duration_seconds=job.duration_seconds, waited_seconds=round(waited_seconds, 3),
        )  # fmt: skip
        return True

    def advance(self, job: Job) -> Next:
        """Take `job` one step further.

        Raises:
            RecordingVanishedError: its file is gone; the caller calls `vanish`.
            RecordingError, ApiRejectedError, TranscriptionFailedError: for good; the caller calls `fail`.
            ApiUnavailableError, ApiRefusedError, UploadUncertainError, RecordingChangingError, StorageError,
            JournalError: take the step that the journal then says again later.
            StoppedError: the daemon is stopping.
            StaleStateError: someone else has moved the job on.
        """
        return self._steps[job.state](job)

    # ---- claimed → identified ----------------------------------------------------------------------------

    def _identify(self, job: Job) -> Next:
        if job.refusal is not None:
            return self._begin_failing(job, job.refusal)
        with self._folders.open_recording(job.id, job.path) as file:
            seen = FileIdentity.of(os.fstat(file.fileno()))
            if job.changed_uploads and seen != job.identity:  # it must lie still before it is sent again
                self._journal.update(job, identity=seen)
                raise RecordingChangingError("It is still being written to, in processing/.")
            if seen.size_bytes == 0:
                raise RecordingError("It became empty in processing/.", code="empty", hint="Copy it again.")
            sha256 = self._hash(file, seen.size_bytes)
            _check_unchanged(file, seen)
        follow = self._rules.on_duplicate != "process"
        job = self._journal.identify(job, sha256, follow=follow, identity=seen)
        log.debug(Event.IDENTIFIED, job=job.id, sha256=sha256)
        if job.original_id is not None:
            log.info(Event.DUPLICATE, job=job.id, original=job.original_id)
        return Next(job)

    def _hash(self, file: BinaryIO, size_bytes: int) -> str:
        digest = hashlib.sha256()
        left = size_bytes
        try:
            while left and (block := file.read(min(left, _HASH_BLOCK_BYTES))):
                digest.update(block)
                left -= len(block)
                beat()
                if self._stop.is_set():
                    raise StoppedError("stopped while reading a recording")
        except OSError as error:
            raise StorageError(f"reading a recording: {error.strerror}", code="read_failed") from None
        return digest.hexdigest()

    # ---- identified → uploading → waiting ----------------------------------------------------------------

    def _upload_or_reuse(self, job: Job) -> Next:
        if job.original_id is None and job.request_id is None:
            return self._upload(job)
        if job.original_id is None:  # an earlier job of this content was given up: ask about its upload first
            known = State.WAITING if self._results.is_expected(job) else State.UPLOADING
            return Next(self._journal.move(job, known, detail={"request_id": job.request_id}))
        if self._rules.on_duplicate == "fail":
            raise RecordingError(
                f"The same recording has been taken before, as job {job.original_id}.",
                code="duplicate",
                hint="To transcribe it again, set intake.on_duplicate to process.",
            )
        payload = self._journal.reply(job.original_id)
        original = self._journal.get(job.original_id)
        if (
            original is None
            or original.sha256 != job.sha256  # it was written to since
            or (payload is None and original.state in FINAL | {State.FAILING})
        ):
            return Next(self._journal.follow_again(job))
        if payload is None:
            return Next(job, _FOLLOW_SECONDS)
        return self._accept(
            job,
            parse_reply(payload, duration_seconds=job.duration_seconds, pushed=True),
            "reuse",
            request_id=original.request_id,
            uploaded_at=original.uploaded_at,
        )

    def _upload(self, job: Job) -> Next:
        assert job.mime_type is not None  # noqa: S101 - what has none was refused at the claim
        mime_type = current_mime_type(job.mime_type, self._rules.mime_types)
        with self._folders.open_recording(job.id, job.path) as file:
            job = self._still_identified(job, file)
            presigned = self._api.presign(mime_type, self._rules.asking.callback_url)
            # On disk before the first byte goes out: what is uncertain later can be asked about.
            job = self._journal.move(
                job,
                State.UPLOADING,
                request_id=presigned.request_id,
                mime_type=mime_type,
                uploaded_bytes=0,
                uploaded_at=None,
                detail={"request_id": presigned.request_id},
            )
            log.info(Event.UPLOAD_STARTED, job=job.id, request_id=presigned.request_id, bytes=job.size_bytes)
            began = self._clock()
            try:
                self._api.upload(
                    presigned,
                    file,
                    size_bytes=job.size_bytes,
                    mime_type=mime_type,
                    on_progress=self._progress(job),
                )
            except UploadUncertainError:
                log.warning(Event.UPLOAD_UNCERTAIN, job=job.id, request_id=job.request_id)
                with contextlib.suppress(JournalError):  # `_upload_again` counts them by it
                    self._journal.update(job, uploaded_bytes=job.size_bytes)
                raise  # the job stays in state uploading, whose step asks before anything is sent again
            except UploadUrlRefusedError as error:
                return self._again_with_new_url(job, error)
            except InvoxError:
                # Not all bytes went out, or the answer was a clear no: the API has nothing of it.
                self._journal.move(job, State.IDENTIFIED, request_id=None)
                raise
            seconds = self._clock() - began
            job = self._still_identified(job, file)
        return self._uploaded(job, seconds)

    def _still_identified(self, job: Job, file: BinaryIO) -> Job:
        """`job`, if its recording is what was hashed; else this attempt is void, and the next one hashes it.

        Another time or inode is not enough for that: programs touch files, and backups are restored.
        """
        seen = FileIdentity.of(os.fstat(file.fileno()))
        if seen == job.identity:
            return job
        if seen.size_bytes == job.size_bytes:
            file.seek(0)
            same = self._hash(file, seen.size_bytes) == job.sha256
            _check_unchanged(file, seen)
            if same:
                file.seek(0)
                return self._journal.update(job, identity=seen)
        log.warning(Event.UPLOAD_DISCARDED, job=job.id, request_id=job.request_id)
        self._results.forget(job)
        job = self._journal.move(
            job, State.CLAIMED, request_id=None, uploaded_at=None, changed_uploads=job.changed_uploads + 1,
            identity=seen,
        )  # fmt: skip
        if job.changed_uploads >= _VOIDS:
            raise RecordingError(
                f"It was written to {job.changed_uploads} times after it had been complete.",
                code="changing",
                hint="Which program writes to it? Once that has ended, `invox-watcher retry`.",
            )
        raise RecordingChangingError("The recording changed after it was taken from the inbox.")

    def _uploaded(self, job: Job, seconds: float) -> Next:
        job = self._journal.move(
            job,
            State.WAITING,
            uploaded_at=utc_now(),
            uploaded_bytes=job.size_bytes,
            attempts=0,
            detail={"size_bytes": job.size_bytes, "sha256": job.sha256},
        )
        log.info(
            Event.UPLOADED, job=job.id, request_id=job.request_id, bytes=job.size_bytes,
            seconds=round(seconds, 3),
        )  # fmt: skip
        return Next(job, self._results.begin(job))

    def _again_with_new_url(self, job: Job, error: UploadUrlRefusedError) -> Next:
        refusals = job.refused_urls + 1
        of_set_up = refusals >= _URL_REFUSALS and not self._api.has_stored(job.mime_type or "")
        job = self._journal.move(
            job, State.IDENTIFIED, request_id=None, refused_urls=0 if of_set_up else refusals
        )
        if of_set_up:
            raise ApiRefusedError(error.message, code=error.code, hint=error.hint, status=error.status)
        if refusals >= _URL_REFUSALS:
            raise RecordingError(
                f"Storage refused {refusals} presigned URLs: {error.message}",
                code=error.code,
                hint="Do api.mime_types name the types of your account, and is this host's clock right?",
            )
        return Next(job)

    def _progress(self, job: Job) -> Callable[[int], None]:
        last = self._clock()

        def note(sent_bytes: int) -> None:
            nonlocal last
            if self._clock() - last >= _PROGRESS_SECONDS:
                last = self._clock()
                with contextlib.suppress(JournalError):  # it is only for display
                    self._journal.update(job, uploaded_bytes=sent_bytes)

        return note

    def _reconcile(self, job: Job) -> Next:
        """The upload's answer was lost: ask whether the API has it before sending it again."""
        answer = self._results.ask(job)
        if answer is None:
            return self._upload_again(job)
        if answer.is_final:
            return self._accept_answer(job, answer, uploaded_at=job.uploaded_at or job.updated_at)
        # Counted from the first answer: an outage, in which nothing could be asked, is not patience spent.
        waited, patience = self._results.waited_seconds(job), self._results.patience_seconds(job)
        if waited >= patience:
            return self._upload_again(job)
        return Next(job, min(self._results.next_poll_delay(waited), patience - waited))

    def _upload_again(self, job: Job) -> Next:
        lost = job.uploaded_bytes == job.size_bytes
        before = sum(entry.detail.get("upload") == "lost" for entry in self._journal.history(job.id))
        if lost and before + 1 >= _MOST_UPLOADS:
            raise RecordingError(
                f"It was uploaded {before + 1} times, and each time storage did not confirm it and the API"
                " did not know of it.",
                code="upload_lost",
                hint="Ask the vendor about its storage. `invox-watcher retry` asks once more before it sends"
                " anything.",
            )
        self._results.forget(job)
        detail = {"upload": "lost" if lost else "broken_off"}
        return Next(self._journal.move(job, State.IDENTIFIED, request_id=None, detail=detail))

    # ---- waiting → transcribed ---------------------------------------------------------------------------

    def _look(self, job: Job) -> Next:
        answer = self._results.ask(job)
        assert answer is not None  # noqa: S101 - what storage has acknowledged is pending until its deadline
        if answer.is_final:
            return self._accept_answer(job, answer)
        waited = self._results.waited_seconds(job)
        if self._results.is_overdue(job):
            raise RecordingError(
                f"No result after {waited / 3600:.1f} hours (polling.deadline_seconds).",
                code="deadline",
                hint="`invox-watcher retry` asks about the request id again before it sends anything.",
            )
        log.debug(Event.PENDING, job=job.id, waited_seconds=round(waited, 1))
        if job.attempts:  # the API answers again
            job = self._journal.update(job, attempts=0)
        return Next(job, self._results.next_poll_delay(waited))

    def _accept_answer(self, job: Job, answer: PollOutcome, **changes: Any) -> Next:
        following = self._accept(job, answer.reply, answer.delivered_by, **changes)
        return dataclasses.replace(following, asked_api=answer.asked_api)

    def _accept(self, job: Job, reply: TranscriptionReply, delivered_by: str, **changes: Any) -> Next:
        """Write a final reply into the journal and reserve the names of its outputs; or fail as it says."""
        if reply.status is ReplyStatus.ERROR:
            raise TranscriptionFailedError(
                f"The API could not transcribe it: {reply.error_message or 'no reason given'}",
                hint="Listen to it: is there speech in it? `invox-watcher retry` sends it once more.",
            )
        if reply.repairs:
            log.warning(
                Event.REPLY_REPAIRED, job=job.id, count=len(reply.repairs),
                repairs=list(reply.repairs[:_SHOWN_REPAIRS]),
            )  # fmt: skip
        job = self._names.for_outputs(
            self._check_recording(job),
            self._rules.formats,
            reply=reply.raw,
            completed_at=utc_now(),
            delivered_by=delivered_by,
            attempts=0,
            **changes,
        )
        self._results.forget(job)
        log.info(
            Event.TRANSCRIBED, job=job.id, request_id=job.request_id, delivered_by=delivered_by,
            seconds=job.transcription_seconds,
        )  # fmt: skip
        return Next(job)

    def _check_recording(self, job: Job) -> Job:
        """What was answered is of what will lie in done/. One that is gone gets its transcript still."""
        with (
            contextlib.suppress(RecordingVanishedError, StorageError),
            self._folders.open_recording(job.id, job.path) as file,
        ):
            return self._still_identified(job, file)
        return job

    # ---- transcribed → delivered → done ------------------------------------------------------------------

    def _publish(self, job: Job) -> Next:
        assert job.filed_as is not None  # noqa: S101 - written with the state
        delivery = delivery_of(job, self._journal.reply(job.id))
        written: list[tuple[str, bytes]] = []
        for format in self._rules.formats:
            path = output_path(job.filed_as, format)
            content = render(delivery, format, self._rules.speaker_names)
            try:
                self._folders.publish(job.id, self._folders.outbox, path, content)
            except NameTakenError:
                # Someone put a file there since the name was reserved: the whole set gets the next one.
                for earlier, its_content in written:
                    self._folders.retract(self._folders.outbox, earlier, its_content)
                return Next(self._names.for_outputs(job, self._rules.formats))
            written.append((path, content))
        job = self._journal.move(
            job,
            State.DELIVERED,
            reserve=output_path(job.filed_as, ""),  # kept, so that the recording in done/ gets the same name
            detail={"outputs": {path: _sha256(content) for path, content in written}},
        )
        log.info(
            Event.DELIVERED, job=job.id, recording=job.path, delivered_by=job.delivered_by,
            seconds=round(seconds_since(job.received_at), 3),
        )  # fmt: skip
        return Next(job)

    def _file_as_done(self, job: Job) -> Next:
        return self._done(job, self._file_away(job, self._folders.done))

    def _file_away(self, job: Job, root: Path) -> str:
        # A recording named like another one's folder may have been filed where that folder was to be.
        for path in itertools.islice(numbered_folders(job.filed_as or job.path), FOLDER_TRIES):
            with contextlib.suppress(FolderBlockedError):
                return self._folders.file_away(job.id, job.path, root, path, job.identity)
        raise FolderBlockedError(f"A file or a link stands where a folder is needed in {root.name}/.")

    def _done(self, job: Job, filed_as: str) -> Next:
        job = self._names.let_go(job, State.DONE, filed_as=filed_as)
        log.info(Event.DONE, job=job.id, recording=job.path)
        return Next(job)

    # ---- when it fails -----------------------------------------------------------------------------------

    def fail(self, job: Job, error: InvoxError) -> Next:
        """Give `job` up for good because of `error`: its reason goes into the journal, then it moves."""
        failure = Failure(job.state, error.reason, error.retry_can_help)
        return self._begin_failing(job, failure)

    def vanish(self, job: Job) -> Next:
        """Close a job whose recording somebody took out of processing/. Loudly, and once."""
        log.error(Event.VANISHED, job=job.id, recording=job.path, state=job.state)
        self._results.forget(job)
        if job.state is State.DELIVERED:  # its transcript is safe
            return self._done(job, job.filed_as or job.path)
        return Next(self._names.let_go(job, State.VANISHED))

    def _begin_failing(self, job: Job, failure: Failure) -> Next:
        # Fixed here, so that the error file is the same however often it takes to be written.
        failure = dataclasses.replace(failure, attempts=job.attempts, at=failure.at or rfc3339(utc_now()))
        detail = {"code": failure.reason.code, "stage": failure.stage}
        job = self._names.for_failure(job, failure=failure, detail=detail)
        self._results.forget(job)
        log.warning(Event.FAILING, job=job.id, code=failure.reason.code, stage=failure.stage)
        return Next(job)

    def _file_as_failed(self, job: Job) -> Next:
        failure = job.failure
        assert job.filed_as is not None and failure is not None  # noqa: S101, PT018 - written with the state
        outputs: dict[str, str] = {}
        path, content = job.filed_as + ERROR_SUFFIX, error_file(job, failure)
        try:
            self._folders.publish(job.id, self._folders.failed, path, content)
            outputs = {path: _sha256(content)}
        except FolderBlockedError:
            return self._begin_failing(job, failure)  # under a name whose folder can be made
        except NameTakenError:
            # Somebody took the name since it was reserved: recording and error file get the next one.
            if self._folders.has_recording(job.id, job.path):
                return self._begin_failing(job, failure)
            # A killed attempt has moved the recording, and its error file was changed since: it stays so.
        try:
            filed_as = self._folders.file_away(
                job.id, job.path, self._folders.failed, job.filed_as, job.identity, exactly=True
            )
        except (NameTakenError, FolderBlockedError):
            self._folders.retract(self._folders.failed, path, content)
            return self._begin_failing(job, failure)
        job = self._names.let_go(job, State.FAILED, filed_as=filed_as, detail={"outputs": outputs})
        log.warning(Event.FAILED, job=job.id, recording=job.path, code=failure.reason.code)
        return Next(job)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check_unchanged(file: BinaryIO, seen: FileIdentity) -> None:
    if FileIdentity.of(os.fstat(file.fileno())) != seen:
        raise RecordingChangingError("The recording changed after it was taken from the inbox.")
