"""One recording through the API by hand: what was sent and received, described without a single value.

For `check --try`: an administrator sees from it which key to set, and can send it to the vendor as it is.
It names methods, hosts, paths, headers, and fields with their types. It never holds a credential, a token, a
request id, a word of the transcript, the recording's name, or a part of a signed address.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from invox_watcher.errors import InvoxError, StoppedError, UploadUncertainError
from invox_watcher.invox import ApiCall, TranscriptionReply
from invox_watcher.net import host_of, media_type

_MOST_FIELDS = 40
_DEEPEST = 4
_LONGEST_NAME = 40
_UNSHOWN = "(a name that is not shown)"
_NAMES = {
    "token": "asking for a token",
    "presign": "asking for an upload address",
    "upload": "uploading the recording",
    "result": "asking for the result",
}
# A field or header as programs call them: other digits inside of a name make it a value.
_IDENTIFIER = re.compile(r"(?:s3|md5|sha\d+|base64|oauth2|mp[34]|v\d|[a-z_$.:-])+\d{0,3}", re.IGNORECASE)
# A result may have words of the transcript as names: of its fields only those made of these words are shown.
_RESULT_WORDS = frozenset(
    """
    access account alternatives at audio begin body callback channel channels cause code completed confidence
    content count created cue cues data date description detail details diarization done duration end ended
    ended ending error errors event expires failed field fields file finished format from full generated id
    ids index info input items job jobs kind label lang language length level link list locale main message
    messsage meta metadata metrics mime model ms name names number object offset offsets output paragraph
    paragraphs path payload percent percentage phase position processed processing progress punctuated queue
    raw reason received recording ref reference report request response result results score seconds section
    sections segment segments sentence sentences sequence severity signature size source speaker speakers srt
    stage start started starts state status step submitted subtitle subtitles success summary tag tags text
    texts time timeline times timestamp timestamps to token tokens total trace transcript transcription
    transcriptions transcripts translation type types updated uri url user utterance utterances uuid value
    values version vtt webvtt word words
    """.split()  # noqa: SIM905 - a list of a hundred literals is hard to read
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_KNOWN_ENDINGS = ("url", "id", "headers")
_TO_CHECK = re.compile(r" ?`invox-watcher check --try FILE`[^.]*\.")
_QUOTE = re.compile(r": “.*”")


class Trial:
    """What came of one recording. `secrets` are never shown, nor is anything that looks like a value."""

    def __init__(self, calls: Sequence[ApiCall], *, status_path: str, secrets: Iterable[str] = ()) -> None:
        self._calls = calls
        self._status_path = status_path
        self._secret = _any_of({*secrets, *_telling(calls)})

    def lines(
        self,
        reply: TranscriptionReply | None,
        failure: InvoxError | None,
        *,
        size_bytes: int,
        duration_seconds: float | None,
    ) -> Iterator[str]:
        """All of it: each call, the cost, what is surprising, and whether it worked."""
        yield from self._described()
        yield _cost(self._calls, size_bytes, duration_seconds)
        yield from (f"Note: {surprise}" for surprise in self._surprises(reply))
        yield from self._verdict(reply, failure)

    def body(self, call: ApiCall, body: bytes | None) -> str:
        """The body of a request or reply of `call` as names and types."""
        if not body:
            return "none"
        try:
            return self._shape(json.loads(body), of_result=call.request.name == "result")
        except (ValueError, RecursionError):
            pass
        if body.lstrip()[:1] == b"<":
            return f"HTML or XML, {len(body)} bytes"
        if b"=" in body and b" " not in body:  # a form
            fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
            return "a form with " + ", ".join(self._name(name) for name, _ in fields)
        return f"neither JSON nor a form, {len(body)} bytes"

    def _described(self) -> Iterator[str]:
        """Each call as a few lines. Polls that were answered like the one before are only counted."""
        shown: tuple[str, ...] | None = None
        repeated = 0
        for number, call in enumerate(self._calls, start=1):
            lines = (*self._request(call), *self._reply(call))
            if lines == shown:
                repeated += 1
                continue
            if repeated:
                yield _repeated(repeated)
            shown, repeated = lines, 0
            yield f"{number}. {_NAMES[call.request.name]}, {call.seconds:.2f} s"
            yield from (f"   {line}" for line in lines)
        if repeated:
            yield _repeated(repeated)

    def _request(self, call: ApiCall) -> Iterator[str]:
        request = call.request
        parts = urlsplit(request.url)
        where = f"{request.method} {parts.scheme}://{host_of(request.url)}"
        if request.name == "upload":
            # The address is signed: nothing of its path is shown.
            where, query, body = f"{where}/…", parts.query, "the recording"
        else:
            # The path as configured: the one that was asked for may hold a request id.
            path, _, query = (
                self._status_path if request.name == "result" else f"{parts.path}?{parts.query}"
            ).partition("?")
            where, body = where + path, self.body(call, request.body)
        names = sorted({self._name(name) for name, _ in parse_qsl(query, keep_blank_values=True)})
        yield where + (f", query: {', '.join(names)}" if names else "")
        yield f"headers: {self._header_names(request.headers)}; body: {body}"

    def _reply(self, call: ApiCall) -> Iterator[str]:
        if call.reply is None:
            error = call.error
            yield "no answer" if error is None else f"no usable answer: {self._public(error.message)}"
            return
        yield f"answered {call.reply.status}, {media_type(call.reply).partition(';')[0]}"
        body = self.body(call, call.reply.body)
        yield f"headers: {self._header_names(call.reply.headers)}; body: {body}"

    def _surprises(self, reply: TranscriptionReply | None) -> Iterator[str]:
        by_name = {
            call.request.name: call for call in self._calls if call.reply is not None and call.reply.ok
        }
        token = by_name.get("token") if len(self._calls) > 1 else None  # else there is no token in it
        if token is not None and not _mentions_lifetime(_json_of(token)):
            yield (
                "the token's reply names no lifetime. If the token itself has none, two hours are assumed"
                " (api.token.lifetime_seconds)."
            )
        if (presign := by_name.get("presign")) is not None and (further := self._further(_json_of(presign))):
            yield f"the reply with the upload address has further fields: {', '.join(further)}."
        if reply is not None:
            yield from (f"in the result {repair}." for repair in reply.repairs)
            if reply.unknown_status is not None:
                yield "the result's state is unknown to this release: please report it."

    def _verdict(self, reply: TranscriptionReply | None, failure: InvoxError | None) -> Iterator[str]:
        if isinstance(failure, StoppedError):
            yield "No transcript: stopped before the result arrived."
        elif failure is not None:
            # What the API says about a result may quote it.
            of_result = bool(self._calls) and self._calls[-1].request.name == "result"
            message = _QUOTE.sub("", failure.message) if of_result else failure.message
            yield f"No transcript: {self._public(message)}"
            if hint := _TO_CHECK.sub("", failure.hint).strip():
                yield f"  {self._public(hint)}"
        elif reply is None or reply.transcript is None:
            yield "No transcript: the API reported an error for this recording. The set-up works."
            yield "  Try another recording; `invox-watcher transcribe FILE` prints the API's reason."
        else:
            count = len(reply.transcript.segments)
            yield f"It works: a transcript with {count} segment{'s' if count != 1 else ''}."

    # ---- names and types ---------------------------------------------------------------------------------

    def _shape(self, value: Any, *, of_result: bool, depth: int = 0) -> str:
        """A JSON value: `{requestId: string, transcription: [2 × {text: string}]}`."""
        if isinstance(value, Mapping):
            if depth >= _DEEPEST:
                return "{…}"
            fields = [
                f"{self._name(key, of_result=of_result)}: "
                + self._shape(item, of_result=of_result, depth=depth + 1)
                for key, item in list(value.items())[:_MOST_FIELDS]
            ]
            return "{" + ", ".join([*_counted(fields), *["…"] * (len(value) > _MOST_FIELDS)]) + "}"
        if isinstance(value, list):
            kinds = dict.fromkeys(self._shape(item, of_result=of_result, depth=depth + 1) for item in value)
            return f"[{len(value)} × {' | '.join(kinds)}]" if value else "[]"
        if value is None:
            return "null"
        return {bool: "boolean", int: "number", float: "number"}.get(type(value), "string")

    def _name(self, text: object, *, of_result: bool = False) -> str:
        """The name of a field or header. One that may be a value, or a word of a transcript, is not shown."""
        name = str(text)
        plain = len(name) <= _LONGEST_NAME and _IDENTIFIER.fullmatch(name) is not None
        known = not of_result or {word.lower() for word in _WORD.findall(name)} <= _RESULT_WORDS
        return name if plain and known and not self._secret.search(name) else _UNSHOWN

    def _header_names(self, headers: Mapping[str, str]) -> str:
        return ", ".join(map(self._name, headers)) or "none"

    def _further(self, payload: Any) -> list[str]:
        fields = payload if isinstance(payload, Mapping) else {}
        return [self._name(key) for key in fields if not str(key).lower().endswith(_KNOWN_ENDINGS)]

    def _public(self, text: str) -> str:
        return self._secret.sub("[…]", text)


def _cost(calls: Sequence[ApiCall], size_bytes: int, duration_seconds: float | None) -> str:
    """What the trial costs at the vendor's."""
    uploads = [call for call in calls if call.request.name == "upload"]
    length = "of unknown length" if duration_seconds is None else f"of {duration_seconds:.1f} s"
    recording = f"one recording {length} ({size_bytes:,} bytes)"
    if any(call.reply is not None and call.reply.ok for call in uploads):
        return f"Cost: storage acknowledged {recording}, which is charged once."
    if any(isinstance(call.error, UploadUncertainError) for call in uploads):
        return f"Cost: storage did not confirm {recording}, which may be charged once."
    return "Cost: no recording was stored, so nothing should be charged."


