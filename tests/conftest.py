"""What a test needs of the machine is named in its `needs` marker."""

from __future__ import annotations

import os
import shutil

import pytest


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    """Fail, and never skip, if a program or the right to mount is missing."""
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin:/sbin"
    for marker in request.node.iter_markers("needs"):
        for name in marker.args:
            found = os.geteuid() == 0 if name == "root" else shutil.which(name, path=path)
            assert found, f"this test needs {name}: run it by make, which installs it (see make help)"
