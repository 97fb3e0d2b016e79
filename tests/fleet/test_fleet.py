"""Three hosts, one inbox, one account: every recording once, whatever happens to one of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.promises import assert_kept, hashes
from tests.fleet.hosts import Fleet, fleet
from tests.kit.clinic import wait_for
from tests.kit.recordings import write_wav

pytestmark = [pytest.mark.needs("root", "ip", "initdb", "unshare"), pytest.mark.timeout(300)]


def bring(fleet: Fleet, count: int, *, begin: int = 0) -> None:
    """So many recordings, each with other content."""
    for number in range(begin, begin + count):
        part = write_wav(fleet.tree.root / f".{number}.wav", pitch=200.0 + number)
        part.rename(fleet.tree.inbox / f"{number}.wav")


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as made:
        made.add(3)
        yield made


def test_work_is_spread_and_each_recording_done_once(three: Fleet) -> None:
    bring(three, 30)
    contents = hashes(three.tree)
    for host in three.hosts:
        host.up()
    wait_for("all are done", lambda: three.work().total() >= 30, seconds=120)
    for host in three.hosts:
        assert host.end() == 0
    print(three.work())
    assert_kept(three.tree, three.api, contents)
