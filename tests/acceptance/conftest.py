"""Fixtures of the acceptance tests."""

from __future__ import annotations

from tests.kit.captured_log import own_log
from tests.kit.fixtures import api, clinic
from tests.kit.inbox import intake

__all__ = ["api", "clinic", "intake", "own_log"]
