"""What the page shows, found out: of the journal, of the daemon, and of the files in the folders."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from invox_watcher.assembly import commands_of, target_names_of
from invox_watcher.config import Config
from invox_watcher.diagnostics.daemon_status import DaemonStatus, query_daemon
from invox_watcher.diagnostics.holds import Holds
from invox_watcher.diagnostics.inbox_list import Entry, list_inbox
from invox_watcher.errors import InvoxError
from invox_watcher.formats.decoder import Decoder, is_installed
from invox_watcher.job import Job
from invox_watcher.journal import FILENAME, Journal
from invox_watcher.layout import database_of, folders_of, profiles_of
from invox_watcher.page.actions import Actions
from invox_watcher.page.lists import NEEDS_SECONDS, Lists
from invox_watcher.page.looked_at import LookedAt
from invox_watcher.page.model import (
    Document,
    Done,
    Health,
    Line,
    Needs,
    Now,
    Query,
    Recording,
    Rows,
    Sight,
    Sound,
    Trouble,
)
from invox_watcher.page.reader import BUSY_SECONDS, JournalReader
from invox_watcher.page.recording import Recordings
from invox_watcher.page.resources import Resources
from invox_watcher.page.sharing import Patience, Shared
from invox_watcher.page.sound import Sounds

_STATUS_SECONDS, _INBOX_SECONDS = 1.0, 2.0
_LISTING_SECONDS = 20.0  # of an inbox with half a million files
_PATHS_KEPT = 20_000


class DaemonSource:
    """The `Source` of the daemon that a configuration describes. Nothing is asked before it is needed."""

    def __init__(self, config: Config) -> None:
        state, folders = config.state.directory, folders_of(config)
        patience, listing = Patience(), Patience(_LISTING_SECONDS)
        server = database_of(config)
        self._reader = JournalReader(
            state / FILENAME if server is None else None,
            partial(Journal, state, create=False, server=server, busy_seconds=BUSY_SECONDS),
        )
        self._status = Shared(partial(query_daemon, state), seconds=_STATUS_SECONDS)
        profiles = profiles_of(config)
        resources = Resources(
            reader=self._reader,
            status=self._status,
            inbox=Shared(lambda: listing.ask(partial(_inbox_of, config)), seconds=_INBOX_SECONDS),
            patience=patience,
            folders=folders,
            max_attempts=config.retry.max_attempts,
            holds_now=partial(Holds, config),
            profile_by_path=lru_cache(_PATHS_KEPT)(profiles.name_by_path),
            targets_of=partial(_targets_of, config),
            looked_at=LookedAt(state),
        )
        self._lists = Lists(resources)
        self._recordings = Recordings(resources, self._lists, config.outputs.speaker_names)
        self._actions = Actions(
            resources,
            self._recordings,
            state,
            target_names_of(config) | commands_of(config).keys(),
            self._lists.forget,
        )
        self._sounds = Sounds(folders, state, partial(_decoder_of, config) if is_installed() else None)
        self._changes = _Changes(self._reader, self._status)

    def close(self) -> None:
        """Close the journal, and delete what was made for players."""
        self._sounds.close()
        self._reader.close()

    def changes(self) -> int:
        """See `Source`."""
        return self._changes.count()

    def health(self) -> Health:
        """The daemon's, and whether the journal can be read."""
        try:
            status = self._status.get()
        except InvoxError as error:
            return Health(running=False, ready=False, since=None, unknown_because=error.message)
        troubles = [Trouble(problem.reason, problem.since) for problem in status.problems or ()]
        faults = sorted((status.targets or {}).items())
        troubles += [Trouble(fault.reason, fault.since, name) for name, fault in faults if fault is not None]
        return Health(
            running=status.daemon is not None,
            ready=status.daemon is not None and status.is_ready,
            since=None if status.daemon is None else status.since,
            troubles=tuple(troubles),
            unknown_because=_unknown(status) or self._reader.unreadable_because(),
        )

    def now(self, sight: Sight) -> Now:
        """See `Source`."""
        return self._lists.now(sight)

    def needs(self, sight: Sight) -> Needs:
        """See `Source`."""
        return self._lists.needs(sight)

    def find(self, sight: Sight, query: Query, *, after: str, limit: int) -> Rows:
        """See `Source`."""
        return self._lists.find(sight, query, after=after, limit=limit)

    def recording(self, sight: Sight, job_id: str) -> Recording | None:
        """See `Source`."""
        return self._recordings.recording(sight, job_id)

    def words(self, sight: Sight, job_id: str) -> Sequence[Line] | None:
        """See `Source`."""
        return self._recordings.words(sight, job_id)

    def document(self, sight: Sight, job_id: str, name: str) -> Document | None:
        """See `Source`."""
        return self._recordings.document(sight, job_id, name)

    def sound(self, sight: Sight, job_id: str) -> Sound | None:
        """See `Source`."""
        return self._sounds.sound(partial(self._job, sight, job_id))

    def loudness(self, sight: Sight, job_id: str) -> Sequence[float] | None:
        """See `Source`."""
        return self._sounds.loudness(partial(self._job, sight, job_id))

    def retry(self, sight: Sight, job_id: str, record: Callable[[], None]) -> Done:
        """See `Source`."""
        return self._actions.retry(sight, job_id, record)

    def send_again(self, sight: Sight, job_id: str, target: str, record: Callable[[], None]) -> Done:
        """See `Source`."""
        return self._actions.send_again(sight, job_id, target, record)

    def _job(self, sight: Sight, job_id: str) -> Job | None:
        journal = self._reader.journal()
        return self._recordings.job(journal, sight, job_id)


