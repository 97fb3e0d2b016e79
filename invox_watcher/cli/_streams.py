"""Standard streams in any condition: closed, on a full disk, without a reader. And error messages."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from invox_watcher.errors import InvoxError, StorageError
from invox_watcher.logs import is_journal, printable, priority

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def open_closed() -> None:
    """Open closed streams to /dev/null: else the lock or journal would get that descriptor, and output."""
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
    """Flush a command's output at the end of the block, while an error can still be reported.

    Raises:
        StorageError: standard output can't be written.
        BrokenPipeError: the reader closed the pipe.
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
        raise StorageError(f"can't write to standard output: {error.strerror}") from None


def complain(error: InvoxError, about: str = "") -> None:
    """Print an error on standard error, prefixed by what it is about."""
    lines = f"invox-watcher: {about}{error.message}".splitlines()
    lines += [f"  {error.hint}"] if error.hint else []
    prefix = priority("error") if is_journal(sys.stderr) else ""
    with losing(sys.stderr):
        for line in lines:
            print(prefix + printable(line), file=sys.stderr)


@contextmanager
def losing(stream: TextIO) -> Iterator[None]:
    """Ignore what can't be written to `stream`: the exit status is enough."""
    try:
        yield
    except OSError:
        discard(stream)


def discard(stream: TextIO) -> None:
    """Discard what is buffered for `stream`, and everything that follows."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
