"""Fixtures of the tests that run a real daemon; their conftest.py files import them."""

from __future__ import annotations

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
