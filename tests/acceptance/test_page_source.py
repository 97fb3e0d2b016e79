"""What the page knows, of a real journal and real files; and that a limited viewer gets their own alone."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from invox_watcher.audio import identify
from invox_watcher.config import load
from invox_watcher.errors import InvoxError, JournalError
from invox_watcher.files import placed_orders
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal import Journal
from invox_watcher.layout import folders_of
from invox_watcher.page.model import Done, Query, Recording, Sight, Sound
from invox_watcher.page.sound import Sounds, _played_as
from invox_watcher.page.source import DaemonSource
from invox_watcher.plan import Plan
from invox_watcher.recording import FileIdentity
from invox_watcher.times import utc_now
from tests.kit.clinic import Clinic, free_port, running, sandbox
from tests.kit.recordings import make, write_wav
from tests.kit.waiting import wait_for

ALL, NONE = Sight(), Sight(frozenset())
WARD3, WARD4 = Sight(frozenset({"ward3"})), Sight(frozenset({"ward4"}))
HOSTILE = "<script>\udcff\n\u202eπ.wav"
PROFILES = [
    {"name": "ward3", "match": {"folder": "ward3"}, "set": {"speaker_names": {"Speaker_00": "<b>Ann</b>"}}},
    {"name": "ward4", "match": {"folder": "ward4"}, "set": {"targets": ["ehr"]}},
    {"name": "letters", "match": {"author": "smith"}},
]
DOUBT = json.dumps([{"reason": "too_few_words", "start": 0.25, "end": 0.5}])
FAULT = json.dumps({"code": "refused", "message": "No.", "hint": "", "since": "2026-11-28T12:00:00+00:00"})


@dataclass
class Hospital:
    """A clinic after a day, in which ward 3, ward 4 and others have recordings of every kind."""

    clinic: Clinic
    source: DaemonSource
    ids: dict[str, str]  # by name

    @property
    def state(self) -> Path:
        return self.clinic.root / "state"

    def get(self, name: str, sight: Sight = ALL) -> Recording:
        found = self.source.recording(sight, self.ids[name])
        assert found is not None
        return found

    def sound(self, name: str) -> Sound | None:
        return self.source.sound(ALL, self.ids[name])

    def change(self, statement: str, *values: Any) -> None:
        """Write to the journal, as the daemon would."""
        with closing(sqlite3.connect(self.state / "journal.sqlite")) as connection:
            assert connection.execute(statement, values).rowcount, statement
            connection.commit()


def hospital(clinic: Clinic) -> Hospital:
    source = DaemonSource(load(clinic.config, credentials=False))
    rows = source.find(ALL, Query(), after="", limit=100).rows
    return Hospital(clinic, source, {row.name: row.id for row in rows})


def configure(clinic: Clinic, **sections: Any) -> None:
    keys = yaml.safe_load(clinic.config.read_text())
    clinic.config.write_text(yaml.safe_dump(keys | sections))


def alaw(path: Path) -> None:
    """Half a second of A-law, which browsers are not relied on to play."""
    sound = bytes([0x55, 0x9A] * 2000)
    fields = struct.pack("<HHIIHH", 6, 1, 8000, 8000, 1, 8)
    body = b"WAVEfmt " + struct.pack("<I", 16) + fields + b"data" + struct.pack("<I", len(sound)) + sound
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of such a clinic, made by a daemon; and a recording under way that it does not know."""
    root = tmp_path_factory.mktemp("page")
    with sandbox(root / "api") as api:
        clinic = Clinic(root / "clinic", api.base_url)
        secret = root / "secret"
        secret.write_text(f"whsec_{base64.b64encode(bytes(32)).decode()}")
        ehr = {"kind": "http", "url": "http://127.0.0.1:9/", "secret_file": str(secret)}
        configure(clinic, profiles=PROFILES, targets={"ehr": ehr}, hooks={"on_done": ["/bin/true"]})
        for number, ward in enumerate(("ward3", "ward4", "elsewhere")):
            (clinic.inbox / ward).mkdir()
            write_wav(clinic.inbox / ward / "ok.wav", pitch=300 + 10 * number)
            (clinic.inbox / ward / "letter.wav").write_text(f"Dear {ward}")
        write_wav(clinic.inbox / "ward3" / HOSTILE, pitch=500)
        alaw(clinic.inbox / "ward3" / "alaw.wav")
        assert clinic.once() == 1
    made = hospital(clinic)
    made.source.close()
    for ward in ("ward3", "ward4"):
        made.change("UPDATE jobs SET suspect = ? WHERE id = ?", DOUBT, made.ids[f"{ward}/ok.wav"])
    failed = "UPDATE deliveries SET state = 'failed', fault = ? WHERE job_id = ? AND target = ?"
    made.change(failed, FAULT, made.ids["ward4/ok.wav"], "ehr")
    made.change(failed, FAULT, made.ids["ward3/ok.wav"], "hooks.on_done")
    # What a ward's recording has to do with another ward's.
    three, four = made.ids["ward3/letter.wav"], made.ids["ward4/letter.wav"]
    made.change("UPDATE jobs SET successor_id = ?, predecessor_id = ? WHERE id = ?", four, four, three)
    with closing(Journal(clinic.root / "state")) as journal:
        plan = Plan("ward3", ("json",))
        copy = Job(
            new_job_id(), State.CLAIMED, "ward3/copy.wav", FileIdentity(1, 2, 3, 4), utc_now(), plan=plan
        )
        journal.add(replace(copy, mime_type="audio/wav"))
        original = journal.get(made.ids["ward4/ok.wav"])
        assert original is not None
        assert original.sha256 is not None
        assert journal.identify(copy, original.sha256, follow=True).original_id == original.id
    for path in ("ward3/new.wav", "ward4/new.wav", "elsewhere/new.wav", "new.wav"):
        write_wav(clinic.inbox / path)
    return clinic.root


