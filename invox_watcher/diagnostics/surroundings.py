"""What the examinations of several files have in common: each disk, journal and daemon is asked once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path

from invox_watcher.config import Config
from invox_watcher.diagnostics.daemon_status import DaemonStatus, query_daemon
from invox_watcher.errors import JournalError
from invox_watcher.files import Occupancy
from invox_watcher.host import User, mount_of, open_for_writing
from invox_watcher.inbox import Snapshot
from invox_watcher.job import State
from invox_watcher.journal import Journal
from invox_watcher.layout import database_of, occupancy_of

# Limited because a person waits for it.
LONGEST_WATCH_SECONDS = 10.0


class Surroundings:
    """One configuration, and what is found out for all files that are examined with it."""

    def __init__(self, config: Config, journal: Journal | None, sleep: Callable[[float], None]) -> None:
        """`journal` is None if there is none yet."""
        self.config = config
        self.journal = journal
        self._sleep = sleep
        self.inbox = Path(os.path.realpath(config.folders.inbox))
        self._noted: dict[Path, tuple[Snapshot, float]] = {}

    @cached_property
    def status(self) -> DaemonStatus:
        """The daemon's."""
        return query_daemon(self.config.state.directory)

    @cached_property
    def counts(self) -> Mapping[State, int]:
        """How many jobs there are in each state."""
        return {} if self.journal is None else self.journal.counts()

    @cached_property
    def occupancy(self) -> Occupancy:
        """Which folders other instances use."""
        return occupancy_of(self.config)

    @cached_property
    def inbox_type(self) -> tuple[str, bool]:
        """The type of the inbox's file system, and whether other machines may write there."""
        mount = mount_of(str(self.inbox))
        return mount.type, mount.remote

    @cached_property
    def daemons_user(self) -> User:
        """Who the daemon is, or would be."""
        try:
            return User.of(os.stat(self.config.state.directory).st_uid)
        except FileNotFoundError:
            return User.current()

    def programs(self, status: os.stat_result) -> str:
        """The programs that have a file open for writing, separated by commas; empty if none is seen."""
        return ", ".join(self._open.get((status.st_dev, status.st_ino), ()))

    @cached_property
    def _open(self) -> Mapping[tuple[int, int], list[str]]:
        return open_for_writing()

    # ---- unchanged for a while ---------------------------------------------------------------------------

    def note(self, files: Iterable[Path]) -> None:
        """Note what the files look like now: all of them are watched at the same time."""
        for file in files:
            with suppress(OSError):
                self._noted[file] = (Snapshot.of(os.lstat(file)), time.monotonic())

    def stays_unchanged(self, file: Path, fd: int, seconds: float) -> bool:
        """Whether `file` is unchanged for so long since it was noted; ten seconds count as enough."""
        before, noted_at = self._noted.get(file) or (Snapshot.of(os.fstat(fd)), time.monotonic())
        left = min(seconds, LONGEST_WATCH_SECONDS) - (time.monotonic() - noted_at)
        if left > 0:
            self._sleep(left)
        return Snapshot.of(os.fstat(fd)) == before


@contextmanager
def surroundings_of(config: Config, sleep: Callable[[float], None] = time.sleep) -> Iterator[Surroundings]:
    """With its journal open.

    Raises:
        JournalError: the journal can't be read.
        WrongJournalError: it was copied elsewhere, and what it says is out of date.
        NotPermittedError: it may not be read.
    """
    try:
        journal = Journal(config.state.directory, create=False, server=database_of(config))
    except JournalError as error:
        if error.code != "journal_missing":
            raise
        yield Surroundings(config, None, sleep)
    else:
        with closing(journal):
            journal.require_not_moved()
            yield Surroundings(config, journal, sleep)