def _repeated(count: int) -> str:
    return f"   the same {count} more time{'s' if count != 1 else ''}"


def _counted(fields: list[str]) -> Iterator[str]:
    """Each field once, those that are not shown with their number."""
    for field, count in Counter(fields).items():
        yield field if count == 1 else f"{count} × {field}"


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


# ---- what is never shown -----------------------------------------------------------------------------------


def _telling(calls: Iterable[ApiCall]) -> Iterator[str]:
    """Values of tokens, ids and signed addresses, wherever in the calls they are."""
    for call in calls:
        found = [*call.request.headers.values()]
        if call.reply is not None and call.reply.ok and call.request.name != "result":
            found += [*_leaves(_json_of(call)), call.reply.body.decode("utf-8", "replace").strip()]
        if call.request.name == "upload":
            parts = urlsplit(call.request.url)
            found += [value for _, value in parse_qsl(parts.query)]
            found += [*parts.path.split("/"), *map(unquote, parts.path.split("/"))]
        for value in found:
            yield from (part for part in (value, *value.split()) if _is_telling(part))


def _is_telling(value: str) -> bool:
    return len(value) >= 8 and (len(value) >= 20 or any(c.isdigit() for c in value))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str):
        yield value


def _any_of(values: Iterable[str]) -> re.Pattern[str]:
    """Matches each of the values, short ones as whole words only."""
    longest_first = sorted(filter(None, values), key=len, reverse=True)
    parts = [
        re.escape(value) if len(value) >= 8 else rf"(?<!\w){re.escape(value)}(?!\w)"
        for value in longest_first
    ]
    return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)
