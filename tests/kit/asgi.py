"""Asks an ASGI app in this process, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlencode

from starlette.types import ASGIApp, Message, Scope


@dataclass(frozen=True)
class Answer:
    """What the app answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body, which must be UTF-8."""
        return self.body.decode()


def ask(
    app: ASGIApp,
    target: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    client: str = "127.0.0.1",
) -> Answer:
    """The answer to a request; `target` is path and query as they are on the wire, `form` makes it a POST."""
    sent = dict(headers or {})
    if form is not None:
        method, sent["Content-Type"] = "POST", "application/x-www-form-urlencoded"
    path, _, query = target.partition("?")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        "client": (client, 50000),
        "server": ("127.0.0.1", 8788),
    }
    return asyncio.run(_ask(app, scope, urlencode(form or {}).encode()))


async def _ask(app: ASGIApp, scope: Scope, body: bytes) -> Answer:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if waiting:
            return waiting.pop()
        await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    return Answer(
        start["status"],
        {name.decode(): value.decode("latin-1") for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
    )