@pytest.fixture
def there(day: Path, tmp_path: Path) -> Iterator[Hospital]:
    """A copy of all that, to be changed."""
    root = tmp_path / "clinic"
    shutil.copytree(day, root)
    clinic = Clinic(root, "http://127.0.0.1:9")
    clinic.config.write_text((day / "config.yaml").read_text().replace(str(day), str(root)))
    found = hospital(clinic)
    yield found
    found.source.close()


def not_done() -> None:
    """Stands for the record of an action that must not be done."""
    raise AssertionError("recorded, and not done")


def refused(call: Callable[[], Any]) -> str:
    """The code of the error that it raises."""
    with pytest.raises(InvoxError) as caught:
        call()
    return caught.value.code


# ---- sight -------------------------------------------------------------------------------------------------


def everything(source: DaemonSource, sight: Sight, ids: dict[str, str]) -> list[object]:
    """All answers of every method that changes nothing, for every id."""
    answers: list[object] = [source.now(sight), source.needs(sight)]
    day, queries = utc_now().date(), [Query(suspect=True), Query(text="w"), Query(states=frozenset(State))]
    for query in (*queries, Query(), Query(day=day), Query(states=frozenset({State.FAILED}))):
        answers.append(source.find(sight, query, after="", limit=100))
    for job_id in ids.values():
        answers += [source.recording(sight, job_id), source.words(sight, job_id)]
        answers += [source.sound(sight, job_id) is not None, source.loudness(sight, job_id)]
        answers += [source.document(sight, job_id, name) for name in ("ok.json", "ok.srt")]
    return answers


@pytest.mark.parametrize("sight", [WARD3, WARD4, NONE, Sight(frozenset({"default"}))])
def test_a_limited_viewer_gets_nothing_of_others(there: Hospital, sight: Sight) -> None:
    wards = {"default": "elsewhere"}
    own = {wards.get(name, name) for name in sight.profiles or ()}
    others = {name: job_id for name, job_id in there.ids.items() if name.split("/")[0] not in own}
    assert 0 < len(others) <= len(there.ids)
    source = there.source
    for job_id in others.values():
        assert source.recording(sight, job_id) is None
        assert source.words(sight, job_id) is None
        assert source.sound(sight, job_id) is None
        assert source.loudness(sight, job_id) is None
        assert source.document(sight, job_id, "ok.json") is None
        assert refused(lambda job_id=job_id: source.retry(sight, job_id, not_done)) == "unknown"  # type: ignore[misc]
        for target in ("ehr", "hooks.on_done"):
            assert refused(partial(source.send_again, sight, job_id, target, not_done)) == "unknown"
    answered = repr(everything(source, sight, there.ids))
    for name, job_id in others.items():
        assert job_id not in answered
        assert name not in answered
    assert there.clinic.files(there.clinic.failed) == sorted(
        f"{ward}/letter.wav{end}" for ward in ("elsewhere", "ward3", "ward4") for end in ("", ".error.json")
    )
    assert list(placed_orders(there.state)) == []


