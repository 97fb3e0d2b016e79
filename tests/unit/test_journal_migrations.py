"""A journal of another release: converted as a whole or not at all, copied before, refused if it is newer."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from invox_watcher import logs, version
from invox_watcher.errors import JournalError
from invox_watcher.events import log
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal import Journal, Wanted
from invox_watcher.journal import migrations as steps
from invox_watcher.recording import FileIdentity
from invox_watcher.suspicion import Doubt, Suspicion
from tests.kit.captured_log import LogStream
from tests.kit.old_journal import PITCHES, dump, old_journal


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    yield
    log.write_to(None)


def tables_of(path: Path) -> dict[str, Any]:
    """Every table's columns and indices, as SQLite sees them."""
    with contextlib.closing(sqlite3.connect(path)) as journal:
        texts = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
        indices = {name: " ".join(text.split()) for name, text in journal.execute(texts)}
        names = [row[0] for row in journal.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            name: (
                journal.execute(f"PRAGMA table_xinfo({name})").fetchall(),
                {
                    (unique, tuple(journal.execute(f"PRAGMA index_info({index})").fetchall()))
                    for _number, index, unique, *_rest in journal.execute(f"PRAGMA index_list({name})")
                },
            )
            for name in names
        } | {"indices": indices}


def by_path(journal: Journal) -> dict[str, Job]:
    return {job.path: job for job in journal.jobs()}


def newcomer(**changes: Any) -> Job:
    made = Job(
        new_job_id(), State.CLAIMED, "new.wav", FileIdentity(1, 1, 1, 1), received_at=datetime.now(UTC)
    )
    return replace(made, **changes)


def finish(journal: Journal, job: Job) -> None:
    """Let it become done, without a transcript."""
    journal.add(job)
    job = journal.identify(job, "6" * 64, follow=False)
    for state in (State.UPLOADING, State.WAITING, State.TRANSCRIBED, State.DELIVERED, State.DONE):
        job = journal.move(job, state)


# ---- the conversion ----------------------------------------------------------------------------------------


def test_a_converted_journal_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old_journal(tmp_path / "old")
    for name in ("old", "new"):
        Journal(tmp_path / name).close()
    old, new = (tables_of(tmp_path / name / "journal.sqlite") for name in ("old", "new"))
    assert old.keys() == new.keys()
    for table in new:
        assert old[table] == new[table], table
    assert dump(tmp_path / "old" / "journal.sqlite")[-1] == f"({steps.VERSION},)"


def test_every_job_of_an_old_journal_is_read(tmp_path: Path) -> None:
    old_journal(
        tmp_path,
        "UPDATE jobs SET url_refusals = 2, voids = 3 WHERE state = 'waiting'",
        "UPDATE jobs SET failure = replace(failure, ': false', ': true') WHERE state = 'failing'",
    )
    with contextlib.closing(Journal(tmp_path)) as journal:
        jobs = by_path(journal)
        assert {path: job.state for path, job in jobs.items()} == {
            name: "identified" if name == "copy.wav" else Path(name).stem for name in PITCHES
        }
        waiting, failing, failed = (jobs[f"{state}.wav"] for state in ("waiting", "failing", "failed"))
        assert (waiting.refused_urls, waiting.changed_uploads) == (2, 3)
        assert (waiting.polled_at, waiting.waited_seconds, waiting.denied_seconds) == (None, 0.0, 0.0)
        assert (waiting.predecessor_id, waiting.payload) == (None, None)
        assert jobs["copy.wav"].original_id == waiting.id
        assert failing.failure is not None
        assert (failing.failure.retry_can_help, failing.failure.reason.code) == (True, "truncated")
        assert failed.failure is not None
        assert failed.refusal is not None
        assert (failed.failure.retry_can_help, failed.refusal.retry_can_help) == (False, False)
        notice = journal.notice(str(waiting.request_id))
        assert notice is not None
        assert not notice.covers_body
        assert notice.payload == {"requestId": waiting.request_id, "processingStatus": "COMPLETED"}
        assert journal.reply(jobs["transcribed.wav"].id) is not None
        assert [entry.state for entry in journal.history(waiting.id)][-1] == "waiting"


def test_old_outputs_become_rows(tmp_path: Path) -> None:
    outputs = json.dumps({"outputs": {"na\udcffïve.srt": "5" * 64}})
    old_journal(
        tmp_path,
        f"UPDATE history SET detail = '{outputs}' WHERE state = 'delivered' AND job_id = "
        "(SELECT id FROM jobs WHERE state = 'delivered')",
    )
    with contextlib.closing(Journal(tmp_path)) as journal:
        jobs, finished = by_path(journal), journal.finished
        done, failed = jobs["ward 3/done.wav"], jobs["failed.wav"]
        assert list(finished.outputs(done.id)) == ["ward 3/done.json", "ward 3/done.srt"]
        assert list(finished.outputs(failed.id)) == ["failed.wav.error.json"]
        assert finished.outputs(jobs["delivered.wav"].id) == {"na\udcffïve.srt": "5" * 64}
        assert finished.writer_of("ward 3/done.srt") == done.id
        assert finished.writer_of("failed.wav.error.json") is None


