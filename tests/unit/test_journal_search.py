"""Recordings are found by name, author, day, state and profile, a page at a time, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from invox_watcher.errors import Reason
from invox_watcher.job import Failure, Job, State, new_job_id
from invox_watcher.journal import Journal, Wanted
from invox_watcher.plan import Plan
from invox_watcher.recording import FileIdentity
from invox_watcher.suspicion import Doubt, Suspicion

NOW = datetime.now(UTC)
WARD3, WARD4 = frozenset({"ward3"}), frozenset({"ward4"})


def add(journal: Journal, path: str, profile: str | None = None, author: str | None = None) -> Job:
    plan = None
    if profile is not None:
        plan = Plan(profile, ("json",), attributes={} if author is None else {"author": author})
    identity = FileIdentity(1, abs(hash(path)), 3, 4)
    job = Job(new_job_id(), State.CLAIMED, path, identity, received_at=datetime.now(UTC), plan=plan)
    journal.add(job)
    return job


def fail(journal: Journal, job: Job) -> Job:
    failure = Failure(State.CLAIMED, Reason("not_audio", "", ""), retry_can_help=False)
    job = journal.move(job, State.FAILING, failure=failure, filed_as=job.path)
    return journal.move(job, State.FAILED)


def pages(journal: Journal, wanted: Wanted, limit: int = 2, seconds: float = 5.0) -> list[list[str]]:
    """The names on every page."""
    found, before = [], None
    while True:
        page = journal.search.page(wanted, before=before, limit=limit, seconds=seconds)
        found.append([job.path for job in page.jobs])
        if page.following is None:
            return found
        assert before is None or page.following < before
        before = page.following


def names(journal: Journal, wanted: Wanted) -> list[str]:
    return [name for page in pages(journal, wanted) for name in page]


def test_pages_follow_one_another_without_gap_or_repeat(journal: Journal) -> None:
    for number in range(5):
        add(journal, f"{number}.wav", "ward3")
    assert pages(journal, Wanted()) == [["4.wav", "3.wav"], ["2.wav", "1.wav"], ["0.wav"]]
    assert pages(journal, Wanted(), limit=5) == [["4.wav", "3.wav", "2.wav", "1.wav", "0.wav"]]
    first = journal.search.page(Wanted(), limit=2)
    add(journal, "new.wav", "ward3")
    later = journal.search.page(Wanted(), before=first.following, limit=2)
    assert [job.path for job in later.jobs] == ["2.wav", "1.wav"]
    assert pages(journal, Wanted(profiles=WARD3)) == pages(journal, Wanted())


def test_no_time_to_search_means_an_early_page_not_a_lost_one(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invox_watcher.journal.search._LEAST_STRETCH", 2)
    monkeypatch.setattr("invox_watcher.journal.search._LARGEST_STRETCH", 2)
    for number in range(7):
        add(journal, f"{number}.wav", "ward3" if number == 0 else "ward4", "Smith")
    found = pages(journal, Wanted(text="0.wav"), seconds=-1)
    assert found == [[], [], [], ["0.wav"]]
    assert pages(journal, Wanted(text="0.wav")) == [["0.wav"]]
    # One that may see a single profile reads nothing of others.
    assert pages(journal, Wanted(text="0.wav", profiles=WARD3), seconds=-1) == [["0.wav"]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("MÜLLER", ["Mu\u0308ller.wav", "müller.wav"]),  # as a Mac writes it, and as others do
        ("straSSE", ["Straße.wav"]),
        ("100%", ["100%.wav"]),
        ("_", ["a_b.wav"]),
        ("dr. jos\u00e9", ["author.wav"]),
        ("\udcff", ["odd\udcff.wav"]),
        ("ward3", []),  # that is neither name nor author
        ('"', []),
    ],
)
def test_text_is_found_in_name_and_author(journal: Journal, text: str, found: Sequence[str]) -> None:
    for path in (
        "müller.wav",
        "Mu\u0308ller.wav",
        "Straße.wav",
        "100%.wav",
        "100.wav",
        "a_b.wav",
        "odd\udcff.wav",
    ):
        add(journal, path)
    add(journal, "author.wav", "ward3", "Dr. JOSE\u0301")
    assert names(journal, Wanted(text=text)) == found


def test_states_and_profiles_narrow_it_together(journal: Journal) -> None:
    for path, profile in (("a", "ward3"), ("b", "ward4"), ("c", "ward3"), ("d", None), ("e", "ward4")):
        job = add(journal, path, profile)
        if path in "abd":
            fail(journal, job)
    failed, ended = frozenset({State.FAILED}), frozenset({State.FAILED, State.DONE})
    table: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["e", "d", "c", "b", "a"]),
        ({"profiles": WARD3}, ["c", "a"]),
        ({"profiles": WARD3 | WARD4}, ["e", "c", "b", "a"]),
        ({"profiles": frozenset()}, []),
        ({"states": failed}, ["d", "b", "a"]),
        ({"states": ended}, ["d", "b", "a"]),
        ({"states": failed | {State.CLAIMED}}, ["e", "d", "c", "b", "a"]),
        ({"states": failed, "profiles": WARD4}, ["b"]),
        ({"states": ended, "profiles": WARD4}, ["b"]),
        ({"open_failure": True}, ["d", "b", "a"]),
        ({"open_failure": True, "profiles": WARD3}, ["a"]),
    ]
    for wanted, found in table:
        assert names(journal, Wanted(**wanted)) == found, wanted


def test_suspects_are_found_in_every_state(journal: Journal) -> None:
    doubt = (Suspicion(Doubt.BEYOND_END, 1.0, 2.0),)
    for path, profile in (("a", "ward3"), ("b", "ward4"), ("c", "ward3"), ("d", "ward3")):
        job = add(journal, path, profile)
        journal.update(job, suspect=doubt if path != "d" else ())
    fail(journal, journal.jobs()[0])
    assert names(journal, Wanted(suspect=True)) == ["c", "b", "a"]
    assert names(journal, Wanted(suspect=True, profiles=WARD3)) == ["c", "a"]
    assert names(journal, Wanted(suspect=True, states=frozenset({State.FAILED}))) == ["a"]


def test_a_day_begins_and_ends_where_the_reader_lives(journal: Journal) -> None:
    midnight = datetime(2026, 11, 28, tzinfo=UTC)
    for hours in (-2, -1, 0, 22, 23, 24):
        at = midnight + timedelta(hours=hours)
        job = add(journal, f"{hours}.wav", "ward3")
        journal._database.write(
            lambda connection, job=job, at=at: connection.execute(  # type: ignore[misc]
                "UPDATE jobs SET id = ?, received_at = ? WHERE id = ?",
                (f"{at:%Y%m%dt%H%M%S}-{job.id[-12:]}", at.isoformat(timespec="microseconds"), job.id),
            )
        )
    day = Wanted(since=midnight, until=midnight + timedelta(days=1))
    assert names(journal, day) == ["23.wav", "22.wav", "0.wav"]
    vienna = replace(day, since=midnight - timedelta(hours=1), until=midnight + timedelta(hours=23))
    assert names(journal, vienna) == ["22.wav", "0.wav", "-1.wav"]
    assert names(journal, replace(vienna, profiles=WARD3)) == names(journal, vienna)
    assert (
        names(journal, replace(day, since=midnight - timedelta(days=9), until=midnight - timedelta(days=8)))
        == []
    )
