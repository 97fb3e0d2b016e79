"""The journal: guarded moves, reserved names, what is followed, what is asked about."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.errors import JournalError, Reason, StaleStateError
from invox_watcher.job import TRANSITIONS, Failure, Fault, Job, Payload, State, new_job_id
from invox_watcher.journal import (
    AUDIT_FILENAME,
    AuditLog,
    Journal,
    NameReservedError,
    ProcessingTime,
    Receipt,
)
from invox_watcher.notice import NoticeOutcome, WebhookNotice
from invox_watcher.recording import FileIdentity

OpenJournal = Callable[..., Journal]

FAULT = Fault(Reason("down", "It does not answer.", "Start it."), datetime(2026, 11, 23, tzinfo=UTC))
BEGAN = datetime(2026, 11, 23, 18, 0, 0, 123456, tzinfo=UTC)
SHA = "5" * 64
DEADLINE = Failure(State.WAITING, Reason("deadline", "No result.", "Retry."), retry_can_help=False)
REPORTED = Failure(State.WAITING, Reason("transcription_failed", "None.", "Listen."), retry_can_help=True)


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


def test_what_is_written_is_read_back_after_a_restart(open_journal: OpenJournal) -> None:
    refusal = Failure(State.CLAIMED, Reason("not_audio", "It is text.", "Look."), retry_can_help=False)
    written = job(
        path="ward/na\udcffïve\n.wav", format="WAV (PCM)", mime_type="audio/wav", duration_seconds=0.5,
        refusal=refusal, polled_at=BEGAN, waited_seconds=1.5, denied_seconds=2.5,
        payload=Payload("na\udcffïve.flac", size_bytes=7, sha256=SHA, mime_type="audio/flac"),
    )  # fmt: skip
    journal = open_journal()
    journal.add(written)
    journal.close()
    journal = open_journal()
    assert journal.get(written.id) == written
    assert journal.active() == [written]
    assert journal.get("another") is None
    journal.close()


def test_of_one_name_the_job_filed_last_counts(journal: Journal) -> None:
    """A recording that was withdrawn and filed again within one second, or by a clock that was set back."""
    ids = ("20261123t180000-f", "20261123t180000-a", "20261122t180000-b")
    jobs = [added(journal, id=job_id, state=State.DELIVERED) for job_id in ids]
    jobs = [journal.move(one, State.DONE, filed_as="smith.wav") for one in jobs]
    assert journal.finished.recent(BEGAN - timedelta(days=400)) == jobs[2:]
    assert [journal.finished.has_its_name(one) for one in jobs] == [False, False, True]


def test_lists_are_oldest_first_and_a_limit_keeps_the_newest(journal: Journal) -> None:
    jobs = [added(journal, received_at=BEGAN + timedelta(seconds=number)) for number in range(4)]
    assert journal.jobs() == jobs
    assert journal.jobs(limit=2) == jobs[2:]
    assert journal.jobs([State.DONE]) == []
    assert journal.counts() == {State.CLAIMED: 4}


def test_the_history_of_a_recording_can_be_read(journal: Journal) -> None:
    waiting = uploaded(journal)
    moments = journal.history(waiting.id)
    assert [moment.state for moment in moments] == ["claimed", "identified", "uploading", "waiting"]
    assert moments[1].detail == {"sha256": SHA}
    assert [moment.at for moment in moments] == sorted(moment.at for moment in moments)


# ---- guarded moves -----------------------------------------------------------------------------------------


def test_a_transition_needs_the_state_that_it_starts_from(journal: Journal) -> None:
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


def test_of_many_transitions_at_once_one_wins(journal: Journal) -> None:
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
def test_only_the_listed_transitions_are_possible(journal: Journal, state: State) -> None:
    here = added(journal, state=state)
    for to in set(State) - TRANSITIONS[state]:
        with pytest.raises(AssertionError, match="no transition leads"):
            journal.move(here, to)
    assert journal.get(here.id) == here


def test_a_transition_returns_what_is_then_in_the_journal(journal: Journal) -> None:
    moved = journal.move(identified(journal), State.UPLOADING, request_id="r-1", uploaded_bytes=7)
    assert journal.get(moved.id) == moved
    assert journal.update(moved, attempts=2) == journal.get(moved.id)


def test_the_reply_is_stored_with_the_transition(journal: Journal) -> None:
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


def test_when_the_first_is_given_up_another_takes_over(journal: Journal) -> None:
    first, second, third = (identified(journal, later=number) for number in range(3))
    journal.move(first, State.FAILING, failure=DEADLINE)
    second = journal.follow_again(second)
    third = journal.follow_again(third)
    assert second.original_id is None
    assert third.original_id == second.id


@pytest.mark.parametrize("ending", ["failing", "failed", "vanished"])
@pytest.mark.parametrize("follows", [True, False], ids=["follower", "newcomer"])
def test_an_abandoned_request_is_polled_before_a_new_upload(
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
    follower = identified(journal, later=2)
    assert (follower.original_id, follower.request_id) == (heir.id, None), "one of them asks"


def test_a_request_that_ended_in_error_is_not_polled_again(journal: Journal) -> None:
    journal.move(uploaded(journal), State.FAILING, failure=REPORTED)
    assert identified(journal, later=1).request_id is None


def test_an_acknowledged_upload_stays_acknowledged_for_a_retry(journal: Journal) -> None:
    first = uploaded(journal)
    journal.move(first, State.FAILING)
    again = identified(journal)
    assert again.uploaded_at is not None
    assert (again.request_id, again.uploaded_at) == (first.request_id, first.uploaded_at)


def test_a_signature_over_the_body_replaces_one_that_is_not(journal: Journal) -> None:
    uploaded(journal)

    def record(words: str, *, covers_body: bool) -> NoticeOutcome:
        notice = WebhookNotice("r-1", {"text": words}, f"signature of {words}", words, covers_body)
        return journal.record_notice(notice)

    assert record("forged", covers_body=False) is NoticeOutcome.NEW
    assert record("genuine", covers_body=True) is NoticeOutcome.NEW
    assert record("genuine", covers_body=True) is NoticeOutcome.REPEATED
    assert record("forged", covers_body=False) is NoticeOutcome.CONTRADICTS
    stored = journal.notice("r-1")
    assert stored is not None
    assert (stored.payload, stored.covers_body) == ({"text": "genuine"}, True)


def test_how_long_the_api_takes_is_learned_from_what_was_polled(journal: Journal) -> None:
    assert journal.processing_times("polling") == []
    for seconds, how in ((20, "polling"), (10, "polling"), (1, "reuse")):
        waiting = uploaded(journal, later=seconds)
        journal.update(
            waiting,
            duration_seconds=40.0,
            completed_at=BEGAN + timedelta(seconds=seconds),
            delivered_by=how,
            waited_seconds=5.0,
        )
    assert journal.processing_times("polling") == [ProcessingTime(40, 5, 10), ProcessingTime(40, 5, 20)]


# ---- a retry's predecessor ---------------------------------------------------------------------------------


def failed(journal: Journal, *, inode: int, sha256: str | None = SHA) -> Job:
    """A job that failed; without `sha256`, before its content was read."""
    made = added(journal, identity=FileIdentity(1, inode, 8044, 1))
    if sha256:
        made = journal.identify(made, sha256, follow=True)
    return journal.move(journal.move(made, State.FAILING, failure=DEADLINE), State.FAILED)


def predecessor_of(journal: Journal, job: Job) -> str | None:
    found = journal.get(job.id)
    assert found is not None
    return found.predecessor_id


def test_the_same_file_knows_its_predecessor_when_claimed(journal: Journal) -> None:
    first = failed(journal, inode=7, sha256=None)
    again = added(journal, identity=first.identity)
    assert predecessor_of(journal, again) == first.id
    assert journal.identify(again, SHA, follow=True).predecessor_id == first.id
    other = added(journal, identity=FileIdentity(1, 7, 8044, mtime_ns=2))
    assert predecessor_of(journal, other) is None


def test_the_same_content_knows_its_predecessor(journal: Journal) -> None:
    failed(journal, inode=7)
    latest = failed(journal, inode=8)
    again = journal.identify(added(journal), SHA, follow=True)
    assert again.predecessor_id == latest.id
    assert journal.get(again.id) == again
    assert journal.identify(added(journal), "6" * 64, follow=True).predecessor_id is None


def test_a_recording_that_was_taken_away_may_come_back(journal: Journal) -> None:
    gone = journal.move(identified(journal), State.VANISHED)
    assert predecessor_of(journal, added(journal)) == gone.id


def test_each_retry_follows_the_one_before(journal: Journal) -> None:
    first = failed(journal, inode=7)
    second = failed(journal, inode=7)
    third = failed(journal, inode=7)
    assert predecessor_of(journal, second) == first.id
    assert predecessor_of(journal, third) == second.id


def test_a_copy_of_what_was_retried_is_no_retry(journal: Journal) -> None:
    failed(journal, inode=7)
    retried = journal.identify(added(journal), SHA, follow=True)
    assert retried.predecessor_id is not None
    copy = journal.identify(added(journal), SHA, follow=True)
    assert (copy.original_id, copy.predecessor_id) == (retried.id, None)


# ---- failures that are still open --------------------------------------------------------------------------


def open_failures(journal: Journal) -> list[str]:
    return [job_id for job_id, _name in reversed(journal.finished.open_failures())]


def successor_of(journal: Journal, job: Job) -> str | None:
    found = journal.get(job.id)
    assert found is not None
    return found.successor_id


def test_a_retry_settles_the_failure_before_it(journal: Journal) -> None:
    first, other = failed(journal, inode=7), failed(journal, inode=8, sha256="6" * 64)
    assert open_failures(journal) == [first.id, other.id]
    second = failed(journal, inode=7)
    assert (successor_of(journal, first), open_failures(journal)) == (second.id, [other.id, second.id])
    copy = journal.identify(added(journal), "6" * 64, follow=True)  # dropped again, as another file
    assert (successor_of(journal, other), open_failures(journal)) == (copy.id, [second.id])


def test_a_retry_that_vanished_settles_nothing(journal: Journal) -> None:
    first = failed(journal, inode=7)
    gone = journal.move(journal.identify(added(journal), SHA, follow=True), State.VANISHED)
    assert open_failures(journal) == [first.id]
    again = journal.identify(added(journal), SHA, follow=True)
    assert (again.predecessor_id, successor_of(journal, first)) == (gone.id, again.id)
    assert open_failures(journal) == []


def test_a_duplicate_that_is_skipped_passes_its_succession_on(journal: Journal) -> None:
    original = done(journal, {})
    first = failed(journal, inode=7, sha256=None)
    copy = added(journal, identity=first.identity)
    journal.discard(copy, original.id)
    assert successor_of(journal, first) == original.id


def test_what_retention_deleted_is_not_open(journal: Journal) -> None:
    first = failed(journal, inode=7)
    journal.finished.mark_deleted(first, "recording")
    assert open_failures(journal) == []


def test_the_last_fault_is_kept_until_the_state_changes(journal: Journal) -> None:
    fault = Fault(Reason("network", "It failed.", "Check the line."), BEGAN)
    job = journal.update(uploaded(journal), attempts=2, last_fault=fault)
    known = journal.get(job.id)
    assert known is not None
    assert known.last_fault == fault
    assert journal.move(known, State.TRANSCRIBED).last_fault is None
    claimed = journal.update(added(journal), last_fault=fault)
    assert journal.identify(claimed, "7" * 64, follow=True).last_fault is None


# ---- outputs and deliveries --------------------------------------------------------------------------------


def done(journal: Journal, outputs: dict[str, str]) -> Job:
    moved = journal.move(uploaded(journal), State.TRANSCRIBED, filed_as="smith.wav")
    return journal.move(journal.move(moved, State.DELIVERED, outputs=outputs), State.DONE)


def test_outputs_are_known_by_job_and_by_path(journal: Journal) -> None:
    first = done(journal, {"a.json": "1", "na\udcffïve.srt": "2"})
    second = done(journal, {"a.json": "3"})
    assert journal.finished.outputs(first.id) == {"a.json": "1", "na\udcffïve.srt": "2"}
    assert journal.finished.outputs("another") == {}
    assert journal.finished.writer_of("na\udcffïve.srt") == first.id
    assert journal.finished.writer_of("a.json") == second.id
    assert journal.finished.writer_of("a") is None
    assert journal.history(second.id)[-2].detail == {"outputs": {"a.json": "3"}}


def test_an_error_file_is_no_transcript(journal: Journal) -> None:
    failing = journal.move(uploaded(journal), State.FAILING, failure=DEADLINE)
    journal.move(failing, State.FAILED, outputs={"a.wav.error.json": "1"})
    assert journal.finished.outputs(failing.id) == {"a.wav.error.json": "1"}
    assert journal.finished.writer_of("a.wav.error.json") is None


def test_outputs_of_a_move_that_is_undone_are_undone(open_journal: OpenJournal) -> None:
    def refuses(was: State | None, job: Job, detail: Any) -> None:
        if job.state is State.DELIVERED:
            assert detail == {"outputs": {"a.json": "1"}}
            raise JournalError("the audit log is full")

    journal = open_journal(on_transition=refuses)
    moved = journal.move(uploaded(journal), State.TRANSCRIBED)
    with pytest.raises(JournalError, match="full"):
        journal.move(moved, State.DELIVERED, outputs={"a.json": "1"})
    assert journal.finished.outputs(moved.id) == {}
    assert journal.get(moved.id) == moved
    journal.close()


def test_the_audit_log_has_nothing_of_what_is_undone(open_journal: OpenJournal, tmp_path: Path) -> None:
    audit = AuditLog(tmp_path)
    journal = open_journal(on_transition=audit.record_transition, before_commit=audit.sync)
    undone, twice, never = job(), job(), job()
    with pytest.raises(NameReservedError):
        journal.add_all([(undone, None), (twice, None), (twice, None), (never, None)])
    kept = added(journal)
    lines = (tmp_path / AUDIT_FILENAME).read_text().splitlines()
    assert [json.loads(line)["job"] for line in lines] == [kept.id] * 2  # received, claimed
    journal.close()
    audit.close()


def deliveries(journal: Journal) -> list[tuple[Any, ...]]:
    return journal._database.read(
        "SELECT job_id, target, state, attempts, queued_at IS NULL, receipt FROM deliveries ORDER BY 1"
    )


def after_done(job: Job) -> list[str]:
    return ["mail"] if job.state is State.DONE else []


def test_a_delivery_is_owed_until_it_was_sent(open_journal: OpenJournal) -> None:
    journal = open_journal(targets_of=after_done)
    job = done(journal, {})
    journal.move(uploaded(journal, "r-2"), State.VANISHED)
    owed = journal.deliveries.next("mail", ordered=False)
    assert owed is not None
    assert journal.deliveries.owed(limit=9) == journal.deliveries.of(job.id) == [owed]
    assert deliveries(journal) == [(job.id, "mail", "due", 0, 0, None)]
    later = job.updated_at + timedelta(days=1)
    assert job.id not in [one.id for one in journal.finished.old(later)]
    assert journal.finished.kept("recording", State.DONE, later) == []
    receipt = Receipt("2026-11-23T18:50:56.123Z", "ended with status 0", "Words \udcff, ñ\n")
    assert journal.deliveries.sent(owed, receipt)
    assert not journal.deliveries.fail(owed, FAULT, None)  # that attempt has ended
    assert journal.deliveries.next("mail", ordered=False) is None
    assert deliveries(journal)[0][:5] == (job.id, "mail", "sent", 1, 0)
    assert [one.receipt for one in journal.deliveries.of(job.id)] == [receipt]
    assert job.id in [one.id for one in journal.finished.old(later)]
    assert journal.finished.kept("recording", State.DONE, later) == [job]
    journal.finished.mark_deleted(job, "transcripts")
    assert deliveries(journal) == [(job.id, "mail", "sent", 1, 0, None)]
    journal.close()


def test_what_the_configuration_no_longer_wants_is_given_up(open_journal: OpenJournal) -> None:
    journal = open_journal(targets_of=lambda _job: ["hooks.on_done", "hooks.on_failed", "mail"])
    done(journal, {})
    journal.deliveries.give_up_unless("hooks.", ["hooks.on_done"])
    assert set(journal.deliveries.backlogs()) == {"hooks.on_done", "mail"}
    journal.deliveries.give_up_unless("hooks.", [])
    assert set(journal.deliveries.backlogs()) == {"mail"}
    assert journal.deliveries.give_up("mail") == 1
    assert journal.deliveries.backlogs() == {}
    journal.close()


def test_backlogs_count_what_is_owed_uncertain_and_failed(open_journal: OpenJournal) -> None:
    journal = open_journal(targets_of=after_done)
    queue = journal.deliveries
    jobs = [done(journal, {}) for _ in range(4)]
    owed = [queue.of(job.id)[0] for job in jobs]
    queue.postpone(owed[0], FAULT, uncertain=True)
    queue.postpone(owed[1], FAULT, uncertain=False)
    queue.fail(owed[2], FAULT, None)
    backlog = queue.backlogs()["mail"]
    assert (backlog.owed, backlog.uncertain, backlog.failed) == (3, 1, 1)
    assert backlog.oldest_at == owed[0].queued_at
    assert [one.fault for one in queue.failed(limit=9)] == [FAULT]
    asked_at = datetime.now(UTC)
    assert queue.send_again([jobs[2].id, "unknown"], "mail", asked_at) == 1
    assert queue.send_again([jobs[2].id], "fhir", asked_at) == 1  # which it was not meant for
    backlogs = queue.backlogs()
    assert (backlogs["mail"].owed, backlogs["mail"].failed, backlogs["fhir"].owed) == (4, 0, 1)
    journal.close()


def test_nothing_is_left_of_a_job_that_is_forgotten(open_journal: OpenJournal) -> None:
    journal = open_journal(targets_of=after_done)
    moved = journal.move(uploaded(journal), State.TRANSCRIBED, reply={"text": "words"})
    job = journal.move(journal.move(moved, State.DELIVERED, outputs={"a.json": "1"}), State.DONE)
    journal.finished.forget([job])
    for table in ("jobs", "history", "outputs", "deliveries", "replies", "notices"):
        assert journal._database.read(f"SELECT * FROM {table}") == []
    journal.close()


# ---- what is remembered ------------------------------------------------------------------------------------


def remembered_from(journal: Journal, job: Job) -> str:
    return str(journal._database.read("SELECT remembered_from FROM jobs WHERE id = ?", (job.id,))[0][0])


@pytest.mark.parametrize("skipped", [True, False])
def test_an_entry_is_needed_as_long_as_copies_come(journal: Journal, *, skipped: bool) -> None:
    first = done(journal, {})
    other = journal.identify(added(journal), "6" * 64, follow=True)
    before = datetime.now(UTC)
    assert datetime.fromisoformat(remembered_from(journal, first)) < before
    copy = identified(journal)
    assert copy.original_id == first.id
    if skipped:
        journal.discard(copy, first.id)
    assert datetime.fromisoformat(remembered_from(journal, first)) >= before
    assert journal.finished.old(before) == []
    assert journal.finished.kept("transcripts", State.DONE, before) != []  # its words are as old as they are
    assert remembered_from(journal, other) == "None"


def test_how_many_are_done_is_counted_without_counting(journal: Journal) -> None:
    jobs = [done(journal, {}) for _ in range(3)]
    journal.move(uploaded(journal, "r-9"), State.VANISHED)
    assert journal.counts() == {State.DONE: 3, State.VANISHED: 1}
    journal.finished.forget(jobs[:2])
    assert journal.counts() == {State.DONE: 1, State.VANISHED: 1}


def test_signatures_are_forgotten_after_a_time(journal: Journal) -> None:
    journal.record_notice(WebhookNotice("r-1", {}, "signature", "content", covers_body=True))
    assert not journal.finished.forget_signatures(BEGAN)
    assert journal.finished.forget_signatures(datetime.now(UTC))
    assert not journal.finished.forget_signatures(datetime.now(UTC))


def test_processing_times_are_known_again_after_a_restart(open_journal: OpenJournal) -> None:
    with contextlib.closing(open_journal()) as journal:
        for seconds in (10, 20):
            changes = {"duration_seconds": 40.0, "delivered_by": "polling"}
            completed_at = BEGAN + timedelta(seconds=seconds)
            journal.update(uploaded(journal, later=seconds), completed_at=completed_at, **changes)
    with contextlib.closing(open_journal()) as journal:
        assert journal.processing_times("polling") == [ProcessingTime(40, 0, 10), ProcessingTime(40, 0, 20)]


@pytest.mark.parametrize("beginning", ["20261123t", "20261123t180000-AB", "abc", "abcdef012345"])
def test_a_job_is_found_by_the_beginning_of_its_id(journal: Journal, beginning: str) -> None:
    wanted = added(journal, id="20261123t180000-abcdef012345")
    added(journal, id="20261122t180000-bbcdef012345")
    assert [job.id for job in journal.lookup.by_id(beginning, limit=5)] == [wanted.id]
    assert journal.lookup.by_id("cdef", limit=5) == []


def test_of_one_name_the_job_that_came_last_is_found(journal: Journal) -> None:
    first, second = (added(journal, path=path) for path in ("a.wav", "a.wav"))
    filed = journal.move(added(journal, path="b.wav"), State.FAILING, filed_as="a-2.wav")
    lookup = journal.lookup
    assert lookup.latest_matching(lambda name: name == "a.wav") == lookup.latest(path="a.wav") == second
    assert lookup.latest_matching(lambda name: name == "a-2.wav") == filed
    assert lookup.latest([State.FAILING], filed_as="a-2.wav") == filed
    assert lookup.latest([State.FAILED], filed_as="a-2.wav") is None
    journal.move(second, State.FAILING)
    assert lookup.latest([State.CLAIMED], path="a.wav") == first
    assert lookup.latest_matching(lambda name: name == "c.wav") is None
