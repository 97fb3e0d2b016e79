"""`stop`: for any daemon on a state directory, however it was started."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from invox_watcher.errors import InvoxError, JournalError, NotPermittedError
from invox_watcher.files import LOCK_FILE
from invox_watcher.host import Holder, holder_of

_STOP_SECONDS = 30.0


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


def in_brackets(holder: Holder) -> str:
    """` (pid 123)`, to follow "the daemon"; nothing if its process can't be seen from here."""
    return f" (pid {holder.pid})" if holder.pid is not None else ""
