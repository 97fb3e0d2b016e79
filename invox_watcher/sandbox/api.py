"""The vendor's three calls as its public pages describe them: a token, a presigned URL, and the result."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from invox_watcher.sandbox import replies
from invox_watcher.sandbox.ledger import Ledger, Record, Status
from invox_watcher.sandbox.settings import SandboxSettings
from invox_watcher.sandbox.storage import Storage

ACCEPTED_TYPES = frozenset(
    {"audio/x-wav", "audio/wav", "audio/mp3", "audio/m4a", "audio/flac", "audio/ogg", "audio/webm"}
)
_LONGEST_BODY_BYTES = 65536
_NOT_IN_A_URL = re.compile(r"[^!-~]")  # whatever is not visible ASCII: RFC 3986, section 2


class RefusedError(Exception):
    """The call is refused with this HTTP status."""

    def __init__(self, status: int, message: str, error_type: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error_type = error_type


class Api:
    """The calls' handlers. Each raises RefusedError, which `app` turns into the vendor's form of an error."""

    def __init__(self, settings: SandboxSettings, ledger: Ledger, storage: Storage) -> None:
        self._settings = settings
        self._shape = settings.reply_shape
        self._ledger = ledger
        self._storage = storage

    async def token(self, request: Request) -> Response:
        """`POST /oauth/token`: OAuth 2 client credentials (RFC 6749, section 4.4) over HTTP Basic."""
        form = parse_qs((await read_body(request)).decode("ascii", "replace"))
        if not self._is_our_client(request.headers.get("authorization", "")):
            raise RefusedError(401, "The APP Id or the API Key is wrong.")
        content_type = request.headers.get("content-type", "").partition(";")[0].strip()
        if content_type != "application/x-www-form-urlencoded":
            raise RefusedError(400, "The body must be a form.")
        if form.get("grant_type") != ["client_credentials"]:
            raise RefusedError(400, "grant_type must be client_credentials.")
        lifetime = self._settings.token_lifetime_seconds
        return JSONResponse(replies.token_body(self._shape, self._ledger.issue_token(lifetime), lifetime))

    async def presign(self, request: Request) -> Response:
        """`POST /api/v1/generate-presigned-url`."""
        body = await self._authorized_json(request)
        mime_type, callback_url = body.get("mimeType"), body.get("callbackUrl")
        if mime_type not in ACCEPTED_TYPES:
            raise RefusedError(400, f"mimeType must be one of {', '.join(sorted(ACCEPTED_TYPES))}.")
        if callback_url is not None and not _is_http_url(callback_url):
            raise RefusedError(400, "callbackUrl must be an http or https URL.")
        record = self._ledger.open_record(mime_type, callback_url)
        path = self._storage.presigned_path(record.id, mime_type)
        base_url = str(request.base_url).rstrip("/")
        return JSONResponse({"presignedUrl": base_url + path, "requestId": record.id})

    async def result(self, request: Request) -> Response:
        """`POST /api/v1/get-transcription`."""
        body = await self._authorized_json(request)
        request_id = body.get("requestId")
        if not isinstance(request_id, str):
            raise RefusedError(400, "requestId must be a string.")
        record = self._ledger.asked(request_id)
        if record is None or self._is_hidden(record):
            raise RefusedError(404, "Transcription not found.", "transcriptionNotFound")
        return JSONResponse(replies.status_body(self._shape, record))

    def _is_hidden(self, record: Record) -> bool:
        if record.callback_url is not None and self._settings.webhook_status_endpoint == "unknown":
            return True
        return record.status is Status.NOT_UPLOADED and self._settings.unuploaded_status == "unknown"

    def _is_our_client(self, authorization: str) -> bool:
        scheme, _, encoded = authorization.partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            return False
        expected = f"{self._settings.app_id}:{self._settings.api_key}".encode()
        return scheme.lower() == "basic" and hmac.compare_digest(given, expected)

    async def _authorized_json(self, request: Request) -> dict[str, Any]:
        content = await read_body(request)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._ledger.accepts_token(token):
            raise RefusedError(401, "The access token is missing, wrong or expired.")
        try:
            body = json.loads(content)
        except ValueError:
            raise RefusedError(400, "The body is not JSON.") from None
        if not isinstance(body, dict):
            raise RefusedError(400, "The body must be a JSON object.")
        return body


async def read_body(request: Request) -> bytes:
    """The request's body. Raises RefusedError if it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_BODY_BYTES:
            raise RefusedError(413, "The body is too long.")
    return bytes(body)


def _is_http_url(value: object) -> bool:
    if not isinstance(value, str) or _NOT_IN_A_URL.search(value):
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that make no sense
        return False
