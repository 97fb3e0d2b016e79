"""Fixtures of the fault tests."""

from __future__ import annotations

from tests.kit.fixtures import api, clinic

__all__ = ["api", "clinic"]
