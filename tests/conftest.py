"""Fixtures of the acceptance tests. What a test needs of the machine is named in its `needs` marker."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, sandbox


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Sandbox]:
    """A stand-in API of the test's own."""
    with sandbox(tmp_path / "api") as running:
        yield running


@pytest.fixture
def clinic(tmp_path: Path, api: Sandbox) -> Clinic:
    """A clinic whose daemon talks to `api`."""
    return Clinic(tmp_path / "clinic", api.base_url)


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    """Fail, and never skip, where a program or the right to mount is missing."""
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin:/sbin"
    for marker in request.node.iter_markers("needs"):
        for name in marker.args:
            there = os.geteuid() == 0 if name == "root" else shutil.which(name, path=path)
            assert there, f"this test needs {name}: run it by make, which installs it (see make help)"
