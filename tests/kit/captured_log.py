"""What a test's own process has logged. The log has a thread of its own, which a busy machine may delay."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from invox_watcher import logs

_SECONDS = 30


class LogStream(io.StringIO):
    """A stream for `logs.configure`, read once everything logged so far is written."""

    def getvalue(self) -> str:
        """All lines that were logged."""
        logs.flush(_SECONDS)
        return super().getvalue()


@pytest.fixture
def own_log() -> Iterator[LogStream]:
    """Everything that the test's own process logs, whatever earlier tests have configured."""
    stream = LogStream()
    logs.configure(stream=stream)
    yield stream
    logs.configure()
