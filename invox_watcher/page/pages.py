"""The page's routes: what each one asks of the source, and the template that shows it."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote_to_bytes, urlencode

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from invox_watcher.accounts import Role
from invox_watcher.errors import InvoxError, JournalError
from invox_watcher.job import ACTIVE, State
from invox_watcher.page import rendering
from invox_watcher.page.model import Done, Line, Moment, Query, Stretch, Viewer
from invox_watcher.page.rendering import visible
from invox_watcher.page.words import NOTICES, Words

if TYPE_CHECKING:
    from invox_watcher.page.app import Site

_ROWS = 100
_MOST_ROWS = 1000
_TEXT_CHARACTERS = 200
_MOST_ZONE_MINUTES = 14 * 60
_MOST_LISTENERS = 1000
_LISTENING_SECONDS = 600.0
_STATES: Mapping[str, frozenset[State]] = {
    "under-way": ACTIVE,
    "done": frozenset({State.DONE}),
    "failed": frozenset({State.FAILED}),
    "vanished": frozenset({State.VANISHED}),
}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_T = TypeVar("_T")


def routes(site: Site) -> Sequence[BaseRoute]:
    """The routes of everything but signing in and `/live`, `/static/…` included."""
    views = _Views(site)
    one = "/recordings/{id}"
    return [
        Route("/", views.now),
        Route("/needs", views.needs),
        Route("/find", views.find),
        Route(one, views.recording),
        Route(f"{one}/words", views.words),
        Route(f"{one}/sound", views.sound),
        Route(f"{one}/loudness", views.loudness),
        Route(f"{one}/documents/{{name:path}}", views.document),
        Route(f"{one}/retry", views.retry, methods=["POST"]),
        Route(f"{one}/targets/{{target:path}}/send", views.send_again, methods=["POST"]),
        Route("/static/{digest}/{name}", _static),
    ]


def render(request: Request, template: str, /, *, status_code: int = 200, **context: Any) -> Response:
    """A template in the language of the request; `error.html` gets its title and what to do by `status`."""
    identity = getattr(request.state, "identity", None)
    context.setdefault("viewer", identity.viewer if identity is not None else None)
    if template == "error.html":
        t = rendering.words_for(request)
        context["title"], context["advice"] = _explained(t, context["status"])
        context["reason_given"] = context.pop("reason", None)
    return rendering.page(request, template, status_code=status_code, **context)


async def _static(request: Request) -> Response:
    return rendering.static_file(request.path_params["digest"], request.path_params["name"])


class _Views:
    """The handlers of all routes."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._source = site.source
        self._listened: dict[tuple[str, str, str], float] = {}  # when last, by viewer and recording

    # ---- pages -----------------------------------------------------------------------------------------

    async def now(self, request: Request) -> Response:
        viewer = self._site.require(request, Role.SEE)

        def ask() -> dict[str, Any]:
            needs = self._source.needs(viewer.sight)
            needing = len(needs.failed) + len(needs.suspect) + len(needs.undelivered) + needs.more
            now = self._source.now(viewer.sight)
            owes = any(one.owed or one.failed or one.trouble for one in now.owed)
            return {"now": now, "owes": owes, "needing": needing}

        return await self._show(request, viewer, "now.html", "/", ask)

    async def needs(self, request: Request) -> Response:
        viewer = self._site.require(request, Role.SEE)
        return await self._show(
            request, viewer, "needs.html", "/needs", lambda: {"needs": self._source.needs(viewer.sight)}
        )

    async def find(self, request: Request) -> Response:
        viewer = self._site.require(request, Role.SEE)
        asked = request.query_params
        query = Query(
            text=asked.get("text", "").strip()[:_TEXT_CHARACTERS],
            day=_day(asked.get("day", "")),
            zone_minutes=_number(asked.get("zone", ""), 0, -_MOST_ZONE_MINUTES, _MOST_ZONE_MINUTES),
            states=_STATES.get(asked.get("state", ""), frozenset()),
            suspect=asked.get("suspect", "") == "1",
        )
        limit = _number(asked.get("rows", ""), _ROWS, 1, _MOST_ROWS)
        after = asked.get("after", "")[:200]

        def ask() -> dict[str, Any]:
            found = self._source.find(viewer.sight, query, after=after, limit=limit)
            following = found.following
            return {
                "rows": found.rows,
                "first": _find_url(asked, limit),
                "more": _find_url(asked, limit, following) if following else "",
                "longer": _find_url(asked, _MOST_ROWS, after) if following and limit < _MOST_ROWS else "",
            }

        return await self._show(
            request, viewer, "find.html", "/find", ask,
            text=query.text, day=query.day or "", zone=query.zone_minutes, state=asked.get("state", ""),
            suspect=query.suspect, after=after, searched=bool(asked), limit=limit,
        )  # fmt: skip

    async def recording(self, request: Request) -> Response:
        viewer, job_id = self._site.require(request, Role.SEE), request.path_params["id"]

        def ask() -> dict[str, Any]:
            recording = _known(self._source.recording(viewer.sight, job_id))
            return {"recording": recording, "row": recording.row, "life": _life(recording.life)}

        may_listen = viewer.may(Role.LISTEN)
        return await self._show(request, viewer, "recording.html", "", ask, may_listen=may_listen)

    async def words(self, request: Request) -> Response:
        viewer, job_id = self._site.require(request, Role.LISTEN), request.path_params["id"]

        def ask() -> Sequence[_Spoken]:
            recording = _known(self._source.recording(viewer.sight, job_id))
            return _spoken(_known(self._source.words(viewer.sight, job_id)), recording.suspects)

        lines = await self._site.in_thread(ask)
        await self._site.audit(request, "words_seen", job_id)
        if request.query_params.get("part") == "lines":
            return rendering.page(request, "lines.html", lines=lines, id=job_id)
        return await self._show(request, viewer, "words.html", "", dict, lines=lines, id=job_id)

    # ---- parts of a recording --------------------------------------------------------------------------

    async def sound(self, request: Request) -> Response:
        viewer, job_id = self._site.require(request, Role.LISTEN), request.path_params["id"]
        sound = _known(await self._site.in_thread(lambda: self._source.sound(viewer.sight, job_id)))
        headers = {"Accept-Ranges": "bytes", "Content-Type": sound.mime_type}
        # Of a HEAD request a server must ignore it (RFC 9110, 14.2).
        asked = "" if request.method == "HEAD" else request.headers.get("range", "")
        wanted = _range(asked, sound.size_bytes)
        if wanted is None:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{sound.size_bytes}"})
        start, end, is_part = wanted
        if is_part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{sound.size_bytes}"
        headers["Content-Length"] = str(end - start)
        if request.method == "HEAD":
            return Response(status_code=200, headers=headers)
        listener = viewer.name, self._site.address(request), job_id
        heard = self._listened.get(listener, -math.inf)
        if time.monotonic() - heard > _LISTENING_SECONDS:  # browsers read it in many pieces
            await self._site.audit(request, "sound_played", job_id)
        self._listens(listener)
        return StreamingResponse(sound.read(start, end), 206 if is_part else 200, headers)

    def _listens(self, listener: tuple[str, str, str]) -> None:
        self._listened.pop(listener, None)
        while len(self._listened) >= _MOST_LISTENERS:  # the first is the one that was heard longest ago
            del self._listened[next(iter(self._listened))]
        self._listened[listener] = time.monotonic()

    async def loudness(self, request: Request) -> Response:
        viewer, job_id = self._site.require(request, Role.LISTEN), request.path_params["id"]

        def ask() -> Sequence[float]:
            found = self._source.loudness(viewer.sight, job_id)
            if found is None:  # there is no such recording, or nothing can be heard in it
                _known(self._source.recording(viewer.sight, job_id))
            return found or ()

        return JSONResponse([round(value, 3) for value in await self._site.in_thread(ask)])

    async def document(self, request: Request) -> Response:
        viewer, job_id = self._site.require(request, Role.LISTEN), request.path_params["id"]
        name = _last_segments(request, "/documents/")
        document = _known(
            await self._site.in_thread(lambda: self._source.document(viewer.sight, job_id, name))
        )
        await self._site.audit(request, "document_downloaded", job_id, document=document.name)
        shown = f"attachment; filename*=UTF-8''{quote(visible(document.name), safe='')}"
        headers = {"Content-Disposition": shown, "Content-Type": document.mime_type}
        return Response(document.content, headers=headers)

    # ---- actions ---------------------------------------------------------------------------------------

    async def retry(self, request: Request) -> Response:
        viewer, job_id = self._site.require(request, Role.ACT), request.path_params["id"]
        back = _back(await self._site.form(request), job_id)
        record = self._site.recorder(request, "retried", job_id)
        return await self._act(
            request, viewer, back, lambda: self._source.retry(viewer.sight, job_id, record)
        )

    async def send_again(self, request: Request) -> Response:
        viewer, job_id = self._site.require(request, Role.ACT), request.path_params["id"]
        target = _last_segments(request, "/targets/").removesuffix("/send")
        back = _back(await self._site.form(request), job_id)
        record = self._site.recorder(request, "sent_again", job_id, target=target)
        return await self._act(
            request, viewer, back, lambda: self._source.send_again(viewer.sight, job_id, target, record)
        )

    async def _act(self, request: Request, viewer: Viewer, back: str, act: Callable[[], Done]) -> Response:
        """Do it, and go back to where it was asked for; or say why it was not done."""
        job_id = request.path_params["id"]
        _known(await self._site.in_thread(lambda: self._source.recording(viewer.sight, job_id)))
        try:
            done = await self._site.in_thread(act)
        except JournalError:
            raise
        except InvoxError as error:
            return render(
                request,
                "error.html",
                status_code=409,
                status=409,
                reason=error.reason,
                viewer=viewer,
                back=back,
            )
        return RedirectResponse(f"{back}?did={done}", status_code=303)

    async def _show(
        self,
        request: Request,
        viewer: Viewer,
        template: str,
        here: str,
        ask: Callable[[], Mapping[str, Any]],
        **context: Any,
    ) -> Response:
        """A page with what `ask` returns; the health is on all of them."""
        health, found = await self._site.in_thread(lambda: (self._source.health(), ask()))
        return rendering.page(
            request,
            template,
            viewer=viewer,
            token=self._site.form_token(request),
            can_sign_out=self._site.can_sign_out(request),
            may_act=viewer.may(Role.ACT),
            here=here,
            health=health,
            notice=_notice(request),
            **found,
            **context,
        )


