"""The error file: why a recording failed, for people and scripts."""

from __future__ import annotations

import json
import os

from invox_watcher.job import Failure, Job
from invox_watcher.times import rfc3339


def error_file(job: Job, failure: Failure) -> bytes:
    """The content of the error file next to a recording in failed/: JSON, UTF-8."""
    content = {
        "schema": "invox-watcher/error/1",
        "job_id": job.id,
        "request_id": job.request_id,
        "source": {
            "name": os.fsencode(job.path).decode("utf-8", "replace"),
            "size_bytes": job.size_bytes,
            "sha256": job.sha256,
            "format": job.format,
        },
        "stage": failure.stage,
        "code": failure.reason.code,
        "message": failure.reason.message,
        "hint": failure.reason.hint,
        "attempts": failure.attempts,
        "retry_can_help": failure.retry_can_help,
        "received_at": rfc3339(job.received_at),
        "failed_at": failure.at or rfc3339(job.updated_at),
    }
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()
