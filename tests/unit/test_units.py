"""systemd/: the two units differ in nothing but names, so that what is tried on one holds for the other."""

from __future__ import annotations

import re
from pathlib import Path

UNITS = Path(__file__).parent.parent.parent / "systemd"


def directives(name: str) -> list[str]:
    """The unit without comments."""
    return [line for line in (UNITS / name).read_text().splitlines() if line and not line.startswith("#")]


def test_both_units_are_the_same_but_for_names() -> None:
    single = directives("invox-watcher.service")
    instance = [re.sub("[@/-]%i| of %i", "", line) for line in directives("invox-watcher@.service")]
    config = "/etc/invox-watcher/config.yaml"
    assert instance == [line.replace(config, "/etc/invox-watcher.yaml") for line in single]
