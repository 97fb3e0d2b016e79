"""What stands between client and API, as a reading has it: a gateway, a web filter, and how bytes travel."""

from __future__ import annotations

import gzip

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Message, Scope, Send

from invox_watcher.sandbox.readings import Reading
from invox_watcher.sandbox.replies import page

_UNKNOWN_PATHS = {"missing_token": "Missing Authentication Token", "forbidden": "Forbidden"}


def unknown_path(reading: Reading, error: HTTPException) -> Response:
    """The answer for a path or method that does not exist; 403 as Amazon's API Gateway gives it."""
    if reading.unknown_paths == "404":
        return PlainTextResponse(error.detail, error.status_code, error.headers)
    return JSONResponse({"message": _UNKNOWN_PATHS[reading.unknown_paths]}, 403)


def refusal(reading: Reading, api_key: str, *, is_upload: bool, scope: Scope) -> Response | None:
    """The answer to a call that does not get as far as the API or storage; None if it does."""
    if reading.blocked_by_filter == ("storage" if is_upload else "api"):
        return page(403, "This site is blocked by your organization")
    if reading.needs_api_key and not is_upload and Headers(scope=scope).get("x-api-key") != api_key:
        return JSONResponse({"message": "Forbidden"}, 403)
    return None


def sending(reading: Reading, *, is_upload: bool, scope: Scope, send: Send) -> Send:
    """`send`, but the answer travels as the reading has it."""
    interim = reading.upload_interim if is_upload else reading.interim_on_calls
    held: list[Message] = []  # the head, until the body's length is known

    async def as_read(message: Message) -> None:
        if message["type"] == "http.response.start":
            if interim is not None:
                scope["state"]["interim"](interim)
            if reading.content_type == "none" and not is_upload:
                del MutableHeaders(scope=message)["content-type"]
            if reading.encoding == "gzip" and not is_upload:
                held.append(message)
                return
        elif held:
            head = held.pop()
            message = _compressed(head, message)
            await send(head)
        await send(message)

    return as_read


def _compressed(head: Message, body: Message) -> Message:
    """The body in gzip, and its head changed accordingly; as it is if there is none, or more to come."""
    if body.get("more_body") or not body.get("body"):
        return body
    content = gzip.compress(body["body"])
    headers = MutableHeaders(scope=head)
    headers["content-encoding"] = "gzip"
    headers["content-length"] = str(len(content))
    return {**body, "body": content}
