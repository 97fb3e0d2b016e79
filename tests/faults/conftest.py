"""Fixtures of the fault tests, and the long profile of test_any_order."""

from __future__ import annotations

import hypothesis

from tests.kit.fixtures import api, clinic

__all__ = ["api", "clinic"]

# `--hypothesis-profile=long`: what test_any_order then does a thousand times and more.
hypothesis.settings.register_profile("long", deadline=None)
