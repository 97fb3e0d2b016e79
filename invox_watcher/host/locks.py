"""Locks on folders: released when their process ends, however it ends. A locked file names its process."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from invox_watcher.errors import JournalError, NotPermittedError
from invox_watcher.times import rfc3339, utc_now

# `holder_of` takes the lock for a moment, which must not keep a daemon from starting; and a daemon that has
# just taken it is about to write its name.
_TRIES, _TRY_SECONDS = 4, 0.05

_Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock. `pid` is None if it can't be seen from here: from another container."""

    pid: int | None
    since: datetime | None


class LockedFolderError(JournalError):
    """Another process holds the lock of `folder`, or of a file in it."""

    code = "already_running"
    hint = "Stop it first, or use another state.directory and other folders."

    def __init__(self, folder: Path) -> None:
        super().__init__(f"Another daemon is running on {folder}.")
        self.folder = folder


class Locks:
    """The locks of this process, by file: one that it already holds is not taken again."""

    def __init__(self) -> None:
        self._held: dict[_Identity, int] = {}  # the descriptors
        self._known: dict[Path, _Identity] = {}

    def hold(self, path: Path, *, shared: bool = False) -> None:
        """Lock `path`, a folder or a file, for this process alone. A file then says which process that is.

        With `shared`, other processes may hold it too, if they share it as well.

        Raises:
            LockedFolderError: another process holds it.
            OSError: it can't be opened or written.
        """
        flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        try:
            stat = os.fstat(descriptor)
            identity = self._known[path] = (stat.st_dev, stat.st_ino)
            if identity not in self._held:
                _take(descriptor, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
                if not path.is_dir():
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, _this_process().encode(), 0)
                self._held[identity] = descriptor
                descriptor = -1
        finally:
            if descriptor != -1:
                os.close(descriptor)

    def holds(self, path: Path) -> bool:
        """Whether this process has locked `path`."""
        with suppress(OSError):
            stat = os.stat(path)
            return (stat.st_dev, stat.st_ino) in self._held
        return False

    @contextmanager
    def share(self, folders: Iterable[Path]) -> Iterator[None]:
        """Meanwhile no other process may `hold` any of `folders`; this one and any number may share them.

        A folder that may not be read, or whose file system has no locks, is left out.

        Raises:
            LockedFolderError: another process holds one.
        """
        with ExitStack() as opened:
            for folder in folders:
                with suppress(OSError):
                    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    opened.callback(os.close, descriptor)
                    stat = os.fstat(descriptor)
                    if (stat.st_dev, stat.st_ino) not in self._held:
                        _take(descriptor, folder, fcntl.LOCK_SH)
            yield

    def keep(self, paths: Iterable[Path]) -> None:
        """Release all but those of `paths`."""
        for identity in self._held.keys() - {self._known.get(path) for path in paths}:
            os.close(self._held.pop(identity))

    def close(self) -> None:
        """Release all."""
        self.keep(())


def holder_of(path: Path) -> Holder | None:
    """The process that holds the lock `path`, a file; None if no process does.

    Raises:
        NotPermittedError: it may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotPermittedError(f"{path} can't be read: {error.strerror}") from None
    try:
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_TRY_SECONDS)
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            holder = _named_in(os.pread(descriptor, 200, 0).decode("ascii", "replace"))
            if holder.pid is not None:
                break
        return holder
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, how: int) -> None:
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_TRY_SECONDS)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return
    raise LockedFolderError(path if path.is_dir() else path.parent)


def _this_process() -> str:
    return f"{os.getpid()} {_started(os.getpid())} {rfc3339(utc_now())}\n"


def _named_in(text: str) -> Holder:
    """The process that `_this_process` recorded, if it still runs: another one may have its number by now."""
    with suppress(ValueError):
        pid, started, since = text.split()
        if _started(int(pid)) == started:
            return Holder(int(pid), datetime.fromisoformat(since))
    return Holder(None, None)


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's ticks since boot: field 22 of /proc/PID/stat, see proc(5)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]
