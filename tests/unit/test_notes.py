"""Notes on incomplete files: a process continues the wait of the one before it if nothing has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from invox_watcher.inbox import notes
from invox_watcher.inbox.notes import Notes
from invox_watcher.inbox.stability import Evidence, Snapshot, Tracker, Waits

WAITS = Waits(grace_seconds=1, settle_seconds=5, unproven_seconds=30, patience_seconds=300)
FILE = Snapshot(device=1, inode=2, size_bytes=3, mtime_ns=4, ctime_ns=5)
CHANGED = Snapshot(device=1, inode=2, size_bytes=3, mtime_ns=4, ctime_ns=6)


class Paper:
    """What was written last."""

    content = b""
    writes = 0

    def write(self, content: bytes) -> None:
        self.content = content
        self.writes += 1

    def notes(self) -> Notes:
        return Notes(lambda: self.content, self.write)


@pytest.fixture
def paper() -> Paper:
    paper = Paper()
    first = paper.notes()
    first.add(FILE, 100.0)
    first.save()
    return paper


def test_the_next_process_knows_since_when_a_file_is_unchanged(paper: Paper) -> None:
    tracker = Tracker(WAITS)
    tracker.see("a", FILE, 350, since=paper.notes().since(FILE, 350))
    assert tracker.pop_due(355) == "a"
    assert tracker.unchanged_seconds("a", 401) == 301


def test_a_file_that_has_changed_starts_anew(paper: Paper) -> None:
    assert paper.notes().since(CHANGED, 350) == 350


def test_a_change_after_the_start_ends_the_earlier_wait(paper: Paper) -> None:
    tracker = Tracker(WAITS)
    tracker.see("a", FILE, 350, since=paper.notes().since(FILE, 350))
    tracker.see("a", CHANGED, 360, best=Evidence.LIKELY)
    assert tracker.unchanged_seconds("a", 401) == 41


def test_after_a_boot_nothing_is_known(paper: Paper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("another\n")
    monkeypatch.setattr(notes, "_BOOT_ID", boot_id)
    assert paper.notes().since(FILE, 350) == 350


def test_a_time_that_has_not_come_is_not_believed(paper: Paper) -> None:
    assert paper.notes().since(FILE, 50) == 50


def test_only_news_is_written_and_files_that_are_gone_are_forgotten(paper: Paper) -> None:
    later = paper.notes()
    later.add(FILE, 100.0)
    later.save()
    assert paper.writes == 1
    later.keep(lambda: {CHANGED})
    later.save()
    assert paper.writes == 2
    assert json.loads(paper.content)["unchanged_since"] == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"boot": 1}', b"\xff", b"[" * 100_000])
def test_what_is_not_ours_is_ignored(content: bytes, paper: Paper) -> None:
    paper.content = content
    assert paper.notes().since(FILE, 350) == 350


def test_a_disk_that_is_full_costs_only_time() -> None:
    def fail(_content: bytes) -> None:
        raise OSError(28, "No space left on device")

    full = Notes(bytes, fail)
    full.add(FILE, 100.0)
    full.save()
    assert full.since(FILE, 350) == 100
