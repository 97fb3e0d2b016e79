"""Fixtures of the tests of single parts; their conftest.py files import them, and say where a journal is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invox_watcher.files import Folders, prepare_folders
from invox_watcher.journal import Journal


@pytest.fixture
def journal(open_journal: Callable[..., Journal]) -> Iterator[Journal]:
    opened = open_journal()
    yield opened
    opened.close()


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(*(tmp_path / name for name in ("inbox", "processing", "outbox", "done", "failed")))
    prepare_folders(made)
    return made
