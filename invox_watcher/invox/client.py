"""The vendor's API in the vendor's words: token, presigned URL, upload, result.

docs/vendor.md says which parts of it are assumptions; each of them is an argument here. Each method raises
the errors of `errors` and nothing else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast
from urllib.parse import quote

from invox_watcher.errors import (
    ApiError,
    ApiRejectedError,
    ApiUnavailableError,
    InvoxError,
    RequestUnknownError,
    StoppedError,
)
from invox_watcher.events import Event, log
from invox_watcher.host import is_loopback
from invox_watcher.invox.failures import (
    call_failure,
    is_html,
    is_unknown_path,
    set_up_failure,
    storage_failure,
    token_failure,
)
from invox_watcher.invox.presign import PresignedUpload, read_presigned
from invox_watcher.invox.replies import PENDING, TranscriptionReply, parse_reply
from invox_watcher.invox.token import Token, TokenCache, TokenRequest, filled, placeholders, read_token
from invox_watcher.net import HttpReply, RemoteClock, read_json, read_object, split_url

if TYPE_CHECKING:
    from invox_watcher.net import HttpClient

# An upload whose bytes move is ended only below 8 kbit/s, and not in its first hour.
_SLOWEST_BYTES_PER_SECOND = 1000
_SHORTEST_DEADLINE_SECONDS = 3600.0
_REQUEST_ID = "{request_id}"
_NOT_YET = (409, 425)  # Conflict (with the resource's state), Too Early: RFC 9110 §15.5.10, RFC 8470 §5.2
_VERSION_HEADER = "X-Invox-Medical-Api-Version"

CallName = Literal["token", "presign", "upload", "result"]


@dataclass(frozen=True)
class ApiRequest:
    """One request as it is sent. It holds secrets."""

    name: CallName
    method: Literal["GET", "POST", "PUT"]
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)  # None for none, or for a recording


@dataclass(frozen=True)
class ApiCall:
    """A request and its outcome: a reply, or an error if there was none."""

    request: ApiRequest
    seconds: float
    reply: HttpReply | None = field(repr=False)
    error: InvoxError | None


@dataclass(frozen=True)
class ApiOptions:
    """How the API of this account works; see config.example.yaml, `api` and `upload`, for each."""

    base_url: str
    version: str | None
    headers: Mapping[str, str]
    token: TokenRequest
    presign_path: str
    presign_fields: Mapping[str, Any]
    status_path: str
    upload_headers: Mapping[str, str]
    read_timeout_seconds: float  # bounds each call as a whole, and the silence within an upload
    retry_max_seconds: float  # the longest `Retry-After` that is believed


class InvoxApi:
    """The four calls. Safe to use from any number of threads."""

    def __init__(
        self,
        client: HttpClient,
        options: ApiOptions,
        *,
        app_id: str,
        api_key: str,
        on_call: Callable[[ApiCall], None] | None = None,
        before_block: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_call` gets every call, with all that was sent and received.

        `before_block` is called before each block of an upload is read; if it raises, that and no further one
        is sent.
        """
        self._client = client
        self._options = options
        self._base_url = options.base_url.rstrip("/")
        self._credentials = placeholders(app_id, api_key)
        self._secrets = (api_key, self._credentials["base64"])
        self._headers = filled(dict(options.headers), self._credentials)
        self._on_call = on_call
        self._before_block = before_block
        self._clock = clock
        # What has worked since the start: a refusal of the first try is the set-up's fault.
        self._accepted_types: set[str] = set()  # for which a URL has been given
        self._stored_types: set[str] = set()  # of which storage has taken a recording
        self._remote_clock = RemoteClock()
        self._tokens = TokenCache(
            self._fetch_token, clock=clock, patience_seconds=options.read_timeout_seconds
        )

    @property
    def clock_ahead_seconds(self) -> float | None:
        """How far this machine's clock is ahead of the API's; None if no reply has said."""
        return self._remote_clock.ahead_seconds

    @property
    def confirms_clock(self) -> bool | None:
        """Whether the API's clock agrees with this machine's to within minutes; None if no reply has said."""
        return self._remote_clock.confirms

    def authenticate(self) -> None:
        """Find out whether the API can be reached and takes the credentials, by getting a token."""
        self._tokens.get()

    def presign(
        self, mime_type: str, callback_url: str | None = None, *, fields: Mapping[str, Any] | None = None
    ) -> PresignedUpload:
        """Ask where to put a recording of `mime_type`; ask right before the upload, the URL expires.

        `fields` are added to those of the options, or replace them.

        Raises:
            ApiRejectedError: the API took this type before, so this very request is wrong.
            ApiRefusedError: any other refusal is the set-up's, and no recording's.
        """
        request = {"mimeType": mime_type} | filled(
            {**self._options.presign_fields, **(fields or {})}, self._credentials
        )
        if callback_url is not None:
            request["callbackUrl"] = callback_url
        reply = self._call("presign", "POST", self._options.presign_path, request)
        if not reply.ok:
            error = self._failure(reply, "Asking for an upload URL", "api.presign_path")
            raise _blamed(error, on_set_up=mime_type not in self._accepted_types)
        found = read_presigned(read_object(reply))
        if isinstance(found, str):
            raise _protocol_error(reply, found)
        self._check_url(found.url, reply)
        self._accepted_types.add(mime_type)
        return found

    def upload(
        self,
        presigned: PresignedUpload,
        file: BinaryIO,
        *,
        size_bytes: int,
        mime_type: str,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Put `size_bytes` of `file` to storage; `mime_type` has to be the one of `presign`.

        Neither token nor version goes there: storage refuses a second form of authentication. See
        `HttpClient.upload` for what is certain after which error.

        Raises:
            UploadUrlRefusedError: ask for a new URL; see `has_stored` if that does not help.
            ApiRejectedError: storage took this type before, or this recording is too large.
            ApiRefusedError: any other refusal is the set-up's, and no recording's.
        """
        further = filled(dict(self._options.upload_headers), self._credentials)
        headers = {**presigned.headers, **further, "Content-Type": mime_type.strip()}
        reply = self._reported(
            ApiRequest("upload", "PUT", presigned.url, headers, None),
            lambda: self._client.upload(
                presigned.url,
                file if self._before_block is None else cast(BinaryIO, _Guarded(file, self._before_block)),
                size_bytes=size_bytes,
                headers=headers,
                deadline_seconds=_SHORTEST_DEADLINE_SECONDS + size_bytes / _SLOWEST_BYTES_PER_SECOND,
                silence_seconds=self._options.read_timeout_seconds,
                on_progress=on_progress,
            ),
        )
        if not reply.ok:
            error = storage_failure(reply, self._options.retry_max_seconds)
            first = mime_type not in self._stored_types and error.code != "too_large"
            raise _blamed(error, on_set_up=first)
        self._stored_types.add(mime_type)

    def has_stored(self, mime_type: str) -> bool:
        """Whether storage has taken a recording of this type since the start."""
        return mime_type in self._stored_types

    def result(self, request_id: str, *, duration_seconds: float | None = None) -> TranscriptionReply:
        """What has become of a request; `duration_seconds` is the recording's length, if it is known.

        Raises:
            RequestUnknownError: the API has nothing under this id, or says nothing but 404. Its code is
                `not_found` if the answer seems to be about the path.
        """
        path = self._options.status_path
        if _REQUEST_ID in path:
            reply = self._call("result", "GET", path.replace(_REQUEST_ID, quote(request_id, safe="")), None)
        else:
            reply = self._call("result", "POST", path, {"requestId": request_id})
        if reply.status == 404:
            raise self._unknown(reply, request_id)
        if reply.status in _NOT_YET:
            return PENDING
        if not reply.ok:
            raise self._failure(reply, "Asking for a result", "api.status_path")
        if reply.status == 204 or not reply.body.strip():
            return PENDING
        try:
            answer = parse_reply(read_json(reply), duration_seconds=duration_seconds)
        except ApiUnavailableError:
            if reply.status == 202:  # accepted, whatever its body says
                return PENDING
            raise
        if answer.unknown_status is not None:
            log.warning(Event.API_STATUS_UNKNOWN, request_id=request_id, status=answer.unknown_status)
        return answer

    def _unknown(self, reply: HttpReply, request_id: str) -> RequestUnknownError:
        message = f"The API has nothing under request id {request_id}."
        if not is_unknown_path(reply):
            return RequestUnknownError(message, status=404)
        error = self._failure(reply, "Asking for a result", "api.status_path")
        return RequestUnknownError(error.message, code=error.code, hint=error.hint, status=404)

    # ---- requests ----------------------------------------------------------------------------------------

    def _call(
        self, name: CallName, method: Literal["GET", "POST"], path: str, request: Mapping[str, Any] | None
    ) -> HttpReply:
        """A request with the bearer token; one that is refused is sent once more with another token.

        Refused: 401, or 403 for a token that was accepted before, since some gateways say so of a dead one.
        """
        token = self._tokens.get()
        reply = self._send_with(token, name, method, path, request)
        if reply.status == 401 or (reply.status == 403 and token.accepted):
            token = self._tokens.instead_of(token)
            reply = self._send_with(token, name, method, path, request)
        if reply.ok:
            token.accepted = True
        return reply

    def _send_with(
        self,
        token: Token,
        name: CallName,
        method: Literal["GET", "POST"],
        path: str,
        request: Mapping[str, Any] | None,
    ) -> HttpReply:
        headers = {"Authorization": f"Bearer {token.value}"}
        body = None if request is None else json.dumps(request).encode()
        if body is not None:
            headers["Content-Type"] = "application/json"
        return self._send(name, method, self._base_url + path, headers, body)

    def _send(
        self,
        name: CallName,
        method: Literal["GET", "POST"],
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> HttpReply:
        version = {} if self._options.version is None else {_VERSION_HEADER: self._options.version}
        sent = {**headers, **version, "Accept": "application/json", **self._headers}
        reply = self._reported(
            ApiRequest(name, method, url, sent, body),
            lambda: self._client.call(
                method, url, headers=sent, body=body, deadline_seconds=self._options.read_timeout_seconds
            ),
        )
        self._remote_clock.heard(reply.headers.get("Date"))
        return reply

    def _fetch_token(self) -> Token:
        request, asked_at = self._options.token, self._clock()
        body, kind = request.body(self._credentials)
        headers = {"Content-Type": kind} if kind else {}
        headers |= filled(dict(request.headers), self._credentials)
        url = request.url if "://" in request.url else self._base_url + request.url
        reply = self._send("token", request.method, url, headers, body)
        if not reply.ok:
            raise token_failure(reply, secrets=self._secrets, max_seconds=self._options.retry_max_seconds)
        ahead = timedelta(seconds=self.clock_ahead_seconds or 0.0)
        found = read_token(reply.body, request, now=datetime.now(UTC) - ahead)
        if found is None:
            if is_html(reply):
                raise _protocol_error(reply, "is a web page (api.base_url, api.token.url, api.proxy)")
            where = request.field or "one of the usual places"
            raise _protocol_error(reply, f"has no token in {where} (api.token.field)")
        value, lifetime_seconds = found
        margin_seconds = min(60.0, lifetime_seconds / 10)
        log.info(Event.TOKEN_REFRESHED, lifetime_seconds=round(lifetime_seconds, 3))
        return Token(value, asked_at + lifetime_seconds - margin_seconds)

    def _reported(self, request: ApiRequest, exchange: Callable[[], HttpReply]) -> HttpReply:
        """The reply of `exchange`, reported as an event: by its status, else by the error's code."""
        began = time.monotonic()
        reply: HttpReply | None = None
        failure: InvoxError | None = None
        try:
            reply = exchange()
        except InvoxError as error:
            failure = error
            raise
        finally:
            seconds = round(time.monotonic() - began, 3)
            if not isinstance(failure, StoppedError):
                status = reply.status if reply else getattr(failure, "status", None)
                answer = str(status or (failure.code if failure else "crashed"))
                log.debug(Event.API_CALLED, call=request.name, status=answer, seconds=seconds)
            if self._on_call is not None:
                self._on_call(ApiCall(request, seconds, reply, failure))
        return reply

    def _failure(self, reply: HttpReply, doing: str, setting: str) -> ApiError:
        return call_failure(
            reply, doing, setting, secrets=self._secrets, max_seconds=self._options.retry_max_seconds
        )

    def _check_url(self, url: str, reply: HttpReply) -> None:
        parts = split_url(url)
        if parts is None:
            raise _protocol_error(reply, "has a presignedUrl that is not an http(s) address")
        downgraded = parts.scheme == "http" and self._base_url.lower().startswith("https:")
        if downgraded and not is_loopback(parts.hostname or ""):
            raise _protocol_error(reply, "has an unencrypted presignedUrl (http), which is not used")


class _Guarded:
    """A file that may be read as long as `before_block` raises nothing."""

    def __init__(self, file: BinaryIO, before_block: Callable[[], None]) -> None:
        self._file = file
        self._before_block = before_block

    def read(self, size: int = -1, /) -> bytes:
        self._before_block()
        return self._file.read(size)


def _blamed(error: ApiError, *, on_set_up: bool) -> ApiError:
    """The error, or if a rejection can only be blamed on the set-up, that."""
    return set_up_failure(error) if on_set_up and isinstance(error, ApiRejectedError) else error


def _protocol_error(reply: HttpReply, what: str) -> ApiUnavailableError:
    return ApiUnavailableError(
        f"The reply of {reply.where} {what}.",
        code="api_protocol",
        status=reply.status,
        hint="It will not pass by itself. `invox-watcher check --try FILE` shows the fields of each reply.",
    )
