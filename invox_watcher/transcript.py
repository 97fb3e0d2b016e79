"""What the API heard: `Transcript` and its `Segment`s, read from every shape of reply that is known.

The vendor's pages contradict themselves about names and types, so `read_reply` accepts all of them. Words are
worth more than times: a time that makes no sense is repaired, a word is never dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Segment:
    """Words that one speaker said in one go; `start` and `end` are seconds, 0 ≤ start ≤ end.

    `speaker` is the normalised label (`Speaker_00`), None where the API did not tell speakers apart.
    """

    text: str
    start: float
    end: float
    speaker: str | None = None


@dataclass(frozen=True)
class Transcript:
    """All segments of one recording, in the API's order; none of them for a recording without speech."""

    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """All words: a space between segments, a new line where the speaker changes."""
        parts = [segment.text for segment in self.segments[:1]]
        for earlier, later in pairwise(self.segments):
            parts += [" " if earlier.speaker == later.speaker else "\n", later.text]
        return "".join(parts)
