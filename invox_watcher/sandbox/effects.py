"""What each fault does to a request: answers in place of the application, or spoils the answer it gives.

Resets and dripping need the connection itself; `server.Connection` puts its transport into the ASGI state.
"""

from __future__ import annotations

import asyncio
import gzip
import http
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any, assert_never

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from invox_watcher.sandbox import faults, oddities
from invox_watcher.sandbox.ledger import Record
from invox_watcher.sandbox.replies import Replies, storage_error

_CHUNK_BYTES = 65536
_Spoiling = (
    faults.DropReply
    | faults.StatusInstead
    | faults.Interim
    | faults.OddResult
    | faults.DenyAcknowledged
    | faults.SlowBytes
    | faults.Truncate
    | faults.MissingField
    | faults.UnknownStatus
    | faults.ErrorResult
)


async def apply(
    fault: faults.CallFault, scope: Scope, receive: Receive, send: Send, *, app: ASGIApp, replies: Replies
) -> None:
    """Serve one request as this fault has it."""
    match fault:
        case faults.Status() | faults.Html() | faults.Redirect() | faults.Huge():
            await _substitute(fault, replies)(scope, receive, send)
        case faults.Reset():
            await _reset(scope, receive)
        case faults.CloseAfterBytes():
            await _read(receive, fault.bytes)
            await _reset(scope, receive)
        case faults.Silence():
            await _stay_silent(fault.seconds, receive)
            await _reset(scope, receive)
        case faults.Latency():
            await asyncio.sleep(fault.seconds)
            await app(scope, receive, send)
        case _:
            reply = await _captured(app, scope, receive)
            await _spoil(fault, reply, scope, receive, send, replies=replies)


async def _spoil(
    fault: _Spoiling, reply: _Reply, scope: Scope, receive: Receive, send: Send, *, replies: Replies
) -> None:
    """Send something else than the answer that the application gave."""
    match fault:
        case faults.DropReply():
            await _reset(scope, receive)
        case faults.StatusInstead():
            await Response(status_code=fault.status)(scope, receive, send)
        case faults.Interim():
            scope["state"]["interim"](fault.status)
            await reply.send(send)
        case faults.OddResult():
            await _odd(reply, fault, send)
        case faults.DenyAcknowledged():
            await _deny(reply, scope, receive, send, replies)
        case faults.SlowBytes():
            await _drip(reply, fault, scope, receive, send)
        case faults.Truncate():
            await _truncate(reply, fault, send)
        case faults.MissingField() | faults.UnknownStatus() | faults.ErrorResult():
            await reply.edited(_edit(fault, replies)).send(send)
        case _:
            assert_never(fault)


