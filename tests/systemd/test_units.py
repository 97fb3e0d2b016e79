"""The unit files: what systemd says of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.systemd.conftest import ON_A_MACHINE
from tests.systemd.container import Container

UNITS = Path(__file__).parent.parent.parent / "systemd"
SHARE = "/usr/lib/systemd/system"
WORST_SCORE = 1.5

pytestmark = ON_A_MACHINE


def test_systemd_verifies_the_units_without_a_warning(machine: Container) -> None:
    for unit in sorted(path.name for path in UNITS.iterdir()):
        verified = machine.run(f"systemd-analyze verify {SHARE}/{unit}")
        assert (verified.stdout, verified.stderr) == ("", "")
        report = machine.run(f"systemd-analyze security --offline=yes --json=short {SHARE}/{unit}").stdout
        exposure = sum(float(item["exposure"] or 0) for item in json.loads(report))
        overall = machine.out(f"systemd-analyze security --offline=yes {SHARE}/{unit} | tail -1")
        print(f"{unit}: {overall.lstrip('→ ')}; the sum of what is left open is {exposure:.1f}")
        score = re.search(r": (\d+\.\d) ", overall)
        assert score is not None
        assert float(score[1]) <= WORST_SCORE, report


def test_the_running_service_is_scored_like_its_file(machine: Container) -> None:
    threshold = int(WORST_SCORE * 10)
    scored = machine.run(f"systemd-analyze security --threshold={threshold} invox-watcher", check=False)
    assert scored.returncode == 0, scored.stdout
