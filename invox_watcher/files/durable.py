"""File system primitives: walk names without following links, make writes durable.

Every function here takes the descriptor of a folder and a name in it, so that replacing a folder by a link at
any moment has no effect.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType

from invox_watcher.baton import waiting
from invox_watcher.errors import DiskFullError, FolderBlockedError, StorageError

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RENAME_NOREPLACE = 1  # linux/fs.h
_libc = ctypes.CDLL(None, use_errno=True)
_one_at_a_time = threading.Lock()


class storage:
    """Translate OSError into StorageError. The message names a folder, never a recording."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, FileExistsError):
            raise self._translated(error) from None

    def _translated(self, error: OSError) -> StorageError:
        kind: type[StorageError] = StorageError
        hint = None
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            kind = DiskFullError
        elif error.errno in (errno.ENOTDIR, errno.ELOOP):
            kind = FolderBlockedError
        elif error.errno in (errno.EACCES, errno.EPERM):
            hint = "The daemon's user needs write permission in all five folders and their subfolders."
        return kind(f"{self._doing}: {error.strerror}", hint=hint)


class parent:
    """A descriptor of the folder of `root`/`path`, reached without following links, and the file's name.

    With `create_mode`, missing folders below `root` are created with that mode and made durable.
    """

    def __init__(self, root: Path | str, path: str, create_mode: int | None = None) -> None:
        self._root, self._path, self._create_mode = root, path, create_mode
        self._descriptor = -1

    def __enter__(self) -> tuple[int, str]:
        *folders, name = _components(self._path)
        self._descriptor = os.open(self._root, FOLDER)
        try:
            for folder in folders:
                if self._create_mode is not None:
                    make_folder(self._descriptor, folder, self._create_mode)
                inner = os.open(folder, FOLDER, dir_fd=self._descriptor)
                os.close(self._descriptor)
                self._descriptor = inner
        except BaseException:
            os.close(self._descriptor)
            raise
        return self._descriptor, name

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def _components(path: str) -> list[str]:
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise StorageError("A path in the journal leads outside its folder; refused.")
    return parts


def make_folder(folder: int, name: str, mode: int) -> None:
    """Create the folder `name` in `folder` if it is missing, and make its name durable in any case.

    An existing one may be from an attempt that was killed before its fsync.
    """
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
        made = os.open(name, FOLDER, dir_fd=folder)
        try:
            # In a shared folder this inherited bit passes on the group; chmod would drop it.
            os.fchmod(made, mode | (os.fstat(made).st_mode & stat.S_ISGID))
        finally:
            os.close(made)
    sync(folder)


def make_root(root: Path, mode: int) -> None:
    """Create the folder `root` and those above it if they are missing; make their names durable in any case.

    fsync of a folder covers the names in it, not its own: without this, a power cut could remove a whole tree
    with everything that was fsynced in it.
    """
    if not root.exists():
        root.mkdir(parents=True, exist_ok=True)  # another host may make it at this moment
        root.chmod(mode)  # whatever the umask
    root = root.resolve()
    device = root.stat().st_dev
    for above in root.parents:
        if above.stat().st_dev != device:  # the root of a file system has no name on it
            break
        with suppress(PermissionError):  # a folder that can't be read was not created here
            fsync_folder(above)


def replace_durably(path: Path, content: bytes, mode: int) -> None:
    """Replace the content of `path` atomically: after a power cut it is either the old or the new."""
    folder = os.open(path.parent.resolve(), FOLDER)
    try:
        replace_in(folder, path.name, content, mode)
    finally:
        os.close(folder)


def replace_in(folder: int, name: str, content: bytes, mode: int, *, by: str = "") -> None:
    """`replace_durably` for the file `name` in the folder with this descriptor.

    `by` tells who does: two that do so at the same time need temporary files of their own.
    """
    temporary = f".{name}{by and '.'}{by}.tmp"
    try:
        write_all(folder, {temporary: content}, mode)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    sync(folder)


def write_all(folder: int, contents: Mapping[str, bytes], mode: int) -> None:
    """Write files, name → content, and fsync them; their names are not durable yet."""
    with ExitStack() as opened:
        # All before the first sync: then the later ones find little left to do.
        files = [
            opened.enter_context(written(folder, name, content, mode)) for name, content in contents.items()
        ]
        for file in files:
            sync(file.fileno())


def written(folder: int, name: str, content: bytes, mode: int) -> FileIO:
    """The file `name` in `folder` with that content, still open; neither is on disk yet."""
    # A temporary file of a killed attempt has the same name: it is truncated and written again.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    file = FileIO(os.open(name, flags, mode, dir_fd=folder), "w")
    try:
        os.fchmod(file.fileno(), mode)
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
    except BaseException:
        file.close()
        raise
    return file


def rename_new(folder: int, name: str, new_folder: int, new_name: str) -> None:
    """Rename, failing with FileExistsError if the new name is in use (Linux renameat2(2))."""
    arguments = (folder, os.fsencode(name), new_folder, os.fsencode(new_name), _RENAME_NOREPLACE)
    if _libc.renameat2(*arguments) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(code, os.strerror(code))
    # A file system without RENAME_NOREPLACE (some FUSE and network ones). Other hosts on this tree reserve
    # names in the journal, so the only race left is with other programs, between the check and the rename.
    with _one_at_a_time:
        # Like the system call: a missing file is reported before a new name in use.
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        try:
            os.stat(new_name, dir_fd=new_folder, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=new_folder)
        else:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def exists(root: Path | str, path: str) -> bool:
    """Whether anything, including a link, has the name `root`/`path`."""
    return any_exists(root, [path])


def any_exists(root: Path | str, paths: Sequence[str]) -> bool:
    """Whether anything, including a link, has one of these names below `root`, all in the same folder."""
    with (
        storage(f"reading {os.path.basename(root)}/"),
        suppress(FileNotFoundError),
        parent(root, paths[0]) as (folder, _),
    ):
        for path in paths:
            with suppress(FileNotFoundError):
                os.stat(os.path.basename(path), dir_fd=folder, follow_symlinks=False)
                return True
    return False


def holds(folder: int, name: str, content: bytes) -> bool:
    """Whether `name` in `folder` is a file with exactly that content."""
    with suppress(OSError):
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode) and status.st_size == len(content):
            return read(folder, name) == content
    return False


def read(folder: int, name: str) -> bytes:
    """The content of the file `name` in `folder`."""
    with os.fdopen(os.open(name, FILE, dir_fd=folder), "rb") as file:
        return file.read()


def sha256(folder: int, name: str) -> str:
    """The SHA-256 of the file `name` in `folder`, in hexadecimal digits."""
    with os.fdopen(os.open(name, FILE, dir_fd=folder), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(root: Path) -> list[str]:
    """Every file below `root`, sorted, relative to it."""
    found = []
    for current, _folders, names in os.walk(root):
        found += [os.path.relpath(os.path.join(current, name), root) for name in names]
    return sorted(found)


def sync(descriptor: int) -> None:
    """Make a file, or the names in a folder, durable."""
    with waiting:
        os.fsync(descriptor)


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, FOLDER)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