@dataclass(frozen=True)
class _Reply:
    """An answer as the application gave it. Header names are lower case, without the length."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def edited(self, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> _Reply:
        """With its JSON object edited; what is no JSON object stays as it is."""
        try:
            content = json.loads(self.body)
        except ValueError:
            return self
        return replace(self, body=json.dumps(edit(content)).encode()) if isinstance(content, dict) else self

    def head(self, length_bytes: int) -> Message:
        length = (b"content-length", str(length_bytes).encode())
        return {"type": "http.response.start", "status": self.status, "headers": [*self.headers, length]}

    async def send(self, send: Send) -> None:
        await send(self.head(len(self.body)))
        await send({"type": "http.response.body", "body": self.body})


async def _captured(app: ASGIApp, scope: Scope, receive: Receive) -> _Reply:
    """Let the application do its work, and keep its answer back."""
    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, keep)
    start, *parts = messages
    headers = tuple((name, value) for name, value in start["headers"] if name != b"content-length")
    return _Reply(start["status"], headers, b"".join(part.get("body", b"") for part in parts))


def _substitute(
    fault: faults.Status | faults.Html | faults.Redirect | faults.Huge, replies: Replies
) -> Response:
    match fault:
        case faults.Status():
            return _status(fault, replies)
        case faults.Html():
            return HTMLResponse("<!DOCTYPE html><html><title>Sign in</title><p>Please sign in.</p></html>")
        case faults.Redirect():
            return RedirectResponse(fault.location, fault.status)
        case faults.Huge():
            return StreamingResponse(_huge_json(fault.bytes), media_type="application/json")


def _status(fault: faults.Status, replies: Replies) -> Response:
    response: Response
    if isinstance(fault.body, dict):
        response = JSONResponse(fault.body, fault.status)
    elif fault.body is not None:
        response = Response(fault.body, fault.status, media_type="text/plain")
    elif fault.on == "upload":
        code = {403: "AccessDenied", 503: "SlowDown"}.get(fault.status, "InternalError")
        response = storage_error(fault.status, code, "This fault was asked for.")
    else:
        response = replies.error(fault.status, "This fault was asked for.")
    if fault.content_type is not None:
        response.headers["Content-Type"] = fault.content_type
    if fault.retry_after is not None:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response


async def _huge_json(size_bytes: int) -> AsyncIterator[bytes]:
    start, end = b'{"transcription": [{"text": "', b'"}]}'
    yield start
    remaining = size_bytes - len(start) - len(end)
    while remaining:
        chunk = min(remaining, _CHUNK_BYTES)
        yield b"a" * chunk
        remaining -= chunk
    yield end


async def _read(receive: Receive, count_bytes: int) -> None:
    """Read the body until that many bytes have arrived, or it ends."""
    while count_bytes > 0:
        message = await receive()
        count_bytes -= len(message.get("body", b""))
        if not message.get("more_body", False):
            return


async def _stay_silent(seconds: float | None, receive: Receive) -> None:
    try:
        async with asyncio.timeout(seconds):
            await _wait_for_disconnect(receive)
    except TimeoutError:
        return


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _reset(scope: Scope, receive: Receive) -> None:
    """Close with RST instead of FIN: SO_LINGER with a time of zero, see socket(7)."""
    transport: asyncio.Transport = scope["state"]["transport"]
    if not transport.is_closing():
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    await _wait_for_disconnect(receive)


async def _drip(reply: _Reply, fault: faults.SlowBytes, scope: Scope, receive: Receive, send: Send) -> None:
    if fault.part == "body":
        await send(reply.head(len(reply.body)))
        for position in range(len(reply.body)):
            await asyncio.sleep(fault.seconds)
            await send(
                {"type": "http.response.body", "body": reply.body[position : position + 1], "more_body": True}
            )
        await send({"type": "http.response.body"})
        return
    # The server sends a head in one piece, so these bytes go past it; the connection can't be used again.
    transport: asyncio.Transport = scope["state"]["transport"]
    for byte in _on_the_wire(reply):
        if transport.is_closing():
            break
        transport.write(bytes([byte]))
        await asyncio.sleep(fault.seconds)
    transport.close()
    await _wait_for_disconnect(receive)


def _on_the_wire(reply: _Reply) -> bytes:
    head = reply.head(len(reply.body))
    lines = [f"HTTP/1.1 {reply.status} {http.HTTPStatus(reply.status).phrase}".encode(), b"connection: close"]
    lines += [name + b": " + value for name, value in head["headers"]]
    return b"\r\n".join([*lines, b"", reply.body])


async def _truncate(reply: _Reply, fault: faults.Truncate, send: Send) -> None:
    half = reply.body[: len(reply.body) // 2]
    if fault.declared == "half":
        await replace(reply, body=half).send(send)
        return
    await send(reply.head(len(reply.body)))
    # The server closes the connection when the application returns with the body unfinished.
    await send({"type": "http.response.body", "body": half, "more_body": True})


async def _odd(reply: _Reply, fault: faults.OddResult, send: Send) -> None:
    def edit(body: dict[str, Any]) -> dict[str, Any]:
        return oddities.odd(fault.kind, body) if oddities.has_result(body) else body

    edited = reply.edited(edit)
    if fault.kind == "gzip":
        headers = (*edited.headers, (b"content-encoding", b"gzip"))
        edited = replace(edited, headers=headers, body=gzip.compress(edited.body))
    await edited.send(send)


async def _deny(reply: _Reply, scope: Scope, receive: Receive, send: Send, replies: Replies) -> None:
    record: Record | None = scope["state"].get("record")
    if record is None or not record.acknowledged:
        await reply.send(send)
        return
    scope["state"]["denied"] = record.id
    await replies.refusal(replies.not_found())(scope, receive, send)


def _edit(
    fault: faults.MissingField | faults.UnknownStatus | faults.ErrorResult, replies: Replies
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    match fault:
        case faults.MissingField():
            return lambda body: {name: value for name, value in body.items() if name != fault.field}
        case faults.UnknownStatus():
            return lambda body: body | replies.state(fault.value)
        case faults.ErrorResult():
            return lambda _body: replies.failure(fault.message)
