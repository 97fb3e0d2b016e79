"""Fixtures of the acceptance tests."""

from __future__ import annotations

from tests.kit.caller import caller, shared_caller
from tests.kit.captured_log import own_log
from tests.kit.fixtures import api, clinic
from tests.kit.inbox import intake

__all__ = ["api", "caller", "clinic", "intake", "own_log", "shared_caller"]
