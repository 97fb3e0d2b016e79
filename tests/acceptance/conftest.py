"""Fixtures of the acceptance tests."""

from __future__ import annotations

from tests.kit.captured_log import own_log
from tests.kit.fixtures import api, clinic

__all__ = ["api", "clinic", "own_log"]
