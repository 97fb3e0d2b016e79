"""What the log says about files that are not taken: once for each file and cause."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection

from invox_watcher.errors import InvoxError
from invox_watcher.events import Event, log

_HINT_UNREADABLE = (
    "Let the daemon's user read it, for example through a group shared with those who put it there."
)


class Reports:
    """Logs about files, each thing once. `forget` and `keep` bound what is remembered."""

    def __init__(self) -> None:
        self._said: dict[str, set[tuple[Event, str]]] = {}

    def skipped(self, path: str, kind: str) -> None:
        """A name that is not that of a regular file."""
        if self._is_new(Event.INBOX_SKIPPED, path, kind):
            log.info(Event.INBOX_SKIPPED, recording=path, reason=kind)

    def unfinished(self, path: str, reason: str) -> None:
        """Quiet, but empty or not whole."""
        if self._is_new(Event.INBOX_UNFINISHED, path, reason):
            log.info(Event.INBOX_UNFINISHED, recording=path, reason=reason)

    def endless(self, path: str, reason: str) -> None:
        """Growing, or held open, beyond all patience."""
        if self._is_new(Event.INBOX_UNFINISHED, path, reason):
            log.warning(Event.INBOX_UNFINISHED, recording=path, reason=reason)

    def unreadable(self, path: str, error: OSError) -> None:
        """A file or folder that can't be read."""
        cause = cause_of(error)
        if self._is_new(Event.INBOX_UNREADABLE, path, cause["code"]):
            log.warning(Event.INBOX_UNREADABLE, recording=path, **cause, hint=_HINT_UNREADABLE)

    def not_taken(self, path: str, error: OSError | InvoxError) -> None:
        """A complete file that could not be taken."""
        cause = cause_of(error)
        if self._is_new(Event.CLAIM_FAILED, path, cause["code"]):
            log.warning(Event.CLAIM_FAILED, recording=path, **cause)

    def forget(self, path: str) -> None:
        """The file was taken, or is gone."""
        self._said.pop(path, None)

    def keep(self, paths: Collection[str]) -> None:
        """Forget all but `paths`."""
        self._said = {path: said for path, said in self._said.items() if path in paths}

    def _is_new(self, event: Event, path: str, cause: str) -> bool:
        said = self._said.setdefault(path, set())
        if (event, cause) in said:
            return False
        said.add((event, cause))
        return True


def cause_of(error: OSError | InvoxError) -> dict[str, str]:
    """The fields to log for an error. An OSError's text may name the recording; ours names folders only."""
    if isinstance(error, InvoxError):
        return {"code": error.code, "reason": error.message, "hint": error.hint}
    number = error.errno or 0
    return {"code": errno.errorcode.get(number, "unknown"), "reason": os.strerror(number)}
