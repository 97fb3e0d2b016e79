"""For how long to wait, on a machine that may stand still meanwhile."""

from __future__ import annotations

import time

# A look that takes longer was held up by the machine, which may stand still for a minute.
_LONGEST_LOOK_SECONDS = 1.0


class Patience:
    """Some seconds, of which none passes while the whole machine stands still."""

    def __init__(self, seconds: float) -> None:
        self._left, self._before = seconds, time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether that much time has passed; to be asked again and again."""
        now = time.monotonic()
        self._left -= min(now - self._before, _LONGEST_LOOK_SECONDS)
        self._before = now
        return self._left <= 0
