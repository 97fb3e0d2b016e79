"""What a job leaves behind for people: the facts in its transcript files, or its error file."""

from __future__ import annotations

import json
import os

from invox_watcher.job import Failure, Job, rfc3339
from invox_watcher.outputs import Delivery, Source
from invox_watcher.transcript import read_reply


def delivery_of(job: Job, payload: object) -> Delivery:
    """What goes into the transcript files of `job`; `payload` is the reply that the journal keeps for it."""
    reply = read_reply(payload)
    assert reply.transcript is not None  # noqa: S101 - the pipeline lets nothing else into the journal
    source = Source(
        name=job.path,
        size_bytes=job.size_bytes,
        sha256=job.sha256 or "",
        mime_type=job.mime_type or "",
        duration_seconds=job.duration_seconds,
    )
    return Delivery(
        job_id=job.id,
        request_id=job.request_id or "",
        source=source,
        received_at=job.received_at,
        uploaded_at=job.uploaded_at,
        completed_at=job.completed_at,
        delivered_by=job.delivered_by or "",
        transcript=reply.transcript,
        api_reply=reply.raw,
    )


def error_file(job: Job, failure: Failure) -> bytes:
    """The file that lies beside a recording in failed/: JSON, in UTF-8."""
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
        "code": failure.code,
        "message": failure.message,
        "hint": failure.hint,
        "attempts": failure.attempts,
        "retry_can_help": failure.retryable,
        "received_at": rfc3339(job.received_at),
        "failed_at": failure.at or rfc3339(job.updated_at),
    }
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()