class _Changes:
    """Counts changes in the journal, and of the daemon's status, which is asked every other second.

    The last of them counts twice: who asks at the first may get an answer from just before it.
    """

    _DAEMON_SECONDS = 2.0
    _AGAIN_SECONDS = NEEDS_SECONDS + 0.5  # by then each such answer is found out again

    def __init__(self, reader: JournalReader, status: Shared[DaemonStatus]) -> None:
        self._reader, self._status = reader, status
        self._lock = threading.Lock()  # guards what follows
        self._count = int(time.time())  # another one than before a restart
        self._before: object = None
        self._daemon: object = None
        self._ask_at = 0.0
        self._again_at = math.inf

    def count(self) -> int:
        with self._lock:
            if time.monotonic() >= self._ask_at:
                self._daemon = self._says()
                self._ask_at = time.monotonic() + self._DAEMON_SECONDS
            now = (self._reader.changes(), self._daemon)
            if now != self._before:
                self._count += 1
                self._before = now
                self._again_at = time.monotonic() + self._AGAIN_SECONDS
            elif time.monotonic() >= self._again_at:
                self._count += 1
                self._again_at = math.inf
            return self._count

    def _says(self) -> object:
        """The daemon's status, without what changes by the second."""
        try:
            status = self._status.get()
        except InvoxError as error:
            return error.code
        waiting = frozenset(status.due_seconds)
        return (
            *(status.daemon, status.problems, status.since, status.inbox, status.targets, status.version),
            *(status.unreachable_because, waiting),
        )


def _unknown(status: DaemonStatus) -> str:
    if status.daemon is None or status.problems is not None:
        return ""
    return f"The daemon can't be asked: {status.unreachable_because}."


def _inbox_of(config: Config) -> Sequence[Entry]:
    return list_inbox(config).entries


def _decoder_of(config: Config, most_output_bytes: int) -> Decoder:
    return Decoder(passwords_file=config.intake.ds2_passwords_file, most_output_bytes=most_output_bytes)


def _targets_of(config: Config, sight: Sight) -> frozenset[str]:
    """The targets to which recordings in that sight go by this configuration."""
    if sight.profiles is None:
        return target_names_of(config) | commands_of(config).keys()
    names = {name for one in config.profiles if sight.covers(one.name) for name in one.settings.targets}
    return frozenset(names) | commands_of(config).keys()
