"""Other instances of the daemon: on folders that are already in use, and beside them."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from invox_watcher.files import MARK_FILE
from invox_watcher.job import State
from invox_watcher.sandbox.server import Sandbox
from tests.faults.audit import Audit
from tests.faults.daemons import Daemons, Fate
from tests.faults.person import How, Person
from tests.kit.clinic import Clinic

OVERLAPS = [
    "the same root",
    "inside its inbox",
    "around it",
    "its inbox",
    "its done",
    "its failed",
    "its outbox",
]
_QUICK: dict[str, dict[str, Any]] = {
    "watch": {"settle_seconds": 0.05, "rescan_seconds": 0.3, "patience_seconds": 0.3},
    "polling": {"first_seconds": 0.03, "max_seconds": 0.2, "unknown_seconds": 0.5},
    "retry": {"base_seconds": 0.01, "max_seconds": 0.1, "max_attempts": 4},
}


def is_marked(clinic: Clinic) -> bool:
    """Whether the clinic's daemon has run, so that its folders are known to be in use."""
    folders = (clinic.inbox, clinic.outbox, clinic.done, clinic.failed, clinic.processing)
    return all((folder / MARK_FILE).exists() for folder in folders)


def overlapping(clinic: Clinic, root: Path, where: str) -> Clinic:
    """A configuration with a state directory of its own, and folders that overlap those of `clinic`."""
    folders = {"root": str(root)}
    match where.split():
        case ["the", "same", "root"]:
            folders = {"root": str(clinic.root)}
        case ["inside", *_]:
            folders = {"root": str(clinic.inbox / "second")}
        case ["around", *_]:
            folders["inbox"] = str(clinic.root)
        case [_, folder]:
            folders[folder] = str(getattr(clinic, folder))
    return Clinic(root, "http://127.0.0.1:9", folders=folders)


class Neighbour:
    """An instance on folders of its own, which uses the same account, with recordings of its own."""

    def __init__(self, root: Path, api: Sandbox, daemons: Daemons) -> None:
        self._clinic = Clinic(root, api.base_url, **_QUICK)
        for folder in ("outbox", "done", "failed", "processing"):
            (root / folder).mkdir(mode=0o700)
        self._person = Person(self._clinic)
        self._api = api
        self._daemons = daemons
        self._clock_was_wrong = False

    def owns(self, request: dict[str, Any]) -> bool:
        """Whether this request of the API was made by this instance."""
        return request["sha256"] in self._person.recordings

    def work(self, arrivals: list[tuple[str, bytes, How]], fate: Fate) -> None:
        """Recordings come, and `run --once` takes them."""
        for name, content, how in arrivals:
            self._person.drop(name, content, how)
        self._clock_was_wrong = self._clock_was_wrong or fate != Fate(fate.death)
        status = self._daemons.run(self._clinic, "run", "--once", fate=fate)
        killed = {-signal.SIGKILL} if fate.death else set()
        assert status in {0, 1, 69, 75, 77} | killed

    def audit(self, requests: list[dict[str, Any]], *, oddly: bool) -> Audit:
        """All that must be true at every moment; `requests` are those that it owns."""
        audit = Audit(self._clinic, self._person, oddly=oddly)
        audit.assert_nothing_lost()
        audit.assert_nothing_half_done()
        audit.assert_paid_once(requests, clock_was_wrong=self._clock_was_wrong)
        return audit

    def bring_to_rest(self, *, oddly: bool) -> None:
        """Everything gets done once the API is well."""
        for _attempt in range(5):
            jobs = Audit(self._clinic, self._person, oddly=oddly).jobs
            if failed := [job.id for job in jobs if job.state is State.FAILED]:
                self._daemons.run(self._clinic, "retry", *failed)
            self._daemons.run(self._clinic, "run", "--once")
            requests = [one for one in self._api.stats()["requests"] if self.owns(one)]
            audit = self.audit(requests, oddly=oddly)
            if audit.is_at_rest and not audit.failed_recordings:
                break
        audit.assert_all_done()
