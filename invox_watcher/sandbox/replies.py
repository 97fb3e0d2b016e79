"""The bodies the sandbox answers with, in whichever of the vendor's spellings was asked for.

API errors are JSON as in the vendor's reference; storage errors are XML as Amazon S3 writes them.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from starlette.responses import JSONResponse, Response

from invox_watcher.sandbox.ledger import Record, Result, Segment, Status
from invox_watcher.sandbox.settings import ReplyShape

_LIFETIME_FIELDS = {"accessToken": "expiresIn", "access_token": "expires_in"}


def token_body(shape: ReplyShape, token: str, lifetime_seconds: int) -> dict[str, Any]:
    """The reply to a token request; a bare `token` comes without its lifetime."""
    body: dict[str, Any] = {shape.token_field: token}
    if shape.token_field in _LIFETIME_FIELDS:
        body[_LIFETIME_FIELDS[shape.token_field]] = lifetime_seconds
    return body


def status_body(shape: ReplyShape, record: Record) -> dict[str, Any]:
    """The reply to a status call for a request that is not unknown."""
    status = record.status
    if status is Status.ERROR and record.result is not None:
        return error_result_body(shape, record.result.error or "")
    if status is not Status.COMPLETED or record.result is None:
        return {"transcription": [], shape.state_field: Status.PENDING.value}
    segments = record.result.segments
    body: dict[str, Any] = {
        "transcription": [_segment(shape, segment) for segment in segments],
        shape.state_field: status.value,
    }
    if shape.vtt:
        body["vttTranscription"] = _vtt(segments)
    return body


def error_result_body(shape: ReplyShape, message: str) -> dict[str, Any]:
    """The reply to a status call for a recording that could not be transcribed."""
    return {"transcription": [], shape.state_field: Status.ERROR.value, "errorMessage": message}


def webhook_body(
    shape: ReplyShape, request_id: str, result: Result, *, signature: str, created_at: int
) -> dict[str, Any]:
    """What is sent to a callback URL; `created_at` in Unix seconds."""
    body: dict[str, Any] = {
        "requestId": request_id,
        "transcription": [_segment(shape, segment) for segment in result.segments],
        "status": (Status.COMPLETED if result.error is None else Status.ERROR).value,
    }
    if result.error is not None:
        body["errorMessage"] = result.error
    return body | {"signature": signature, "createdAt": created_at}


def api_error(shape: ReplyShape, status: int, message: str, error_type: str | None = None) -> JSONResponse:
    """An error of the API, in the vendor's form."""
    body: dict[str, str] = {shape.message_field: message}
    if error_type is not None:
        body["errorType"] = error_type
    return JSONResponse(body, status)


def storage_error(status: int, code: str, message: str) -> Response:
    """An error of storage: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    )
    return Response(body, status, media_type="application/xml")


def _segment(shape: ReplyShape, segment: Segment) -> dict[str, Any]:
    body: dict[str, Any] = {
        "text": segment.text,
        "start": round(segment.start_seconds, 3),
        "end": round(segment.end_seconds, 3),
    }
    if segment.speaker is not None and shape.speaker_field is not None:
        names = {"speakerId": f"Speaker_{segment.speaker:02}", "speaker": str(segment.speaker)}
        body[shape.speaker_field] = names[shape.speaker_field]
    return body


def _vtt(segments: tuple[Segment, ...]) -> str:
    cues = [
        f"{_clock(segment.start_seconds)} --> {_clock(segment.end_seconds)}\n{escape(segment.text)}\n"
        for segment in segments
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}.{rest % 1000:03}"
