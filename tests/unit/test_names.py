"""The names that recordings and outputs get: numbered if one is taken, never too long for a folder."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from invox_watcher.files.names import numbered, numbered_folders, output_path

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
