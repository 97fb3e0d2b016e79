"""docs/reliability.md can't lie: no line without a test, no test without a line."""

from __future__ import annotations

from tests.faults import page


def test_every_line_has_a_test_and_every_test_a_line() -> None:
    lines, tests = page.lines(page.PAGE.read_text()), page.tests_by_line()
    assert lines == sorted(set(lines))
    assert sorted(tests) == lines


def test_the_page_names_the_tests_that_there_are() -> None:
    text = page.PAGE.read_text()
    assert page.written(text) == text, "run: python -m tests.faults.page"
