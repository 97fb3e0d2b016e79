"""A journal of the release whose tables had version 2, with a recording in every state."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

VECTOR = Path(__file__).parent.parent / "vectors" / "journal_v2"
# The pitch of each recording of 0.1 seconds, as tests/vectors/journal_v2/make.py made them.
PITCHES = {
    "ward 3/done.wav": 300, "failed.wav": 310, "vanished.wav": 320, "claimed.wav": 330, "identified.wav": 340,
    "uploading.wav": 350, "waiting.wav": 360, "copy.wav": 360, "transcribed.wav": 370, "delivered.wav": 380,
    "failing.wav": 390,
}  # fmt: skip


def old_journal(directory: Path, *statements: str) -> Path:
    """Make that journal in `directory`, with these changes; return its path."""
    path = directory / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as journal:
        journal.executescript((VECTOR / "journal.sql").read_text())
        for statement in statements:
            assert journal.execute(statement).rowcount, statement
        journal.commit()
    return path


def dump(path: Path) -> list[str]:
    """All that a journal holds, as SQL, and the version of its tables."""
    with contextlib.closing(sqlite3.connect(path)) as journal:
        return [*journal.iterdump(), str(journal.execute("PRAGMA user_version").fetchone())]
