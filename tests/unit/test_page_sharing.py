"""What browsers share is found out once; a disk that hangs stops no page; and small parts of the source."""

from __future__ import annotations

import json
import os
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from invox_watcher.coverage import read_pcm
from invox_watcher.errors import InvoxError, JournalError, Reason, StorageError
from invox_watcher.journal import Journal
from invox_watcher.page import looked_at
from invox_watcher.page.looked_at import LookedAt
from invox_watcher.page.loudness import PARTS, curve_of
from invox_watcher.page.model import Sight
from invox_watcher.page.reader import JournalReader
from invox_watcher.page.rows import discreet
from invox_watcher.page.sharing import Patience, Shared


def test_a_hundred_browsers_ask_one_question() -> None:
    asked: list[int] = []

    def question() -> int:
        time.sleep(0.05)
        asked.append(1)
        return len(asked)

    shared = Shared(question, seconds=60)
    with ThreadPoolExecutor(100) as pool:
        assert set(pool.map(lambda _number: shared.get(), range(100))) == {1}
    assert shared.get() == 1
    shared.forget()
    assert shared.get() == 2


def test_an_error_is_shared_as_well() -> None:
    asked: list[int] = []

    def question() -> int:
        asked.append(1)
        raise InvoxError("No.", code="no")

    shared = Shared(question, seconds=60)
    for _ in range(3):
        with pytest.raises(InvoxError, match=r"No\."):
            shared.get()
    assert len(asked) == 1


def test_an_answer_is_old_after_a_while_and_later_if_it_took_long() -> None:
    asked: list[float] = []

    def question() -> int:
        asked.append(time.monotonic())
        time.sleep(0.02)
        return len(asked)

    shared = Shared(question, seconds=0.01)
    while shared.get() < 2:
        time.sleep(0.005)
    assert asked[1] - asked[0] >= 0.2  # ten times as long as it took


def test_no_one_waits_twice_for_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invox_watcher.page.sharing._SLOW_SECONDS", 0.0)
    monkeypatch.setattr("invox_watcher.page.sharing._TIMES_AS_LONG", 0)
    asked, go_on = [], threading.Event()

    def question() -> int:
        asked.append(1)
        if len(asked) == 2:
            go_on.wait(30)
        return len(asked)

    shared = Shared(question, seconds=0)
    assert [shared.get() for _ in range(20)] == [1] * 20
    assert len(asked) <= 2
    shared.forget()  # now it has to be found out
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(shared.get)
        assert not waits.done()
        go_on.set()
        assert waits.result(30) >= 2


def test_a_journal_that_failed_is_opened_again(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    reader = JournalReader(tmp_path, lambda: Journal(tmp_path, create=False))

    def ask() -> object:
        return reader.journal().get("x")

    assert ask() is None
    reader.journal().close()
    with pytest.raises(JournalError) as first:
        ask()
    with pytest.raises(JournalError) as second:  # at once, for all who ask
        ask()
    assert first.value is second.value
    time.sleep(1)
    assert ask() is None
    reader.close()


def test_what_was_changed_meanwhile_is_found_out_again() -> None:
    answers = [1, 2]
    shared = Shared(
        lambda: (shared.forget(), answers.pop(0))[1] if len(answers) == 2 else answers[0], seconds=60
    )
    assert (shared.get(), shared.get()) == (1, 2)


def test_a_disk_that_hangs_is_not_asked_by_ever_more_threads() -> None:
    patience, answers, asked = Patience(0.01), threading.Event(), []

    def hang() -> None:
        asked.append(1)
        answers.wait(30)

    for _ in range(20):
        with pytest.raises(StorageError) as caught:
            patience.ask(hang)
        assert caught.value.code == "not_answering"
    assert len(asked) == 4
    answers.set()
    while True:
        try:
            assert Patience.ask(patience, lambda: 5) == 5
            break
        except StorageError:
            time.sleep(0.01)
    with pytest.raises(KeyError):
        Patience(30).ask(lambda: {}["x"])


def test_read_transcripts_are_found_in_the_audit_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, seen = tmp_path / "audit.jsonl", LookedAt(tmp_path)
    assert seen("a") == set()

    def write(text: str) -> None:
        with log.open("a") as file:
            file.write(text)

    def line(what: str, job: object) -> str:
        return json.dumps({"at": "…", "what": what, "job": job}) + "\n"

    write(
        line("words_seen", "a")
        + line("filed", "b")
        + "[1]\nx\n"
        + line("received", "c").replace("…", '"words_seen"')
    )
    write(line("words_seen", ["d"]))
    assert seen("abc") == {"a"}
    text = line("document_downloaded", "e")
    write(text[:20])
    assert not seen("e")
    write(text[20:])
    assert seen("e")
    os.rename(log, tmp_path / "audit.jsonl.1")
    write(line("words_seen", "f"))
    assert seen("af") == {"a", "f"}
    monkeypatch.setattr(looked_at, "_MOST_BYTES", 2 * len(line("words_seen", "f")))
    later = LookedAt(tmp_path)
    write(line("words_seen", "g") * 5)
    assert later("g")
    assert not later("f")


def wav(path: Path, samples: list[int]) -> tuple[float, ...]:
    data = struct.pack(f"<{len(samples)}h", *samples)
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    path.write_bytes(b"RIFF" + bytes(4) + head + b"data" + struct.pack("<I", len(data)) + data)
    with path.open("rb") as file:
        pcm = read_pcm(file.fileno())
        assert pcm is not None
        return curve_of(pcm)


def test_loudness_is_drawn_in_parts_of_equal_length(tmp_path: Path) -> None:
    loud, quiet = [16000, -16000] * 2000, [1600, -1600] * 2000
    curve = wav(tmp_path / "a.wav", loud + quiet)
    assert len(curve) == PARTS
    assert set(curve[:200]) == {1.0}
    assert set(curve[200:]) == {0.1}
    assert wav(tmp_path / "a.wav", [-32768] * 4000) == (1.0,) * PARTS
    assert max(wav(tmp_path / "a.wav", [3, -3] * 2000)) < 0.05  # silence stays low
    assert wav(tmp_path / "a.wav", [5, 100, -32768]) == pytest.approx((0.0, 0.003, 1.0), abs=0.001)
    assert wav(tmp_path / "a.wav", []) == ()


def test_a_limited_viewer_reads_no_id_of_another_recording() -> None:
    reason = Reason("duplicate", "The same was taken before, as job 20261128t194235-44f1a8d36c29.", "Wait.")
    assert discreet(reason, Sight()) == reason
    limited = discreet(reason, Sight(frozenset({"ward3"})))
    assert limited == Reason("duplicate", "The same was taken before.", "Wait.")
