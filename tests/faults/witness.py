"""Sees what was done to a folder that nobody should touch: which files were opened, and what changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from watchdog.events import FileOpenedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from tests.kit.waiting import wait_for


class Openings(FileSystemEventHandler):
    """Which files of a folder were opened, by whomsoever."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_opened(self, event: FileSystemEvent) -> None:
        assert isinstance(event, FileOpenedEvent)
        self.seen.append(Path(os.fsdecode(event.src_path)).name)


@contextmanager
def openings_in(folder: Path) -> Iterator[list[str]]:
    """The names of the files in `folder` that are opened as long as the block lasts."""
    openings, observer = Openings(), Observer()
    last = folder / ".last"
    last.open("ab").close()
    observer.schedule(openings, str(folder), event_filter=[FileOpenedEvent])
    observer.start()
    try:
        yield openings.seen
        last.open("rb").close()  # events keep their order
        wait_for("all events are in", lambda: last.name in openings.seen)
        openings.seen.remove(last.name)
    finally:
        observer.stop()
        observer.join()


def everything_in(folder: Path) -> dict[str, tuple[object, ...]]:
    """All names below `folder` with all that would show that one was touched."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [folder, *folder.rglob("*")]:
        facts = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (facts.st_mode, facts.st_ino, facts.st_nlink, facts.st_mtime_ns, content)
    return found
