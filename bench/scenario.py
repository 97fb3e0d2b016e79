"""What a scenario is: a module of this package with a `SCENARIO`, named in `SCENARIOS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import Figure, Series
from bench.server import Server

# In the order of the page: whether `make bench` runs it, and whether `make bench-quick` does.
SCENARIOS: Mapping[str, tuple[bool, bool]] = {
    "drain": (True, True),
    "mixed": (True, True),
    "latency": (True, True),
    "large": (True, True),
    "pickup": (True, True),
    "backlog": (True, False),
    "waiting": (True, False),
    "million": (True, False),
    "polls": (True, False),
    "page_load": (False, False),
    "soak": (False, False),
}


@dataclass(frozen=True)
class Bench:
    """What a scenario works with."""

    folder: Path
    server: Server
    figures: list[Figure]
    series: list[Series]
    against: Path | None = None  # another checkout, whose daemon is measured too

    def add(
        self,
        what: str,
        value: float,
        unit: str,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """A figure, shown at once."""
        figure = Figure(what, value, unit, at_least, at_most)
        self.figures.append(figure)
        print(f"  {figure}", flush=True)

    def curve(self, name: str, x: Sequence[float], y: Sequence[float]) -> None:
        """Points for the plot."""
        self.series.append(Series(name, x, y))

    def progress(self, text: str) -> None:
        """What is being done now."""
        print(f"  … {text}", flush=True)


@dataclass(frozen=True)
class Scenario:
    """How to measure something, in three sizes. The page says of it what the module's docstring does."""

    title: str
    measure: Callable[..., None]  # gets a Bench, and the size's values by name
    sizes: Mapping[str, Mapping[str, Any]]  # full, quick, and smoke, which only shows that it runs
    bound_seconds: int
