"""What a test needs of the machine is named in its `needs` marker."""

from __future__ import annotations

import glob
import os
import shutil

import hypothesis
import pytest

# On a busy machine any example may take long.
hypothesis.settings.register_profile("tests", deadline=None)
# `--hypothesis-profile=long`: what the tests of faults in any order then do a hundred times and more.
hypothesis.settings.register_profile("long", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    """Fail, and never skip, if a program or the right to mount is missing."""
    servers = ":".join(glob.glob("/usr/lib/postgresql/*/bin"))  # which Debian puts on no PATH
    path = os.environ.get("PATH", os.defpath) + os.pathsep + f"/usr/sbin:/sbin:{servers}"
    for marker in request.node.iter_markers("needs"):
        for name in marker.args:
            found = os.geteuid() == 0 if name == "root" else shutil.which(name, path=path)
            assert found, f"this test needs {name}: run it by make, which installs it (see make help)"
