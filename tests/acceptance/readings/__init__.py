"""What each reading of the stand-in API has to do on the wire, by subject; importing registers all of it."""

import pytest

_MODULES = ("api", "result", "storage", "token", "webhook")
pytest.register_assert_rewrite(
    *(f"tests.acceptance.readings.{name}" for name in _MODULES), "tests.acceptance.readings.client"
)

from tests.acceptance.readings import api, result, storage, token, webhook  # noqa: E402

__all__ = ["api", "result", "storage", "token", "webhook"]
