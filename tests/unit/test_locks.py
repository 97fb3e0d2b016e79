"""Who holds a lock: the process that the locked file names."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from invox_watcher.host import Holder, Locks, holder_of, locks


def test_a_lock_names_its_process_until_it_is_released(tmp_path: Path) -> None:
    path, held = tmp_path / "lock", Locks()
    assert holder_of(path) is None
    held.hold(path)
    holder = holder_of(path)
    assert holder is not None
    assert holder.pid == os.getpid()
    held.close()
    assert holder_of(path) is None


@pytest.mark.parametrize("before", ["", "1 0 2026-11-23T18:50:56.000Z\n"])
def test_a_daemon_that_is_about_to_write_its_name_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """Without that, `stop` would say of a daemon that is starting that it can't be seen from here."""
    named, taken = tmp_path / "named", tmp_path / "taken"
    naming = Locks()
    naming.hold(named)
    name = named.read_text()
    taken.write_text(before)  # by the process that held it last
    with taken.open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr(locks.time, "sleep", lambda _seconds: taken.write_text(name))
        holder = holder_of(taken)
    naming.close()
    assert holder is not None
    assert holder.pid == os.getpid()


def test_one_whose_process_cannot_be_seen_has_no_number(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(f"{os.getpid()} 1 2026-11-23T18:50:56.000Z\n")
    with path.open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert holder_of(path) == Holder(None, None)