def test_a_limited_viewer_gets_all_of_their_own(there: Hospital) -> None:
    source = there.source
    own = [name for name in there.ids if name.startswith("ward3/")]
    rows = source.find(WARD3, Query(), after="", limit=100).rows
    assert [row.name for row in rows] == own
    assert {row.profile for row in rows} == {"ward3"}
    now, needs = source.now(WARD3), source.needs(WARD3)
    assert [one.row.name for one in now.under_way] == ["ward3/copy.wav"]
    # That "elsewhere/new.wav" would not be ward 3's is known, but not whose it is: its author decides.
    assert [one.name for one in now.inbox] == ["ward3/new.wav"]
    assert [(one.target, one.owed, one.failed) for one in now.owed] == [("hooks.on_done", 2, 1)]
    assert [one.row.name for one in needs.failed] == []  # it has a retry
    assert [one.row.name for one in needs.suspect] == ["ward3/ok.wav"]
    assert [(one.row.name, one.target) for one in needs.undelivered] == [("ward3/ok.wav", "hooks.on_done")]
    # Its retry, and what it is a retry of, are another ward's.
    assert (there.get("ward3/letter.wav").retried_as, there.get("ward3/letter.wav").retry_of) == (
        there.ids["ward4/letter.wav"],
        there.ids["ward4/letter.wav"],
    )
    limited = there.get("ward3/letter.wav", WARD3)
    assert (limited.retried_as, limited.retry_of) == (None, None)
    # As is the recording whose transcript it waits for.
    original = there.ids["ward4/ok.wav"]
    assert original in source.now(ALL).under_way[0].step
    assert now.under_way[0].step.startswith("take over the transcript of an earlier recording")
    assert "same_as" not in there.get("ward3/copy.wav", WARD3).life[-1].detail
    assert there.get("ward3/copy.wav").life[-1].detail["same_as"] == original


def test_an_unlimited_viewer_gets_all(there: Hospital) -> None:
    now, needs = there.source.now(ALL), there.source.needs(ALL)
    assert sorted(one.name for one in now.inbox) == [
        "elsewhere/new.wav", "new.wav", "ward3/new.wav", "ward4/new.wav"
    ]  # fmt: skip
    assert {one.reason.code for one in now.inbox} == {"no_daemon"}
    assert [(one.target, one.owed, one.failed) for one in now.owed] == [
        ("ehr", 0, 1), ("hooks.on_done", 4, 1)
    ]  # fmt: skip
    assert [one.row.name for one in needs.failed] == ["ward4/letter.wav", "elsewhere/letter.wav"]
    [letter, _other] = needs.failed
    assert (letter.reason.code, letter.retry_can_help) == ("not_audio", False)
    assert {one.row.name for one in needs.suspect} == {"ward3/ok.wav", "ward4/ok.wav"}
    assert {(one.row.name, one.target, one.reason.code) for one in needs.undelivered} == {
        ("ward3/ok.wav", "hooks.on_done", "refused"),
        ("ward4/ok.wav", "ehr", "refused"),
    }
    assert needs.more == 0
    with (there.state / "audit.jsonl").open("a") as log:
        log.write(json.dumps({"what": "words_seen", "job": there.ids["ward3/ok.wav"]}) + "\n")
    another = hospital(there.clinic)
    assert {one.row.name for one in another.source.needs(ALL).suspect} == {"ward4/ok.wav"}
    another.source.close()


# ---- one recording -----------------------------------------------------------------------------------------


