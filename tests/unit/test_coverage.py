"""What is asked of a recording, and what is suspicious about its transcript, as tables; samples of a WAV."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest

from invox_watcher.coverage import Question, Stretch, judge, questions
from invox_watcher.coverage.wav import RATE, read_pcm
from invox_watcher.suspicion import Doubt, Suspicion
from invox_watcher.transcript import Segment

TEN_WORDS = "one two three four five six seven eight nine ten"


def segment(start: float, end: float, text: str = TEN_WORDS) -> Segment:
    return Segment(text, start, end)


def talk(*times: tuple[float, float]) -> list[Segment]:
    return [segment(start, end) for start, end in times]


# Ten segments of four seconds, with a pause of a quarter of a second between them.
WHOLE = talk(*((4.25 * n, 4.25 * n + 4) for n in range(10)))
LENGTH = 42.5


@pytest.mark.parametrize(
    ("segments", "length", "asked"),
    [
        pytest.param(WHOLE, LENGTH, [], id="whole"),
        pytest.param(WHOLE, None, [(42.25, math.inf)], id="unknown length"),
        pytest.param(WHOLE, 46.0, [], id="a pause at the end"),
        pytest.param(WHOLE, 46.5, [(42.25, 46.5)], id="a longer one"),
        pytest.param(WHOLE, 300.0, [(42.25, 300)], id="a long end"),
        pytest.param([], 60.0, [(0, 60)], id="no segment"),
        pytest.param([], None, [(0, math.inf)], id="nothing known"),
        pytest.param(WHOLE[2:], LENGTH, [(0, 8.5)], id="beginning lost"),
        pytest.param(WHOLE[:4] + WHOLE[5:], LENGTH, [(16.75, 21.25)], id="one lost"),
        pytest.param(WHOLE[::-1], LENGTH, [], id="out of order"),
        pytest.param([segment(0, 60), segment(3, 5)], 60.0, [(0, 60)], id="few words in a long segment"),
        pytest.param([segment(0, 15)], 15.0, [], id="slow, but possible"),
        pytest.param([segment(0, 3, "Yes.")], 3.0, [], id="one word, but short"),
        pytest.param([segment(0, 24, "0123456789 012345")], 24.0, [], id="digits are words"),
        pytest.param(
            [segment(0, 24, "本日は晴天なり本日は晴天なり本日は")], 24.0, [], id="characters are words"
        ),
        pytest.param(talk((0, 0), (5, 5), (9, 9)), 14.0, [], id="starts alone"),
        pytest.param(
            [segment(0, 0, "Yes."), segment(20, 20)], 35.0, [(1.5, 20)], id="starts alone, one lost"
        ),
    ],
)
def test_only_what_is_open_is_listened_to(
    segments: Sequence[Segment], length: float | None, asked: list[tuple[float, float]]
) -> None:
    assert [(one.stretch.start, one.stretch.end) for one in questions(segments, length)] == asked


def test_many_short_gaps_are_listened_to_as_well() -> None:
    few = talk((0, 4), (6, 10), (10.5, 14))
    many = talk(*((6.0 * n, 6.0 * n + 4) for n in range(5)))
    assert questions(few, 14.0) == []
    assert [one.stretch.seconds for one in questions(many, 28.0)] == [2, 2, 2, 2]


GAP = [Question(Stretch(10, 20))]


@pytest.mark.parametrize(
    ("asked", "speech", "found"),
    [
        pytest.param(GAP, [(11, 12), (13, 14.5)], [("untranscribed_speech", 11, 14.5)], id="speech"),
        pytest.param(GAP, [], [], id="silence"),
        pytest.param(GAP, [(10, 11), (18.9, 20)], [], id="the ends of its neighbours"),
        pytest.param(GAP, [(11, 12), (14.5, 15.5), (18, 18.9)], [], id="a cough here and there"),
        pytest.param(
            [Question(Stretch(0, 2)), Question(Stretch(4, 6))],
            [(0, 2), (4, 6)],
            [("untranscribed_speech", 0, 1.7), ("untranscribed_speech", 4.3, 5.7)],
            id="short gaps, full of speech",
        ),
        pytest.param(
            [Question(Stretch(0, 2)), Question(Stretch(4, 6)), Question(Stretch(7, 9))],
            [(0, 0.9), (4, 5), (8.1, 9)],
            [],
            id="short gaps, with the ends of their neighbours",
        ),
        pytest.param([Question(Stretch(1, 3))], [(1, 3)], [], id="one short gap"),
        pytest.param(
            [Question(Stretch(0, 60), 10)], [(0, 16.5)], [("too_few_words", 0, 16.5)], id="too few words"
        ),
        pytest.param([Question(Stretch(0, 60), 10)], [(0, 16)], [], id="slow"),
        pytest.param(
            [Question(Stretch(0, 4), 1), Question(Stretch(5, 9), 1)],
            [(0, 2.5), (5, 7.5)],
            [("too_few_words", 0, 2.5), ("too_few_words", 5, 7.5)],
            id="too few words in each of several segments",
        ),
    ],
)
def test_what_was_heard_is_compared_with_the_words(
    asked: Sequence[Question],
    speech: Sequence[tuple[float, float]],
    found: Sequence[tuple[str, float, float]],
) -> None:
    heard = [Stretch(*times) for times in speech]
    expected = tuple(Suspicion(Doubt(reason), start, end) for reason, start, end in found)
    assert judge([], None, asked, heard) == expected


@pytest.mark.parametrize(
    ("segments", "length", "reasons"),
    [
        pytest.param(WHOLE, LENGTH, [], id="whole"),
        pytest.param(WHOLE, 25.0, [], id="length inferred from a loud beginning"),
        pytest.param(WHOLE, 20.0, ["beyond_end"], id="longer than the recording"),
        pytest.param(WHOLE, None, [], id="unknown length"),
        pytest.param([segment(0, 30, "Yes.")], 2.0, [], id="padded to half a minute"),
        pytest.param([segment(0, 90, "Yes.")], 2.0, ["beyond_end"], id="padded for ever"),
        pytest.param([segment(0, 5, TEN_WORDS * 5)], 5.0, ["too_many_words"], id="too fast"),
        pytest.param([segment(0, 7, TEN_WORDS * 5)], 7.0, [], id="fast"),
        pytest.param([segment(0, 1, TEN_WORDS)], 1.0, [], id="too short to say"),
        pytest.param([segment(0, 9, "本日は晴天なり" * 15)], 9.0, [], id="fast, without spaces"),
    ],
)
def test_times_and_words_are_compared_with_the_length(
    segments: Sequence[Segment], length: float | None, reasons: list[str]
) -> None:
    assert [one.reason for one in judge(segments, length)] == reasons


# ---- samples -----------------------------------------------------------------------------------------------

_ENCODERS = {
    "u8": (1, 1, lambda x: struct.pack("B", 128 + int(x * 127))),
    "s16": (1, 2, lambda x: struct.pack("<h", int(x * 32767))),
    "s24": (1, 3, lambda x: struct.pack("<i", int(x * 0x7FFFFF) << 8)[1:]),
    "s32": (1, 4, lambda x: struct.pack("<i", int(x * 0x7FFFFFFF))),
    "f32": (3, 4, lambda x: struct.pack("<f", x)),
    "f64": (3, 8, lambda x: struct.pack("<d", x)),
}


def wav_of(form: bytes, sound: bytes) -> bytes:
    """A WAV file of that format chunk and that sound."""
    chunks = (
        b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(sound)) + sound
    )
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def wave(sample: str, rate: int, channels: int, *, seconds: float = 1.0, extensible: bool = False) -> bytes:
    """A tone of 200 Hz in the last channel, the others silent."""
    tag, width, encode = _ENCODERS[sample]
    silent = encode(0.0) * (channels - 1)
    sound = b"".join(
        silent + encode(0.5 * math.sin(2 * math.pi * 200 * n / rate)) for n in range(int(rate * seconds))
    )
    frame = width * channels
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, width * 8)
    if extensible:
        form = struct.pack("<H", 0xFFFE) + form[2:] + struct.pack("<HHIH14x", 22, width * 8, 0, tag)
    return wav_of(form, sound)


def samples_of(path: Path, start: float = 0.0, end: float = math.inf) -> list[array[int]]:
    with path.open("rb") as file:
        sound = read_pcm(file.fileno())
        assert sound is not None
        return list(sound.samples(start, end))


@pytest.mark.parametrize("sample", _ENCODERS)
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (44100, 2), (48000, 6)])
def test_every_uncompressed_wav_becomes_16_khz(tmp_path: Path, sample: str, rate: int, channels: int) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(wave(sample, rate, channels, extensible=channels > 2))
    (block,) = samples_of(path)
    assert len(block) == RATE
    expected = [0.5 * 32767 * math.sin(2 * math.pi * 200 * n / RATE) for n in range(RATE - 1)]
    assert max(abs(a - b) for a, b in zip(block, expected, strict=False)) < 900


def test_a_stretch_is_read_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(wave("s16", 8000, 1, seconds=10))
    assert [len(block) / RATE for block in samples_of(path, 1.0)] == [4, 4, 1]
    assert [len(block) / RATE for block in samples_of(path, 2.0, 3.5)] == [1.5]
    assert samples_of(path, 11.0, 12.0) == []


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 10**9])
def test_sizes_in_the_header_are_not_trusted(tmp_path: Path, size: int) -> None:
    path = tmp_path / "tone.wav"
    content = bytearray(wave("s16", 16000, 1))
    content[40:44] = struct.pack("<I", size)
    path.write_bytes(content[:-1])
    assert sum(map(len, samples_of(path))) == RATE - 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF\0\0\0\0WAVE",
        b"RIFF\0\0\0\0AVI fmt ",
        b"OggS" + bytes(200),
        wav_of(struct.pack("<HHIIHH", 6, 1, 8000, 8000, 1, 8), bytes(100)),  # A-law
        wav_of(struct.pack("<HHIIHH", 1, 0, 8000, 16000, 2, 16), bytes(100)),
        wav_of(struct.pack("<HHIIHH", 1, 1, 0, 16000, 2, 16), bytes(100)),
        wav_of(struct.pack("<HHIIHH", 1, 1, 8000, 16000, 0, 16), bytes(100)),
        wav_of(b"", bytes(100)),
    ],
)
def test_anything_else_is_left_to_the_decoder(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.wav"
    path.write_bytes(content)
    with path.open("rb") as file:
        assert read_pcm(file.fileno()) is None
