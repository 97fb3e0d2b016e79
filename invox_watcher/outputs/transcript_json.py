"""The transcript as JSON: the recording, its segments, and the API's reply unchanged."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from invox_watcher.outputs.delivery import Delivery

SCHEMA = "invox-watcher/transcript/1"


def transcript_json(delivery: Delivery) -> bytes:
    source, transcript = delivery.source, delivery.transcript
    record = {
        "schema": SCHEMA,
        "job_id": delivery.job_id,
        "request_id": delivery.request_id,
        "source": {
            "name": source.name,
            "size_bytes": source.size_bytes,
            "sha256": source.sha256,
            "mime_type": source.mime_type,
            "duration_seconds": source.duration_seconds,
        },
        **({"prepared": asdict(delivery.prepared)} if delivery.prepared else {}),
        "received_at": _rfc3339(delivery.received_at),
        "uploaded_at": _rfc3339(delivery.uploaded_at),
        "completed_at": _rfc3339(delivery.completed_at),
        "delivered_by": delivery.delivered_by,
        "text": transcript.text,
        "segments": [
            {"speaker": segment.speaker, "start": segment.start, "end": segment.end, "text": segment.text}
            for segment in transcript.segments
        ],
        # Only there if there is any: other transcripts are as they always were.
        **({"suspect": [dataclasses.asdict(one) for one in delivery.suspect]} if delivery.suspect else {}),
        "api_reply": delivery.api_reply,
    }
    text = json.dumps(_finite(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Only lone surrogates can't be encoded; Python's escape for them, \udcff, is also JSON's.
    return text.encode("utf-8", "backslashreplace")


def _finite(value: Any) -> Any:
    """The value with null for NaN and infinity, which Python's JSON parser accepts but JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _rfc3339(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
