"""What an answer outside 2xx means, and which key of the configuration it leads to.

Only the vendor's message is quoted, shortened and without anything that looks like a secret.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from invox_watcher.errors import (
    ApiError,
    ApiRefusedError,
    ApiRejectedError,
    ApiUnavailableError,
    UploadUrlRefusedError,
)
from invox_watcher.net import HttpReply, media_type, read_object, retry_after_seconds

_TRANSIENT = frozenset({408, 425, 429})
# S3 says 400 if a connection stalled or was interrupted; the recording is not at fault.
_TRANSIENT_STORAGE_CODES = frozenset({"RequestTimeout", "IncompleteBody"})
_TOO_LARGE_CODES = frozenset({"EntityTooLarge"})
_QUOTE_LENGTH = 200
# What AWS API Gateway answers with 403 for a path that it does not know.
_GATEWAY_MESSAGES = frozenset({"missing authentication token", "forbidden"})
_PERMISSION = "batch-transcribe"
_CHECK = "`invox-watcher check --try FILE` shows each request and reply."
_VERSION_HINT = "Check api.version: which version is the account on? null sends none."
_GET_HINTS = {"api.status_path": " With {request_id} in that path, the request is a GET."}
# Statuses of a token request that are about its form: method, not acceptable, media type, content.
_NOT_OF_CREDENTIALS = frozenset({405, 406, 411, 415, 422})
_OF_CREDENTIALS = (
    "client",
    "credential",
    "secret",
    "password",
    "unauthorized",
    "api key",
    "apikey",
    "app id",
)
_MISSING = ("required", "missing", "field", "parameter", "must have")


def complaint(reply: HttpReply) -> dict[str, Any]:
    """The fields of an error's body; none if it isn't a JSON object."""
    try:
        return read_object(reply)
    except ApiUnavailableError:
        return {}


def quoted(reply: HttpReply, secrets: tuple[str, ...]) -> str:
    """The server's own words about an error, fit for a log: short, printable, without secrets.

    The API's `message` (or `messsage`), or OAuth's `error` and `error_description` (RFC 6749 §5.2).
    """
    said = complaint(reply)
    named = (said.get("error"), said.get("error_description"))
    # The second is the vendor's spelling, the third that of API Gateway's authorizers.
    text = said.get("message") or said.get("messsage") or said.get("Message")
    if not isinstance(text, str):
        text = ": ".join(part for part in named if isinstance(part, str))
    for secret in secrets:
        text = text.replace(secret, "[…]") if secret else text
    text = re.sub(r"\S{32,}", "[…]", text)  # tokens, keys, addresses: an error may echo what it was sent
    text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())[:_QUOTE_LENGTH]
    return f": “{text}”" if text else ""


def is_html(reply: HttpReply) -> bool:
    """Whether a web page was sent: by a filter, a proxy's login or a gateway, not by the API."""
    return "html" in media_type(reply).lower() or reply.body.lstrip()[:9].lower().startswith(
        (b"<!doctype", b"<html")
    )


def is_unknown_path(reply: HttpReply) -> bool:
    """Whether the answer seems to be about the path: API Gateway's 403, or a 404 that isn't the API's own.

    The API's own 404 has a message that says more than "Not Found", or nothing at all.
    """
    said = complaint(reply)
    message = said.get("message") or said.get("messsage")
    text = message.strip().lower() if isinstance(message, str) else ""
    if reply.status == 404:
        return bool(reply.body.strip()) and not said.get("errorType") and text in ("", "not found")
    gateway = text in _GATEWAY_MESSAGES or "MissingAuthenticationToken" in _amazon_error(reply)
    return reply.status == 403 and gateway


def unavailable(reply: HttpReply, message: str, max_seconds: float) -> ApiUnavailableError:
    """A transient fault, with what `Retry-After` asks for, at most `max_seconds`."""
    after = retry_after_seconds(
        reply.headers.get("Retry-After"), now=datetime.now(UTC), max_seconds=max_seconds
    )
    return ApiUnavailableError(message, status=reply.status, retry_after_seconds=after)


