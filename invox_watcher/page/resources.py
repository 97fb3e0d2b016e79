"""What all answers of the page are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass

from invox_watcher.diagnostics.daemon_status import DaemonStatus
from invox_watcher.diagnostics.holds import Holds
from invox_watcher.diagnostics.inbox_list import Entry
from invox_watcher.files import Folders
from invox_watcher.journal import Journal
from invox_watcher.page.model import Sight
from invox_watcher.page.reader import JournalReader
from invox_watcher.page.sharing import Patience, Shared


@dataclass(frozen=True)
class Resources:
    """Where the answers come from, and what the configuration says about them."""

    reader: JournalReader
    status: Shared[DaemonStatus]
    inbox: Shared[Sequence[Entry]]
    patience: Patience
    folders: Folders
    max_attempts: int
    holds_now: Callable[[Journal], Holds]
    profile_by_path: Callable[[str], str | None]  # None if the path alone does not tell
    targets_of: Callable[[Sight], frozenset[str]]  # those that recordings in that sight go to
    looked_at: Callable[[Iterable[str]], Set[str]]  # those of the jobs whose transcripts someone has read
