"""Real speech in every accepted format becomes the words that were said, and what is no speech is told so."""

from __future__ import annotations

import subprocess
import sys
import wave
from pathlib import Path

import pytest

from invox_watcher.sandbox.recognition import UndecodableError
from invox_watcher.sandbox.samples import convert, speech_samples
from invox_watcher.sandbox.server import Sandbox
from invox_watcher.sandbox.speech import recognizer
from tests.kit.caller import Caller, settings

av = pytest.importorskip("av")
pytest.importorskip("moonshine_voice")

SUFFIXES = ("wav", "mp3", "m4a", "flac", "ogg", "webm")


def make_sound(path: Path) -> None:
    sound = ("-f", "lavfi", "-i", "sine=frequency=300:sample_rate=16000:duration=2")
    subprocess.run(["ffmpeg", "-v", "error", "-y", *sound, str(path)], check=True, timeout=60)


def seconds_of(path: Path) -> float:
    with av.open(str(path)) as container:
        samples = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    return float(samples)


def test_uploaded_speech_comes_back_as_its_words(tmp_path: Path) -> None:
    recording = tmp_path / "dictation.ogg"
    convert(speech_samples()[0], recording, start_seconds=0, seconds=9)
    with Sandbox(settings(tmp_path / "uploads", recognizer="speech")) as sandbox:
        caller = Caller(sandbox)
        granted = caller.presign(mimeType="audio/ogg").json()
        assert caller.put(granted["presignedUrl"], recording.read_bytes(), "audio/ogg").ok
        body = caller.result(granted["requestId"], within_seconds=20)
        broken = caller.result(caller.upload(b"%PDF-1.7 is no audio" * 50))
    text = " ".join(segment["text"] for segment in body["transcription"]).lower()
    assert "it was the best of times" in text
    assert "age of wisdom" in text
    starts = [segment["start"] for segment in body["transcription"]]
    assert starts == sorted(starts)
    assert all(0 <= segment["start"] < segment["end"] <= 10 for segment in body["transcription"])
    assert broken["processingStatus"] == "ERROR"
    assert broken["errorMessage"] == "The recording is not audio in a format that can be decoded."


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_stretch_is_converted_to_every_accepted_format(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"part.{suffix}"
    convert(speech_samples()[1], target, start_seconds=2, seconds=3)
    assert seconds_of(target) == pytest.approx(3, abs=0.25)


def test_the_stretch_starts_where_it_was_asked_to(tmp_path: Path) -> None:
    target = tmp_path / "part.wav"
    convert(speech_samples()[1], target, start_seconds=4.4, seconds=1.8)
    text = " ".join(segment.text for segment in recognizer("speech")(target, "")).lower()
    assert "try again" in text
    assert "ever" not in text


def test_another_suffix_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"part\.amr: can't write this format"):
        convert(speech_samples()[1], tmp_path / "part.amr", start_seconds=0, seconds=1)
    assert list(tmp_path.iterdir()) == []


def test_what_holds_no_audio_is_undecodable(tmp_path: Path) -> None:
    empty = tmp_path / "empty.wav"
    with wave.open(str(empty), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
    with pytest.raises(UndecodableError, match="holds no audio"):
        recognizer("speech")(empty, "")
    subtitles = tmp_path / "subtitles.srt"
    subtitles.write_text("1\n00:00:00,000 --> 00:00:01,000\nno sound\n")
    with pytest.raises(UndecodableError, match="no audio track"):
        recognizer("speech")(subtitles, "")


def test_what_can_be_decoded_of_a_damaged_recording_is_recognized(tmp_path: Path) -> None:
    recording = tmp_path / "part.mp3"
    convert(speech_samples()[0], recording, start_seconds=0, seconds=9)
    whole = recording.read_bytes()
    for damaged in (whole + bytes(20_000), whole[:30_000] + bytes(3000) + whole[33_000:], whole[:-700]):
        recording.write_bytes(damaged)
        text = " ".join(segment.text for segment in recognizer("speech")(recording, "")).lower()
        assert "it was the best of times" in text


@pytest.mark.parametrize("suffix", ["aiff", "aac", "mp2"])
def test_formats_that_the_vendor_does_not_list_are_refused(tmp_path: Path, suffix: str) -> None:
    """Whatever type they were announced as: what FFmpeg decodes is no measure."""
    recording = tmp_path / f"part.{suffix}"
    make_sound(recording)
    with pytest.raises(UndecodableError, match="not supported"):
        recognizer("speech")(recording, "")


def test_without_the_extra_the_text_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "moonshine_voice", None)  # what an import finds where there is none
    (segment,) = recognizer("auto")(tmp_path / "any", "")
    assert "pip install 'PATH[sandbox]'" in segment.text
    with (
        pytest.raises(ModuleNotFoundError, match=r"PATH\[sandbox\]"),
        Sandbox(settings(tmp_path, recognizer="speech")),
    ):
        pass
