"""The vendor's two calls that need a token: a presigned URL, and the result."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from invox_watcher.sandbox.calls import RefusedError, json_object, read_body
from invox_watcher.sandbox.ledger import Ledger, Record, Status
from invox_watcher.sandbox.replies import Replies
from invox_watcher.sandbox.settings import SandboxSettings
from invox_watcher.sandbox.storage import Storage
from invox_watcher.sandbox.tokens import Tokens

_VENDOR_TYPES = frozenset(
    {"audio/x-wav", "audio/wav", "audio/mp3", "audio/m4a", "audio/flac", "audio/ogg", "audio/webm"}
)
_ACCEPTED_TYPES = {
    "vendor": _VENDOR_TYPES,
    "iana": frozenset(
        {"audio/wav", "audio/vnd.wave", "audio/mpeg", "audio/mp4", "audio/flac", "audio/ogg", "audio/webm"}
    ),
    "leading_blank": _VENDOR_TYPES - {"audio/mp3"} | {" audio/mpeg"},
}
_VERSION_HEADER = "x-invox-medical-api-version"
_KNOWN_VERSIONS = frozenset({"2025-10-01", "2025-11-01", "2026-03-01"})
_NOT_IN_A_URL = re.compile(r"[^!-~]")  # whatever is not visible ASCII: RFC 3986, section 2


class Api:
    """The calls' handlers. Each raises RefusedError, which `app` turns into the vendor's form of an error."""

    def __init__(
        self, settings: SandboxSettings, ledger: Ledger, storage: Storage, tokens: Tokens, replies: Replies
    ) -> None:
        self._reading = settings.reading
        self._ledger = ledger
        self._storage = storage
        self._tokens = tokens
        self._replies = replies

    async def presign(self, request: Request) -> Response:
        """The presigned URL, for a JSON body with `mimeType` and perhaps `callbackUrl`."""
        content = await read_body(request)
        self._tokens.check(request)
        body = json_object(content)
        self._check_version(request, needs_newest=self._reading.version == "2026-03-01")
        if not self._reading.permitted:
            raise RefusedError(403, "The API Key lacks the permission BATCH-TRANSCRIBE.", "permissionDenied")
        mime_type, callback_url = self._checked_type(body.get("mimeType")), body.get("callbackUrl")
        if callback_url is not None and not _is_http_url(callback_url):
            raise RefusedError(400, "callbackUrl must be an http or https URL.")
        if self._reading.needs_language and not body.get("language"):
            raise RefusedError(400, "language is required.")
        record = self._ledger.open_record(mime_type, callback_url, odd_id=self._reading.odd_ids)
        url = str(request.base_url).rstrip("/") + self._storage.presigned_path(record.id, mime_type)
        return self._replies.presigned(record.id, url, self._storage.named_headers(mime_type, url))

    async def result(self, request: Request) -> Response:
        """The result, for a request id where the reading has it."""
        content = await read_body(request)
        self._tokens.check(request)
        request_id = self._request_id(request, content)
        self._check_version(request)
        request.state.record = record = self._ledger.asked(request_id)
        if record is None or self._is_hidden(record):
            raise self._replies.not_found()
        if record.callback_url is not None and self._reading.callback_jobs == "400":
            raise RefusedError(400, "The result of this request is sent to its callbackUrl.")
        if record.callback_url is not None and self._reading.callback_jobs == "pending":
            return self._replies.pending()
        return self._replies.result(record)

    def _checked_type(self, mime_type: object) -> str:
        if isinstance(mime_type, str) and self._reading.mime_types == "any":
            return mime_type
        accepted = _ACCEPTED_TYPES.get(self._reading.mime_types, frozenset())
        if not isinstance(mime_type, str) or mime_type not in accepted:
            raise RefusedError(400, f"mimeType must be one of {', '.join(sorted(accepted))}.")
        return mime_type

    def _check_version(self, request: Request, *, needs_newest: bool = False) -> None:
        version = request.headers.get(_VERSION_HEADER)
        known = version == "2026-03-01" if needs_newest else version in _KNOWN_VERSIONS
        if not known and (needs_newest or self._reading.version == "required"):
            raise RefusedError(400, "The API version is not supported for this account.", "invalidVersion")

    def _request_id(self, request: Request, content: bytes) -> str:
        match self._reading.status_id:
            case "path":
                request_id: object = request.path_params["request_id"]
            case "query":
                request_id = request.query_params.get("requestId")
            case "body":
                request_id = json_object(content).get("requestId")
        if not isinstance(request_id, str):
            raise RefusedError(400, "requestId must be a string.")
        return request_id

    def _is_hidden(self, record: Record) -> bool:
        if record.callback_url is not None and self._reading.callback_jobs == "unknown":
            return True
        return record.status is Status.NOT_UPLOADED and self._reading.before_upload == "unknown"


def _is_http_url(value: object) -> bool:
    if not isinstance(value, str) or _NOT_IN_A_URL.search(value):
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that make no sense
        return False