def test_a_recording_has_its_life_words_and_documents(there: Hospital) -> None:
    found = there.get("ward3/ok.wav")
    assert [moment.state for moment in found.life] == [
        "claimed", "identified", "uploading", "waiting", "transcribed", "delivered", "done"
    ]  # fmt: skip
    assert found.life[5].detail == {"outputs": "ok.json, ok.srt"}
    assert (found.ahead, found.failure) == (None, None)
    assert [(one.start, one.end, one.reason) for one in found.suspects] == [(0.25, 0.5, "too_few_words")]
    assert (found.has_words, found.has_sound) == (True, True)
    [delivery] = found.deliveries
    assert (delivery.target, delivery.state) == ("hooks.on_done", "failed")
    lines = there.source.words(ALL, found.row.id)
    assert lines is not None
    assert {line.speaker for line in lines} == {"<b>Ann</b>", "Speaker_01"}  # by the profile's names
    assert [line.text for line in lines] == [
        segment["text"] for segment in there.clinic.transcript("ward3/ok.json")["segments"]
    ]
    assert found.documents == ["ok.json", "ok.srt"]
    for name, mime_type in (("ok.json", "application/json"), ("ok.srt", "application/x-subrip")):
        document = there.source.document(ALL, found.row.id, name)
        assert document is not None
        assert (document.name, document.mime_type) == (name, mime_type)
        assert document.content == (there.clinic.outbox / "ward3" / name).read_bytes()
    hostile = there.get(f"ward3/{HOSTILE}")
    assert hostile.documents == [HOSTILE.replace(".wav", ".json"), HOSTILE.replace(".wav", ".srt")]
    assert there.source.document(ALL, hostile.row.id, hostile.documents[0]) is not None


def test_a_document_that_was_changed_or_replaced_is_not_given(there: Hospital) -> None:
    outbox, job_id = there.clinic.outbox / "ward3", there.ids["ward3/ok.wav"]
    for name in ("../ward4/ok.json", "../../config.yaml", "/etc/passwd", "ok.wav", "", ".", "\0", "\udcff"):
        assert there.source.document(ALL, job_id, name) is None
    content = (outbox / "ok.json").read_bytes()
    (outbox / "ok.json").write_bytes(content + b" ")
    assert there.source.document(ALL, job_id, "ok.json") is None
    assert there.get("ward3/ok.wav").documents == ["ok.srt"]
    (there.clinic.root / "same").write_bytes(content)
    (outbox / "ok.json").unlink()
    (outbox / "ok.json").symlink_to(there.clinic.root / "same")
    assert there.source.document(ALL, job_id, "ok.json") is None
    shutil.move(outbox, there.clinic.root / "elsewhere")
    outbox.symlink_to(there.clinic.root / "elsewhere")
    assert there.source.document(ALL, job_id, "ok.srt") is None


def test_words_that_retention_deleted_are_gone(there: Hospital) -> None:
    job_id = there.ids["ward3/ok.wav"]
    with closing(Journal(there.state)) as journal:
        job = journal.get(job_id)
        assert job is not None
        assert there.source.words(ALL, job_id)
        journal.finished.mark_deleted(job, "transcripts")
        assert journal.finished.erase_deleted()  # a page that reads the journal does not prevent that
    assert there.source.words(ALL, job_id) is None
    assert not there.get("ward3/ok.wav").has_words


@pytest.mark.parametrize("job_id", ["", "\udcff", "\0", "x" * 10_000, "../../etc", "20261128t", "' OR 1 --"])
def test_an_id_that_is_none_is_unknown(there: Hospital, job_id: str) -> None:
    source = there.source
    for answer in (source.recording, source.words, source.sound, source.loudness):
        assert answer(ALL, job_id) is None
    assert source.document(ALL, job_id, "ok.json") is None
    assert refused(lambda: source.retry(ALL, job_id, not_done)) == "unknown"
    assert refused(lambda: source.send_again(ALL, job_id, "ehr", not_done)) == "unknown"


def test_a_search_takes_whatever_comes_from_a_url(there: Hospital) -> None:
    whole = there.source.find(ALL, Query(), after="", limit=1000)
    for after in ("-1", "x", "1e9", "99999999999999999999", "0", "١"):
        assert there.source.find(ALL, Query(), after=after, limit=1000) == whole
    for day in (date.min, date.max):
        for zone in (-(10**9), 0, 10**9):
            assert there.source.find(ALL, Query(day=day, zone_minutes=zone), after="", limit=10).rows == []
    for text in ("\udcff\n", "%", "'", "\0", "ſ"):
        there.source.find(ALL, Query(text=text), after="", limit=0)
    first = there.source.find(ALL, Query(), after="", limit=4)
    rest = there.source.find(ALL, Query(), after=first.following, limit=1000)
    assert [*first.rows, *rest.rows] == whole.rows
    today = Query(day=utc_now().date())
    assert there.source.find(ALL, today, after="", limit=1000) == whole
    assert there.source.find(ALL, Query(day=today.day + timedelta(days=2)), after="", limit=9).rows == []  # type: ignore[operator]


