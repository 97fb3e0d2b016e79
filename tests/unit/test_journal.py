"""The journal: guarded moves, reserved names, what is followed, what is asked about; and its own faults."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.errors import JournalError, Reason, StaleStateError
from invox_watcher.job import TRANSITIONS, Failure, Job, State, new_job_id
from invox_watcher.journal.journal import Journal, NameReservedError
from invox_watcher.recording import FileIdentity

BEGAN = datetime(2026, 11, 23, 18, 0, 0, 123456, tzinfo=UTC)
SHA = "5" * 64
DEADLINE = Failure(State.WAITING, Reason("deadline", "No result.", "Retry."), retry_can_help=False)
REPORTED = Failure(State.WAITING, Reason("transcription_failed", "None.", "Listen."), retry_can_help=True)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path)
    yield opened
    opened.close()


def job(**changes: Any) -> Job:
    fields: dict[str, Any] = {
        "id": new_job_id(), "state": State.CLAIMED, "path": "ward 3/smith.wav",
        "identity": FileIdentity(device=2**63 + 1, inode=2**64 - 1, size_bytes=8044, mtime_ns=1),
        "received_at": BEGAN,
    }  # fmt: skip
    return Job(**(fields | changes))


def added(journal: Journal, **changes: Any) -> Job:
    made = job(**changes)
    journal.add(made)
    return made


def identified(journal: Journal, sha256: str = SHA, *, later: int = 0) -> Job:
    claimed = added(journal, received_at=BEGAN + timedelta(seconds=later))
    return journal.identify(claimed, sha256, follow=True)


def uploaded(journal: Journal, request_id: str = "r-1", *, later: int = 0) -> Job:
    moved = journal.move(identified(journal, later=later), State.UPLOADING, request_id=request_id)
    return journal.move(moved, State.WAITING, uploaded_at=BEGAN)


# ---- rows --------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_after_a_restart(tmp_path: Path) -> None:
    refusal = Failure(State.CLAIMED, Reason("not_audio", "It is text.", "Look."), retry_can_help=False)
    written = job(
        path="ward/na\udcffïve\n.wav", format="WAV (PCM)", mime_type="audio/wav", duration_seconds=0.5,
        refusal=refusal,
    )  # fmt: skip
    journal = Journal(tmp_path)
    journal.add(written)
    journal.close()
    journal = Journal(tmp_path)
    assert journal.get(written.id) == written
    assert journal.active() == [written]
    assert journal.get("another") is None
    journal.close()


def test_the_journal_is_private(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        Journal(tmp_path).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "journal.sqlite").stat().st_mode) == 0o600


def test_deleted_words_leave_the_file_however_sqlite_was_built(
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
    assert b"in her left knee" in journal.path.read_bytes()
    journal.finished.mark_deleted(transcribed, "transcripts")
    assert b"in her left knee" not in journal.path.read_bytes()
    journal.close()


def test_lists_are_oldest_first_and_a_limit_keeps_the_newest(journal: Journal) -> None:
    jobs = [added(journal, received_at=BEGAN + timedelta(seconds=number)) for number in range(4)]
    assert journal.jobs() == jobs
    assert journal.jobs(limit=2) == jobs[2:]
    assert journal.jobs([State.DONE]) == []
    assert journal.counts() == {State.CLAIMED: 4}


def test_the_life_of_a_recording_can_be_read(journal: Journal) -> None:
    waiting = uploaded(journal)
    moments = journal.history(waiting.id)
    assert [moment.state for moment in moments] == ["claimed", "identified", "uploading", "waiting"]
    assert moments[1].detail == {"sha256": SHA}
    assert [moment.at for moment in moments] == sorted(moment.at for moment in moments)


# ---- guarded moves -----------------------------------------------------------------------------------------


def test_a_move_needs_the_state_that_it_starts_from(journal: Journal) -> None:
    stale = identified(journal)
    journal.move(stale, State.UPLOADING, request_id="r-1")
    with pytest.raises(StaleStateError):
        journal.move(stale, State.UPLOADING, request_id="r-2")
    with pytest.raises(StaleStateError):
        journal.update(stale, attempts=5)
    found = journal.get(stale.id)
    assert found is not None
    assert (found.state, found.request_id, found.attempts) == (State.UPLOADING, "r-1", 0)
    assert len(journal.history(stale.id)) == 3


def test_of_many_that_move_at_once_one_wins(journal: Journal) -> None:
    start = identified(journal)
    barrier = threading.Barrier(8)

    def attempt(number: int) -> bool:
        barrier.wait()
        try:
            journal.move(start, State.UPLOADING, request_id=f"r-{number}")
        except StaleStateError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


@pytest.mark.parametrize("state", list(State))
def test_only_the_ways_that_were_drawn_can_be_gone(journal: Journal, state: State) -> None:
    here = added(journal, state=state)
    for to in set(State) - TRANSITIONS[state]:
        with pytest.raises(AssertionError, match="no way leads"):
            journal.move(here, to)
    assert journal.get(here.id) == here


def test_a_move_returns_what_is_then_in_the_journal(journal: Journal) -> None:
    moved = journal.move(identified(journal), State.UPLOADING, request_id="r-1", uploaded_bytes=7)
    assert journal.get(moved.id) == moved
    assert journal.update(moved, attempts=2) == journal.get(moved.id)


def test_the_reply_is_kept_with_the_move(journal: Journal) -> None:
    waiting = uploaded(journal)
    assert journal.reply(waiting.id) is None
    reply = {"transcription": [{"text": "naïve \udcff", "start": 0.5}], "status": "COMPLETED"}
    journal.move(waiting, State.TRANSCRIBED, reply=reply)
    assert journal.reply(waiting.id) == reply


# ---- reserved names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("same", ["ward/smith.", "WARD/Smith."])
def test_a_name_is_reserved_once_until_its_job_moves_on(journal: Journal, same: str) -> None:
    first, second = uploaded(journal), uploaded(journal, "r-2", later=1)
    first = journal.move(first, State.TRANSCRIBED, reserve="ward/smith.")
    with pytest.raises(NameReservedError):
        journal.move(second, State.TRANSCRIBED, reserve=same)
    assert journal.get(second.id) == second
    assert journal.update(first, attempts=1).state is State.TRANSCRIBED
    with pytest.raises(NameReservedError):
        journal.move(second, State.TRANSCRIBED, reserve=same)
    journal.move(dataclasses.replace(first, attempts=1), State.DELIVERED)
    assert journal.move(second, State.TRANSCRIBED, reserve=same).state is State.TRANSCRIBED


def test_composed_and_decomposed_names_are_one(journal: Journal) -> None:
    first, second = uploaded(journal), uploaded(journal, "r-2", later=1)
    journal.move(first, State.TRANSCRIBED, reserve="Müller.")
    with pytest.raises(NameReservedError):
        journal.move(second, State.TRANSCRIBED, reserve="mu\u0308ller.")


# ---- the same content --------------------------------------------------------------------------------------


def test_the_same_content_follows_the_first(journal: Journal) -> None:
    first = identified(journal)
    assert first.original_id is None
    assert identified(journal, later=1).original_id == first.id
    assert identified(journal, later=2).original_id == first.id
    assert identified(journal, "6" * 64, later=3).original_id is None


def test_of_many_with_the_same_content_one_goes_first(journal: Journal) -> None:
    claimed = [added(journal) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: journal.identify(one, SHA, follow=True), claimed))
    (first,) = [one for one in found if one.original_id is None]
    assert {one.original_id for one in found if one is not first} == {first.id}


def test_when_the_first_is_given_up_one_of_the_others_goes_on(journal: Journal) -> None:
    first, second, third = (identified(journal, later=number) for number in range(3))
    journal.move(first, State.FAILING, failure=DEADLINE)
    second = journal.follow_again(second)
    third = journal.follow_again(third)
    assert second.original_id is None
    assert third.original_id == second.id


@pytest.mark.parametrize("ending", ["failing", "failed", "vanished"])
@pytest.mark.parametrize("follows", [True, False], ids=["follower", "newcomer"])
def test_what_was_given_up_while_the_api_may_have_it_is_asked_about(
    journal: Journal, ending: str, *, follows: bool
) -> None:
    first = uploaded(journal, "r-1")
    follower = identified(journal, later=1) if follows else None
    if ending == "vanished":
        journal.move(first, State.VANISHED)
    else:
        first = journal.move(first, State.FAILING, failure=DEADLINE)
        if ending == "failed":
            journal.move(first, State.FAILED)
    heir = journal.follow_again(follower) if follower else identified(journal, later=1)
    assert (heir.original_id, heir.request_id) == (None, "r-1")
    assert journal.get(heir.id) == heir


def test_what_the_api_gave_its_last_word_on_is_not_asked_about(journal: Journal) -> None:
    journal.move(uploaded(journal), State.FAILING, failure=REPORTED)
    assert identified(journal, later=1).request_id is None


def test_how_long_the_api_takes_is_learned_from_what_was_polled(journal: Journal) -> None:
    assert journal.transcription_ratios("polling") == []
    for seconds, how in ((20, "polling"), (10, "polling"), (1, "reuse")):
        waiting = uploaded(journal, later=seconds)
        journal.update(
            waiting,
            duration_seconds=40.0,
            completed_at=BEGAN + timedelta(seconds=seconds),
            delivered_by=how,
        )
    assert sorted(journal.transcription_ratios("polling")) == [0.25, 0.5]


# ---- a journal that can't be used --------------------------------------------------------------------------


def test_a_missing_journal_is_only_made_where_that_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="There is no journal at"):
        Journal(tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(JournalError, match="unable to open"):
        Journal(tmp_path / "nowhere")


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"something else entirely\n" * 100)
    with pytest.raises(JournalError, match="not a database") as caught:
        Journal(tmp_path)
    assert "damaged" in caught.value.hint
    assert (tmp_path / "journal.sqlite").read_bytes() == b"something else entirely\n" * 100


def test_a_journal_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (tmp_path / "journal.sqlite").read_bytes()
    with pytest.raises(JournalError, match="has version 99; this release reads version 2"):
        Journal(tmp_path)
    assert (tmp_path / "journal.sqlite").read_bytes() == before


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
