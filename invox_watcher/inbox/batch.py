"""Complete files that were accepted, and are claimed together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from invox_watcher.errors import InvoxError
from invox_watcher.inbox.screening import Candidate
from invox_watcher.priority import Priority

# So many files are claimed together at most: the first of them waits until the last was judged.
_MOST_TOGETHER = 32
# To another file system they are copied, which takes longer the more bytes they have.
_MOST_BYTES_TOGETHER = 64 << 20


class Intake(Protocol):
    """What takes files out of the inbox."""

    def take(self, candidate: Candidate) -> bool:
        """Accept a file for the next `claim_taken`; False if there is no capacity."""

    def claim_taken(self) -> Mapping[str, OSError | InvoxError]:
        """Move what was accepted out of the inbox; return why others could not be moved, by their path."""


class Batch:
    """What an `Intake` has accepted, and not yet claimed."""

    def __init__(self) -> None:
        self._candidates: list[Candidate] = []
        self._size_bytes = 0
        self._most_urgent = Priority.ROUTINE

    def __bool__(self) -> bool:
        return bool(self._candidates)

    def add(self, candidate: Candidate, priority: Priority) -> None:
        """One more was accepted."""
        self._candidates.append(candidate)
        self._size_bytes += candidate.identity.size_bytes
        self._most_urgent = min(self._most_urgent, priority)

    @property
    def is_full(self) -> bool:
        """Whether no more should be claimed with these."""
        return len(self._candidates) >= _MOST_TOGETHER or self._size_bytes >= _MOST_BYTES_TOGETHER

    def may_wait_for(self, priority: Priority) -> bool:
        """Whether these may wait until one of that priority was judged: none is more urgent."""
        return self._most_urgent >= priority

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._candidates)
