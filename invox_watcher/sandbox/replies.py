"""The bodies the sandbox answers with, in whichever of the vendor's forms was asked for.

API errors are JSON as in the vendor's reference; storage errors are XML as Amazon S3 writes them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from starlette.responses import HTMLResponse, JSONResponse, Response

from invox_watcher.sandbox import words
from invox_watcher.sandbox.calls import RefusedError
from invox_watcher.sandbox.ledger import Record, Result, Status
from invox_watcher.sandbox.readings import Reading

_BY_HTTP = {"202": 202, "204": 204, "409": 409, "425": 425}


class Replies:
    """The replies and webhooks of one sandbox."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._shape = reading.shape

    def error(self, status: int, message: str, error_type: str | None = None) -> Response:
        """An error of the API, in the vendor's form; without a body where the message is empty."""
        if not message:
            return Response(status_code=status)
        body: dict[str, Any] = {self._shape.message_field: message}
        if error_type is not None:
            body["errorType"] = error_type
        if self._reading.error_details:
            body["details"] = [{"path": "dictation", "received": "The patient's name is Jane Roe."}]
        return JSONResponse(body, status)

    def refusal(self, error: RefusedError) -> Response:
        """The same for a call that was refused."""
        if error.oauth_error is not None and self._reading.token_errors == "oauth":
            body = {"error": error.oauth_error, "error_description": error.message}
            return JSONResponse(body, error.status, {"Cache-Control": "no-store"})
        return self.error(error.status, error.message, error.error_type)

    def not_found(self) -> RefusedError:
        """The refusal of a status call for what is unknown."""
        error_type = "transcriptionNotFound" if self._reading.not_found_has_type else None
        return RefusedError(404, "Transcription not found.", error_type)

    def presigned(self, request_id: str, url: str, headers: dict[str, str]) -> Response:
        """The reply to a presign call; `headers` are those that the reading names for the PUT."""
        reading = self._reading
        body: dict[str, Any] = {reading.url_field: url, reading.id_field: request_id}
        if reading.headers_field is not None:
            body[reading.headers_field] = _headers(reading, headers)
        nested = body if reading.presign_reply == "flat" else {"data": body}
        return JSONResponse(nested, reading.presign_status)

    def result(self, record: Record) -> Response:
        """The reply to a status call for a request that is not unknown."""
        if record.status in (Status.COMPLETED, Status.ERROR) and record.result is not None:
            return self._status(self._settled(record.result))
        return self.pending()

    def pending(self) -> Response:
        """The reply while there is no result. Raises RefusedError if the reading has an error for it."""
        kind = self._reading.while_working
        pending: dict[str, Any] = {"transcription": []} | self.state(self._reading.pending_state)
        match kind:
            case "state":
                return self._status(pending)
            case "empty_object":
                return JSONResponse({})
            case "no_state":
                return self._status({"transcription": []})
            case "null":
                return self._status(dict.fromkeys(pending))
            case "202" | "204":
                return Response(status_code=_BY_HTTP[kind])
            case "404":
                raise self.not_found()
            case "409" | "425":
                raise RefusedError(_BY_HTTP[kind], "The transcription is not ready yet.")

    def failure(self, message: str) -> dict[str, Any]:
        """The content of the reply to a status call for a recording that could not be transcribed."""
        state = self.state(self._reading.failed_state)
        return {"transcription": []} | state | {self._reading.reason_field: message}

    def state(self, word: str) -> dict[str, str]:
        """The field of a status call's reply that holds the state."""
        return {self._shape.state_field: word}

    def webhook(self, request_id: str, result: Result) -> dict[str, Any]:
        """What is sent to a callback URL, without signature and time."""
        reading = self._reading
        failed = result.error is not None
        body: dict[str, Any] = {"requestId": request_id} | words.fields(reading, result.segments, vtt=False)
        if reading.webhook_status:
            body["status"] = reading.failed_state if failed else reading.completed_state
        if failed:
            body[reading.reason_field] = result.error
        return body

    def created_at(self, seconds: float) -> int | str:
        """The time of a webhook, from Unix seconds."""
        match self._reading.created_at:
            case "seconds":
                return int(seconds)
            case "milliseconds":
                return int(seconds * 1000)
            case "iso":
                return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")

    def _settled(self, result: Result) -> dict[str, Any]:
        if result.error is not None:
            return self.failure(result.error)
        spoken = words.fields(self._reading, result.segments, vtt=self._shape.vtt)
        return spoken | self.state(self._reading.completed_state)

    def _status(self, body: dict[str, Any]) -> Response:
        return JSONResponse(body if self._reading.status_reply == "flat" else {"data": body})


def storage_error(status: int, code: str, message: str) -> Response:
    """An error of storage: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    )
    return Response(body, status, media_type="application/xml")


def page(status: int, text: str) -> Response:
    """An answer of something between client and server: a page for people."""
    return HTMLResponse(f"<!DOCTYPE html><html><title>{text}</title><h1>{text}</h1></html>", status)


def _headers(reading: Reading, headers: dict[str, str]) -> dict[str, str] | dict[str, list[str]] | str:
    match reading.headers_form:
        case "values":
            return headers
        case "lists":  # as the AWS SDK for Java has it: PresignedPutObjectRequest.signedHeaders()
            return {name: [value] for name, value in headers.items()}
        case "names":  # as in the query of a URL that is signed with version 4
            return ";".join(headers)