def test_a_hook_that_was_due_is_still_due(tmp_path: Path) -> None:
    old_journal(tmp_path)
    with contextlib.closing(Journal(tmp_path)) as journal:
        assert [journal.get(one.job_id).path for one in journal.deliveries.owed(limit=9)] == [
            "ward 3/done.wav"
        ]  # type: ignore[union-attr]


# ---- the copy ----------------------------------------------------------------------------------------------


def test_the_old_journal_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    before = dump(old_journal(tmp_path))
    stream = LogStream()
    logs.configure(stream=stream)
    Journal(tmp_path).close()
    copy = tmp_path / "journal.sqlite.v2"
    assert dump(copy) == before
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["journal.sqlite", "journal.sqlite.v2"]
    [line] = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert (line["event"], line["version"], line["copy"]) == ("journal_migrated", 2, str(copy))
    Journal(tmp_path).close()
    assert dump(copy) == before
    assert len(stream.getvalue().splitlines()) == 1


def test_a_journal_of_version_3_is_converted_too(tmp_path: Path) -> None:
    path = old_journal(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as old:
        steps._to_3(old)
        old.execute("INSERT INTO releases VALUES (3, '0.1.0')")
        old.execute("PRAGMA user_version = 3")
        old.commit()
    (tmp_path / "new").mkdir()
    Journal(tmp_path / "new").close()
    with contextlib.closing(Journal(tmp_path)) as journal:
        job = by_path(journal)["delivered.wav"]
        assert job.suspect is None
        assert journal.jobs(suspect=True) == []
        found = (Suspicion(Doubt.BEYOND_END, 10.0, 12.5),)
        assert journal.update(job, suspect=found).suspect == found
        assert [one.suspect for one in journal.jobs(suspect=True)] == [found]
        journal.update(job, suspect=())
        assert journal.jobs(suspect=True) == []
    assert tables_of(path) == tables_of(tmp_path / "new" / "journal.sqlite")
    assert (tmp_path / "journal.sqlite.v3").exists()


def test_a_journal_of_version_4_learns_which_failures_were_retried(tmp_path: Path) -> None:
    path = old_journal(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as old:
        steps._to_3(old)
        steps._to_4(old)
        jobs = {state: job_id for job_id, state in old.execute("SELECT id, state FROM jobs")}
        retried, gone = jobs["failed"], jobs["vanished"]
        old.execute("UPDATE jobs SET predecessor_id = ? WHERE state = 'done'", (retried,))
        old.execute("UPDATE jobs SET predecessor_id = ? WHERE state = 'waiting'", (gone,))
        old.execute("PRAGMA user_version = 4")
        old.commit()
    (tmp_path / "new").mkdir()
    Journal(tmp_path / "new").close()
    with contextlib.closing(Journal(tmp_path)) as journal:
        by_state = {job.state: job for job in journal.jobs()}
        assert by_state[State.FAILED].successor_id == jobs["done"]
        assert by_state[State.VANISHED].successor_id == jobs["waiting"]
        assert journal.finished.open_failures() == []
        assert {job.last_fault for job in journal.jobs()} == {None}
    assert tables_of(path) == tables_of(tmp_path / "new" / "journal.sqlite")
    assert (tmp_path / "journal.sqlite.v4").exists()


def test_a_journal_of_version_7_learns_the_profiles_of_its_jobs(tmp_path: Path) -> None:
    path = old_journal(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as old:
        for number in range(3, 8):
            steps._STEPS[number](old)
        plan = json.dumps({"profile": "ward 3", "formats": [], "targets": [], "priority": "routine"})
        suspect = json.dumps([{"reason": "beyond_end", "start": 1.0, "end": 2.0}])
        values = (plan, suspect)
        old.execute("UPDATE jobs SET plan = ?, suspect = ? WHERE state = 'done'", values)
        old.execute("PRAGMA user_version = 7")
        old.commit()
    (tmp_path / "new").mkdir()
    Journal(tmp_path / "new").close()
    with contextlib.closing(Journal(tmp_path)) as journal:
        ward = Wanted(profiles=frozenset({"ward 3"}))
        for wanted in (ward, Wanted(suspect=True)):
            assert [job.state for job in journal.search.page(wanted, limit=9).jobs] == [State.DONE]
    assert tables_of(path) == tables_of(tmp_path / "new" / "journal.sqlite")


@pytest.mark.parametrize("restarted", [False, True])
def test_the_copy_goes_once_a_newer_recording_is_done(tmp_path: Path, *, restarted: bool) -> None:
    old_journal(tmp_path)
    copy = tmp_path / "journal.sqlite.v2"
    journal = Journal(tmp_path)
    journal.move(by_path(journal)["delivered.wav"], State.DONE)
    assert copy.exists()
    if restarted:
        journal.close()
        journal = Journal(tmp_path)
    finish(journal, newcomer())
    assert not copy.exists()
    finish(journal, newcomer(path="another.wav"))
    journal.close()


def test_the_copy_is_on_disk_before_the_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_journal(tmp_path)
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    def step(connection: sqlite3.Connection) -> None:
        assert synced == [str(tmp_path / ".journal.sqlite.v2.tmp"), str(tmp_path)]
        assert (tmp_path / "journal.sqlite.v2").exists()
        steps._to_3(connection)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setitem(steps._STEPS, 3, step)
    Journal(tmp_path).close()


def test_without_space_for_the_copy_nothing_is_converted(tmp_path: Path) -> None:
    path = old_journal(tmp_path)
    before = path.read_bytes()
    (tmp_path / "journal.sqlite.v2").mkdir()  # in the way
    with pytest.raises(JournalError, match="can't be copied before it is converted") as caught:
        Journal(tmp_path)
    assert "journal.sqlite.v2" in caught.value.hint
    assert path.read_bytes() == before


def test_a_conversion_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_journal(tmp_path)
    before = dump(path)

    def fails(connection: sqlite3.Connection) -> None:
        steps._to_3(connection)
        connection.execute("no SQL at all")

    with monkeypatch.context() as patch:
        patch.setitem(steps._STEPS, 3, fails)
        with pytest.raises(JournalError, match="syntax error"):
            Journal(tmp_path)
    assert dump(path) == before
    Journal(tmp_path).close()
    assert dump(tmp_path / "journal.sqlite.v2") == before
    assert dump(path)[-1] == f"({steps.VERSION},)"


def test_a_conversion_that_fails_after_its_steps_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_journal(tmp_path)
    before = dump(path)
    monkeypatch.setattr(steps, "release", object)  # which no column takes
    with pytest.raises(JournalError):
        Journal(tmp_path)
    assert dump(path) == before


# ---- journals that are refused -----------------------------------------------------------------------------


def refusal(directory: Path, *, create: bool = True) -> JournalError:
    """What is said to a journal that is left as it is."""
    before = (directory / "journal.sqlite").read_bytes()
    with pytest.raises(JournalError) as caught:
        Journal(directory, create=create)
    assert (directory / "journal.sqlite").read_bytes() == before
    return caught.value


@pytest.mark.parametrize("create", [True, False], ids=["daemon", "command"])
def test_a_newer_journal_is_refused_by_its_release(tmp_path: Path, *, create: bool) -> None:
    Journal(tmp_path).close()
    path, newer = tmp_path / "journal.sqlite", steps.VERSION + 1
    with contextlib.closing(sqlite3.connect(path)) as journal:
        journal.execute(f"INSERT INTO releases VALUES ({newer}, '7.8.9', NULL)")
        journal.execute(f"PRAGMA user_version = {newer}")
        journal.commit()
    error = refusal(tmp_path, create=create)
    assert error.code == "journal_newer"
    assert f"{path} was written by invox-watcher 7.8.9 (journal version {newer})" in error.message
    assert f"invox-watcher {version()} reads versions up to {steps.VERSION}" in error.message
    assert error.hint == "Install that release again."
    copy = tmp_path / f"journal.sqlite.v{steps.VERSION}"
    copy.touch()
    assert str(copy) in refusal(tmp_path, create=create).hint


def test_a_newer_journal_that_says_so_is_used(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    path, newer = tmp_path / "journal.sqlite", steps.VERSION + 1
    with contextlib.closing(sqlite3.connect(path)) as journal:
        journal.execute(f"INSERT INTO releases VALUES ({newer}, '7.8.9', {steps.VERSION})")
        journal.execute(f"PRAGMA user_version = {newer}")
        journal.commit()
    for create in (True, False):
        Journal(tmp_path, create=create).close()
    with contextlib.closing(sqlite3.connect(path)) as journal:
        assert journal.execute("PRAGMA user_version").fetchall() == [(newer,)]


def test_a_newer_journal_without_names_is_refused(tmp_path: Path) -> None:
    path = old_journal(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as journal:
        journal.execute("PRAGMA user_version = 99")
    error = refusal(tmp_path)
    assert "was written by a newer release (journal version 99)" in error.message


def test_a_journal_before_all_steps_is_refused(tmp_path: Path) -> None:
    path = old_journal(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as journal:
        journal.execute("PRAGMA user_version = 1")
    assert "has journal version 1" in refusal(tmp_path).message


def test_a_command_leaves_an_old_journal_to_the_daemon(tmp_path: Path) -> None:
    old_journal(tmp_path)
    error = refusal(tmp_path, create=False)
    assert error.code == "journal_outdated"
    assert "journal version 2" in error.message
    assert "restart the daemon" in error.hint
    assert os.listdir(tmp_path) == ["journal.sqlite"]


def test_a_journal_names_the_release_that_made_it(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.sqlite")) as journal:
        row = (steps.VERSION, version(), steps.MIN_READER)
        assert journal.execute("SELECT * FROM releases").fetchall() == [row]
