"""Asks the running daemon for its status: is it ready, if not why and since when, and what is due when.

Only its engine knows that, so it is asked over the address that it listens on. Which that is, and whether it
is ready, is also in the state directory (`readiness.json`), for a daemon that does not listen.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from invox_watcher.errors import Reason
from invox_watcher.files import LOCK_FILE, object_from, read_readiness
from invox_watcher.host import Holder, holder_of
from invox_watcher.job import Fault
from invox_watcher.onsets import Problem

_PATIENCE_SECONDS = 2.0
_MAX_BYTES = 64 << 20  # an inbox with half a million files
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to connect to, not to listen on
_UNREADABLE = (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class InboxCounts:
    """How many files are in the inbox by stage, when the oldest came, and whether it can be read."""

    stages: Mapping[str, int]
    oldest_since: datetime | None
    available: bool


@dataclass(frozen=True)
class DaemonStatus:
    """The status of the daemon on a state directory; `daemon` is None if none is running.

    What is None is unknown, because it could not be asked: `unreachable_because` says why, as a clause.
    """

    daemon: Holder | None
    problems: Sequence[Problem] | None = None
    warnings: Sequence[Problem] = ()  # what needs a person although recordings go through
    since: datetime | None = None  # since when it is ready, or not ready
    due_seconds: Mapping[str, float] = field(default_factory=dict)  # by job id, without steps under way
    inbox: InboxCounts | None = None
    targets: Mapping[str, Fault | None] | None = None  # why one takes no deliveries; None: it does
    version: str | None = None
    configuration: str | None = None
    address: tuple[str, int] | None = None
    unreachable_because: str = ""

    @property
    def asked(self) -> bool:
        """Whether it answered."""
        return self.daemon is not None and not self.unreachable_because

    @property
    def is_ready(self) -> bool:
        """Whether a recording could go through now, as far as is known."""
        return self.problems is not None and not self.problems


@dataclass(frozen=True)
class KnownFile:
    """What the daemon knows of a file in the inbox."""

    stage: str
    reason: Reason
    since: datetime


def query_daemon(directory: Path) -> DaemonStatus:
    """Ask the daemon on the state directory `directory`.

    Raises:
        NotPermittedError: its lock may not be read.
    """
    holder = holder_of(directory / LOCK_FILE)
    if holder is None:
        return DaemonStatus(None)
    noted = _noted(directory, holder)
    if noted.address is None or noted.address[1] == 0:
        why = "it has no address to ask (http.listen)" if noted.version else "it is just starting"
        return replace(noted, unreachable_because=why)
    try:
        told = _parsed(holder, _get(noted.address, "/status"))
        due = _get(noted.address, "/due")["due_seconds"]
        return replace(told, due_seconds={str(job_id): float(left) for job_id, left in due.items()})
    except _UNREADABLE:
        return replace(noted, problems=None, unreachable_because="it does not answer on http.listen")


def query_inbox(status: DaemonStatus) -> dict[str, KnownFile] | None:
    """What the daemon knows of each file in the inbox, by its hashed name; None if it did not answer."""
    if not status.asked or status.address is None:
        return None
    try:
        return {
            name: KnownFile(
                group["stage"],
                Reason(group["code"], group["reason"], group["hint"]),
                datetime.fromisoformat(since),
            )
            for group in _get(status.address, "/inbox")["waiting"]
            for name, since in group["files"].items()
        }
    except _UNREADABLE:
        return None


def _noted(directory: Path, holder: Holder) -> DaemonStatus:
    """What the daemon has noted in the state directory; nothing if that is another one's."""
    try:
        found = object_from(read_readiness(directory))
        if holder.pid == found["pid"]:
            return _parsed(holder, found)
        if holder.pid is None:  # in another container, or just starting: then these notes are old
            return replace(_parsed(holder, found), problems=None, since=None)
    except _UNREADABLE:
        pass
    return DaemonStatus(holder)


def _parsed(holder: Holder, found: Mapping[str, Any]) -> DaemonStatus:
    inbox = None
    if "inbox" in found:
        counts = dict(found["inbox"])
        oldest, available = counts.pop("oldest_since"), bool(counts.pop("available"))
        inbox = InboxCounts(counts, datetime.fromisoformat(oldest) if oldest else None, available)
    address = found["address"]
    return DaemonStatus(
        holder,
        _problems(found["problems"]),
        _problems(found.get("warnings", ())),  # absent in what earlier versions say
        since=datetime.fromisoformat(found["since"]),
        inbox=inbox,
        targets=_targets(found["targets"]) if "targets" in found else None,
        version=str(found["version"]),
        configuration=str(found["configuration"]),
        address=None if address is None else (str(address[0]), int(address[1])),
    )


def _problems(found: Iterable[Mapping[str, Any]]) -> list[Problem]:
    return [
        Problem(
            one["gate"],
            Reason(one["code"], one["message"], one["hint"]),
            datetime.fromisoformat(one["since"]),
        )
        for one in found
    ]


def _targets(found: Mapping[str, Any]) -> dict[str, Fault | None]:
    return {
        str(name): None
        if why is None
        else Fault(Reason(why["code"], why["message"], why["hint"]), datetime.fromisoformat(why["since"]))
        for name, why in found.items()
    }


def _get(address: tuple[str, int], path: str) -> Any:
    host, port = address
    connection = http.client.HTTPConnection(_EVERYWHERE.get(host, host), port, timeout=_PATIENCE_SECONDS)
    with closing(connection):
        connection.request("GET", path)
        return json.loads(connection.getresponse().read(_MAX_BYTES))
