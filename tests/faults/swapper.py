"""Swaps a clinic's subfolders for links to somewhere else, over and over, as fast as it can.

`python -m tests.faults.swapper CLINIC SUBFOLDER ELSEWHERE`; ends when its standard input does, and then every
folder is again where it was. One renameat2(2) exchanges folder and link, so that there is always one of both.
"""

from __future__ import annotations

import ctypes
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_SWAPS = 50
_REST_SECONDS = 0.001  # while the link is in place: long enough for a system call to meet it
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def swapping(clinic: Path, subfolder: str, elsewhere: Path) -> Iterator[None]:
    """Swap that subfolder of all five folders for links to `elsewhere` as long as the block lasts."""
    command = [sys.executable, "-m", "tests.faults.swapper", str(clinic), subfolder, str(elsewhere)]
    swapper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert swapper.stdout is not None
        assert swapper.stdout.readline() == "swapping\n"
        yield
        swapper.communicate(timeout=20)
        assert swapper.returncode == 0
    finally:
        swapper.kill()
        swapper.communicate()


def exchange(first: Path, second: Path) -> bool:
    """Let two names change places; False where one of them is not there."""
    names = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return _libc.renameat2(*names) == 0


def swap(folder: Path, link: Path, elsewhere: Path) -> None:
    """Exchange `folder` for a link to `elsewhere` and back, many times."""
    link.symlink_to(elsewhere)
    for _ in range(_SWAPS):
        exchange(folder, link)
        if not link.is_symlink():
            time.sleep(_REST_SECONDS)
    while not link.is_symlink():
        exchange(folder, link)
    link.unlink()


def main(clinic: Path, subfolder: str, elsewhere: Path) -> None:
    """Swap until there is nobody to do it for."""
    print("swapping", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        places = [clinic / name for name in ("inbox", "outbox", "done", "failed")]
        for place in [*places, *(clinic / "processing").glob("[!.]*")]:
            swap(place / subfolder, clinic / "link", elsewhere)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
