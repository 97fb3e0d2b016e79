"""From values to HTML: the templates, what they call, and the static files.

Whatever came from outside is escaped, and shown as what it is: bytes that are not UTF-8 and characters that
are invisible or change the direction of text appear as `\\xNN` and `\\uNNNN`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from invox_watcher.accounts import Role
from invox_watcher.job import State
from invox_watcher.page import words
from invox_watcher.page.live import SILENCE_SECONDS
from invox_watcher.page.model import Sight, Viewer
from invox_watcher.page.words import Words, preferred, words_in

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
# What HTML can't carry, and what would turn the text that follows around.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_TIME_FORMATS = {
    "time": "%Y-%m-%d %H:%M",
    "seconds": "%Y-%m-%d %H:%M:%S",
    "clock": "%H:%M:%S",
    "age": "%Y-%m-%d %H:%M",
}
_BYTES = range(0xDC80, 0xDD00)  # how os.fsdecode() keeps bytes that are not UTF-8
# The icon and the colour of a state; what is under way has one of its own.
_KINDS = {
    State.DONE: "done",
    State.DELIVERED: "done",
    State.FAILING: "failed",
    State.FAILED: "failed",
    State.VANISHED: "gone",
}
_STAGE_KINDS = {"error": "failed", "unfinished": "suspect", "held": "held", "ignored": "gone"}
_DELIVERY_KINDS = {"sent": "done", "uncertain": "suspect", "failed": "failed", "cancelled": "gone"}
_COMMANDS = ("`", "invox-watcher ", "systemctl ")  # in hints for those who can run them
_FOREVER = "public, max-age=31536000, immutable"


def words_for(request: Request) -> Words:
    """The texts in the language that the browser asks for."""
    return words_in(preferred(request.headers.get("accept-language", "")))


def page(request: Request, template: str, /, *, status_code: int = 200, **context: Any) -> HTMLResponse:
    """A template as the answer; with `?part=1` only what the script exchanges."""
    is_part = request.query_params.get("part") == "1"
    viewer: Viewer | None = context.get("viewer")
    # Those who can do something about what is for administrators.
    context["manages"] = viewer is not None and viewer.may(Role.ACT) and viewer.sight == Sight()
    content = text(template, words_for(request), part=is_part, **context)
    # A lone surrogate in what a template forgot to show by a filter must not make the page an error.
    return HTMLResponse(content.encode("utf-8", "backslashreplace"), status_code)


def text(template: str, t: Words, /, **context: Any) -> str:
    """A template in a language."""
    return _environment().get_template(template).render(t=t, lang=t.language, **context)


def static_file(digest: str, name: str) -> Response:
    """A file of the page's looks and behaviour, or 404 if there is none under this name and digest."""
    files = _static_files()
    if name not in files or digest != static_digest():
        return Response("Not found\n", 404, media_type="text/plain")
    media_type = _TYPES[os.path.splitext(name)[1]]
    return Response(files[name], headers={"Content-Type": media_type, "Cache-Control": _FOREVER})


@cache
def static_digest() -> str:
    """Of all static files: it is in their addresses, so that browsers may keep them forever."""
    return hashlib.sha256(b"\0".join(_static_files()[name] for name in sorted(_static_files()))).hexdigest()[
        :16
    ]


# ---- what templates call -----------------------------------------------------------------------------------


def plain(value: object) -> object:
    """A text with control characters and lone surrogates escaped; any other value as it is."""
    if type(value) is str and _CONTROLS.search(value):
        return _CONTROLS.sub(_escaped, value)
    return value


def visible(name: str) -> str:
    """A name with everything escaped that is invisible, or that would change how the rest is shown."""
    if name.isascii() and name.isprintable():
        return name
    return "".join(_shown(one) for one in name)


def named(name: str) -> Markup:
    """A file's name: isolated from the text around it, its folder less prominent."""
    folder, slash, base = visible(name).rpartition("/")
    if not slash:
        return Markup("<bdi>") + escape(base) + Markup("</bdi>")
    return (
        Markup('<bdi><span class="folder">')
        + escape(folder + slash)
        + Markup("</span>")
        + escape(base)
        + Markup("</bdi>")
    )


def when(moment: datetime, style: str = "time") -> Markup:
    """A time that the script shows in the reader's zone; without it, in UTC.

    `style`: `time` (day and time), `seconds` (to the second), `clock` (the time alone), `age` (how long ago).
    """
    utc = moment.astimezone(UTC)
    shown = utc.strftime(_TIME_FORMATS[style])
    return Markup(f'<time datetime="{utc:%Y-%m-%dT%H:%M:%S}Z" data-as="{style}">{shown} UTC</time>')  # noqa: S704


def kind(state: State) -> str:
    """The icon and the colour of a state."""
    return _KINDS.get(state, "way")


def length(seconds: float | None) -> str:
    """The length of a recording, or a place in it: `4:05`, `1:04:05`."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def took(seconds: float) -> str:
    """A duration in units that all languages share: `< 1 s`, `12 s`, `3 min 5 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 1:
        return "<\N{NO-BREAK SPACE}1\N{NO-BREAK SPACE}s"
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(int(seconds), size)
        parts.append((count, unit))
    first = next(place for place, (count, _) in enumerate(parts) if count)
    shown = parts[first : first + 2] if parts[first][0] < 10 else parts[first : first + 1]
    return " ".join(f"{count}\N{NO-BREAK SPACE}{unit}" for count, unit in shown if count)


def segment(name: str) -> str:
    """A name as one segment of a URL, whatever its bytes."""
    return quote(os.fsencode(name), safe="")


def percent(part: float, whole: float) -> str:
    """A place along the recording, for an SVG."""
    return f"{min(max(100 * part / whole, 0.0), 100.0):.2f}%" if whole > 0 else "0%"


def static_url(name: str) -> str:
    """Where a static file is."""
    return f"/static/{static_digest()}/{name}"


def script_words(t: Words) -> str:
    """What the script shows, as JSON."""
    return json.dumps({key: t.text(english) for key, english in words.SCRIPT.items()}, ensure_ascii=False)


def _shown(character: str) -> str:
    if character == " " or (character.isprintable() and unicodedata.category(character) != "Co"):
        return character
    return _escape(character)


def _escaped(match: re.Match[str]) -> str:
    return _escape(match[0])


def _escape(character: str) -> str:
    code = ord(character)
    if code in _BYTES:
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


@cache
def _static_files() -> dict[str, bytes]:
    folder = resources.files(__package__).joinpath("static")
    return {
        file.name: file.read_bytes() for file in folder.iterdir() if os.path.splitext(file.name)[1] in _TYPES
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("invox_watcher.page"),
        autoescape=True,
        finalize=plain,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        named=named,
        visible=visible,
        when=when,
        length_of=length,
        took=took,
        segment=segment,
        kind=kind,
        stage_kind=lambda stage: _STAGE_KINDS.get(stage, "way"),
        names_a_command=lambda hint: any(word in hint for word in _COMMANDS),
        delivery_kind=lambda state: _DELIVERY_KINDS.get(state, "way"),
    )
    environment.globals.update(
        words=words,
        static_url=static_url,
        script_words=script_words,
        percent=percent,
        silence_seconds=SILENCE_SECONDS,
    )
    return environment
