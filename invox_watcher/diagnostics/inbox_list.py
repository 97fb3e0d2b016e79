"""What is in the inbox and was not taken: asked of the daemon, and found out without one.

Names are read from the folder itself. The daemon, which gives no name away, is asked what it knows of each;
a file that it does not know, or any file if it can't be asked, is examined as `explain` does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from invox_watcher import logs
from invox_watcher.config import Config
from invox_watcher.diagnostics.daemon_status import DaemonStatus, KnownFile, query_inbox
from invox_watcher.diagnostics.explain import explain_one
from invox_watcher.diagnostics.explanation import Step, Verdict
from invox_watcher.diagnostics.surroundings import Surroundings, surroundings_of
from invox_watcher.errors import FoldersGoneError, InvoxError, NotPermittedError
from invox_watcher.files import MARK_FILE, open_folder, read_names_key
from invox_watcher.inbox import OPEN, Filter, kind_of, program_of, walk

# In the order in which a person wants to see them.
STAGES = ("error", "unfinished", "settling", "held", "ready", "ignored")
# Why an examined file is not taken yet, as a stage of the daemon's.
_STAGE_OF = {"open": "settling", "changing": "settling", "new": "settling", "held": "held"}


@dataclass(frozen=True)
class Entry:
    """A file in the inbox, or a folder whose content is not looked at; a folder's path ends with a slash."""

    path: str  # relative to the inbox
    stage: str  # one of `STAGES`
    code: str
    reason: str
    hint: str
    since: datetime


@dataclass(frozen=True)
class Listing:
    """All entries, the most urgent stage first, in it the oldest first; and the daemon's status."""

    entries: Sequence[Entry]
    status: DaemonStatus


def list_inbox(config: Config) -> Listing:
    """List what is in the inbox.

    Raises:
        NotPermittedError: it, or the state directory, may not be read.
        FoldersGoneError: it can't be reached.
        JournalError: the journal can't be read.
    """
    with surroundings_of(config, lambda _seconds: None) as surroundings:
        lister = _Lister(surroundings)
        entries = sorted(lister.entries(""), key=lambda one: (STAGES.index(one.stage), one.since))
        return Listing(entries, surroundings.status)


