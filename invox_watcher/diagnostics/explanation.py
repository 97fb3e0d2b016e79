"""How a file would be handled: every decision about it, and the result of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Verdict(StrEnum):
    """What would happen to the file, best first."""

    TAKEN = "taken"  # processed and transcribed
    UNDER_WAY = "under_way"  # it was taken, and is being processed
    LATER = "later"  # not yet
    FAILED = "failed"  # moved to failed/
    LEFT = "left"  # ignored


_SUMMARIES = {
    Verdict.TAKEN: "The file would be processed.",
    Verdict.UNDER_WAY: "The recording is being processed.",
    Verdict.LATER: "The file would not be processed yet.",
    Verdict.FAILED: "The file would be moved to failed/.",
    Verdict.LEFT: "The file would be ignored.",
}


@dataclass(frozen=True)
class Step:
    """One decision: `verdict` is what would happen to the file because of this one alone.

    `note`: worth knowing, whatever the verdict. `code`: why, for scripts, if there is more than one reason.
    """

    about: str
    verdict: Verdict
    says: str
    hint: str = ""
    note: bool = False
    code: str = ""


@dataclass(frozen=True)
class Explanation:
    """Every decision about a file, and the result of all of them."""

    file: Path
    steps: tuple[Step, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of all steps."""
        return max((step.verdict for step in self.steps), key=list(Verdict).index)

    @property
    def is_fine(self) -> bool:
        """Whether the file is, or would be, processed."""
        return self.verdict in (Verdict.TAKEN, Verdict.UNDER_WAY)

    @property
    def decisive(self) -> Step:
        """The first step with the verdict of all."""
        return next(step for step in self.steps if step.verdict is self.verdict)

    @property
    def summary(self) -> str:
        """The verdict in a sentence."""
        if self.verdict is Verdict.TAKEN and any(step.note and step.about == "daemon" for step in self.steps):
            return "The file would be processed, but see above."
        return _SUMMARIES[self.verdict]