# ---- sound -------------------------------------------------------------------------------------------------


def heard(sound: Sound | None) -> bytes:
    assert sound is not None
    return b"".join(sound.read(0, sound.size_bytes))


def test_the_recording_is_played_wherever_it_is(there: Hospital) -> None:
    content = (there.clinic.done / "ward3/ok.wav").read_bytes()
    sound = there.sound("ward3/ok.wav")
    assert sound is not None
    assert (sound.mime_type, sound.size_bytes) == ("audio/wav", len(content))
    assert heard(sound) == content
    assert b"".join(sound.read(100, 300)) == content[100:300]
    os.rename(there.clinic.done / "ward3/ok.wav", there.clinic.done / "ward3/moved.wav")
    there.change(
        "UPDATE jobs SET filed_as = CAST('ward3/moved.wav' AS BLOB) WHERE id = ?", there.ids["ward3/ok.wav"]
    )
    assert heard(sound) == content
    curve = there.source.loudness(ALL, there.ids["ward3/ok.wav"])
    assert curve is not None
    assert len(curve) == 400
    assert max(curve) == 1
    assert not there.get("ward3/copy.wav").has_sound
    assert there.sound("ward3/copy.wav") is None
    # What failed is not audio; and it is not decoded.
    letter = there.get("ward4/letter.wav")
    assert (letter.has_sound, letter.is_audio) == (True, False)
    assert there.get("ward3/ok.wav").is_audio
    assert there.sound("ward4/letter.wav") is None
    assert there.source.loudness(ALL, there.ids["ward4/letter.wav"]) is None


def test_another_file_of_its_name_is_not_played(there: Hospital) -> None:
    place, secret = there.clinic.done / "ward3/ok.wav", there.clinic.root / "secret.wav"
    playing = there.sound("ward3/ok.wav")
    assert playing is not None
    os.rename(place, secret)
    place.symlink_to(secret)
    assert there.sound("ward3/ok.wav") is None
    place.unlink()
    write_wav(place, pitch=999)  # the same length, at another time
    os.utime(place, (1, 1))
    for answer in (there.sound("ward3/ok.wav"), there.source.loudness(ALL, there.ids["ward3/ok.wav"])):
        assert answer is None
    assert not there.get("ward3/ok.wav").has_sound
    with pytest.raises(InvoxError):
        list(playing.read(0, 10))


def test_what_browsers_do_not_play_is_decoded_once(there: Hospital) -> None:
    sound = there.sound("ward3/alaw.wav")
    assert sound is not None
    wave = heard(sound)
    assert (sound.mime_type, wave[:4], struct.unpack("<H", wave[20:22])[0]) == ("audio/wav", b"RIFF", 1)
    assert sound.size_bytes == len(wave) > 8000  # 16 bits of each sample
    assert b"".join(sound.read(44, 144)) == wave[44:144]
    curve = there.source.loudness(ALL, there.ids["ward3/alaw.wav"])
    assert curve is not None
    assert max(curve) == 1
    # What was made has no name.
    names = {entry.name for entry in os.scandir(there.state)}
    assert {name for name in names if not name.startswith(("journal", "audit", ".invox"))} <= {
        "instance.json", "lock", "mounts.json", "names.key", "readiness.json", "unfinished.json"
    }  # fmt: skip
    # It is read to its end even if it is discarded meanwhile.
    again = there.sound("ward3/alaw.wav")
    assert again is not None
    assert again.read.args == sound.read.args  # type: ignore[attr-defined] # the same file
    there.source.close()
    assert heard(again) == wave


