"""The page of one recording: its life, its words, and the documents that were made of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from invox_watcher.audio import identify
from invox_watcher.diagnostics.timeline import place_of
from invox_watcher.errors import RecordingVanishedError, StorageError
from invox_watcher.files import open_unchanged, read_unchanged
from invox_watcher.job import Job, State
from invox_watcher.journal import HistoryEntry, Journal, QueuedDelivery
from invox_watcher.outputs import MEDIA_TYPES, spoken
from invox_watcher.page.lists import Lists
from invox_watcher.page.model import Delivery, Document, Line, Moment, Recording, Sight, Stretch
from invox_watcher.page.resources import Resources
from invox_watcher.page.rows import failure_of, may_see, row_of, visible
from invox_watcher.processing import transcript_of

_MOST_DOCUMENT_BYTES = 64 << 20
# Details of a step in the history, none of which is a word or a secret.
_SHOWN = ("format", "size_bytes", "waited_seconds", "request_id", "upload", "stage", "code", "clock")
_JOB_ID_BYTES = 64


@dataclass(frozen=True)
class Recordings:
    """Answers about single recordings."""

    resources: Resources
    lists: Lists
    speaker_names: Mapping[str, str]  # for recordings without a plan

    def job(self, journal: Journal, sight: Sight, job_id: str) -> Job | None:
        """The job with that id; None if there is none, or none in the sight."""
        if not job_id.isascii() or len(job_id) > _JOB_ID_BYTES:  # text from a URL
            return None
        job = journal.get(job_id)
        return job if job is not None and may_see(sight, job) else None

    def recording(self, sight: Sight, job_id: str) -> Recording | None:
        """Everything but its words."""
        journal = self.resources.reader.journal()
        job = self.job(journal, sight, job_id)
        if job is None:
            return None
        history = journal.history(job.id)
        deliveries = journal.deliveries.of(job.id)
        outputs = _transcripts(job, journal)
        has_words = journal.reply(job.id) is not None
        related = visible((job.predecessor_id, job.successor_id, job.original_id), sight, journal.get)
        documents, (has_sound, is_audio) = self.resources.patience.ask(
            lambda: (self._present(outputs), self._sound_of(job))
        )
        return Recording(
            row=row_of(job, sight),
            life=[_moment(entry, related) for entry in history],
            ahead=None if job.state.is_final else self.lists.under_way(job, sight),
            failure=failure_of(job, sight),
            deliveries=[_delivery(one) for one in deliveries],
            documents=documents,
            suspects=[Stretch(one.start, one.end, str(one.reason)) for one in job.suspect or ()],
            has_words=has_words,
            has_sound=has_sound,
            is_audio=is_audio,
            retried_as=job.successor_id if job.successor_id in related else None,
            retry_of=job.predecessor_id if job.predecessor_id in related else None,
            host=None if journal.fleet is None else job.host,
        )

    def words(self, sight: Sight, job_id: str) -> Sequence[Line] | None:
        """The lines of its transcript, as they are in its documents."""
        journal = self.resources.reader.journal()
        job = self.job(journal, sight, job_id)
        reply = None if job is None else journal.reply(job.id)
        if job is None or reply is None:
            return None
        names = self.speaker_names if job.plan is None else job.plan.speaker_names
        return [
            Line(segment.start, segment.end, segment.speaker or "", segment.text)
            for segment in spoken(transcript_of(job, reply), names)
        ]

    def document(self, sight: Sight, job_id: str, name: str) -> Document | None:
        """One of its documents, if it is as it was delivered."""
        journal = self.resources.reader.journal()
        job = self.job(journal, sight, job_id)
        outputs = {} if job is None else _transcripts(job, journal)
        for path, sha256 in outputs.items():
            if PurePosixPath(path).name == name:
                content = self.resources.patience.ask(partial(self._content, path, sha256))
                return None if content is None else Document(name, _mime_type(name), content)
        return None

    def _present(self, outputs: Mapping[str, str]) -> Sequence[str]:
        """The names of those that are as they were delivered."""
        return [
            PurePosixPath(path).name
            for path, sha256 in outputs.items()
            if self._content(path, sha256) is not None
        ]

    def _content(self, path: str, sha256: str) -> bytes | None:
        return read_unchanged(self.resources.folders.outbox, path, sha256, most_bytes=_MOST_DOCUMENT_BYTES)

    def _sound_of(self, job: Job) -> tuple[bool, bool]:
        """Whether its recording still exists, and whether it is one."""
        place = place_of(job, self.resources.folders)
        if place is None:
            return False, False
        try:
            with open_unchanged(*place, job.identity) as file:
                return True, identify(file, os.fstat(file.fileno()).st_size).is_audio
        except (RecordingVanishedError, StorageError):
            return False, False


def _transcripts(job: Job, journal: Journal) -> Mapping[str, str]:
    """Its documents in outbox/: path → SHA-256."""
    if job.state not in (State.DELIVERED, State.DONE):
        return {}
    return journal.finished.outputs(job.id)


def _moment(entry: HistoryEntry, related: frozenset[str]) -> Moment:
    detail: dict[str, Any] = {name: entry.detail[name] for name in _SHOWN if name in entry.detail}
    if (outputs := entry.detail.get("outputs")) is not None:
        detail["outputs"] = ", ".join(PurePosixPath(path).name for path in outputs)
    if (original := entry.detail.get("original_id")) in related:
        detail["same_as"] = original
    return Moment(entry.at, entry.state, {name: str(value) for name, value in detail.items()})


def _delivery(one: QueuedDelivery) -> Delivery:
    """Without what a command printed, which may be words."""
    receipt, fault = one.receipt, one.fault
    return Delivery(
        target=one.target,
        state=str(one.state),
        at=one.queued_at if receipt is None else datetime.fromisoformat(receipt.at),
        receipt="" if receipt is None else receipt.text,
        fault=None if fault is None else fault.reason,
        attempts=one.attempts,
    )


def _mime_type(name: str) -> str:
    types: Mapping[str, str] = {f".{name}": mime_type for name, mime_type in MEDIA_TYPES.items()}
    return types.get(PurePosixPath(name).suffix, "application/octet-stream")
