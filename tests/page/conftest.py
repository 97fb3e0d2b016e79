"""A hospital and a Chromium for the tests of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.chromium import Chromium, chromium
from tests.kit.hospital import Hospital, hospital


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """A hospital whose daemon runs, with nothing in it yet."""
    with hospital(tmp_path_factory.mktemp("hospital")) as found:
        found.start()
        yield found


@pytest.fixture
def browser(clinic: Hospital) -> Iterator[Chromium]:
    """A window in which nobody has signed in."""
    with chromium(clinic.url) as found:
        yield found
