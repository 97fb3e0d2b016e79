"""docs/performance.md and its plots are what the committed figures say."""

from __future__ import annotations

from bench.page import DOCS, PAGE, RESULTS, latest, page, plots


def test_the_page_has_the_committed_figures() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(latest()), "run python -m bench.page"


def test_the_plots_show_the_committed_figures() -> None:
    drawn = plots(latest())
    assert drawn
    assert {name: (DOCS / name).read_text(encoding="utf-8") for name in drawn} == drawn


def test_only_whole_figures_are_committed() -> None:
    results = latest()
    assert {path.stem for path in RESULTS.iterdir()} == set(results)
    assert {name: result.size for name, result in results.items() if result.size != "full"} == {}
