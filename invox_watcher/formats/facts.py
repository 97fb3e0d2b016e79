"""What a worker reports of a recording: `Facts`, as one JSON object. The daemon trusts none of it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

ATTRIBUTES = ("author", "device", "recorded_at", "comment", "title")
_LONGEST_TEXT = 200
_MOST_TAGS = 50
_MOST_SECONDS = 366 * 86400.0


class Outcome(StrEnum):
    """How a worker's run ended."""

    DECODED = "decoded"
    UNDECODABLE = "undecodable"  # there is no sound in it that could be decoded
    PASSWORD_NEEDED = "password_needed"  # noqa: S105 - an outcome
    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - an outcome
    TOO_LARGE = "too_large"  # decoded, it exceeds its limit
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    IO_ERROR = "io_error"  # the recording can't be read, or the output not written
    NOT_LOCKED = "not_locked"  # nothing was decoded


@dataclass(frozen=True)
class Facts:
    """What was decoded. Lengths are seconds; all zero unless the outcome is `decoded`."""

    outcome: Outcome
    codec: str = ""
    seconds: float = 0.0  # the sound's length
    rate: int = 0  # samples per second
    channels: int = 0
    clipped: float = 0.0  # share of the samples that are as loud as can be, 0 to 1
    declared_seconds: float | None = None  # by a header that can be relied on
    recorder_seconds: float | None = None  # by a dictation device's header
    errors: int = 0  # packets that could not be decoded
    ends_in_error: bool = False  # the last one was among them
    attributes: Mapping[str, str] = field(default_factory=dict)  # those of ATTRIBUTES that it has
    tags: Mapping[str, str] = field(default_factory=dict)  # as in the file


def to_json(facts: Facts) -> bytes:
    """What the worker prints; on a line of its own, whatever was printed before."""
    return b"\n" + json.dumps(dataclasses.asdict(facts)).encode()


def from_json(data: bytes) -> Facts | None:
    """What a worker printed; None if it is not of that form, with all values within their bounds."""
    try:
        raw = json.loads(data.rpartition(b"\n")[2])
        return _facts(raw) if isinstance(raw, dict) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _facts(raw: Mapping[str, Any]) -> Facts:
    return Facts(
        outcome=Outcome(raw["outcome"]),
        codec=text(raw["codec"]),
        seconds=_number(raw["seconds"], _MOST_SECONDS),
        rate=int(_number(raw["rate"], 10_000_000)),
        channels=int(_number(raw["channels"], 1000)),
        clipped=_number(raw["clipped"], 1.0),
        declared_seconds=_optional(raw["declared_seconds"]),
        recorder_seconds=_optional(raw["recorder_seconds"]),
        errors=int(_number(raw["errors"], 1e12)),
        ends_in_error=raw["ends_in_error"] is True,
        attributes=_texts({name: raw["attributes"].get(name, "") for name in ATTRIBUTES}),
        tags=_texts(raw["tags"]),
    )


def text(value: Any) -> str:
    """A value as one printable line of limited length."""
    line = "".join(c if c.isprintable() else " " for c in str(value)[: 4 * _LONGEST_TEXT])
    return " ".join(line.split())[:_LONGEST_TEXT]


def _texts(raw: Mapping[Any, Any]) -> Mapping[str, str]:
    found = {text(name): text(value) for name, value in list(raw.items())[:_MOST_TAGS]}
    return MappingProxyType({name: value for name, value in found.items() if name and value})


def _number(value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError
    return value


def _optional(value: Any) -> float | None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return _number(value, _MOST_SECONDS)
