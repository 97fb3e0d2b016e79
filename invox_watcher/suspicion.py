"""`Suspicion`: why a transcript may not be what was said, and where in the recording."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Doubt(StrEnum):
    """What is odd about a transcript. The values are in the transcript's JSON, the log and the metrics."""

    UNTRANSCRIBED_SPEECH = "untranscribed_speech"  # people speak where no segment is
    TOO_FEW_WORDS = "too_few_words"  # for the speech that the segment covers
    TOO_MANY_WORDS = "too_many_words"  # more than can be said in the recording's length
    BEYOND_END = "beyond_end"  # segments where the recording has ended


@dataclass(frozen=True)
class Suspicion:
    """One reason to listen to the recording, from `start` to `end`, in seconds."""

    reason: Doubt
    start: float
    end: float
