"""`python -m bench [SCENARIO…] [--size full|quick|smoke] [--folder PATH]`: see docs/performance.md."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from bench.figures import Figure, Result, Series, machine, save
from bench.scenario import SCENARIOS, Bench, Scenario
from bench.server import serving

_PREFIX = "invox-bench-"
_LONGEST_SECONDS = 44 * 60  # of all scenarios together, unless one of them alone may take longer
_RESULTS = Path(__file__).with_name("results")


class OutOfTimeError(Exception):
    """A scenario took longer than it may."""


def main() -> int:
    """Run what was named, or all; 1 if a scenario could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--size", choices=("full", "quick", "smoke"), default="full")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; by default a temporary one")
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="another checkout, whose daemon drains in turns, too"
    )
    parser.add_argument("--results", type=Path, help="where to write the figures, as JSON")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - set(SCENARIOS):
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    results = options.results or (_RESULTS if options.size == "full" else None)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGALRM, _out_of_time)
    failed, until = 0, time.monotonic() + _LONGEST_SECONDS
    names = options.scenarios or _by_default(options.size)
    for name in names:
        scenario: Scenario = importlib.import_module(f"bench.{name}").SCENARIO
        bound = scenario.bound_seconds
        if len(names) > 1:
            bound = min(bound, max(1, int(until - time.monotonic())))
        result = _measured(name, scenario, options, bound)
        failed += result.problem is not None
        if results is not None:
            save(result, results)
    return int(failed > 0)


def _by_default(size: str) -> list[str]:
    """What runs if nothing is named: in a hurry, what shows the hot path."""
    return [
        name
        for name, (by_default, in_hurry) in SCENARIOS.items()
        if (in_hurry if size == "quick" else by_default)
    ]


def _measured(name: str, scenario: Scenario, options: argparse.Namespace, bound: int) -> Result:
    print(f"{name}: {scenario.title}; within {bound} s", flush=True)
    began, load = time.monotonic(), os.getloadavg()[0]
    figures: list[Figure] = []
    series: list[Series] = []
    problem = None
    signal.alarm(bound)
    try:
        with _folder(options.folder) as folder, serving(folder / "server") as server:
            bench = Bench(folder, server, figures, series, options.against)
            try:
                scenario.measure(bench, **scenario.sizes[options.size])
            finally:
                signal.alarm(0)  # removing its files is not to be interrupted
    except Exception as error:  # noqa: BLE001 - the other scenarios are still to be measured
        problem = f"{type(error).__name__}: {error}"
        print(f"  not measured: {problem}", file=sys.stderr, flush=True)
    finally:
        signal.alarm(0)
    seconds = time.monotonic() - began
    print(f"  {seconds:.0f} s", flush=True)
    return Result(
        name,
        options.size,
        f"{datetime.now(UTC):%Y-%m-%d}",
        round(seconds),
        load,
        figures,
        series,
        problem,
        machine(),
    )


@contextlib.contextmanager
def _folder(parent: Path | None) -> Iterator[Path]:
    """An empty folder, gone afterwards. What a killed run has left goes, too."""
    where = parent or Path(tempfile.gettempdir())
    for left in where.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), (left / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(left)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=where))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    """The lock goes last: if this is killed, the next run finds what is left."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _interrupt(*_args: object) -> NoReturn:
    raise KeyboardInterrupt


def _out_of_time(*_args: object) -> NoReturn:
    raise OutOfTimeError("it took longer than it may")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
