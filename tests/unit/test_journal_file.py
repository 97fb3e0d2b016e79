"""The journal as a SQLite file: what is left in it, and what happens if it can't be used."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.errors import ConfigurationError, ExitStatus, JournalError
from invox_watcher.job import State
from invox_watcher.journal import Journal, Server, copy_journal
from tests.unit.test_journal import SHA, added, uploaded


def test_the_journal_is_private(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        Journal(tmp_path).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "journal.sqlite").stat().st_mode) == 0o600


def test_deleted_words_leave_the_file_with_any_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def built_otherwise(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA secure_delete = OFF")
        return connection

    monkeypatch.setattr(sqlite3, "connect", built_otherwise)
    journal = Journal(tmp_path)
    words = "She complains of a pain in her left knee. " * 200  # over several pages
    transcribed = journal.move(uploaded(journal), State.TRANSCRIBED, reply={"text": words})
    files = [journal.path, journal.path.with_name(f"{journal.path.name}-wal")]
    assert any(b"in her left knee" in file.read_bytes() for file in files)
    journal.finished.mark_deleted(transcribed, "transcripts")
    assert journal.finished.erase_deleted()
    assert not any(b"in her left knee" in file.read_bytes() for file in files)
    journal.close()


# ---- a journal that can't be used --------------------------------------------------------------------------


def test_a_missing_journal_is_only_created_on_request(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="There is no journal at"):
        Journal(tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(JournalError, match="unable to open"):
        Journal(tmp_path / "nowhere")


def test_one_that_a_daemon_is_just_creating_is_missing(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)) as daemon:
        daemon.execute("BEGIN IMMEDIATE")
        daemon.execute("CREATE TABLE jobs (id TEXT)")
        with pytest.raises(JournalError, match="There is no journal at") as caught:
            Journal(tmp_path, create=False)
    assert caught.value.code == "journal_missing"


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"something else entirely\n" * 100)
    with pytest.raises(JournalError, match="not a database") as caught:
        Journal(tmp_path)
    assert "damaged" in caught.value.hint
    assert (tmp_path / "journal.sqlite").read_bytes() == b"something else entirely\n" * 100


def test_a_damaged_journal_says_so_without_values(journal: Journal) -> None:
    secret = added(journal, path="Maria Gonzalez.wav")
    connection = sqlite3.connect(journal.path)
    connection.execute("DROP TABLE history")
    connection.commit()
    connection.close()
    with pytest.raises(JournalError) as caught:
        journal.identify(secret, SHA, follow=True)
    assert "no such table" in caught.value.message
    assert "Gonzalez" not in caught.value.message
    assert SHA not in caught.value.message
    assert caught.value.__cause__ is None
    with contextlib.closing(sqlite3.connect(journal.path)) as connection:
        states = connection.execute("SELECT state FROM jobs").fetchall()
    assert states == [("claimed",)]  # both or neither: the row went back with it


def damaged(directory: Path) -> Path:
    """A journal of some pages, closed, of which one with a reply is overwritten."""
    with contextlib.closing(Journal(directory)) as journal:
        for number in range(60):
            waiting = uploaded(journal, f"r-{number}", later=number)
            journal.move(waiting, State.TRANSCRIBED, reply={"text": "words " * 2000})
        path = journal.path
    content = path.read_bytes()
    pages = [at for at in range(0, len(content), 4096) if b"words words" in content[at : at + 4096]]
    with path.open("r+b") as file:
        file.seek(pages[len(pages) // 2])
        file.write(os.urandom(4096))
    return path


def test_a_small_journal_that_is_damaged_is_found_at_once(tmp_path: Path) -> None:
    before = damaged(tmp_path).read_bytes()
    with pytest.raises(JournalError, match="can't be used") as caught:
        Journal(tmp_path)
    assert "damaged" in caught.value.hint
    assert (tmp_path / "journal.sqlite").read_bytes() == before


def test_a_large_journal_that_is_damaged_is_found_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged(tmp_path)
    monkeypatch.setattr("invox_watcher.journal.integrity._SMALL_BYTES", 0)
    monkeypatch.setattr("invox_watcher.journal.integrity._SHARE_OF_A_CORE", 1)
    with contextlib.closing(Journal(tmp_path)) as journal:
        with pytest.raises(JournalError) as caught:
            journal.verify_in_steps(threading.Event())
        assert "damaged" in caught.value.hint
        with pytest.raises(JournalError):
            journal.verify()


def test_reading_a_large_journal_ends_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invox_watcher.journal.integrity._SMALL_BYTES", 0)
    monkeypatch.setattr("invox_watcher.journal.integrity._SHARE_OF_A_CORE", 1)
    monkeypatch.setattr("invox_watcher.journal.integrity._STEP_ROWS", 7)
    with contextlib.closing(Journal(tmp_path)) as journal:
        for number in range(30):
            uploaded(journal, f"r-{number}", later=number)
        journal.verify_in_steps(threading.Event())
        monkeypatch.setattr("invox_watcher.journal.integrity._SHARE_OF_A_CORE", 1e-9)
        stop = threading.Event()
        reading = threading.Thread(target=journal.verify_in_steps, args=[stop])
        reading.start()
        stop.set()
        reading.join(30)
        assert not reading.is_alive(), "it pauses all the same"


def test_a_database_needs_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    server = Server("postgresql://user:secret@host/journal")
    for use in (lambda: Journal(tmp_path, server=server), lambda: copy_journal(tmp_path, server)):
        with pytest.raises(ConfigurationError, match=r"pip install 'PATH\[fleet\]'") as caught:
            use()
        assert caught.value.exit_status == ExitStatus.CONFIGURATION
        assert "secret" not in str(caught.value)
