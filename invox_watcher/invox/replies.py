"""What the API answers about one transcription: pending, completed with words, or failed with a reason.

The vendor's pages contradict one another about names, types and states, so `parse_reply` reads all of them
by their meaning. A reply with words is never refused for an odd field beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from invox_watcher.errors import ApiUnavailableError
from invox_watcher.invox.segments import first_of, has_words, kind_of, one_line, segments_of
from invox_watcher.transcript import Transcript

_STATUS_KEYS = ("processingStatus", "transcriptionStatus", "status", "state")
_WORDS_KEYS = ("transcription", "segments", "transcript", "text")
_MESSAGE_KEYS = ("errorMessage", "message", "error")
_KNOWN_KEYS = frozenset({*_STATUS_KEYS, *_WORDS_KEYS, "vttTranscription", "errorMessage"})
_COMPLETED = frozenset({"completed", "complete", "success", "succeeded", "done", "finished"})
_FAILED = frozenset({"error", "failed", "failure", "rejected", "expired", "aborted", "cancelled", "canceled"})
_PENDING = frozenset(
    {"pending", "processing", "queued", "running", "started", "submitted", "created", "uploaded"}
    | {"transcribing", "in_progress", "in progress", "inprogress", "waiting"}
)
_LONGEST_MESSAGE = 500
_LONGEST_STATUS = 40


class ReplyStatus(StrEnum):
    """The three states of a transcription, whatever the API calls them."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"


@dataclass(frozen=True)
class TranscriptionReply:
    """One reply about one transcription. `transcript` is there exactly if the status is COMPLETED."""

    status: ReplyStatus
    transcript: Transcript | None
    error_message: str | None
    raw: Any  # what the API sent, unchanged
    unknown_status: str | None = None  # a state that is not documented, shortened; it counts as PENDING
    repairs: tuple[str, ...] = ()  # what was repaired or left out, without a word of it


PENDING = TranscriptionReply(ReplyStatus.PENDING, None, None, None)


def parse_reply(
    payload: object, *, duration_seconds: float | None = None, pushed: bool = False
) -> TranscriptionReply:
    """What a decoded JSON body says, from polling or, if `pushed`, from a webhook.

    `duration_seconds`, the recording's length, tells milliseconds from seconds. A body without state counts
    by what it has: words mean COMPLETED, an error message ERROR, neither PENDING. A webhook is only sent once
    there is a result, so its list of segments means COMPLETED even if it is empty.

    Raises:
        ApiUnavailableError: `api_protocol`, the body is neither an object nor a list.
    """
    levels = _levels(payload)
    body = {key: value for level in levels for key, value in level.items() if value not in (None, "", [])}
    vtt = body.get("vttTranscription")
    found = [body[key] for key in _WORDS_KEYS if body.get(key)]
    words = found[0] if found else None
    if len(found) > 1:
        words = next((value for value in found if has_words(value, None)), words)
    message = _message(body)
    repairs: list[str] = []
    segments = segments_of(words, vtt, duration_seconds, repairs)
    spoken = bool(segments)
    stated = [text for level in levels for key in _STATUS_KEYS if (text := _stated(level.get(key)))]
    status, unknown = _status(stated, spoken=spoken, failed=bool(_message(body, ("errorMessage",))))
    listed = [level["transcription"] for level in levels if level.get("transcription") is not None]
    has_list = any(isinstance(value, list) for value in listed)
    if pushed and not stated and has_list and status is ReplyStatus.PENDING:
        status = ReplyStatus.COMPLETED
    if status is not ReplyStatus.COMPLETED:
        return TranscriptionReply(status, None, message, payload, unknown)
    if not segments and not has_list:
        kind = kind_of(listed[0] if listed else None)
        repairs.append(f"the state is COMPLETED, but `transcription` is {kind}")
    return TranscriptionReply(status, Transcript(segments), message, payload, None, tuple(repairs))


def _levels(payload: object) -> list[Mapping[str, Any]]:
    """The object, and the one in it that has the fields if its own words are missing: `{"data": {…}}`.

    A wrapper may have a state of its own: `{"status": "success", "data": {…}}`, so the states of both count.
    """
    if isinstance(payload, list):
        return [{"transcription": payload}]
    if not isinstance(payload, Mapping):
        raise ApiUnavailableError(
            f"The API's reply is {kind_of(payload)}; an object was expected.",
            code="api_protocol",
            hint="Check api.status_path; `invox-watcher check --try FILE` shows the replies.",
        )
    own = (payload.get(key) for key in (*_WORDS_KEYS, "vttTranscription"))
    if any(value and not isinstance(value, Mapping) for value in own):
        return [payload]
    inner = [value for value in payload.values() if isinstance(value, Mapping)]
    return [payload, *(value for value in inner if not _KNOWN_KEYS.isdisjoint(value))][:2]


def _stated(value: object) -> str:
    """A state as it was sent, on one line; "" for none, as a boolean or the HTTP status once more."""
    if value is None or isinstance(value, bool | Mapping) or value in range(200, 300):
        return ""
    return one_line(str(value)) if isinstance(value, str | int | float) else kind_of(value)


def _status(stated: Sequence[str], *, spoken: bool, failed: bool) -> tuple[ReplyStatus, str | None]:
    """The state by its meaning, and the first one stated if none of them is known."""
    meanings = {_meaning(text) for text in stated}
    if ReplyStatus.ERROR in meanings:
        return ReplyStatus.ERROR, None
    if ReplyStatus.COMPLETED in meanings and (spoken or ReplyStatus.PENDING not in meanings):
        return (ReplyStatus.ERROR if failed and not spoken else ReplyStatus.COMPLETED), None
    if not stated:
        if spoken:
            return ReplyStatus.COMPLETED, None
        return (ReplyStatus.ERROR if failed else ReplyStatus.PENDING), None
    unknown = stated[0][:_LONGEST_STATUS] if meanings == {None} else None
    return ReplyStatus.PENDING, unknown


def _meaning(stated: str) -> ReplyStatus | None:
    text = stated.lower()
    if text in _COMPLETED:
        return ReplyStatus.COMPLETED
    if text in _FAILED:
        return ReplyStatus.ERROR
    return ReplyStatus.PENDING if text in _PENDING else None


def _message(body: Mapping[str, Any], keys: Sequence[str] = _MESSAGE_KEYS) -> str | None:
    value = first_of(body, keys)
    return (one_line(value)[:_LONGEST_MESSAGE] or None) if isinstance(value, str) else None