# ---- what the templates are given --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """Steps of the same kind that followed one another, and how long until the next one; None: the last."""

    state: State
    at: datetime
    times: int
    seconds: float | None


@dataclass(frozen=True)
class _Spoken:
    """A line of the transcript; or, with a `doubt`, a place where one may be missing."""

    start: float
    end: float
    speaker: str = ""  # empty if it is the one of the line before
    text: str = ""
    doubt: str = ""


def _life(moments: Sequence[Moment]) -> Sequence[_Step]:
    runs: list[list[Moment]] = []
    for moment in moments:
        if runs and runs[-1][0].state is moment.state:
            runs[-1].append(moment)
        else:
            runs.append([moment])
    following = [run[0].at for run in runs[1:]]
    seconds = [
        max((then - run[0].at).total_seconds(), 0.0) for run, then in zip(runs, following, strict=False)
    ]
    return [
        _Step(run[0].state, run[0].at, len(run), after)
        for run, after in zip(runs, [*seconds, None], strict=False)
    ]


def _spoken(lines: Sequence[Line], doubts: Sequence[Stretch]) -> Sequence[_Spoken]:
    """The lines with the doubts where they belong, by time."""
    found = [_Spoken(one.start, one.end, doubt=one.reason) for one in doubts]
    speaker = ""
    for line in lines:
        found.append(
            _Spoken(line.start, line.end, line.speaker if line.speaker != speaker else "", line.text)
        )
        speaker = line.speaker
    return sorted(found, key=lambda one: one.start)


