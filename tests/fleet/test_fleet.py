"""Three hosts, one inbox, one account: every recording once, whatever happens to one of them."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.promises import assert_kept
from tests.fleet.hosts import Fleet, fleet
from tests.kit.clinic import wait_for
from tests.kit.recordings import write_wav

pytestmark = [pytest.mark.needs("root", "ip", "initdb", "unshare"), pytest.mark.timeout(300)]


def bring(fleet: Fleet, count: int, *, begin: int = 0) -> None:
    """So many recordings, each with other content."""
    for number in range(begin, begin + count):
        part = write_wav(fleet.tree.root / f".{number}.wav", pitch=200.0 + number)
        part.rename(fleet.tree.inbox / f"{number}.wav")


def contents(count: int) -> set[str]:
    """The SHA-256 of all that `bring` brings."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            hashlib.sha256(write_wav(Path(folder, "one.wav"), pitch=200.0 + number).read_bytes()).hexdigest()
            for number in range(count)
        }


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as made:
        made.add(3)
        yield made


def all_done(fleet: Fleet, count: int, *, seconds: float = 180) -> None:
    wait_for("all are done", lambda: len(fleet.tree.files(fleet.tree.done)) >= count, seconds=seconds)
    wait_for("nothing is under way", lambda: not fleet.tree.under_way())


def test_work_is_spread_and_each_recording_done_once(three: Fleet) -> None:
    for host in three.hosts:
        host.up()
    bring(three, 500)
    began = time.monotonic()
    all_done(three, 500)
    print("seconds", time.monotonic() - began)
    for host in three.hosts:
        assert host.end() == 0
    work = three.work()
    print(work)
    assert work.total() == 500
    assert min(work.values()) >= 50
    assert_kept(three.tree, three.api, contents(500))
