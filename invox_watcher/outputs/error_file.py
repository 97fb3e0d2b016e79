"""The file beside a recording that failed: which recording it was, what went wrong, and what can be done."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime

from invox_watcher.errors import Reason
from invox_watcher.times import rfc3339


@dataclass(frozen=True)
class FailureReport:
    """All that an error file says."""

    job_id: str
    request_id: str | None
    name: str  # bytes that are not UTF-8 as surrogate escapes
    size_bytes: int
    sha256: str | None
    format: str | None  # what the recording is, in words
    stage: str
    reason: Reason
    attempts: int
    retry_can_help: bool
    received_at: datetime  # aware
    failed_at: str  # RFC 3339


def render_error(report: FailureReport) -> bytes:
    """The content of the error file: JSON, in UTF-8."""
    content = {
        "schema": "invox-watcher/error/1",
        "job_id": report.job_id,
        "request_id": report.request_id,
        "source": {
            "name": os.fsencode(report.name).decode("utf-8", "replace"),
            "size_bytes": report.size_bytes,
            "sha256": report.sha256,
            "format": report.format,
        },
        "stage": report.stage,
        "code": report.reason.code,
        "message": report.reason.message,
        "hint": report.reason.hint,
        "attempts": report.attempts,
        "retry_can_help": report.retry_can_help,
        "received_at": rfc3339(report.received_at),
        "failed_at": report.failed_at,
    }
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()
