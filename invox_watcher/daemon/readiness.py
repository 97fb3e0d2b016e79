"""Could a recording go through now, and if not, why? The one place where all gates are asked."""

from __future__ import annotations

from invox_watcher.assembly import Parts
from invox_watcher.errors import ExitStatus, Reason
from invox_watcher.processing import reasons
from invox_watcher.web import IntakeSnapshot


class Readiness:
    """Asks the gates of one daemon. Every call is quick, and may come from any thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        # Those that keep recordings under way, or the next claim, from going on.
        self._work = (parts.intake, *parts.engine_gates)
        self._gates = (
            parts.stall_detector, *self._work, parts.journal_monitor, parts.folder_monitor, parts.inbox,
        )  # fmt: skip

    def reasons(self) -> list[Reason]:
        """What keeps a recording from going through right now; empty if nothing does."""
        return reasons(self._gates)

    def problems(self) -> dict[str, str]:
        """The same as code → sentence."""
        return {reason.code: reason.message for reason in self.reasons()}

    @property
    def api_is_unavailable(self) -> bool:
        """Whether nothing is sent to the API for now, because it does not answer or refuses our calls."""
        return self._parts.engine.health.api is not None

    def verdict(self) -> ExitStatus | None:
        """The exit status of a run that ends because its work can't go on; None if it can."""
        if not reasons(self._work):
            return None
        fault = self._parts.engine.health.api
        return fault.exit_status if fault is not None else ExitStatus.TRY_LATER

    def snapshot(self) -> IntakeSnapshot:
        """The same as numbers for /metrics."""
        parts = self._parts
        return IntakeSnapshot(
            [reason.code for reason in self.reasons()],
            api_is_unavailable=self.api_is_unavailable,
            paused=parts.intake.paused,
            inbox=parts.inbox.status,
        )
