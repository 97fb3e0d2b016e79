"""Could a recording go through now, and if not, why? What /readyz, /metrics and the status line report.

The gates, in order: a stalled thread; the API (it does not answer, or refuses our calls); a disk that refuses
a recording; a claim that was refused; a journal that does not answer; an unavailable folder; the inbox.
"""

from __future__ import annotations

from collections.abc import Sequence

from invox_watcher.assembly import Parts
from invox_watcher.errors import ExitStatus, Reason
from invox_watcher.processing import Gate, reasons
from invox_watcher.web import IntakeSnapshot


class Readiness:
    """Asks the gates of one daemon. Every call is quick, and may come from any thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._gates: Sequence[Gate] = (
            parts.stall_detector,
            *parts.engine.gates,
            parts.intake,
            parts.journal_monitor,
            parts.folder_monitor,
            parts.inbox,
        )

    def reasons(self) -> list[Reason]:
        """What keeps a recording from going through right now; empty if nothing does."""
        return reasons(self._gates)

    def problems(self) -> dict[str, str]:
        """`reasons` as a mapping: code → sentence."""
        return {reason.code: reason.message for reason in self.reasons()}

    @property
    def api_is_unavailable(self) -> bool:
        """Whether the API refuses our calls or does not answer, so that only probes are sent for now."""
        return self._parts.engine.api_is_unavailable

    def verdict(self) -> ExitStatus | None:
        """The exit status of a run that ends because it can't continue; None if it can."""
        if (fault := self._parts.engine.blocking_fault) is not None:
            return fault.exit_status
        return ExitStatus.TRY_LATER if self._parts.intake.closed() is not None else None

    def snapshot(self) -> IntakeSnapshot:
        """What /metrics shows of it."""
        parts = self._parts
        return IntakeSnapshot(
            [reason.code for reason in self.reasons()],
            api_is_unavailable=self.api_is_unavailable,
            paused=parts.intake.paused,
            inbox=parts.inbox.status,
            held=parts.engine.held,
        )
