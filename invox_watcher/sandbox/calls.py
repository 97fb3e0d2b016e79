"""What the handlers of all calls share: reading a body, and refusing a call."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

_LONGEST_BODY_BYTES = 65536


class RefusedError(Exception):
    """The call is refused with this HTTP status; an empty message means no body.

    `oauth_error` is the code of RFC 6749, section 5.2, for refusals of the token request.
    """

    def __init__(
        self, status: int, message: str, error_type: str | None = None, *, oauth_error: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error_type = error_type
        self.oauth_error = oauth_error


async def read_body(request: Request) -> bytes:
    """The request's body. Raises RefusedError if it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_BODY_BYTES:
            raise RefusedError(413, "The body is too long.")
    return bytes(body)


def json_object(content: bytes) -> dict[str, Any]:
    """The JSON object that this is. Raises RefusedError if it is none."""
    try:
        body = json.loads(content)
    except ValueError:
        raise RefusedError(400, "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise RefusedError(400, "The body must be a JSON object.")
    return body
