"""The names that recordings and outputs get: numbered if one is taken, never too long for a folder."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from invox_watcher.files.names import numbered, numbered_folders, output_path, unused

_names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0") | st.sampled_from("\udc80\udcff.ñ語"), min_size=1
).filter(lambda name: name not in (".", "..") and len(os.fsencode(name)) <= 255)


@given(name=_names, folder=st.sampled_from(["", "ward 3/"]))
@example(name="n" * 251 + ".wav", folder="")
@example(name="a." + "b" * 253, folder="")
@example(name="語" * 83 + ".flac", folder="")
@example(name="..wav", folder="")
@example(name="smith.wav.", folder="")
def test_numbered_names_are_distinct_and_fit_every_suffix(name: str, folder: str) -> None:
    numbers = list(itertools.islice(numbered(folder + name), 12))
    for suffixed in numbers:
        assert suffixed.startswith(folder)
        assert "/" not in suffixed[len(folder) :]
        assert suffixed[len(folder) :] not in (".", "..")
        for last in (".error.json", ""):
            assert len(os.fsencode(suffixed[len(folder) :] + last)) <= 255
    outputs = [output_path(suffixed, "json") for suffixed in numbers]
    assert len(set(numbers)) == len(set(outputs)) == 12
    assert all(len(os.fsencode(output[len(folder) :])) <= 255 for output in outputs)


def test_ordinary_names_stay_as_they_are() -> None:
    assert list(itertools.islice(numbered("ward/smith.final.wav"), 3)) == [
        "ward/smith.final.wav", "ward/smith.final-2.wav", "ward/smith.final-3.wav",
    ]  # fmt: skip
    assert output_path("ward/smith.final-2.wav", "srt") == "ward/smith.final-2.srt"


@pytest.mark.parametrize(
    ("path", "second"),
    [
        ("smith.wav", "smith-2.wav"),
        ("smith", "smith-2"),
        ("ward.3/smith", "ward.3/smith-2"),
        (".wav", ".wav-2"),
        ("smith.tar.gz", "smith.tar-2.gz"),
        ("smith-2.wav", "smith-2-2.wav"),
        ("smith." + "x" * 100, "smith-2." + "x" * 63),
        ("é" * 130 + ".wav", "é" * 119 + "-2.wav"),
    ],
)
def test_a_taken_name_is_numbered_before_its_extension(path: str, second: str) -> None:
    assert next(itertools.islice(numbered(path), 1, None)) == second


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("smith.wav", ["smith.wav"]),
        ("ward/smith.wav", ["ward/smith.wav", "ward-2/smith.wav", "ward-3/smith.wav"]),
        (
            "ward/bed 4/smith.wav",
            ["ward/bed 4/smith.wav", "ward-2/bed 4/smith.wav", "ward-3/bed 4/smith.wav"],
        ),
        ("w" * 255 + "/x", ["w" * 255 + "/x", "w" * 243 + "-2/x", "w" * 243 + "-3/x"]),
    ],
)
def test_a_taken_folder_is_numbered_at_its_first_part(path: str, expected: list[str]) -> None:
    assert list(itertools.islice(numbered_folders(path), 3)) == expected


@pytest.mark.parametrize(
    ("filed_as", "expected"),
    [
        ("smith.wav", "smith.srt"),
        ("ward.3/smith", "ward.3/smith.srt"),
        ("smith.final.wav", "smith.final.srt"),
        (".wav", ".wav.srt"),
    ],
)
def test_an_output_replaces_the_recordings_extension(filed_as: str, expected: str) -> None:
    assert output_path(filed_as, "srt") == expected


def numbers_in_use(*ranges: range) -> tuple[set[str], list[str]]:
    """The names with these numbers, and a list of those that were asked for."""
    last = max((numbers[-1] for numbers in ranges), default=0)
    names = list(itertools.islice(numbered("ward/DICT0001.WAV"), last))
    return {names[number - 1] for numbers in ranges for number in numbers}, []


@pytest.mark.parametrize(
    ("in_use", "expected"),
    [
        ([], ["", "-2", "-3"]),
        ([range(1, 2)], ["-2", "-3", "-4"]),
        ([range(2, 3)], ["", "-3", "-4"]),
        ([range(1, 4), range(5, 9)], ["-4", "-9", "-10"]),
        ([range(1, 16)], ["-16", "-17", "-18"]),
        ([range(1, 17)], ["-17", "-18", "-19"]),
        ([range(1, 32)], ["-32", "-33", "-34"]),
        ([range(1, 101)], ["-101", "-102", "-103"]),
        ([range(1, 20_000)], ["-20000", "-20001", "-20002"]),
        ([range(1, 51), range(52, 20_000)], ["-20000", "-20001", "-20002"]),  # not the gap, and why not
        ([range(1, 41), range(60, 62)], ["-41", "-42", "-43"]),
    ],
)
def test_the_next_number_is_found_in_few_questions(in_use: list[range], expected: list[str]) -> None:
    taken, asked = numbers_in_use(*in_use)

    def is_taken(name: str) -> bool:
        asked.append(name)
        return name in taken

    found = list(itertools.islice(unused("ward/DICT0001.WAV", is_taken), 3))
    assert found == [f"ward/DICT0001{suffix}.WAV" for suffix in expected]
    assert len(asked) < 60


@settings(deadline=None)
@given(st.sets(st.integers(1, 200)))
def test_an_unused_name_is_never_in_use(numbers: set[int]) -> None:
    names = dict(enumerate(itertools.islice(numbered("smith.wav"), 600), start=1))
    taken = {names[number] for number in numbers}
    found = list(itertools.islice(unused("smith.wav", taken.__contains__), 20))
    assert not taken & set(found)
    assert len(set(found)) == 20
    lowest = next(name for name in names.values() if name not in taken)
    if lowest in list(names.values())[:16]:
        assert found[0] == lowest
