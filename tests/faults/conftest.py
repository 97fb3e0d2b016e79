"""What a fault test needs of the machine is named in its `needs` marker; it fails where that is missing."""

from __future__ import annotations

import os
import shutil

import hypothesis
import pytest

_SYSTEM_PATH = "/usr/sbin:/sbin"

# `--hypothesis-profile=long`: what test_any_order then does a thousand times and more.
hypothesis.settings.register_profile("long")


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    """Fail, and never skip, where a program or the right to mount is missing."""
    path = os.environ.get("PATH", os.defpath) + os.pathsep + _SYSTEM_PATH
    for marker in request.node.iter_markers("needs"):
        for name in marker.args:
            there = os.geteuid() == 0 if name == "root" else shutil.which(name, path=path)
            assert there, (
                f"this test needs {name}: run `make test-faults` as root, which installs what it needs"
            )
