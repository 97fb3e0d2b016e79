"""Patterns: fields are names and nothing else, and what is filled in is not read again."""

from __future__ import annotations

import pytest

from invox_watcher.patterns import MissingFieldError, Pattern


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{name}", "{x.__class__} %s $name"),
        ("{ward}/{ward}", "3/3"),
        ("{{{ward}}}", "{3}"),
        ("{{name}}", "{name}"),
        ("100 % {ward} $ward %(ward)s", "100 % 3 $ward %(ward)s"),
    ],
)
def test_fields_are_filled_in_once(text: str, expected: str) -> None:
    assert Pattern(text).fill({"name": "{x.__class__} %s $name", "ward": "3"}) == expected


@pytest.mark.parametrize(
    "text", ["{", "}", "{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{a b}", "{ä}", "{{a}", "{a}}"]
)
def test_anything_else_in_braces_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="has a brace that is not part of a field"):
        Pattern(text)


def test_a_missing_value_is_named_and_values_are_cleaned() -> None:
    pattern = Pattern("a/{b}/{c}")
    assert pattern.fields == {"b", "c"}
    assert pattern.fill({"b": "x/y", "c": "/"}, lambda value: value.replace("/", "_")) == "a/x_y/_"
    with pytest.raises(MissingFieldError) as caught:
        pattern.fill({"b": ""})
    assert caught.value.field == "c"
