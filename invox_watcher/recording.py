"""`FileIdentity`: which file a recording is; `Remedy`: what a decoder can do for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum


class Remedy(StrEnum):
    """What a decoder can do for a recording that can't be relied on as it is."""

    NONE = "none"
    DECODE = "decode"  # make an acceptable recording of it
    VERIFY = "verify"  # find out whether it ends too early, as its header says
    REPAIR = "repair"  # make one of it that can be relied on, though it may be sent as it is


@dataclass(frozen=True)
class FileIdentity:
    """Which file it is, and its size and time; a claim compares them before and after its rename."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        """The identity in a stat result."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
