"""Results as no page of the vendor's has them, and still with all their words: `OddResult` of `faults`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

Kind = Literal[
    "nan_times",
    "clock_times",
    "null_segment",
    "segment_without_text",
    "number_as_text",
    "null_transcription",
    "words_in_vtt_only",
    "no_state",
    "empty_state_beside",
    "one_level_down",
    "gzip",
]
Body = dict[str, Any]


def odd(kind: Kind, body: Body) -> Body:
    """The reply of a status call in that form; `gzip` only changes how it is sent."""
    return _FORMS[kind](body)


def has_result(body: Mapping[str, Any]) -> bool:
    """Whether a reply has words, and not just a state."""
    return bool(body.get("transcription"))


def _with_segments(body: Body, edit: Callable[[Body], Any]) -> Body:
    return body | {"transcription": [edit(segment) for segment in body["transcription"]]}


def _with_more(body: Body, segment: Any) -> Body:
    return body | {"transcription": [*body["transcription"], segment]}


def _clock(seconds: float) -> str:
    return f"00:{int(seconds // 60):02}:{seconds % 60:06.3f}"


def _without_state(body: Body) -> Body:
    return {name: value for name, value in body.items() if not name.lower().endswith("status")}


_FORMS: dict[Kind, Callable[[Body], Body]] = {
    "nan_times": lambda body: _with_segments(
        body, lambda segment: segment | {"start": math.nan, "end": math.inf}
    ),
    "clock_times": lambda body: _with_segments(
        body, lambda segment: segment | {"start": _clock(segment["start"]), "end": _clock(segment["end"])}
    ),
    "null_segment": lambda body: _with_more(body, None),
    "segment_without_text": lambda body: _with_more(body, {"start": 5.0, "end": 6.0}),
    "number_as_text": lambda body: _with_more(body, {"text": 7, "start": 5.0, "end": 6.0}),
    "null_transcription": lambda body: body | {"transcription": None},
    "words_in_vtt_only": lambda body: body | {"transcription": []},
    "no_state": _without_state,
    "empty_state_beside": lambda body: body | {"state": "", "transcriptionStatus": None},
    "one_level_down": lambda body: {"data": body},
    "gzip": lambda body: body,
}