def test_what_is_made_for_players_is_limited(there: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invox_watcher.page.sound._KEPT_SECONDS", 0.05)
    assert there.sound("ward3/alaw.wav") is not None
    wait_for("it is deleted", lambda: not there.source._sounds._made)
    monkeypatch.setattr("invox_watcher.page.sound._MOST_MADE_BYTES", 1000)
    assert there.sound("ward3/alaw.wav") is None
    without_extra = Sounds(folders_of(load(there.clinic.config, credentials=False)), there.state, None)
    with closing(Journal(there.state, create=False)) as journal:
        for name, played in (("ward3/alaw.wav", False), ("ward3/ok.wav", True)):
            job_id = there.ids[name]
            assert (without_extra.sound(lambda job_id=job_id: journal.get(job_id)) is not None) == played  # type: ignore[misc]
            assert (without_extra.loudness(lambda job_id=job_id: journal.get(job_id)) is not None) == played  # type: ignore[misc]
    assert there.get("ward3/alaw.wav").has_sound


# ---- actions -----------------------------------------------------------------------------------------------


def test_a_retry_by_two_clicks_moves_it_once(there: Hospital) -> None:
    job_id, source = there.ids["ward4/letter.wav"], there.source
    recorded: list[str] = []
    with ThreadPoolExecutor(8) as pool:
        done = list(
            pool.map(lambda _number: source.retry(WARD4, job_id, lambda: recorded.append(job_id)), range(8))
        )
    assert recorded == [job_id]  # only what was done
    assert sorted(done) == [Done.RETRIED, *[Done.RETRIED_BEFORE] * 7]
    assert there.clinic.files(there.clinic.failed / "ward4") == []
    assert "ward4/letter.wav" in there.clinic.files(there.clinic.inbox)
    assert [one.row.name for one in source.needs(ALL).failed] == ["elsewhere/letter.wav"]
    assert refused(lambda: source.retry(ALL, there.ids["ward3/ok.wav"], not_done)) == "not_possible"


def test_a_retry_never_moves_the_recording_of_another_job(there: Hospital) -> None:
    # Ward 3's was moved by hand, and then one of ward 4 failed that is filed under its name.
    there.change("UPDATE jobs SET successor_id = NULL WHERE id = ?", there.ids["ward3/letter.wav"])
    there.change("UPDATE jobs SET filed_as = 'ward3/letter.wav' WHERE id = ?", there.ids["ward4/letter.wav"])
    there.change(
        "UPDATE jobs SET filed_as = CAST(filed_as AS BLOB), rowid = rowid + 1000 WHERE id = ?",
        there.ids["ward4/letter.wav"],
    )
    before = there.clinic.files(there.clinic.failed)
    assert there.source.retry(WARD3, there.ids["ward3/letter.wav"], not_done) is Done.RETRIED_BEFORE
    assert there.source.needs(WARD3).failed == []
    assert there.clinic.files(there.clinic.failed) == before


def test_a_delivery_is_ordered_once_by_two_clicks(there: Hospital) -> None:
    job_id, source = there.ids["ward4/ok.wav"], there.source
    recorded: list[str] = []
    with ThreadPoolExecutor(8) as pool:
        done = list(
            pool.map(
                lambda _number: source.send_again(WARD4, job_id, "ehr", lambda: recorded.append(job_id)),
                range(8),
            )
        )
    assert recorded == [job_id]
    assert sorted(done) == [*[Done.OWED_ALREADY] * 7, Done.SENT_AGAIN]
    [(_name, order)] = placed_orders(there.state)
    assert (order["do"], order["jobs"], order["target"]) == ("send_again", [job_id], "ehr")
    another = hospital(there.clinic)  # after a restart of the page
    assert another.source.send_again(WARD4, job_id, "ehr", not_done) is Done.OWED_ALREADY
    another.source.close()
    assert source.send_again(WARD4, job_id, "hooks.on_done", not_done) is Done.OWED_ALREADY
    for target in ("ehr", "nowhere", "\udcff"):  # nothing of that recording goes there
        send = partial(source.send_again, ALL, there.ids["ward3/ok.wav"], target, not_done)
        assert refused(send) == "unknown"
    assert len(list(placed_orders(there.state))) == 1


# ---- journal and daemon ------------------------------------------------------------------------------------


def test_the_journal_is_read_again_after_whatever_happened(there: Hospital) -> None:
    source, path, aside = there.source, there.state / "journal.sqlite", there.state / "aside"
    seen = source.changes()
    assert source.changes() == seen
    there.change("UPDATE jobs SET updated_at = received_at")
    assert source.changes() > seen
    os.rename(path, aside)
    seen = source.changes()
    with pytest.raises(JournalError, match="There is no journal"):
        source.find(ALL, Query(), after="", limit=1)
    assert "There is no journal" in source.health().unknown_because
    shutil.copy(aside, path)  # another file, as from a backup
    wait_for("it is read", lambda: not source.health().unknown_because)
    assert source.changes() > seen
    assert len(source.find(ALL, Query(), after="", limit=100).rows) == len(there.ids)
    source.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="locked"):
            source.find(ALL, Query(), after="", limit=1)
        connection.rollback()
        wait_for("it is read", lambda: not source.health().unknown_because)
        assert source.find(ALL, Query(), after="", limit=1).rows
        connection.execute("PRAGMA user_version = 99")
        with pytest.raises(JournalError, match="newer release"):
            source.find(ALL, Query(), after="", limit=1)
        connection.execute("PRAGMA user_version = 7")
        wait_for("it is older", lambda: "earlier release" in source.health().unknown_because)
        assert refused(lambda: source.words(ALL, there.ids["ward3/ok.wav"])) == "journal_outdated"


