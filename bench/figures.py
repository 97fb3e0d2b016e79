"""What a scenario hands back, and how it is kept: one JSON file for each scenario."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of a scenario's table."""

    what: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it is as it was wanted; None if nothing was."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most

    @property
    def wanted(self) -> str:
        """What was, as it is shown."""
        if self.at_least is not None:
            return f"≥ {number(self.at_least)}"
        return "" if self.at_most is None else f"≤ {number(self.at_most)}"

    def __str__(self) -> str:
        verdict = {None: "", True: " (met)", False: " (missed)"}[self.met]
        return f"{self.what}: {number(self.value)} {self.unit}{' ' * bool(self.wanted)}{self.wanted}{verdict}"


@dataclass(frozen=True)
class Series:
    """Points of a curve, for the plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Result:
    """All that a scenario measured, when, and on what."""

    scenario: str
    size: str
    date: str
    seconds: float
    load: float  # processes that ran or wanted to when it began, other people's
    figures: Sequence[Figure]
    series: Sequence[Series] = ()
    problem: str | None = None  # why it ended early
    machine: Mapping[str, Any] = field(default_factory=dict)


def number(value: float) -> str:
    """Three significant digits, and no exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - int(f"{abs(value):e}".rpartition("e")[2]))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def machine() -> dict[str, Any]:
    """What these figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "cores": os.cpu_count(),
        "processor": model,
        "memory_gib": round(memory),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
    }


def save(result: Result, folder: Path) -> None:
    """Write or replace the scenario's file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.scenario}.json"
    path.write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path) -> Result:
    """What `save` wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    figures = [Figure(**figure) for figure in found.pop("figures")]
    series = [Series(**one) for one in found.pop("series")]
    return Result(**found, figures=figures, series=series)