def call_failure(
    reply: HttpReply, doing: str, setting: str, *, secrets: tuple[str, ...], max_seconds: float
) -> ApiError:
    """What a status outside 2xx of an API request means. `setting` is the key that holds the path."""
    status = reply.status
    said = quoted(reply, secrets)
    message = f"{doing}: {reply.where} answered {status}{said}."
    if _is_from_elsewhere(reply):
        return _from_elsewhere(reply, doing)
    if status in _TRANSIENT or status >= 500:
        return unavailable(reply, message, max_seconds)
    if status == 403 and _PERMISSION in said.lower():
        hint = "The API key needs the permission BATCH-TRANSCRIBE. Ask the account's administrator."
        return ApiRefusedError(message, code="forbidden", status=status, hint=hint)
    if status in (404, 405) or is_unknown_path(reply):
        hint = (
            f"There seems to be nothing under this path. Check {setting} and"
            f" api.base_url{_header_hint(reply)}.{_GET_HINTS.get(setting, '')} {_CHECK}"
        )
        return ApiRefusedError(message, code="not_found", status=status, hint=hint)
    if status == 401:
        hint = (
            "The API issues tokens but does not accept them. Check that api.base_url and api.token.url belong"
            " to the same environment as the credentials, and whether the API wants another header"
            " (api.headers)."
        )
        return ApiRefusedError(message, code="unauthorized", status=status, hint=hint)
    if status == 403:
        hint = (
            "If the path is right, the API key needs the permission BATCH-TRANSCRIBE: ask the account's"
            f" administrator. API Gateway also answers 403 for a wrong path ({setting}, api.base_url) and for"
            " a missing header (api.headers)."
        )
        return ApiRefusedError(message, code="forbidden", status=status, hint=hint)
    if 400 <= status < 500:
        return ApiRejectedError(message, status=status, hint=_request_hint(said, setting))
    return ApiUnavailableError(message, code="api_protocol", status=status, hint=_CHECK)


def token_failure(reply: HttpReply, *, secrets: tuple[str, ...], max_seconds: float) -> ApiError:
    """What a status outside 2xx of the token request means: never a recording's fault."""
    status = reply.status
    said = quoted(reply, secrets)
    message = f"Asking for a token: {reply.where} answered {status}{said}."
    if _is_from_elsewhere(reply):
        return _from_elsewhere(reply, "Asking for a token")
    if status in _TRANSIENT or status >= 500:
        return unavailable(reply, message, max_seconds)
    if status == 404 or is_unknown_path(reply):
        return ApiRefusedError(message, code="token_not_found", status=status, hint=_token_path_hint(reply))
    if status in _NOT_OF_CREDENTIALS or (status == 400 and not _is_about_credentials(said)):
        return ApiRefusedError(message, code="token_request", status=status, hint=_token_hint(reply, said))
    hint = (
        "Check credentials.app_id and credentials.api_key. If they are right, the API may want them in"
        " another way: check api.token.headers, api.token.json and api.token.form, or a further header:"
        " api.headers."
    )
    return ApiRefusedError(message, code="credentials", status=status, hint=hint)


def set_up_failure(error: ApiRejectedError) -> ApiRefusedError:
    """A rejection of the first requests of their kind: the set-up is at fault, not a recording."""
    return ApiRefusedError(error.message, code="rejected", status=error.status, hint=error.hint)


