"""Those that ask the journal most, with one in the database: recovery, reserved names, retention."""

from __future__ import annotations

from tests.unit.test_recovery import *  # noqa: F403
from tests.unit.test_reservations import *  # noqa: F403
from tests.unit.test_retention import (  # noqa: F401
    test_an_age_counts_from_a_time_that_was_confirmed,
    test_the_mark_in_the_history_is_as_written,
)
