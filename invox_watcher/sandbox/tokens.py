"""The token endpoint: OAuth 2 client credentials (RFC 6749, section 4.4), in every form that may be meant."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from invox_watcher.sandbox.calls import RefusedError, json_object, read_body
from invox_watcher.sandbox.ledger import Ledger
from invox_watcher.sandbox.settings import SandboxSettings

_LIFETIME_FIELDS = {"accessToken": "expiresIn", "access_token": "expires_in"}
_CONTENT_TYPES = {"form": "application/x-www-form-urlencoded", "json": "application/json"}
_CREDENTIAL_FIELDS = {"form": ("client_id", "client_secret"), "json": ("appId", "apiKey")}


class Tokens:
    """Issues access tokens for the right credentials, and checks those it gets."""

    def __init__(self, settings: SandboxSettings, ledger: Ledger) -> None:
        self._settings = settings
        self._reading = settings.reading
        self._ledger = ledger

    async def issue(self, request: Request) -> Response:
        """The token request. Raises RefusedError."""
        content = await read_body(request)
        in_body = self._reading.token_credentials == "body"
        if not in_body and not self._are_ours(*self._from_headers(request.headers)):
            raise _wrong_credentials()
        given = self._fields(request, content)
        if in_body:
            self._check_fields(request, given)
        elif self._reading.token_body != "none" and given.get("grant_type") != "client_credentials":
            raise RefusedError(
                400, "grant_type must be client_credentials.", oauth_error="unsupported_grant_type"
            )
        return self._reply()

    def check(self, request: Request) -> None:
        """Raise RefusedError unless the request has a token that is still good."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._ledger.accepts_token(token):
            return
        match self._reading.expired_token:
            case "401":
                raise RefusedError(401, "The access token is missing, wrong or expired.")
            case "401_bare":
                raise RefusedError(401, "")
            case "403":
                raise RefusedError(403, "User is not authorized to access this resource")

    def _from_headers(self, headers: Mapping[str, str]) -> tuple[str, str]:
        """APP Id and API Key as the headers have them, empty if they are not as they should be."""
        if self._reading.token_credentials == "headers":
            return headers.get("x-app-id", ""), headers.get("x-api-key", "")
        scheme, _, encoded = headers.get("authorization", "").rpartition(" ")
        wanted = {"basic": "basic", "bearer": "bearer", "base64": ""}[self._reading.token_credentials]
        if scheme.lower() != wanted:
            return "", ""
        try:
            app_id, _, api_key = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return app_id, api_key

    def _fields(self, request: Request, content: bytes) -> dict[str, Any]:
        """The body's fields. Raises RefusedError if its type or form differs."""
        kind = self._reading.token_body
        if kind == "none":
            if content:
                raise RefusedError(400, "There must be no body.", oauth_error="invalid_request")
            return {}
        content_type = request.headers.get("content-type", "").partition(";")[0].strip()
        if content_type == _CONTENT_TYPES[kind]:
            return json_object(content) if kind == "json" else _form(content)
        if kind == "json":
            raise RefusedError(415, "Unsupported Media Type", oauth_error="invalid_request")
        raise RefusedError(400, "The body must be a form.", oauth_error="invalid_request")

    def _check_fields(self, request: Request, given: dict[str, Any]) -> None:
        if "authorization" in request.headers:
            raise RefusedError(400, "There must be no Authorization header.", oauth_error="invalid_request")
        app_id, api_key = (given.get(name) for name in _CREDENTIAL_FIELDS[self._reading.token_body])
        if not self._are_ours(app_id, api_key):
            raise _wrong_credentials()

    def _are_ours(self, app_id: object, api_key: object) -> bool:
        given = f"{app_id}:{api_key}".encode()
        return hmac.compare_digest(given, f"{self._settings.app_id}:{self._settings.api_key}".encode())

    def _reply(self) -> Response:
        lifetime_seconds = self._settings.token_lifetime_seconds
        token = _jwt(lifetime_seconds) if self._reading.lifetime == "jwt" else secrets.token_urlsafe(32)
        self._ledger.issue_token(token, lifetime_seconds, only_this=self._reading.one_token_at_a_time)
        flat = {self._reading.shape.token_field: token} | self._lifetime(lifetime_seconds)
        match self._reading.token_reply:
            case "flat":
                return JSONResponse(flat)
            case "data":
                return JSONResponse({"data": flat})
            case "odd":
                return JSONResponse({"result": {"credentials": {"jwt": token}}})
            case "text":
                return PlainTextResponse(token)
            case "json_string":
                return JSONResponse(token)

    def _lifetime(self, seconds: int) -> dict[str, Any]:
        field = _LIFETIME_FIELDS.get(self._reading.shape.token_field)
        end = time.time() + seconds
        match self._reading.lifetime:
            case "expires_at":
                return {"expiresAt": datetime.fromtimestamp(end, UTC).isoformat().replace("+00:00", "Z")}
            case "epoch":
                return {"expiresAt": int(end)}
            case "jwt" | "none":
                return {}
            case kind:
                value = {"seconds": seconds, "text": str(seconds), "milliseconds": seconds * 1000}[kind]
                return {} if field is None else {field: value}


def _wrong_credentials() -> RefusedError:
    return RefusedError(401, "The APP Id or the API Key is wrong.", oauth_error="invalid_client")


def _form(content: bytes) -> dict[str, Any]:
    """A form's fields; one that is given twice counts as not given."""
    fields = parse_qs(content.decode("ascii", "replace"))
    return {name: values[0] for name, values in fields.items() if len(values) == 1}


def _jwt(lifetime_seconds: int) -> str:
    """A JSON Web Token (RFC 7519) that no one can verify, but everyone can read."""
    now = int(time.time())
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": "sandbox", "iat": now, "exp": now + lifetime_seconds})
    encoded = [json.dumps(part).encode() for part in parts]
    return ".".join(_base64url(part) for part in (*encoded, secrets.token_bytes(32)))


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
