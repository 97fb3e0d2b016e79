"""The bench measures against a server of its own, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.figures import load

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.clients
def test_a_drain_is_measured_beside_its_peers(tmp_path: Path) -> None:
    results = tmp_path / "results"
    options = ["--size", "smoke", "--folder", str(tmp_path), "--results", str(results)]
    command = [sys.executable, "-m", "bench", "drain", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    result = load(results / "drain.json")
    rates = {figure.what for figure in result.figures if figure.unit == "recordings/s" and figure.value > 0}
    assert rates == {"naive", "ours", "floor", "shell"}
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
