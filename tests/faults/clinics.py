"""Clinics that settle quickly and say over HTTP whether they are ready, and recordings to put into them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic
from tests.kit.recordings import write_wav

QUICK = {"settle_seconds": 0.05, "rescan_seconds": 1, "patience_seconds": 1.5}
# Root without the right to write everything; other users have none to give up.
_ALMIGHTY = "-dac_override,-dac_read_search"
NOT_ALMIGHTY = ["setpriv", f"--bounding-set={_ALMIGHTY}", f"--inh-caps={_ALMIGHTY}"] * (os.geteuid() == 0)


def clinic_on(folder: Path, api: Sandbox, outside: Path, **changes: Any) -> Clinic:
    """A clinic whose folders lie in `folder` and its log outside."""
    clinic = Clinic(folder, api.base_url, watch=QUICK, http={"listen": "127.0.0.1:0"}, **changes)
    clinic.log = outside / "daemon.log"
    return clinic


def put(clinic: Clinic, name: str, **tone: Any) -> str:
    """Move a recording into the inbox; its SHA-256."""
    path = write_wav(clinic.root / name, **tone)
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    os.rename(path, clinic.inbox / name)
    return content


class Unprivileged(Clinic):
    """A clinic whose daemon may not write everything, even where it runs as root."""

    through = NOT_ALMIGHTY


class WithoutLease(Clinic):
    """A clinic whose daemon may not ask about the writers of other users' files."""

    through = ("setpriv", "--bounding-set=-lease", "--inh-caps=-lease")
