"""`start`, `stop` and `status` for hosts without systemd: a process that detaches itself, by python-daemon.

What is wrong before the daemon is ready, `start` says as if it had been run in the foreground. `stop` and
`status` are for any daemon on the state directory, whoever started it.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from invox_watcher.errors import InvoxError, JournalError, NotPermittedError
from invox_watcher.files import LOCK_FILE
from invox_watcher.host import Holder, holder_of
from invox_watcher.job import State
from invox_watcher.journal import Journal

_STOP_SECONDS = 30.0
# A terminal that the daemon no longer has; python-daemon would also take SIGTERM, which is `Process`'s.
_IGNORED: Mapping[int, None] = dict.fromkeys((signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU))


@dataclass(frozen=True)
class DaemonStanding:
    """What there is on a state directory: the daemon, None if there is none, and the journal's counts."""

    daemon: Holder | None
    jobs: Mapping[State, int]


# ---- stop, status ------------------------------------------------------------------------------------------


def stop(directory: Path) -> Holder | None:
    """Stop the daemon on this state directory, wait until it is gone: which it was, None if there was none.

    Raises:
        InvoxError: it may not be stopped, can't be seen from here, or has not ended after half a minute.
    """
    lock = directory / LOCK_FILE
    holder = holder_of(lock)
    if holder is None:
        return None
    if holder.pid is None:
        raise InvoxError(
            f"A daemon is running on {directory}, but its process can't be seen from here.",
            code="out_of_sight",
            hint="Is it in a container, or just starting? Stop it there, or try again.",
        )
    try:
        process = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        return holder
    try:
        # Asked again now that its id can't be given to another process unnoticed.
        if holder_of(lock) == holder:
            signal.pidfd_send_signal(process, signal.SIGTERM)
        ended = select.select([process], [], [], _STOP_SECONDS)[0]
    except PermissionError:
        raise NotPermittedError(f"The daemon{_pid(holder)} is not yours to stop.") from None
    finally:
        os.close(process)
    if not ended:
        raise JournalError(
            f"The daemon{_pid(holder)} has not ended after {_STOP_SECONDS:g} s; it goes on stopping.",
            code="stopping",
            hint="Ask again with `invox-watcher status`. If need be, kill it: nothing is lost by that.",
        )
    return holder


def status(directory: Path) -> DaemonStanding:
    """Whether a daemon is running on this state directory, and what is in the journal.

    Raises:
        InvoxError: the state directory may not be read.
    """
    holder = holder_of(directory / LOCK_FILE)
    jobs: Mapping[State, int] = {}
    with suppress(JournalError):  # it has not run yet, or just now holds the journal for long
        jobs = Journal(directory, create=False).counts()
    return DaemonStanding(holder, jobs)


def _pid(holder: Holder) -> str:
    return f" (pid {holder.pid})" if holder.pid is not None else ""
