"""docs/performance.md and its plots, from bench/results/: `python -m bench.page`."""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Mapping
from pathlib import Path

from bench.figures import Figure, Result, load, number
from bench.plot import plot
from bench.scenario import SCENARIOS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
DOCS = ROOT / "docs"
PAGE = DOCS / "performance.md"
HEAD = """# Performance

<!-- Written by `python -m bench.page` from bench/results/ and the docstrings of the scenarios in bench/. -->

What the daemon costs, beside what a user would write instead, and whether that grows with time. All figures
come from one command, `make bench`, which takes some {minutes} minutes and installs what it needs: nginx
with Lua, curl and FFmpeg. `make bench-quick` measures in two minutes what depends on the way of a
recording, for those who change it; `make bench-soak` takes an hour. `python -m bench NAME` runs one
scenario: {names}.

The API is a stand-in, nginx with Lua, which is never what is waited for. Whatever is compared was measured
in the same run, in turns; ratios are the medians of the ratios of neighbours. *Wanted* is what we aim at;
what misses it is marked with ✗. *Load* is how many processes ran, or wanted to, before a scenario began:
where it is above one, something else was running. An absolute figure holds for this machine only:
{machine}.
"""
PLOTS = {
    "million": ("performance-history.svg", "Growth with history", "finished recordings in the journal", True),
    "soak": (
        "performance-week.svg",
        "A week: memory and journal in MiB, threads, descriptors",
        "days",
        False,
    ),
}


def page(results: Mapping[str, Result]) -> str:
    """The whole page."""
    first = next(iter(results.values())).machine
    machine = (
        f"{first['cores']} cores ({first['processor']}), {first['memory_gib']} GiB, Linux {first['kernel']},"
        f" Python {first['python']}, SQLite {first['sqlite']}"
    )
    seconds = sum(result.seconds for name, result in results.items() if SCENARIOS[name][0])
    names = ", ".join(f"`{name}`" for name in SCENARIOS)
    head = HEAD.format(minutes=round(seconds / 60), names=names, machine=machine)
    return filled(head) + "".join(section(result) for result in results.values())


def section(result: Result) -> str:
    """What one scenario measured."""
    module = importlib.import_module(f"bench.{result.scenario}")
    _summary, _, text = (module.__doc__ or "").strip().partition("\n\n")
    lines = [f"\n## {module.SCENARIO.title[0].upper()}{module.SCENARIO.title[1:]}\n", filled(text)]
    if result.problem is not None:
        lines.append(f"**Not measured to its end:** {result.problem}.\n")
    if result.scenario in PLOTS and result.series:
        file, title, _across, _evenly = PLOTS[result.scenario]
        lines.append(f"![{title}]({file})\n")
    lines += ["| | | wanted | |", "|---|--:|--:|---|", *map(row, result.figures)]
    lines.append(
        f"\nMeasured on {result.date} in {result.seconds} s; load before it: {number(result.load)}.\n"
    )
    return "\n".join(lines)


def filled(text: str) -> str:
    """Its paragraphs, in lines as long as those of the other pages."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    filled = (textwrap.fill(paragraph, 119, break_on_hyphens=False) for paragraph in paragraphs)
    return "\n\n".join(filled) + "\n"


def row(figure: Figure) -> str:
    """One line of a table."""
    value = f"{number(figure.value)} {figure.unit}".strip()
    mark = {None: "", True: "✓", False: "✗"}[figure.met]
    return f"| {figure.what} | {value} | {figure.wanted} | {mark} |"


def latest(folder: Path = RESULTS) -> dict[str, Result]:
    """The results that there are, in the page's order."""
    paths = {name: folder / f"{name}.json" for name in SCENARIOS}
    return {name: load(path) for name, path in paths.items() if path.exists()}


def plots(results: Mapping[str, Result]) -> dict[str, str]:
    """The files of the plots."""
    return {
        file: plot(title, across, results[name].series, evenly=evenly)
        for name, (file, title, across, evenly) in PLOTS.items()
        if name in results and results[name].series
    }


def main() -> None:
    """Write the page and its plots."""
    results = latest()
    PAGE.write_text(page(results), encoding="utf-8")
    for file, content in plots(results).items():
        (DOCS / file).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
