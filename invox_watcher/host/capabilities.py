"""May a process ask the kernel who writes to other users' files? See capabilities(7), user_namespaces(7)."""

from __future__ import annotations

from pathlib import Path

_CAP_LEASE = 1 << 28
_ALL_IDS = ["0", "0", "4294967295"]


def may_lease_any_file(pid: int | None = None) -> bool:
    """Whether process `pid`, by default this one, has CAP_LEASE in the first user namespace.

    The kernel does not accept it from another one: `PrivateUsers=yes` of systemd, rootless containers.
    """
    process = Path("/proc", "self" if pid is None else str(pid))
    try:
        lines = (process / "status").read_text("utf-8", "replace").splitlines()
        ids = (process / "uid_map").read_text().split()
    except OSError:
        return False
    effective = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) & _CAP_LEASE) and ids == _ALL_IDS
