"""Try again what failed, as an operator wants it: a recording from the inbox, or a delivery to a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from invox_watcher.assembly import ON_FAILED
from invox_watcher.delivery import SEND_AGAIN
from invox_watcher.errors import InvoxError
from invox_watcher.files import ERROR_SUFFIX, Folders, place_order
from invox_watcher.job import Job, State
from invox_watcher.times import utc_now


def move_back(job: Job, outputs: Mapping[str, str], folders: Folders) -> str:
    """Move the recording of a failed job from failed/ to the inbox; return its name there.

    `outputs` are the files that were written for it: path → SHA-256.

    Raises:
        RecordingVanishedError: it is no longer in failed/; the hint names its retry, if there is one.
        StorageError: it could not be moved; it is still in failed/.
    """
    filed_as = job.filed_as or job.path
    try:
        return folders.move_back(job.id, filed_as, outputs.get(filed_as + ERROR_SUFFIX))
    except InvoxError as error:
        if job.successor_id is not None:
            error.hint = f"It was retried as job {job.successor_id}."
        raise


def can_help(job: Job) -> bool:
    """Whether a retry may succeed without anything being fixed first."""
    return job.failure is None or job.failure.retry_can_help


def why_not_sendable(job: Job, target: str) -> str | None:
    """Why nothing of the job can be sent to the target, as a sentence; None if it can."""
    ended = (State.FAILED, State.VANISHED) if target == ON_FAILED else (State.DONE,)
    return None if job.state in ended else f"{job.id} is {job.state}, not {ended[0]}."


def order_again(directory: Path, job_ids: Sequence[str], target: str) -> None:
    """Ask the daemon on this state directory to send these jobs to a target once more.

    Raises:
        FolderError, NotPermittedError: the state directory can't be written.
    """
    order = {"do": SEND_AGAIN, "jobs": list(job_ids), "target": target, "at": utc_now().isoformat()}
    place_order(directory, order)
