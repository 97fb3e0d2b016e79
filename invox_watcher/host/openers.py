"""Which programs have a file open for writing: found in /proc, see proc(5).

A user sees only their own processes there; root sees all of this machine. Programs on other machines, which
write to a share, are never seen.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")

Identity = tuple[int, int]  # device and inode


def open_for_writing() -> dict[Identity, list[str]]:
    """Every file that a program has open for writing, with the programs' names: `rsync (pid 123)`."""
    found: defaultdict[Identity, list[str]] = defaultdict(list)
    for process in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            for descriptor in os.listdir(process / "fd"):
                with suppress(OSError, ValueError):
                    if _may_write(process / "fdinfo" / descriptor):
                        status = os.stat(process / "fd" / descriptor)
                        program = _program(process)
                        programs = found[status.st_dev, status.st_ino]
                        programs += [program] if program not in programs else []
    return dict(found)


def _may_write(file: Path) -> bool:
    """Whether a descriptor is open for writing, by its entry in fdinfo."""
    flags = next(line for line in file.read_text().splitlines() if line.startswith("flags:"))
    return int(flags.partition(":")[2], 8) & os.O_ACCMODE != os.O_RDONLY


def _program(process: Path) -> str:
    return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
