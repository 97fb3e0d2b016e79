"""A complete reply, and its body as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from invox_watcher.errors import ApiUnavailableError


@dataclass(frozen=True)
class HttpReply:
    """A complete reply. `where` is the host, for messages; header names are case-insensitive."""

    status: int
    where: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


def read_json(reply: HttpReply) -> Any:
    """The reply's body as a JSON value; NaN and Infinity, which JSON lacks (RFC 8259 §6), become null.

    Raises:
        ApiUnavailableError: `api_protocol`, it is not JSON.
    """
    try:
        return json.loads(reply.body, parse_constant=lambda _name: None)
    except (ValueError, RecursionError):  # malformed, not UTF-8, numbers beyond reason; nested too deeply
        pass
    raise ApiUnavailableError(
        f"{reply.where} answered {reply.status} with {media_type(reply)}, {len(reply.body)} bytes,"
        " where JSON was expected.",
        code="api_protocol",
        status=reply.status,
        hint="Check that api.base_url and the api.*_path keys point to the API, not to a login page.",
    )


def read_object(reply: HttpReply) -> dict[str, Any]:
    """The reply's body as a JSON object.

    Raises:
        ApiUnavailableError: `api_protocol`, it is anything else.
    """
    payload = read_json(reply)
    if isinstance(payload, dict):
        return payload
    raise ApiUnavailableError(
        f"{reply.where} answered {reply.status} with JSON that is not an object.",
        code="api_protocol",
        status=reply.status,
        hint="Check that api.base_url and the paths below it lead to the API.",
    )


def media_type(reply: HttpReply) -> str:
    """The reply's Content-Type, fit to be shown."""
    kind = re.sub(r"[^\w/+.;= -]", "", reply.headers.get("Content-Type", ""))[:60]
    return kind or "no Content-Type"
