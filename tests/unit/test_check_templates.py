"""What `check` says about templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.config import Config, load
from invox_watcher.diagnostics.check._templates import templates
from tests.kit.documents import save

DOCX = {"formats": ["json", "docx"]}
NOT_THERE = "/nowhere/letter.docx"
MAIL = {"kind": "mail", "host": "localhost", "from": "a@b.de", "to": ["c@d.de"]}


@pytest.fixture
def letter(tmp_path: Path) -> str:
    return str(save(tmp_path / "letter.docx", "{{ text }} {{ author }} {{ unit }} {{ note | default('') }}"))


def configured(tmp_path: Path, **sections: Any) -> Config:
    path = tmp_path / "config.yaml"
    needed = {
        "api": {"base_url": "https://api.example.com"},
        "credentials": {"app_id": "a", "api_key": "b"},
        "folders": {"root": str(tmp_path)},
    }
    path.write_text(json.dumps(needed | sections))
    return load(path)


def findings(config: Config) -> list[tuple[str, str]]:
    return [(one.level, one.problem or one.seen) for one in templates(config)]


def profile(**sets: Any) -> dict[str, Any]:
    return {"name": "a", "match": {"folder": "ward3"}, "set": sets}


def test_without_documents_nothing_is_said(tmp_path: Path) -> None:
    assert findings(configured(tmp_path)) == []


def test_the_template_of_the_package_fits_all(tmp_path: Path) -> None:
    ok = ("ok", "outputs.docx_template: the one in the package")
    assert findings(configured(tmp_path, outputs=DOCX)) == [ok]
    assert findings(configured(tmp_path, outputs=DOCX, profiles=[profile()])) == [ok, ok]


def test_a_template_is_only_for_documents(tmp_path: Path, letter: str) -> None:
    problem = ("warning", "outputs.docx_template has no effect: there is no docx")
    outputs = {"docx_template": letter}
    assert findings(configured(tmp_path, outputs=outputs)) == [problem]
    targets = {"ward": MAIL | {"formats": ["docx"]}}
    assert findings(configured(tmp_path, outputs=outputs, targets=targets)) != [problem]


def test_a_missing_template_is_reported(tmp_path: Path) -> None:
    (missing,) = findings(configured(tmp_path, outputs=DOCX | {"docx_template": NOT_THERE}))
    told = f"The template {NOT_THERE} can't be read: No such file or directory."
    assert missing == ("failed", f"outputs.docx_template: {told}")
    of_profile = configured(tmp_path, profiles=[profile(formats=["docx"], template=NOT_THERE)])
    assert findings(of_profile) == [("failed", f"profiles[0].set.template: {told}")]


def test_unknown_fields_are_named(tmp_path: Path, letter: str) -> None:
    """Without profiles a recording has no attributes."""
    (unknown,) = findings(configured(tmp_path, outputs=DOCX | {"docx_template": letter}))
    assert unknown == ("failed", "outputs.docx_template uses what recordings do not have: author, unit")


@pytest.mark.parametrize(
    ("match", "attributes", "expected"),
    [
        ({}, {}, ["uses what recordings do not have: unit", "uses what not every recording says: author"]),
        ({}, {"unit": "3"}, ["uses what not every recording says: author"]),
        ({"name": "(?P<unit>.)_.*"}, {}, ["uses what not every recording says: author"]),
        ({"author": "SMITH"}, {"unit": "3"}, [": {letter}"]),
        ({"name": "(?P<unit>.)_(?P<author>.*)"}, {}, [": {letter}"]),
    ],
)
def test_a_profile_may_have_what_its_template_uses(
    tmp_path: Path, letter: str, match: dict[str, str], attributes: dict[str, str], expected: list[str]
) -> None:
    one = {"name": "a", "match": match, "set": {"template": letter, "attributes": attributes}}
    config = configured(tmp_path, outputs=DOCX, profiles=[one])
    said = [text for _level, text in findings(config)][:-1]  # the last is of those that match no profile
    key = "profiles[0].set.template"
    assert said == [
        key + (text.format(letter=letter) if text.startswith(":") else f" {text}") for text in expected
    ]
