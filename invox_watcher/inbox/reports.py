"""Log messages about files that are not processed: once for each file and cause."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from invox_watcher.errors import InvoxError
from invox_watcher.events import Event, log

HINT_UNREADABLE = (
    "Give the daemon's user read permission, for example with a group shared with the user who copies files."
)

_HINT_OCCUPIED = (
    "Nothing in it is taken. Configure other folders for that instance. If it no longer uses this one, delete"
    " the file .invox-watcher.mark in it."
)


class Reports:
    """Logs about files, once for each cause. `forget` and `keep` limit what is remembered."""

    def __init__(self) -> None:
        self._logged: dict[str, set[tuple[Event, str]]] = {}

    def skipped(self, path: str, kind: str) -> None:
        """Not a regular file."""
        if self._is_new(Event.INBOX_SKIPPED, path, kind):
            log.info(Event.INBOX_SKIPPED, recording=path, reason=kind)

    def unfinished(self, path: str, reason: str) -> None:
        """Unchanged, but empty or incomplete."""
        if self._is_new(Event.INBOX_UNFINISHED, path, reason):
            log.info(Event.INBOX_UNFINISHED, recording=path, reason=reason)

    def endless(self, path: str, reason: str) -> None:
        """Still growing, or still open for writing, after `patience_seconds`."""
        if self._is_new(Event.INBOX_UNFINISHED, path, reason):
            log.warning(Event.INBOX_UNFINISHED, recording=path, reason=reason)

    def unreadable(self, path: str, error: OSError) -> None:
        """A file or folder that can't be read."""
        cause = cause_of(error)
        if self._is_new(Event.INBOX_UNREADABLE, path, cause["code"]):
            log.warning(Event.INBOX_UNREADABLE, recording=path, **cause, hint=HINT_UNREADABLE)

    def occupied(self, path: str, user: str) -> None:
        """A folder inside the inbox that another instance uses."""
        if self._is_new(Event.INBOX_OCCUPIED, path, user):
            log.error(Event.INBOX_OCCUPIED, recording=path, reason=user, hint=_HINT_OCCUPIED)

    def not_taken(self, path: str, error: OSError | InvoxError) -> None:
        """A complete file that could not be claimed."""
        cause = cause_of(error)
        if self._is_new(Event.CLAIM_FAILED, path, cause["code"]):
            log.warning(Event.CLAIM_FAILED, recording=path, **cause)

    def forget(self, path: str) -> None:
        """The file was claimed, or no longer exists."""
        self._logged.pop(path, None)

    def keep(self, is_known: Callable[[str], bool]) -> None:
        """Forget all paths except those that are known."""
        self._logged = {path: logged for path, logged in self._logged.items() if is_known(path)}

    def _is_new(self, event: Event, path: str, cause: str) -> bool:
        logged = self._logged.setdefault(path, set())
        if (event, cause) in logged:
            return False
        logged.add((event, cause))
        return True


def cause_of(error: OSError | InvoxError) -> dict[str, str]:
    """The fields to log for an error, without an OSError's text, which may name the recording."""
    if isinstance(error, InvoxError):
        return {"code": error.code, "reason": error.message, "hint": error.hint}
    number = error.errno or 0
    return {"code": errno.errorcode.get(number, "unknown"), "reason": os.strerror(number)}
