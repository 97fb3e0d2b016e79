"""Keeps credentials and words in memory out of core dumps, and from other processes."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4  # <linux/prctl.h>


def keep_memory_private() -> None:
    """Leave no core dump, and let no other process of this user read this one's memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The limit does not apply if cores are piped to a program, see core(5); this does, see prctl(2).
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0))
