"""The only module that renames, fsyncs or deletes: claim, publish, file away; and the names that come of it.

Three rules hold everywhere. A file changes its place by one rename that never overwrites; only where a folder
is on another file system it is copied, verified and then removed. What must survive a power cut is fsynced,
the file first and then the folders that name it. Every path is walked from the tree's root, component by
component and without following links, so that a folder swapped for a link while we work leads nowhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class FileIdentity:
    """Which file it is and which content it had: what a claim compares before and after its rename."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        """The identity that a stat shows."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
