"""Plain English in everything that people read; tests/kit/plain_english.py has the words to avoid."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.kit.plain_english import LONG, PACKAGE, ROOT, Finding, Prose, files, findings, prose_of

DIALECT = (
    "None where there is no header.",
    "Raises OSError where the port is taken.",
    "The folders, made where it is missing.",
    "It lies in the inbox, as smith.wav.",
    "It is no regular file but: folder.",
    "The daemon does not get on: inbox.",
    "Make room on that file system; work goes on by itself.",
    "Whoever started it may stop it.",
    "SIGHUP makes it read its configuration\n    anew.",
    "Mend it first.",
    "No TLS connection to example.com comes about.",
    "The share is away.",
    "The log says why.",
    "It says so after so many days.",
    "Was it put back before?",
    "exit status: 0 well; 70 a defect",
)
GOOD = (
    "Check the folder where the recording was.",
    "The cases where there is no header.",
    "Set the variable where the daemon is started.",
    "There is no such file, and it is no longer needed.",
    "This is what is going on, and they go on to the next step.",
    "Keep away from the fire.",
    "The user `nobody` owns it.",
    "Each looks like a frame; take a look at the page.",
    "The connection is put back into the pool.",
    "An amendment to RFC 3339.",
    "It is ill-formed.",
)


def words(text: str) -> list[str]:
    return [found.word for found in findings(Prose(Path("x"), 1, "string", text))]


@pytest.mark.parametrize("text", DIALECT)
def test_the_dialect_is_found(text: str) -> None:
    assert words(text)


@pytest.mark.parametrize("text", GOOD)
def test_good_english_is_left_alone(text: str) -> None:
    assert words(text) == []


def test_a_finding_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text('"""Fine.\n\nRead anew.\n"""\n\n# Made by\n# whoever\nX = f"{1} is mended"\n')
    found = [f"{one.line} {one.word}" for prose in prose_of(file) for one in findings(prose)]
    assert sorted(found) == ["3 anew", "7 whoever", "8 mended"]


@functools.cache
def dialect_in(file: Path) -> Mapping[Prose, Sequence[Finding]]:
    """Each text in a file, with what is found in it."""
    return {prose: list(findings(prose)) for prose in prose_of(file)}


def test_all_that_people_read_is_plain() -> None:
    found = [str(one) for file in files() for each in dialect_in(file).values() for one in each]
    assert not found, "\n" + "\n".join(found)


def test_under_half_a_percent_of_strings_has_the_dialect(capsys: pytest.CaptureFixture[str]) -> None:
    strings = [
        found
        for file in sorted(PACKAGE.rglob("*.py"))
        for prose, found in dialect_in(file).items()
        if prose.kind in ("string", "docstring") and len(prose.text) > LONG
    ]
    share = sum(map(bool, strings)) / len(strings)
    with capsys.disabled():
        print(
            f"{share:.2%} of {len(strings)} strings in {PACKAGE.relative_to(ROOT)} use the dialect. ", end=""
        )
    assert share < 0.005
