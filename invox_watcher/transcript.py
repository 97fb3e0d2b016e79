"""A transcript as the daemon keeps it, whatever reply it was read from: `Transcript` and its `Segment`s."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Segment:
    """Consecutive words of one speaker; `start` and `end` are seconds, 0 ≤ start ≤ end.

    `speaker` is the normalised label (`Speaker_00`), None if the API did not distinguish speakers.
    """

    text: str
    start: float
    end: float
    speaker: str | None = None


@dataclass(frozen=True)
class Transcript:
    """All segments of one recording, in the API's order; empty for a recording without speech."""

    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The full text: a space between segments, a line break at each change of speaker."""
        parts = [segment.text for segment in self.segments[:1]]
        for earlier, later in pairwise(self.segments):
            parts += [" " if earlier.speaker == later.speaker else "\n", later.text]
        return "".join(parts)