def storage_failure(reply: HttpReply, max_seconds: float) -> ApiError:
    """What a status outside 2xx of an upload means."""
    status = reply.status
    # S3's errors are XML; only the code is taken from their text: the rest quotes the URL's signature.
    found = re.search(rb"<Code>(\w{1,64})</Code>", reply.body)
    code = found[1].decode("ascii", "replace") if found else ""
    message = f"The upload: {reply.where} answered {status}{f' ({code})' if code else ''}."
    if is_html(reply) and 400 <= status < 500:
        return _from_elsewhere(reply, "The upload")
    if status in (401, 403) or (status == 400 and "expired" in code.lower()):
        hint = (
            "If storage asks for further headers, name them in upload.headers. Check api.mime_types and this"
            " host's clock too."
        )
        return UploadUrlRefusedError(message, status=status, hint=hint)
    if status in _TRANSIENT or code in _TRANSIENT_STORAGE_CODES or (status >= 500 and status != 501):
        return unavailable(reply, message, max_seconds)
    if 400 <= status < 500 or status == 501:
        too_large = status == 413 or code in _TOO_LARGE_CODES
        hint = "Check api.mime_types and upload.headers."
        if too_large:
            hint = f"Does storage limit the size of uploads? Otherwise: {hint}"
        return ApiRejectedError(message, code="too_large" if too_large else None, status=status, hint=hint)
    return ApiUnavailableError(message, code="api_protocol", status=status, hint=_CHECK)


def _request_hint(said: str, setting: str) -> str:
    text = said.lower()
    if "version" in text:
        return _VERSION_HINT
    if "mime" in text or "type" in text:
        return "Check api.mime_types: which types does the account take?"
    if setting == "api.presign_path" and any(word in text for word in _MISSING):
        return (
            "The API wants a further field in the request for an upload address: set it in"
            f" api.presign_fields. Check api.version and api.headers too. {_CHECK}"
        )
    return (
        f"The API wants something else in the request: check {setting}, api.version, api.headers and, for an"
        f" upload, api.mime_types and api.presign_fields. {_CHECK}"
    )


def _is_about_credentials(said: str) -> bool:
    return any(word in said.lower() for word in _OF_CREDENTIALS)


def _token_path_hint(reply: HttpReply) -> str:
    keys = "api.token.url, api.token.method and api.base_url"
    if _is_forbidden(reply):
        return (
            "API Gateway answers so if it misses a header, or if there is nothing under this path. Check"
            f" api.headers, {keys}. {_CHECK}"
        )
    return f"There seems to be nothing under this path. Check {keys}. {_CHECK}"


def _token_hint(reply: HttpReply, said: str) -> str:
    """Which key of the token request is the likeliest: it comes first."""
    text = said.lower()
    if reply.status == 405:
        return f"The API wants another method: check api.token.method, then api.token.url. {_CHECK}"
    if "version" in text:
        return _VERSION_HINT
    if "header" in text:
        keys = "api.token.headers, api.token.json and api.token.form"
    elif reply.status == 400:
        keys = "api.token.form, api.token.json and api.token.headers"
    else:
        keys = "api.token.json, api.token.form and api.token.headers"
    return f"The API wants another kind of request: check {keys}. {_CHECK}"


def _is_from_elsewhere(reply: HttpReply) -> bool:
    """Whether a web page came in place of an answer. A server's own page for 404 or 405 is about the path."""
    return is_html(reply) and 400 <= reply.status < 500 and reply.status not in (404, 405)


def _header_hint(reply: HttpReply) -> str:
    """API Gateway answers "Forbidden" for an unknown path and for a missing key alike."""
    return ", or a header is missing: api.headers" if _is_forbidden(reply) else ""


def _is_forbidden(reply: HttpReply) -> bool:
    return str(complaint(reply).get("message")).strip().lower() == "forbidden"


def _from_elsewhere(reply: HttpReply, doing: str) -> ApiRefusedError:
    return ApiRefusedError(
        f"{doing}: {reply.where} answered {reply.status} with a web page. It seems to come from a web"
        " filter or proxy between this host and the API.",
        code="web_filter",
        status=reply.status,
        hint="Have this host's requests to the API and to its storage let through, or set api.proxy; check"
        " api.base_url too.",
    )


def _amazon_error(reply: HttpReply) -> str:
    return reply.headers.get("x-amzn-ErrorType") or ""