def test_a_change_is_told_again_once_no_earlier_answer_is_given(there: Hospital) -> None:
    source = there.source
    wait_for("nothing changes", lambda: not _changes_within(5, source))
    failed = len(source.needs(ALL).failed)
    assert failed
    there.change("UPDATE jobs SET state = 'vanished' WHERE state = 'failed'")
    seen = source.changes()
    assert len(source.needs(ALL).failed) == failed  # found out just before, for all who ask
    wait_for("it is told again", lambda: source.changes() > seen)
    assert source.needs(ALL).failed == []
    assert not _changes_within(5, source)  # and that was it


def _changes_within(seconds: float, source: DaemonSource) -> bool:
    before, until = source.changes(), time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.1)
    return source.changes() != before


def test_the_daemon_is_asked_what_comes_next(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", result_delay_seconds=3600) as api:
        listen = {"listen": f"127.0.0.1:{free_port()}"}
        polling = {"first_seconds": 500, "max_seconds": 1000}
        clinic = Clinic(tmp_path / "clinic", api.base_url, http=listen, polling=polling)
        with running(clinic):
            source = DaemonSource(load(clinic.config, credentials=False))
            wait_for("it is ready", lambda: source.health().ready)
            seen = source.changes()
            write_wav(clinic.inbox / "a.wav")
            write_wav(clinic.inbox / "open.wav").rename(clinic.inbox / "ignored.tmp")
            wait_for("it waits", lambda: [one.row.state for one in source.now(ALL).under_way] == ["waiting"])
            [ahead] = source.now(ALL).under_way
            assert ahead.step == "ask the API for the result"
            wait_for("it is due", lambda: (source.now(ALL).under_way[0].due_seconds or 0) > 300)
            wait_for("it is no longer in the inbox", lambda: len(source.now(ALL).inbox) == 1)
            assert [(one.name, one.stage) for one in source.now(ALL).inbox] == [("ignored.tmp", "ignored")]
            assert source.now(Sight(frozenset({"default"}))).under_way == []  # there are no profiles
            assert source.changes() > seen
            health = source.health()
            assert (health.running, health.troubles, health.unknown_because) == (True, (), "")
            assert health.since is not None
        wait_for("it is not running", lambda: not source.health().running)
        [ahead] = source.now(ALL).under_way
        assert ahead.due_seconds is None
        source.close()


def test_which_formats_browsers_get_as_they_are(tmp_path: Path) -> None:
    names: dict[str | None, str] = {
        "audio/wav": "pcm.wav float.wav bwf.wav odd.wav",
        "audio/mpeg": "cbr.mp3 tagged.mp3",
        "audio/mp4": "aac.m4a",
        "audio/flac": "s16.flac",
        "audio/ogg": "opus.ogg vorbis.ogg",
        "audio/webm": "opus.webm live.webm",
        None: "alaw.wav mulaw.wav gsm.wav adpcm.wav rf64.wav alac.m4a speex.ogg voice.3gp sound.aiff",
    }
    played = {name: mime_type for mime_type, some in names.items() for name in some.split()}
    found = {}
    for name, path in make(played, tmp_path).items():
        with path.open("rb", buffering=0) as file:
            found[name] = _played_as(identify(file, path.stat().st_size))
    assert found == played
