"""`stop` and `status`: for any daemon on a state directory, however it was started."""

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


@dataclass(frozen=True)
class DaemonStanding:
    """The daemon on a state directory, None if none is running, and the journal's counts."""

    daemon: Holder | None
    jobs: Mapping[State, int]


def stop(directory: Path) -> Holder | None:
    """Stop the daemon on this state directory and wait until it has exited; None if none was running.

    Raises:
        InvoxError: it may not be stopped, can't be seen from here, or did not exit within half a minute.
    """
    lock = directory / LOCK_FILE
    holder = holder_of(lock)
    if holder is None:
        return None
    if holder.pid is None:
        raise InvoxError(
            f"A daemon is running on {directory}, but its process can't be seen from here.",
            code="out_of_sight",
            hint="It may run in a container, or be starting. Stop it there, or try again.",
        )
    try:
        process = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        return holder
    try:
        # Checked again, now that its process id can't be reused unnoticed.
        if holder_of(lock) == holder:
            signal.pidfd_send_signal(process, signal.SIGTERM)
        ended = select.select([process], [], [], _STOP_SECONDS)[0]
    except PermissionError:
        raise NotPermittedError(f"You may not stop the daemon{in_brackets(holder)}.") from None
    finally:
        os.close(process)
    if not ended:
        raise JournalError(
            f"The daemon{in_brackets(holder)} did not exit within {_STOP_SECONDS:g} s;"
            " it is still shutting down.",
            code="stopping",
            hint="Check again with `invox-watcher status`. If necessary, kill it: nothing is lost.",
        )
    return holder


def status(directory: Path) -> DaemonStanding:
    """Whether a daemon is running on this state directory, and what the journal counts.

    Raises:
        InvoxError: the state directory may not be read.
    """
    holder = holder_of(directory / LOCK_FILE)
    jobs: Mapping[State, int] = {}
    with suppress(JournalError):  # there is none yet, or it is locked for now
        jobs = Journal(directory, create=False).counts()
    return DaemonStanding(holder, jobs)


def in_brackets(holder: Holder) -> str:
    """` (pid 123)`, to follow "the daemon"; nothing if its process can't be seen from here."""
    return f" (pid {holder.pid})" if holder.pid is not None else ""
