"""What the inbox, or a second look, has found out about a file, as fields of its job."""

from __future__ import annotations

from typing import Any

from invox_watcher.errors import Reason
from invox_watcher.inbox import Candidate
from invox_watcher.job import Failure, State
from invox_watcher.recording import Remedy

_UNRELIABLE = Reason(
    "unreliable_header",
    "Its header can't be relied on.",
    "Open it in an audio editor, save it as WAV, and copy that to the inbox.",
)


def facts_of(candidate: Candidate) -> dict[str, Any]:
    """The fields: which file it is, what is in it, and why it can't be transcribed as it is."""
    refused = candidate.refusal or (_UNRELIABLE if candidate.remedy is Remedy.REPAIR else None)
    failure = (
        Failure(State.CLAIMED, refused, retry_can_help=False, remedy=candidate.remedy) if refused else None
    )
    return {
        "identity": candidate.identity,
        "format": candidate.format,
        "mime_type": candidate.mime_type,
        "duration_seconds": candidate.duration_seconds,
        "refusal": failure,
    }
