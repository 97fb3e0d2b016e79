"""What is in the inbox and was not taken: each file's stage, why, and since when."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from invox_watcher.errors import InvoxError, Reason
from invox_watcher.inbox.reports import HINT_UNREADABLE, cause_of
from invox_watcher.inbox.screening import Judgement, Outcome
from invox_watcher.inbox.stability import Stage, Tracker, Waits
from invox_watcher.times import utc_now


@dataclass(frozen=True)
class WaitingFile:
    """A file, or a folder that can't be read; `since` is when it came, as far as that is known."""

    path: str  # relative to the inbox, POSIX; bytes that are not UTF-8 as surrogate escapes
    stage: str  # settling, unfinished, held, error
    reason: Reason
    since: datetime


_NOT_CHECKED = Reason("new", "It was not checked yet.", "")
_HELD = Reason(
    "held",
    "It is complete; no recording is taken now.",
    "It is taken once there is capacity, and `invox-watcher status` shows no problem.",
)
OPEN = Reason(
    "open",
    "A program has it open for writing.",
    "It is taken once that program closes it. `invox-watcher explain` names the program.",
)
_UNREADABLE_FOLDER = Reason("unreadable", "The folder can't be read.", HINT_UNREADABLE)


def reason_of(judgement: Judgement, waits: Waits) -> Reason:
    """Why a file with this judgement, which is not ready, is not taken."""
    if judgement.outcome is Outcome.OPEN:
        return OPEN
    if judgement.outcome is Outcome.SETTLING and not judgement.reason:
        return Reason("settling", f"It must be unchanged for {judgement.wait_seconds:g} s first.", "")
    after = f"After {waits.patience_seconds:g} s without a change (watch.patience_seconds)"
    if judgement.reason == "empty":
        return Reason("empty", "It is empty.", f"Copy it again. {after} it is moved to failed/.")
    return Reason(
        "incomplete",
        f"It is {judgement.reason}.",
        f"If nothing copies it any more, copy it again. {after} it is taken as it is, or moved to failed/; "
        "`invox-watcher explain` says which.",
    )


def endless(waits: Waits) -> Reason:
    """Why a file that never stops changing is not taken."""
    return Reason(
        "changing",
        f"It is still changing after more than {waits.patience_seconds:g} s.",
        "Find out which program writes to it: `invox-watcher explain` names it.",
    )


def error_reason(error: OSError | InvoxError) -> Reason:
    """Why a file could not be opened or claimed, without its name."""
    cause = cause_of(error)
    if isinstance(error, PermissionError):
        return Reason(cause["code"], f"{os.strerror(error.errno or 0)}.", HINT_UNREADABLE)
    return Reason(cause["code"], cause["reason"], cause.get("hint", "It is tried again at each rescan."))


def waiting_files(tracker: Tracker, unreadable: Mapping[str, float], clock: float) -> Iterator[WaitingFile]:
    """Every file that `tracker` knows, and the folders that are `unreadable` since then.

    `clock` is now, by the clock that both use. A file that came before the start says so by its own time.
    """
    now = utc_now()
    for path, stage, reason, known, looks in tracker.listed():
        since = now - timedelta(seconds=max(clock - known, 0.0))
        if looks is not None:
            since = min(since, datetime.fromtimestamp(looks.ctime_ns / 1e9, UTC))
        usual = _HELD if stage is Stage.HELD else _NOT_CHECKED
        yield WaitingFile(path, stage.value, reason or usual, since)
    for folder, known in dict(unreadable).items():
        since = now - timedelta(seconds=max(clock - known, 0.0))
        yield WaitingFile(folder, Stage.ERROR.value, _UNREADABLE_FOLDER, since)
