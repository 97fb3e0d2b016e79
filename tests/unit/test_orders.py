"""Orders about deliveries: carried out once, in their order, whatever else lies in their folder."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.delivery import GIVE_UP, SEND_AGAIN, Orders
from invox_watcher.errors import FolderError, JournalError
from invox_watcher.files import orders as files
from invox_watcher.files import place_order
from invox_watcher.journal import Journal, Receipt
from tests.kit.captured_log import LogStream
from tests.kit.jobs import claimed, done

NOW = datetime.now(UTC)


class Office:
    """A journal with one job that was sent, and what carries out its orders."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.folder = directory / "orders"
        self.journal = Journal(directory, targets_of=lambda _job: ["ris"])
        self.job = done(self.journal, "a").id
        self.wakes = 0
        self.orders = Orders(directory, self.journal.deliveries, wake=self.wake)

    def wake(self) -> None:
        self.wakes += 1

    def send(self) -> int:
        """As a target does; how many that were."""
        count = 0
        while owed := self.journal.deliveries.next("ris", ordered=False):
            self.journal.deliveries.sent(owed, Receipt("now", "Ok"))
            count += 1
        return count

    def ask(self, *jobs: Any, target: Any = "ris", at: datetime = NOW) -> None:
        place_order(self.directory, {"do": SEND_AGAIN, "jobs": jobs, "target": target, "at": at.isoformat()})

    def left(self) -> list[str]:
        return sorted(os.listdir(self.folder))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    office.send()
    yield office
    office.journal.close()


def discarded(log: LogStream) -> list[str]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line["order"] for line in lines if line["event"] == "order_discarded"]


def test_what_was_asked_last_is_done_last(office: Office) -> None:
    for _ in range(20):  # within one second
        place_order(office.directory, {"do": GIVE_UP, "target": "ris"})
        office.ask(office.job, at=datetime.now(UTC))
        office.orders.carry_out()
        assert office.send() == 1
    assert office.left() == []
    assert office.wakes == 40


def test_only_the_owner_may_read_an_order(office: Office) -> None:
    office.ask(office.job)
    assert office.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in office.folder.iterdir()} == {0o600}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\xff",
        b"[]",
        b"[" * 100_000,
        b'{"do": "burn"}',
        b'{"do": {}, "target": []}',
        b'{"do": "give_up"}',
        b'{"do": "give_up", "target": "\\udcff"}',
        b'{"do": "send_again", "jobs": "all", "target": "ris", "at": "2026-11-28T17:00:00Z"}',
        b'{"do": "send_again", "jobs": [{}], "target": "ris", "at": "2026-11-28T17:00:00Z"}',
        b'{"do": "send_again", "jobs": ["\\ud800"], "target": "ris", "at": "2026-11-28T17:00:00Z"}',
        b'{"do": "send_again", "jobs": [], "target": "ris", "at": "tomorrow"}',
    ],
)
def test_what_is_no_order_is_discarded_and_holds_up_none(
    office: Office, own_log: LogStream, content: bytes
) -> None:
    office.ask(office.job)
    (office.folder / "0.json").write_bytes(content)
    office.orders.carry_out()
    assert discarded(own_log) == ["0.json"]
    assert office.left() == []
    assert office.send() == 1


def test_what_is_no_file_is_neither_followed_nor_waited_for(office: Office, own_log: LogStream) -> None:
    office.ask(office.job)
    os.mkfifo(office.folder / "0.json")
    (office.folder / "1.json").symlink_to("/dev/zero")
    (office.folder / "2.json").mkdir()
    with (office.folder / "3.json").open("wb") as sparse:
        sparse.truncate(1 << 40)
    for _ in range(3):
        office.orders.carry_out()
    assert discarded(own_log) == ["0.json", "1.json", "2.json", "3.json"]
    assert office.left() == ["2.json"]
    assert office.send() == 1


def test_jobs_that_are_unknown_or_not_done_are_owed_to_nobody(office: Office) -> None:
    job = claimed(office.journal, "b")
    office.ask("unknown", job.id, office.job)
    office.orders.carry_out()
    assert [one.job_id for one in office.journal.deliveries.owed(limit=9)] == [office.job]


def test_an_order_that_can_not_be_deleted_is_carried_out_once(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.ask(office.job)
    with monkeypatch.context() as patched:

        def refuse(_path: Path) -> None:
            raise OSError(errno.EROFS, "read-only")

        patched.setattr(files.os, "unlink", refuse)
        for _ in range(3):
            office.orders.carry_out()
            office.send()
        assert office.wakes == 1
        # The next process, too: it was killed before it could delete it.
        Orders(office.directory, office.journal.deliveries, wake=office.wake).carry_out()
        assert office.send() == 0
        assert office.left() != []
    office.orders.carry_out()
    assert office.left() == []


def test_an_order_waits_until_the_journal_can_be_written(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.ask(office.job)
    with monkeypatch.context() as patched:

        def refuse(*_arguments: object) -> int:
            raise JournalError("full")

        patched.setattr(office.journal.deliveries, "send_again", refuse)
        with pytest.raises(JournalError):
            office.orders.carry_out()
    office.orders.carry_out()
    assert office.send() == 1


def test_on_a_full_disk_nothing_is_half_asked(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("invox_watcher.files.durable.os.fsync", refuse)
        with pytest.raises(FolderError, match="No space left"):
            office.ask(office.job)
    assert [name for name in office.left() if name.endswith(".json")] == []
    office.orders.carry_out()
    assert office.send() == 0
