"""docs/recorders.md names every format of sound that the readers know, and what becomes of each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from invox_watcher.audio._magic import _MAGICS, _Magic
from tests.kit.audio import identify_bytes
from tests.kit.odd_recordings import amr

PAGE = (Path(__file__).parent.parent.parent / "docs" / "recorders.md").read_text()
FORMATS = PAGE.partition("## By format")[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in FORMATS.splitlines() if "|" in line
][2:]


def row_of(format: str) -> list[str]:
    """The row whose first cell names a format, alone or in a list."""
    found = [row for row in ROWS if format in row[0].split(", ") or format == row[0]]
    assert len(found) == 1, format
    return found[0]


@pytest.mark.parametrize("magic", [magic for magic in _MAGICS if "video" not in magic.format])
def test_formats_with_a_signature_are_on_the_page(magic: _Magic) -> None:
    info = identify_bytes(_example(magic))
    if not info.is_audio or info.format == "MIDI":
        return
    row = row_of(info.format)
    assert row[1] == "no"
    assert row[2].startswith("decoded") is info.decodable


def _example(magic: _Magic) -> bytes:
    return magic.opening.ljust(magic.offset, b"\0") + magic.magic + bytes(range(1, 200)) * 9


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (b"\2dss" + bytes(1600), "DSS"),
        (b"\3ds2" + bytes(1600), "DS2"),
        (amr(9), "AMR"),
        (b"#!AMR-WB\n" + b"\x44".ljust(61, b"x") * 9, "AMR-WB"),
    ],
)
def test_dictation_and_telephone_formats_are_on_the_page(data: bytes, format: str) -> None:
    info = identify_bytes(data)
    assert info.format == format
    assert info.decodable
    assert row_of(format)[1:3] == ["no", "decoded"]


def test_every_row_says_what_it_was_tested_with() -> None:
    assert {row[4] for row in ROWS} == {"real", "crafted"}
    assert {re.split(r"[:, ]", row[1])[0] for row in ROWS} == {"sent", "no"}
