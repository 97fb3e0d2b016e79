"""The standard streams as a command finds them: closed, on a full disk, without a reader. And complaints."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from invox_watcher.errors import InvoxError, StorageError
from invox_watcher.logs import printable

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def open_closed() -> None:
    """Open what is closed to nowhere: else the lock or the journal would be opened as it, and written to."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


@contextmanager
def printing() -> Iterator[None]:
    """Print what a command prints, down to the last byte: at exit nobody could say any more what went wrong.

    Raises:
        StorageError: standard output can't be written.
        BrokenPipeError: nobody reads it any more.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # names may not be UTF-8
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in _FULL:
            raise
        discard(sys.stdout)
        raise StorageError(f"standard output can't be written: {error.strerror}") from None


def complain(error: InvoxError, about: str = "") -> None:
    """Print what is wrong, and with what, on standard error."""
    lines = f"invox-watcher: {about}{error.message}".splitlines()
    lines += [f"  {error.hint}"] if error.hint else []
    with losing(sys.stderr):
        for line in lines:
            print(printable(line), file=sys.stderr)


@contextmanager
def losing(stream: TextIO) -> Iterator[None]:
    """Lose what can't be written to `stream`: the exit status says enough."""
    try:
        yield
    except OSError:
        discard(stream)


def discard(stream: TextIO) -> None:
    """Drop what is still to be written to `stream`, and all that follows."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
