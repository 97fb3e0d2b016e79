"""One recording through the API by hand: what was sent and received, told without a single value.

For `check --try`: an administrator sees from it which key to set, and can send it to the vendor as it is.
It names methods, hosts, paths, headers, and fields with their types. It never holds a credential, a token, a
word of the transcript, the recording's name, or a part of a signed address.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from invox_watcher.errors import InvoxError
from invox_watcher.invox import ApiCall, TranscriptionReply
from invox_watcher.net import media_type

_MOST_FIELDS = 40
_DEEPEST = 4
_NAMES = {
    "token": "asking for a token",
    "presign": "asking for an upload address",
    "upload": "uploading the recording",
    "result": "asking for the result",
}


def described(calls: list[ApiCall], status_path: str) -> Iterator[str]:
    """Each call as a few lines. Polls that were answered like the one before are only counted."""
    shown: tuple[str, ...] | None = None
    repeated = 0
    for number, call in enumerate(calls, start=1):
        lines = (*_request(call, status_path), *_reply(call))
        if lines == shown:
            repeated += 1
            continue
        if repeated:
            yield f"   the same {repeated} more times"
        shown, repeated = lines, 0
        yield f"{number}. {_NAMES[call.request.name]}, {call.seconds:.2f} s"
        yield from (f"   {line}" for line in lines)
    if repeated:
        yield f"   the same {repeated} more times"


def cost(calls: list[ApiCall], size_bytes: int, duration_seconds: float | None) -> str:
    """What the trial costs at the vendor's."""
    stored = sum(1 for call in calls if call.request.name == "upload" and call.reply and call.reply.ok)
    if stored == 0:
        return "Storage acknowledged no upload: nothing should be charged."
    length = "of unknown length" if duration_seconds is None else f"of {duration_seconds:.1f} s"
    return f"Storage acknowledged one recording {length} ({size_bytes:,} bytes), which is charged once."


def surprises(calls: list[ApiCall], reply: TranscriptionReply | None) -> Iterator[str]:
    """What an administrator should know of, each with the key it leads to."""
    for call in calls:
        if call.error is not None:
            yield f"{_NAMES[call.request.name]} failed: {call.error.message} {call.error.hint}".rstrip()
    by_name = {call.request.name: call for call in calls if call.reply is not None and call.reply.ok}
    if (token := by_name.get("token")) is not None and not _mentions_lifetime(_json_of(token)):
        yield "The token's reply names no lifetime: two hours are assumed (api.token.lifetime_seconds)."
    if (presign := by_name.get("presign")) is not None and (further := _further(_json_of(presign))):
        yield f"The reply with the upload address has further fields: {', '.join(further)}."
    if reply is not None:
        yield from (f"In the result {repair}." for repair in reply.repairs)
        if reply.unknown_status is not None:
            yield "The result's state is unknown to this release: please report it."


def verdict(reply: TranscriptionReply | None, failure: InvoxError | None) -> str:
    """The last line: whether it worked."""
    if failure is not None:
        return f"No transcript: {failure.message}"
    if reply is None or reply.transcript is None:
        return "No transcript: the API reported an error for this recording."
    count = len(reply.transcript.segments)
    return f"It works: a transcript with {count} segment{'s' if count != 1 else ''}."


def shape(value: Any, depth: int = 0) -> str:
    """A JSON value as names and types: `{requestId: string, transcription: [2 × {text: string}]}`."""
    if isinstance(value, Mapping):
        if depth >= _DEEPEST:
            return "{…}"
        shown = list(value.items())[:_MOST_FIELDS]
        fields = [f"{_name(key)}: {shape(item, depth + 1)}" for key, item in shown]
        return "{" + ", ".join(fields + ["…"] * (len(value) > _MOST_FIELDS)) + "}"
    if isinstance(value, list):
        kinds = list(dict.fromkeys(shape(item, depth + 1) for item in value))
        return f"[{len(value)} × {' | '.join(kinds)}]" if value else "[]"
    if value is None:
        return "null"
    return {bool: "boolean", int: "number", float: "number"}.get(type(value), "string")


def _request(call: ApiCall, status_path: str) -> Iterator[str]:
    request = call.request
    parts = urlsplit(request.url)
    where = f"{request.method} {parts.scheme}://{parts.netloc}"
    if request.name == "upload":
        signed = sorted({name for name, _ in parse_qsl(parts.query, keep_blank_values=True)})
        query = f", with {', '.join(map(_name, signed))}" if signed else ""
        yield f"{where}, a path of {parts.path.count('/')} parts{query}"
        yield f"headers: {_header_names(request.headers)}; body: the recording"
        return
    # The path as configured: the one that was asked for may hold a request id.
    yield where + (status_path if request.name == "result" else parts.path)
    body = "none" if request.body is None else _body(request.body)
    yield f"headers: {_header_names(request.headers)}; body: {body}"


def _reply(call: ApiCall) -> Iterator[str]:
    if call.reply is None:
        yield f"no answer ({call.error.code if call.error else 'internal'})"
        return
    yield f"answered {call.reply.status}, {media_type(call.reply)}"
    body = _body(call.reply.body) if call.reply.body else "none"
    yield f"headers: {_header_names(call.reply.headers)}; body: {body}"


def _body(body: bytes) -> str:
    try:
        return shape(json.loads(body))
    except (ValueError, RecursionError):
        pass
    if body.lstrip()[:1] == b"<":
        return f"HTML or XML, {len(body)} bytes"
    if b"=" in body and b" " not in body:  # a form
        fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
        return "a form with " + ", ".join(_name(name) for name, _ in fields)
    return f"neither JSON nor a form, {len(body)} bytes"


def _json_of(call: ApiCall) -> Any:
    assert call.reply is not None  # noqa: S101 - the caller has chosen those with a reply
    try:
        return json.loads(call.reply.body)
    except (ValueError, RecursionError):
        return None


def _mentions_lifetime(payload: Any) -> bool:
    if isinstance(payload, Mapping):
        return any("expir" in str(key).lower() or _mentions_lifetime(item) for key, item in payload.items())
    return False


def _further(payload: Any) -> list[str]:
    known = ("url", "id", "headers")
    fields = payload if isinstance(payload, Mapping) else {}
    return [_name(key) for key in fields if not str(key).lower().endswith(known)]


def _header_names(headers: Mapping[str, str]) -> str:
    return ", ".join(_name(name) for name in headers) or "none"


def _name(text: object) -> str:
    """A name of a field, fit to be shown. One that does not look like a name may be a value in its place."""
    name = str(text)
    plain = name.isascii() and len(name) <= 40 and all(c.isalnum() or c in "_-.:$" for c in name)
    return name if plain else "(a name that is not shown)"
