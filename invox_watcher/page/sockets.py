"""A Unix socket to listen on: for the web server of this machine, by the socket's permissions."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from invox_watcher.errors import FolderError

_MODE = 0o660
_QUEUE = 128


def listen_on_socket(path: Path) -> socket.socket:
    """A socket bound to `path`, for its owner and group; one on which no process listens is replaced.

    Raises:
        FolderError: it can't be listened on, or another process does.
    """
    _require_free(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
        listener.bind(os.fspath(path))
        os.chmod(path, _MODE)  # before anyone can connect
        listener.listen(_QUEUE)
    except OSError as error:
        listener.close()
        raise _refused(path, f"{error.strerror or error}") from None
    return listener


def remove_socket(path: Path) -> None:
    """Remove the socket after it was closed, unless another process has replaced it."""
    with suppress(OSError):
        if not _is_listened_on(path):
            os.unlink(path)


def _require_free(path: Path) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refused(path, f"{error.strerror}") from None
    if not stat.S_ISSOCK(found.st_mode):
        raise _refused(path, "that is not a socket")
    if _is_listened_on(path):
        raise _refused(path, "another process listens there")


def _is_listened_on(path: Path) -> bool:
    """Whether a process listens there, even if it is too busy to accept a connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(os.fspath(path)) in (0, errno.EAGAIN)  # see unix(7)


def _refused(path: Path, why: str) -> FolderError:
    return FolderError(
        f"page.listen: can't listen on unix:{path}: {why}",
        code="listen",
        hint="Its folder must exist, and the daemon's user must be allowed to write there.",
    )
