"""The page's own texts: each in every language, none left over, the right language for a browser."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

from invox_watcher.page import words
from invox_watcher.page.words import LANGUAGES, preferred, words_in
from tests.kit.plain_english import Prose, findings

TRANSLATED = LANGUAGES[1:]
PLACE = re.compile(r"\{\w*\}")


def texts_of_templates() -> Iterator[str]:
    for file in (resources.files("invox_watcher.page") / "templates").iterdir():
        for call in Environment().parse(file.read_text()).find_all(nodes.Call):
            named = call.node.name if isinstance(call.node, nodes.Name) else ""
            if isinstance(call.node, nodes.Getattr) and call.node.attr == "count":
                yield from (one.value for one in call.args[:2] if isinstance(one, nodes.Const))
            elif named == "t" and isinstance(call.args[0], nodes.Const):
                yield call.args[0].value


def texts_of_code() -> Iterator[str]:
    tree = ast.parse((resources.files("invox_watcher.page") / "pages.py").read_text())
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "t":
            assert isinstance(call.args[0], ast.Constant)
            yield str(call.args[0].value)


def all_texts() -> set[str]:
    tables = [text for table in words.TABLES for text in table.values()]
    return {*texts_of_templates(), *texts_of_code(), *tables} - {""}


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_is_translated_and_none_is_left_over(language: str) -> None:
    assert len(all_texts()) > 100
    assert words_in(language).texts.keys() == all_texts()


def test_the_texts_are_plain_english() -> None:
    assert not [text for text in all_texts() if any(findings(Prose(Path("page"), 1, "string", text)))]


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_has_the_places_of_its_text(language: str) -> None:
    for english, text in words_in(language).texts.items():
        assert text.strip() == text != "", english
        assert sorted(PLACE.findall(text)) == sorted(PLACE.findall(english)), english


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_file_of_translations_is_sorted_and_has_no_text_twice(language: str) -> None:
    pairs: list[tuple[str, str]] = []
    content = (resources.files("invox_watcher.page") / "words" / f"{language}.json").read_text("utf-8")
    json.loads(content, object_pairs_hook=lambda found: pairs.extend(found) or dict(found))
    keys = [english for english, _ in pairs]
    assert keys == sorted(set(keys), key=lambda english: (english.casefold(), english))


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr-FR, fr;q=0.9, es;q=0.4, de;q=0.3", "es"),
        ("en;q=0.2, ES-mx;q=0.7", "es"),
        ("de;q=0.5, en;q=0.5", "de"),
        ("fr, *;q=0.1", "en"),
        ("en;q=0, *", "de"),
        ("en;q=0", "en"),
        ("de;q=high, es;q=2, en;q=nan", "en"),
        ("zh,ja;q=0.8", "en"),
        (";;,,=;q=,*;q=0", "en"),
        ("de" * 100_000, "en"),
    ],
)
def test_language_by_what_the_browser_prefers(header: str, language: str) -> None:
    assert preferred(header) == language


def test_what_fills_a_place_is_escaped() -> None:
    assert words_in("en")("since {time}", time="<b>") == "since &lt;b&gt;"


def test_numbers_of_things_are_grouped_without_a_language() -> None:
    t = words_in("en")
    assert t.count("{n} recording", "{n} recordings", 1) == "1 recording"
    assert t.count("{n} recording", "{n} recordings", 12_345) == "12\u202f345 recordings"
