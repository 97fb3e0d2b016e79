"""The inbox as a tree of names: which are ignored, how they are listed, and how a file is opened safely.

Every path is relative to the inbox and is walked component by component from a descriptor of the inbox, never
through a link, so that replacing a folder by a link at any moment has no effect.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from invox_watcher.heartbeat import beat
from invox_watcher.inbox.litter import EITHER, FILES, FOLDERS

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFDIR: "folder",
}


class NotAFileError(Exception):
    """Not a regular file; `kind` is what it is instead."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Filter:
    """The ignore list: the built-in one, and the globs of `ignore`.

    Regardless of case. A glob of `ignore` is matched against the name and against the path relative to the
    inbox; its `*` also matches a slash, and with a slash at its end it is for folders only.
    """

    def __init__(self, ignore: Sequence[str] = ()) -> None:
        self._configured = [_glob(pattern) for pattern in ignore]

    def why_ignored(self, path: str, *, folder: bool = False) -> str | None:
        """The glob that matches `path` or a folder above it, None if none does."""
        steps = path.split("/")
        for depth in range(1, len(steps) + 1):
            reason = self.why_skipped("/".join(steps[:depth]), folder=folder or depth < len(steps))
            if reason is not None:
                return reason
        return None

    def why_skipped(self, path: str, *, folder: bool) -> str | None:
        """Like `why_ignored`, but for the last component alone: for a walk, which has checked the others."""
        folded = path.casefold()
        name = folded.rpartition("/")[2]
        if _ANY_BUILT_IN(name):
            for pattern, matches in _OF_FOLDERS if folder else _OF_FILES:
                if matches(name):
                    return pattern
        for pattern, matches in self._configured:
            if (folder or not pattern.endswith("/")) and (matches(name) or matches(folded)):
                return pattern
        return None


def program_of(pattern: str) -> str | None:
    """Whose names a glob of the built-in list describes; None for another glob."""
    return next((names[pattern] for names in (EITHER, FILES, FOLDERS) if pattern in names), None)


_Glob = tuple[str, Callable[[str], object]]


def _glob(pattern: str) -> _Glob:
    return pattern, re.compile(_regex(pattern)).match


def _regex(pattern: str) -> str:
    return fnmatch.translate(pattern.rstrip("/").casefold())


# The narrow patterns first: they know which program it was.
_OF_FILES: Sequence[_Glob] = [_glob(pattern) for pattern in (*FILES, *EITHER)]
_OF_FOLDERS: Sequence[_Glob] = [_glob(pattern) for pattern in (*FOLDERS, *EITHER)]
# One expression, since nearly every name matches none of them.
_ANY_BUILT_IN = re.compile("|".join(_regex(pattern) for pattern in (*FOLDERS, *FILES, *EITHER))).match


def kind_of(mode: int) -> str:
    """The type in a file mode, in words: `regular file`, `FIFO`, `symbolic link`, …"""
    return _KINDS.get(stat.S_IFMT(mode), "regular file" if stat.S_ISREG(mode) else "special file")


def open_file(root_fd: int, path: str) -> int:
    """Open a regular file beneath the inbox for reading, without following any link and without blocking.

    Raises:
        NotAFileError: it is not a regular file.
        OSError: it can't be opened; ENOENT or ENOTDIR if it, or a folder above it, does not exist.
    """
    folder, _, name = path.rpartition("/")
    folder_fd = open_folder(root_fd, folder)
    try:
        # Checked before opening, because opening a FIFO or a device can have side effects.
        _require_file(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode)
        fd = os.open(name, _FILE_FLAGS, dir_fd=folder_fd)
    finally:
        os.close(folder_fd)
    try:
        _require_file(os.fstat(fd).st_mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def stat_of(root_fd: int, path: str) -> os.stat_result:
    """The (l)stat of a name beneath the inbox, without following any link.

    Raises:
        OSError: ENOENT or ENOTDIR if it, or a folder above it, does not exist.
    """
    folder, _, name = path.rpartition("/")
    folder_fd = open_folder(root_fd, folder)
    try:
        return os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    finally:
        os.close(folder_fd)


def _require_file(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NotAFileError(kind_of(mode))


def open_folder(root_fd: int, path: str) -> int:
    """Open a folder beneath the inbox, `""` being the inbox itself, without following any link."""
    fd = os.dup(root_fd)
    try:
        for step in path.split("/") if path else ():
            inner = os.open(step, _FOLDER_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = inner
    except BaseException:
        os.close(fd)
        raise
    return fd


def walk(
    root_fd: int,
    start: str,
    *,
    recursive: bool,
    names: Filter,
    on_unreadable: Callable[[str, OSError], None],
    may_enter: Callable[[str], bool] = lambda _folder: True,
) -> Iterator[tuple[str, os.stat_result]]:
    """Every name beneath the folder `start` that is not a folder and not ignored, with its own (l)stat.

    Folders sorted by name, files before subfolders; only subfolders for which `may_enter` is true. A
    subfolder that vanishes during the walk is skipped; one that can't be read is reported to `on_unreadable`;
    only `""` itself raises OSError.
    """
    folders = [start]
    while folders:
        folder = folders.pop()
        inner = []
        try:
            for path, status in _entries(root_fd, folder):
                is_folder = stat.S_ISDIR(status.st_mode)
                if names.why_skipped(path, folder=is_folder) is not None:
                    continue
                if not is_folder:
                    yield path, status
                elif may_enter(path):
                    inner.append(path)
        except (FileNotFoundError, NotADirectoryError):
            if folder == "":
                raise
        except OSError as error:
            if folder == "":
                raise
            on_unreadable(folder, error)
        if recursive:
            folders.extend(reversed(inner))


def _entries(root_fd: int, folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """What is in a folder, sorted by name. Each is looked at when its turn comes: there may be very many."""
    fd = open_folder(root_fd, folder)
    try:
        with os.scandir(fd) as listed:
            names = []
            for entry in listed:
                beat()
                names.append(entry.name)
        names.sort()
        for name in names:
            with suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                yield f"{folder}/{name}" if folder else name, status
    finally:
        os.close(fd)
