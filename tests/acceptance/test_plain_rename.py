"""A file system without RENAME_NOREPLACE."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MOVES = Path(__file__).parent.parent / "unit" / "test_files.py"
WITHOUT_RENAMEAT2 = """
import ctypes, errno, os, struct, sys
# seccomp(2): renameat2 fails with EINVAL, as on NFS and 9p; every other call is allowed.
number = {"x86_64": 316, "aarch64": 276}[os.uname().machine]
load, if_equal, refuse, allow = (0x20, 0, 0, 0), (0x15, 0, 1, number), 0x00050000 | errno.EINVAL, 0x7FFF0000
code = [load, if_equal, (0x06, 0, 0, refuse), (0x06, 0, 0, allow)]
filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(filters))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def test_a_file_system_that_has_only_the_plain_rename(tmp_path: Path) -> None:
    """The unit tests of moving, once more, with a kernel that refuses renameat2."""
    chosen = "claim or goes_back or returned or publish or overwritten or settling or moving_back"
    arguments = [str(MOVES), "-k", chosen, f"--basetemp={tmp_path / 'inner'}"]
    inner = subprocess.run(
        [sys.executable, "-c", WITHOUT_RENAMEAT2, *arguments], capture_output=True, text=True, check=False
    )
    assert inner.returncode == 0, inner.stdout
    assert " passed" in inner.stdout
