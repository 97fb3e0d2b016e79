"""The transcript as JSON: the recording, its segments, and the API's reply unchanged."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import asdict
from datetime import datetime
from json.encoder import encode_basestring
from typing import Any

from invox_watcher.outputs.delivery import Delivery
from invox_watcher.times import rfc3339

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
        "received_at": rfc3339(delivery.received_at),
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
    # Only lone surrogates can't be encoded; Python's escape for them, \udcff, is also JSON's.
    return f"{_indented(record, '')}\n".encode("utf-8", "backslashreplace")


def _indented(value: Any, margin: str) -> str:
    """As `json.dumps(value, indent=2, ensure_ascii=False)`, whose encoder is not in C, and far slower.

    NaN and infinity, which Python's JSON parser accepts but JSON does not have, become null.
    """
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "null"
    inner = f"{margin}  "
    if isinstance(value, dict) and value:
        parts = [f"{inner}{encode_basestring(key)}: {_indented(one, inner)}" for key, one in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{margin}}}"
    if isinstance(value, list | tuple) and value:
        parts = [f"{inner}{_indented(one, inner)}" for one in value]
        return "[\n" + ",\n".join(parts) + f"\n{margin}]"
    return "null" if value is None else json.dumps(value)


def _rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
