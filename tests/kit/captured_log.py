"""What a test's own process has logged. The log has a thread of its own, which a busy machine may delay."""

from __future__ import annotations

import io

import pytest

from invox_watcher import logs

_SECONDS = 30


class LogStream(io.StringIO):
    """A stream for `logs.configure`, read once everything logged so far is written."""

    def getvalue(self) -> str:
        """All lines that were logged."""
        logs.flush(_SECONDS)
        return super().getvalue()


def written_log(capsys: pytest.CaptureFixture[str]) -> str:
    """All that was logged to standard error, and printed, so far."""
    logs.flush(_SECONDS)
    return "".join(capsys.readouterr())
