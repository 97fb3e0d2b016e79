"""The vendor's API: token, presigned URL, upload, result.

The README lists which parts of it are assumptions ("What to check against your account"); each of them is an
argument here. Each method raises the errors of `errors` and nothing else.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

from invox_watcher.errors import (
    ApiError,
    ApiRefusedError,
    ApiRejectedError,
    ApiUnavailableError,
    InvoxError,
    RequestUnknownError,
    StoppedError,
    UploadUrlRefusedError,
)
from invox_watcher.events import Event, log
from invox_watcher.host import is_loopback
from invox_watcher.invox.replies import TranscriptionReply, parse_reply
from invox_watcher.invox.token import Token, TokenCache, lifetime_seconds
from invox_watcher.net import (
    HttpClient,
    HttpReply,
    clock_ahead_seconds,
    read_object,
    retry_after_seconds,
    split_url,
)

_TRANSIENT = frozenset({408, 425, 429})
# The slowest uplink that an upload's deadline allows for: 512 kbit/s, an old ADSL line.
_SLOWEST_BYTES_PER_SECOND = 64 * 1024
# S3 answers 400 if a connection stalled or was interrupted, which has nothing to do with the recording.
_TRANSIENT_STORAGE_CODES = frozenset({"RequestTimeout", "IncompleteBody"})
_QUOTE_LENGTH = 200


@dataclass(frozen=True)
class PresignedUpload:
    """Where to upload a recording, and the id to fetch its result with. The URL is a secret."""

    url: str = field(repr=False)
    request_id: str


class InvoxApi:
    """The four calls. Thread-safe."""

    def __init__(
        self,
        client: HttpClient,
        *,
        base_url: str,
        version: str | None,
        token_path: str,
        presign_path: str,
        status_path: str,
        app_id: str,
        api_key: str,
        read_timeout_seconds: float = 60.0,
        retry_max_seconds: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read_timeout_seconds` limits each call as a whole, and the time without progress in an upload.

        `retry_max_seconds` caps `Retry-After`. `version` None sends no header.
        """
        self._client = client
        self._base_url = base_url.rstrip("/")
        self._version = version
        self._token_path = token_path
        self._presign_path = presign_path
        self._status_path = status_path
        self._api_key = api_key
        credentials = base64.b64encode(f"{app_id}:{api_key}".encode()).decode("ascii")
        self._token_authorization = f"Basic {credentials}"
        self._read_timeout_seconds = read_timeout_seconds
        self._retry_max_seconds = retry_max_seconds
        self._clock = clock
        # How far this machine's clock is ahead of the API's latest reply; None if that had no usable Date.
        self.clock_ahead_seconds: float | None = None
        self._tokens = TokenCache(self._fetch_token, clock, read_timeout_seconds)

    def check(self) -> None:
        """Check that the API is reachable and accepts the credentials, by fetching a token."""
        self._tokens.get()

    def presign(self, mime_type: str, callback_url: str | None = None) -> PresignedUpload:
        """Get an upload URL for a recording of `mime_type`. It expires: call this right before the upload."""
        request = {"mimeType": mime_type}
        if callback_url is not None:
            request["callbackUrl"] = callback_url
        reply = self._call("presign", self._presign_path, request)
        if not reply.ok:
            raise self._failure(reply, "Requesting an upload URL", "api.presign_path")
        payload = read_object(reply)
        return PresignedUpload(
            url=self._usable_url(_text(payload, "presignedUrl", reply), reply),
            request_id=_text(payload, "requestId", reply),
        )

    def upload(
        self,
        presigned: PresignedUpload,
        file: BinaryIO,
        *,
        size_bytes: int,
        mime_type: str,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Upload `size_bytes` of `file` to storage; `mime_type` must be the one given to `presign`.

        Neither token nor version is sent: storage refuses a second form of authentication. See
        `HttpClient.upload` for what each error means. UploadUrlRefusedError: request a new URL.
        """
        reply = _logged(
            "upload",
            lambda: self._client.upload(
                presigned.url,
                file,
                size_bytes=size_bytes,
                content_type=mime_type,
                deadline_seconds=self._read_timeout_seconds + size_bytes / _SLOWEST_BYTES_PER_SECOND,
                silence_seconds=self._read_timeout_seconds,
                on_progress=on_progress,
            ),
        )
        if not reply.ok:
            raise self._storage_failure(reply)

    def result(self, request_id: str) -> TranscriptionReply:
        """The state of a request. Raises RequestUnknownError if the API does not know this id."""
        reply = self._call("result", self._status_path, {"requestId": request_id})
        if reply.status == 404 and _complaint(reply).get("errorType") == "transcriptionNotFound":
            raise RequestUnknownError(f"The API does not know request id {request_id}.", status=404)
        if not reply.ok:
            raise self._failure(reply, "Requesting a result", "api.status_path")
        answer = parse_reply(read_object(reply))
        if answer.unknown_status is not None:
            log.warning(Event.API_STATUS_UNKNOWN, request_id=request_id, status=answer.unknown_status[:40])
        return answer

    def _call(self, call: str, path: str, request: dict[str, str]) -> HttpReply:
        """POST with the bearer token; after a 401, once more with another token."""
        token = self._tokens.get()
        reply = self._post(call, path, request, token)
        if reply.status == 401:
            reply = self._post(call, path, request, self._tokens.instead_of(token))
        return reply

    def _post(self, call: str, path: str, request: dict[str, str], token: Token) -> HttpReply:
        headers = {"Authorization": f"Bearer {token.value}", "Content-Type": "application/json"}
        return self._send(call, path, headers, json.dumps(request).encode())

    def _send(self, call: str, path: str, headers: dict[str, str], body: bytes) -> HttpReply:
        if self._version is not None:
            headers = {**headers, "X-Invox-Medical-Api-Version": self._version}
        headers = {**headers, "Accept": "application/json"}
        url, deadline_seconds = self._base_url + path, self._read_timeout_seconds
        reply = _logged(
            call,
            lambda: self._client.post(url, headers=headers, body=body, deadline_seconds=deadline_seconds),
        )
        self.clock_ahead_seconds = clock_ahead_seconds(reply.headers.get("Date"))
        return reply

    def _fetch_token(self) -> Token:
        asked_at = self._clock()
        headers = {
            "Authorization": self._token_authorization,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        reply = self._send("token", self._token_path, headers, b"grant_type=client_credentials")
        if reply.status in (400, 401, 403):
            raise ApiRefusedError(
                f"{reply.where} rejected these credentials ({reply.status}{self._quoted(reply)}).",
                code="credentials",
                status=reply.status,
                hint="Check credentials.app_id and credentials.api_key.",
            )
        if not reply.ok:
            raise self._failure(reply, "Requesting a token", "api.token_path")
        payload = read_object(reply)
        name = next((name for name in ("accessToken", "access_token", "token") if payload.get(name)), None)
        if name is None:
            raise _protocol_error(reply, "has none of accessToken, access_token, token")
        lifetime = lifetime_seconds(payload)
        margin_seconds = min(60.0, lifetime / 10)
        token = Token(_text(payload, name, reply), asked_at + lifetime - margin_seconds)
        log.info(Event.TOKEN_REFRESHED, lifetime_seconds=lifetime)
        return token

    def _usable_url(self, url: str, reply: HttpReply) -> str:
        parts = split_url(url)
        if parts is None:
            raise _protocol_error(reply, "has a presignedUrl that is not an http(s) URL")
        downgraded = parts.scheme == "http" and self._base_url.lower().startswith("https:")
        if downgraded and not is_loopback(parts.hostname or ""):
            raise _protocol_error(reply, "has an unencrypted presignedUrl (http), which is refused")
        return url

    def _failure(self, reply: HttpReply, doing: str, setting: str) -> ApiError:
        """The error for a status outside 2xx. `setting` is the key that holds the requested path."""
        status = reply.status
        message = f"{doing}: {reply.where} answered {status}{self._quoted(reply)}."
        if status in _TRANSIENT or status >= 500:
            return self._unavailable(reply, message)
        if status == 401:
            return ApiRefusedError(
                message,
                code="unauthorized",
                status=status,
                hint="The API rejects the tokens that it issues. Check that api.base_url and api.token_path"
                " belong to the same environment as the credentials.",
            )
        if status == 403:
            return ApiRefusedError(
                message,
                code="forbidden",
                status=status,
                hint="The API key needs the permission BATCH-TRANSCRIBE. Ask the account's administrator.",
            )
        if status in (404, 405):
            return ApiRefusedError(
                message, code="not_found", status=status, hint=f"Check {setting} and api.base_url."
            )
        if 400 <= status < 500:
            return ApiRejectedError(message, status=status)
        return ApiUnavailableError(message, code="api_protocol", status=status)

    def _storage_failure(self, reply: HttpReply) -> ApiError:
        status = reply.status
        # S3's errors are XML. Only the code is used: the rest of the text quotes the URL's signature.
        found = re.search(rb"<Code>(\w{1,64})</Code>", reply.body)
        code = found[1].decode("ascii", "replace") if found else ""
        message = f"The upload: {reply.where} answered {status}{f' ({code})' if code else ''}."
        if status in (401, 403) or (status == 400 and "expired" in code.lower()):
            return UploadUrlRefusedError(message, status=status)
        if status in _TRANSIENT or code in _TRANSIENT_STORAGE_CODES or (status >= 500 and status != 501):
            return self._unavailable(reply, message)
        if 400 <= status < 500 or status == 501:
            return ApiRejectedError(message, status=status)
        return ApiUnavailableError(message, code="api_protocol", status=status)

    def _unavailable(self, reply: HttpReply, message: str) -> ApiUnavailableError:
        after_seconds = retry_after_seconds(
            reply.headers.get("Retry-After"), now=datetime.now(UTC), max_seconds=self._retry_max_seconds
        )
        return ApiUnavailableError(message, status=reply.status, retry_after_seconds=after_seconds)

    def _quoted(self, reply: HttpReply) -> str:
        """The vendor's own message about an error, made safe to log: short, printable, without secrets."""
        complaint = _complaint(reply)
        text = complaint.get("message") or complaint.get("messsage")  # the second is the vendor's spelling
        if not isinstance(text, str):
            return ""
        if self._api_key:
            text = text.replace(self._api_key, "[…]")
        text = re.sub(r"\S{32,}", "[…]", text)  # tokens, keys, URLs: an error may echo the request
        text = "".join(c if c.isprintable() else " " for c in text)
        return f": “{' '.join(text.split())[:_QUOTE_LENGTH]}”"


def _logged(call: str, exchange: Callable[[], HttpReply]) -> HttpReply:
    """The reply of `exchange`, logged as an event with its status, or with the error's code."""
    began = time.monotonic()
    status = StoppedError.code
    try:
        reply = exchange()
        status = str(reply.status)
    except InvoxError as error:
        status = str(getattr(error, "status", None) or error.code)
        raise
    finally:
        if status != StoppedError.code:
            seconds = round(time.monotonic() - began, 3)
            log.debug(Event.API_CALLED, call=call, status=status, seconds=seconds)
    return reply


def _complaint(reply: HttpReply) -> dict[str, Any]:
    """The fields of an error's body; empty if it is not the API's JSON."""
    try:
        return read_object(reply)
    except ApiUnavailableError:
        return {}


def _text(payload: dict[str, Any], name: str, reply: HttpReply) -> str:
    """A field that must be one word of printable ASCII."""
    value = payload.get(name)
    if isinstance(value, str) and value and value.isascii() and value.isprintable() and " " not in value:
        return value
    raise _protocol_error(reply, f"has no usable {name}")


def _protocol_error(reply: HttpReply, what: str) -> ApiUnavailableError:
    return ApiUnavailableError(
        f"The reply of {reply.where} {what}.", code="api_protocol", status=reply.status
    )