def _explained(t: Words, status: int) -> tuple[str, str]:
    """The title of an error page, and what to do."""
    texts = {
        401: (t("Not signed in"), t("Sign in to see this page.")),
        403: (
            t("Not allowed"),
            t("Your account may not do this. If the page was open for long, reload it and try again."),
        ),
        404: (t("Not found"), t("There is no such page or recording, or you may not see it.")),
        409: (t("That did not work"), t("Nothing was changed.")),
        429: (t("Too many attempts"), t("Wait a minute, then try again.")),
        500: (t("Something went wrong"), t("Try again. If it fails again, tell your administrator.")),
        503: (t("Not available right now"), t("No recording is lost. This page tries again by itself.")),
    }
    return texts.get(status, (t("That is not possible"), t("Go back and try again.")))


def _notice(request: Request) -> Markup | None:
    """What was done by the form that led here."""
    text = NOTICES.get(request.query_params.get("did", ""))
    return None if text is None else rendering.words_for(request)(text)


# ---- what is asked for -------------------------------------------------------------------------------------


def _known(value: _T | None) -> _T:
    if value is None:
        raise HTTPException(404)
    return value


def _back(form: Mapping[str, str], job_id: str) -> str:
    """The page with the form."""
    return "/needs" if form.get("back") == "needs" else f"/recordings/{quote(job_id, safe='')}"


def _number(text: str, otherwise: int, lowest: int, highest: int) -> int:
    try:
        return min(max(int(text[:9]), lowest), highest)
    except ValueError:
        return otherwise


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _find_url(asked: Mapping[str, str], rows: int, after: str = "") -> str:
    """The address of a page of what was looked for."""
    kept = {key: asked[key] for key in ("text", "day", "zone", "state", "suspect") if asked.get(key)}
    if rows != _ROWS:
        kept["rows"] = str(rows)
    if after:
        kept["after"] = after
    return f"/find?{urlencode(kept)}"


def _last_segments(request: Request, behind: str) -> str:
    """What follows in the path, by its bytes: they need not be UTF-8."""
    path: bytes = request.scope.get("raw_path") or quote(request.url.path).encode()
    return os.fsdecode(unquote_to_bytes(path.partition(b"?")[0].partition(behind.encode())[2]))


def _range(header: str, size: int) -> tuple[int, int, bool] | None:
    """What a Range header asks for: from, up to, and whether it is a part; None if there is no such part.

    Several ranges at once, and other units, are answered with all of it, as RFC 9110 (14.2) allows.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return 0, size, False
    if not match[1]:
        start, end = max(size - int(match[2]), 0), size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
    return (start, end, True) if start < end else None
