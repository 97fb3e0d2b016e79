"""Stops every thread of a process but its main one: `python -m tests.faults.freeze PID`, until it is killed.

By ptrace(2): a signal would stop all of them. When this process ends, they go on.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_SEIZE, _INTERRUPT = 0x4206, 0x4207  # <linux/ptrace.h>


def main() -> int:
    """Say "frozen" on standard output once they stand still."""
    process = int(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    for thread in sorted(int(name) for name in os.listdir(f"/proc/{process}/task")):
        if thread == process:
            continue
        for request in (_SEIZE, _INTERRUPT):
            if libc.ptrace(request, thread, None, None) == -1:
                raise OSError(ctypes.get_errno(), f"thread {thread}")
    print("frozen", flush=True)
    signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