def count_files(config: Config) -> int:
    """How many files are in the inbox that are not ignored.

    Raises:
        OSError: it can't be read.
    """
    watch = config.watch
    root = os.open(config.folders.inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = walk(
            root,
            "",
            recursive=watch.recursive,
            names=Filter(watch.ignore),
            on_unreadable=lambda _folder, _error: None,
        )
        return sum(stat.S_ISREG(status.st_mode) for _path, status in found)
    finally:
        os.close(root)


class _Lister:
    def __init__(self, surroundings: Surroundings) -> None:
        self._shared = surroundings
        self._root = surroundings.inbox
        self._names = Filter(surroundings.config.watch.ignore)
        self._recursive = surroundings.config.watch.recursive
        self._known: Mapping[str, KnownFile] | None = None
        key = read_names_key(surroundings.config.state.directory)
        if key is not None:
            logs.hash_names_with(key)
            self._known = query_inbox(surroundings.status)

    def entries(self, folder: str) -> Iterator[Entry]:
        """Everything in a folder, `""` being the inbox, and below it."""
        for entry in self._scan(folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            is_folder = stat.S_ISDIR(status.st_mode)
            if (pattern := self._names.why_skipped(path, folder=is_folder)) is not None:
                yield _ignored(f"{path}/" if is_folder else path, pattern, status)
            elif is_folder:
                yield from self._in_folder(path, status)
            elif not stat.S_ISREG(status.st_mode):
                kind = kind_of(status.st_mode)
                says = f"Not a regular file ({kind})."
                yield Entry(
                    path, "ignored", "not_a_file", says, "Put the recording itself there.", _came(status)
                )
            else:
                yield self._file(path, status)

    def _scan(self, folder: str) -> list[os.DirEntry[str]]:
        path = self._root / folder
        try:
            with os.scandir(path) as found:
                return [entry for entry in found if entry.name != MARK_FILE]
        except PermissionError as error:
            raise NotPermittedError(f"Can't access {path}: {error.strerror}") from None
        except OSError as error:
            if folder:
                return []  # it has gone meanwhile
            raise FoldersGoneError(f"The inbox {path} can't be read: {error.strerror}") from None

    def _in_folder(self, path: str, status: os.stat_result) -> Iterator[Entry]:
        if not self._recursive:
            hint = "Move what is in it to the inbox itself, or set watch.recursive: true."
            says = "A subfolder, and watch.recursive is false."
            yield Entry(f"{path}/", "ignored", "subfolder", says, hint, _came(status))
        elif (user := self._user_of(path)) is not None:
            hint = "Move the recordings to a folder that no other instance uses."
            yield Entry(f"{path}/", "ignored", "occupied", user, hint, _came(status))
        else:
            try:
                yield from self.entries(path)
            except NotPermittedError:  # for whatever is below it, this was yielded already
                says = "The folder can't be read."
                hint = "Let the daemon's user read and write it, and enter it."
                yield Entry(f"{path}/", "error", "inbox_unreadable", says, hint, _came(status))

    def _user_of(self, path: str) -> str | None:
        try:
            with open_folder(self._root / path) as folder:
                return self._shared.occupancy.user_of(folder)
        except OSError:
            return None

    def _file(self, path: str, status: os.stat_result) -> Entry:
        known = None if self._known is None else self._known.get(logs.hashed_name(path))
        if known is None:
            return self._examined(path, status)
        why = known.reason
        entry = Entry(path, known.stage, why.code, why.message, why.hint, known.since)
        if known.stage == "held":
            return self._held(entry)
        programs = self._shared.programs(status) if known.stage in ("settling", "unfinished") else ""
        if programs:
            says = f"A program has it open for writing: {programs}."
            return replace(
                entry, code=OPEN.code, reason=says, hint="It is taken once that program closes it."
            )
        return entry

    def _held(self, entry: Entry) -> Entry:
        """Why no recording is taken now."""
        if problems := self._shared.status.problems:
            reason = problems[0].reason
            return replace(entry, code=reason.code, reason=reason.message, hint=reason.hint)
        limit = self._shared.config.intake.max_in_flight
        says = f"As many recordings are under way as may be (intake.max_in_flight: {limit})."
        return replace(entry, code="capacity", reason=says, hint="It is taken once one of them is finished.")

    def _examined(self, path: str, status: os.stat_result) -> Entry:
        try:
            found = explain_one(self._root / path, self._shared, quick=True)
        except (NotPermittedError, OSError) as error:
            says = error.message if isinstance(error, InvoxError) else str(error.strerror)
            return Entry(path, "error", "unreadable", says, "", _came(status))
        step, daemon = found.decisive, self._shared.status
        if found.verdict in (Verdict.TAKEN, Verdict.FAILED):
            code, says, hint = self._once_taken(found.verdict, step, daemon)
            return Entry(path, _STAGE_OF.get(code, "ready"), code, says, hint, _came(status))
        if found.verdict is Verdict.LEFT:
            stage = "error" if step.about == "permission" else "ignored"
            return Entry(path, stage, step.code or step.about, step.says, step.hint, _came(status))
        stage = _STAGE_OF.get(step.code, "unfinished")
        return Entry(path, stage, step.code, step.says, step.hint, _came(status))

    @staticmethod
    def _once_taken(verdict: Verdict, step: Step, daemon: DaemonStatus) -> tuple[str, str, str]:
        """Code, reason and hint for a file that is complete."""
        after = "" if verdict is Verdict.TAKEN else f" {step.says}"
        hint = "" if verdict is Verdict.TAKEN else step.hint
        if daemon.daemon is None:
            says = f"No daemon is running: it waits until one is started.{after}"
            return "no_daemon", says, hint or "`invox-watcher start`, or systemctl start invox-watcher"
        if daemon.asked:
            return "new", f"It has just come.{after}", hint
        return "unknown", f"The daemon can't be asked: {daemon.unreachable_because}.{after}", hint


def _ignored(path: str, pattern: str, status: os.stat_result) -> Entry:
    program = program_of(pattern)
    says = f"Names like this are ignored: {pattern}{f' ({program})' if program else ''}"
    hint = "Rename it." if program else "Rename it, or change watch.ignore."
    return Entry(path, "ignored", "ignored", says, hint, _came(status))


def _came(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_ctime, UTC)
