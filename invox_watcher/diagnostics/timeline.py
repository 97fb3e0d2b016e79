"""The history of one recording, evaluated: how long each stage took, and where its files are now."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from invox_watcher.files import ERROR_SUFFIX, Folders
from invox_watcher.job import ACTIVE, FINAL, Job, State
from invox_watcher.journal import HistoryEntry


@dataclass(frozen=True)
class StageDurations:
    """Seconds; None for a stage that has not ended, or that was skipped."""

    settle: float | None  # from when it was first seen in the inbox until it was claimed
    upload: float | None  # the last upload, from its request id to storage's answer
    transcription: float | None  # from then until the result was polled
    total: float | None  # from the claim to its end


@dataclass(frozen=True)
class FileLocation:
    """A file of the recording: where it should be, and whether it is there."""

    what: str  # recording, transcript, error
    path: Path
    present: bool


def durations(job: Job, history: Sequence[HistoryEntry]) -> StageDurations:
    """How long the stages of this job took."""
    settle = next((moment.detail.get("waited_seconds") for moment in history), None)
    upload = None
    sent_at = next((moment.at for moment in history[::-1] if moment.state is State.WAITING), None)
    if sent_at is not None:
        began = (moment.at for moment in history[::-1] if moment.state is State.UPLOADING)
        upload = _between(next((at for at in began if at <= sent_at), None), sent_at)
    total = _between(job.received_at, job.updated_at) if job.state in FINAL else None
    return StageDurations(settle, upload, job.transcription_seconds, total)


def upload_began(history: Sequence[HistoryEntry]) -> datetime | None:
    """When the upload that is under way began; None if none is."""
    latest = history[-1] if history else None
    return latest.at if latest is not None and latest.state is State.UPLOADING else None


def whereabouts(job: Job, outputs: Iterable[str], folders: Folders) -> list[FileLocation]:
    """Where the recording is, and its `outputs`, which are paths: its transcripts, or its error file."""
    found = []
    if (place := place_of(job, folders)) is not None:
        found.append(("recording", place[0] / place[1]))
    if job.state is State.FAILED:
        found.append(("error", folders.failed / ((job.filed_as or job.path) + ERROR_SUFFIX)))
    if job.state is not State.FAILED:
        found += [("transcript", folders.outbox / path) for path in outputs]
    return [FileLocation(what, path, os.path.lexists(path)) for what, path in found]


def place_of(job: Job, folders: Folders) -> tuple[Path, str] | None:
    """A folder, and the path in it, at which the recording should be; None if it vanished."""
    if job.state in ACTIVE:
        return folders.processing / job.id, job.path
    root = {State.DONE: folders.done, State.FAILED: folders.failed}.get(job.state)
    return None if root is None else (root, job.filed_as or job.path)


def _between(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else max((end - start).total_seconds(), 0.0)
