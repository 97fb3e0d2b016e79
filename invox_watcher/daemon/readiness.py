"""Could a recording go through now, and if not, why and since when? As /readyz, /status, /metrics report it.

The gates, in order: a stalled thread; the API (it does not answer, or refuses our calls); a disk that refuses
a recording; a claim that was refused; a journal that does not answer; an unavailable folder; the inbox. The
same is in the state directory, for commands that can't ask the daemon, and for the next process.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invox_watcher import version
from invox_watcher.assembly import Parts
from invox_watcher.delivery import TargetHealth
from invox_watcher.errors import ExitStatus, InvoxError, Reason
from invox_watcher.files import object_from, read_readiness, write_readiness
from invox_watcher.logs import hashed_name
from invox_watcher.onsets import Onsets, Problem
from invox_watcher.processing import Gate
from invox_watcher.times import rfc3339, utc_now

if TYPE_CHECKING:
    from invox_watcher.daemon.page import PageProcess
    from invox_watcher.web import IntakeSnapshot

_WRITE_AGAIN_SECONDS = 10.0  # after the state directory refused it
_OLDEST_SECONDS = 0.5  # for a thousand files that are held


class Readiness:
    """Asks the gates of one daemon. Every call is quick, and may come from any thread."""

    def __init__(
        self,
        parts: Parts,
        configuration: Path,
        *,
        refused: Callable[[], Problem | None] = lambda: None,
        page: Callable[[], PageProcess | None] = lambda: None,
    ) -> None:
        """`configuration` is the file that `parts` were built from.

        `refused` says why the daemon does not use what that file contains by now; `page` gives the
        page's process, if there is to be one.
        """
        self._parts = parts
        self._configuration = configuration
        self._refused, self._page = refused, page
        self._gates: Mapping[str, Gate] = {
            "parts": parts.stall_detector,
            "api": parts.engine.api_gate,
            "storage": parts.engine.storage_gate,
            "templates": parts.engine.template_gate,
            "claims": parts.intake,
            "journal": parts.journal_monitor,
            "folders": parts.folder_monitor,
            "inbox": parts.inbox,
        }
        self._onsets = Onsets(_noted(parts.state))
        self._asking = threading.Lock()  # an answer of before a gate closed must not count after that
        self._written: tuple[Mapping[str, datetime], list[Problem], list[Problem]] | None = None
        self._write_at = 0.0
        self._oldest: tuple[float, datetime | None] = (0.0, None)  # until when it is good enough

    def problems(self) -> list[Problem]:
        """What keeps a recording from going through right now, one for each code; empty if nothing does."""
        with self._asking:
            asked = ((name, gate.closed()) for name, gate in self._gates.items())
            closed = {name: reason for name, reason in asked if reason is not None}
            proven = ("api",) if self._parts.engine.api_has_answered else ()
            return self._onsets.update(closed, proven=proven)

    def warnings(self) -> list[Problem]:
        """What needs a person although recordings go through."""
        page = self._page()
        found = (self._refused(), None if page is None else page.problem())
        return [one for one in found if one is not None]

    @property
    def since(self) -> datetime:
        """Since when there has been a problem without a break; or, if there is none, since when not."""
        return self._onsets.changed

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
        from invox_watcher.web import IntakeSnapshot  # noqa: PLC0415 - loaded if there are metrics

        parts, page = self._parts, self._page()
        return IntakeSnapshot(
            [problem.reason.code for problem in self.problems()],
            api_is_unavailable=self.api_is_unavailable,
            paused=parts.intake.paused,
            inbox=parts.inbox.status,
            targets=self.targets,
            held=parts.engine.held,
            page_is_up=None if page is None else page.problem() is None,
        )

    @property
    def targets(self) -> dict[str, TargetHealth]:
        """Whether each target takes deliveries; one that does not keeps no recording from going through."""
        return {one.name: one.health for one in self._parts.dispatchers}

    # ---- for the commands --------------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """What `status` shows, as JSON: no name of a recording is in it."""
        inbox = self._parts.inbox.status
        oldest = self._oldest_since()
        counts = {
            "settling": inbox.settling,
            "unfinished": inbox.unfinished,
            "held": inbox.refused_now,
            "error": inbox.troubled,
        }
        return self._as_json(self.problems()) | {
            "inbox": counts
            | {"available": inbox.available, "oldest_since": None if oldest is None else rfc3339(oldest)},
            "targets": {name: _target_as_json(health) for name, health in self.targets.items()},
        }

    def _oldest_since(self) -> datetime | None:
        """When the oldest file in the inbox came; of a large inbox, not found out at each question."""
        now, (due, oldest) = time.monotonic(), self._oldest
        if now >= due:
            oldest = min((file.since for file in self._parts.inbox.waiting()), default=None)
            self._oldest = (now + _OLDEST_SECONDS * self._parts.inbox.status.refused_now / 1000, oldest)
        return oldest

    def waiting(self) -> list[dict[str, Any]]:
        """What the inbox knows of each file in it, with equal reasons together; names are hashed."""
        groups: dict[tuple[str, Reason], dict[str, str]] = {}
        for file in self._parts.inbox.waiting():
            group = groups.setdefault((file.stage, file.reason), {})
            group[hashed_name(file.path)] = rfc3339(file.since)
        return [
            {"stage": stage, "code": why.code, "reason": why.message, "hint": why.hint, "files": files}
            for (stage, why), files in groups.items()
        ]

    def save(self) -> None:
        """Write it into the state directory, if it has changed; for one thread."""
        problems = self.problems()
        now = self._onsets.known, problems, self.warnings()
        if now == self._written or time.monotonic() < self._write_at:
            return
        since = {gate: rfc3339(moment) for gate, moment in now[0].items()}
        content = json.dumps(self._as_json(problems) | {"closed_since": since}, indent=2)
        try:
            write_readiness(self._parts.state, content.encode() + b"\n")
        except (OSError, InvoxError):  # a full disk, perhaps, which is then the problem
            self._write_at = time.monotonic() + _WRITE_AGAIN_SECONDS
        else:
            self._written = now

    def _as_json(self, problems: list[Problem]) -> dict[str, Any]:
        address = self._parts.address
        return {
            "pid": os.getpid(),
            "version": version(),
            "configuration": str(self._configuration),
            "address": None if address is None else list(address),
            "ready": not problems,
            "since": rfc3339(self.since),
            "problems": [_problem_as_json(one) for one in problems],
            "warnings": [_problem_as_json(one) for one in self.warnings()],
        }


def _problem_as_json(problem: Problem) -> dict[str, Any]:
    return {"gate": problem.gate, **vars(problem.reason), "since": rfc3339(problem.since)}


def _target_as_json(health: TargetHealth) -> dict[str, Any] | None:
    """Why it takes no deliveries; None if it does."""
    reason, since = health.unavailable, health.since
    if reason is None or since is None:
        return None
    known = {"code": reason.code, "message": reason.message, "hint": reason.hint}
    return known | {"since": rfc3339(since), "failed_attempts": health.failed_attempts}


def _noted(directory: Path) -> dict[str, datetime]:
    """Since when each gate was closed in the process before."""
    noted: dict[str, datetime] = {}
    with suppress(OSError, ValueError, TypeError, AttributeError):
        for gate, since in object_from(read_readiness(directory)).get("closed_since", {}).items():
            noted[gate] = min(datetime.fromisoformat(since), utc_now())
    return noted
