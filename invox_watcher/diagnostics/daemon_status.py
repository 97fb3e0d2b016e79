"""Asks the running daemon for its status: what keeps it from working, and when each job's next step is due.

Only its engine knows that, so it is asked over `http.listen` on this machine; it is stored nowhere.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invox_watcher.host import Holder, holder_of

_PATIENCE_SECONDS = 2.0
_MAX_BYTES = 1 << 20
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to connect to, not to listen on


@dataclass(frozen=True)
class DaemonStatus:
    """The status of the daemon on a state directory; `daemon` is None if none is running."""

    daemon: Holder | None
    problems: Mapping[str, str] | None = None  # code → sentence; None if it could not be asked
    due_seconds: Mapping[str, float] = field(default_factory=dict)  # by job id, without steps under way
    unreachable_because: str = ""  # why it could not be asked, as a clause

    @property
    def asked(self) -> bool:
        """Whether it answered."""
        return self.problems is not None


def query_daemon(lock: Path, address: tuple[str, int] | None) -> DaemonStatus:
    """Ask the daemon that holds `lock` and listens on `address` (host, port).

    Raises:
        NotPermittedError: the lock may not be read.
    """
    holder = holder_of(lock)
    if holder is None:
        return DaemonStatus(None)
    if address is None or address[1] == 0:
        return DaemonStatus(holder, unreachable_because="it has no address to ask (http.listen)")
    try:
        problems = _texts(_get(address, "/readyz")["problems"])
        due = {str(job_id): float(left) for job_id, left in _get(address, "/due")["due_seconds"].items()}
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError):
        return DaemonStatus(holder, unreachable_because="it does not answer on http.listen")
    return DaemonStatus(holder, problems, due)


def _get(address: tuple[str, int], path: str) -> Any:
    host, port = address
    connection = http.client.HTTPConnection(_EVERYWHERE.get(host, host), port, timeout=_PATIENCE_SECONDS)
    with closing(connection):
        connection.request("GET", path)
        return json.loads(connection.getresponse().read(_MAX_BYTES))


def _texts(found: Mapping[str, str]) -> dict[str, str]:
    return {str(code): str(sentence) for code, sentence in found.items()}
