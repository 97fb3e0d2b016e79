"""The page as an ASGI app: who looks, what every answer carries, and what is said when something fails.

What a page shows is drawn by `Views`, which is the module `pages`; nothing here knows a recording.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, quote

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from invox_watcher.accounts import Role, UsersFileError
from invox_watcher.errors import InvoxError, Reason
from invox_watcher.events import Event, log
from invox_watcher.logs import where
from invox_watcher.page.access import Access, Identity
from invox_watcher.page.live import Live
from invox_watcher.page.model import Source, Viewer
from invox_watcher.page.record import Record
from invox_watcher.page.signing_in import path_within, sign_in_routes

_T = TypeVar("_T")

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: with that, browsers send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_ASKED_AGAIN = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>…</title><meta http-equiv="refresh" content="0;url={0}">
<a href="{0}">…</a></html>
"""
_STATIC = "/static/"
_PUBLIC = ("/sign-in", _STATIC)  # shown to anyone
_FORM_TYPE = "application/x-www-form-urlencoded"
_MAX_FORM_BYTES = 16 << 10
_FORM_SECONDS = 10.0
_THREADS = 24
_CALL_SECONDS = 25.0

UNKNOWN_USERS = Reason(
    "users_file",
    "Who may see this page can't be found out at the moment.",
    "Tell your administrator: the reason is in the log.",
)
BUSY = Reason(
    "page_busy",
    "This could not be found out in time.",
    "Try again in a minute. A folder, the disk or the database may hang.",
)


class Views(Protocol):
    """What draws the pages: the module `pages`."""

    def routes(self, site: Site) -> Sequence[BaseRoute]:
        """The routes of everything but signing in and `/live`, `/static/…` included."""

    def render(self, request: Request, name: str, /, *, status_code: int = 200, **context: Any) -> Response:
        """The template `name` in the language of the request. Those that `app` and `signing_in` use:

        `error.html`: `status` (400, 401, 403, 404, 405, 429, 500 or 503) and `reason`, a `Reason` or None.
        `sign-in.html`: `next` (a hidden field), `name` (what was typed), `failure`: empty, `wrong`
        (name or password) or `slow` (too many attempts; `wait_seconds` says how long).
        Its form is posted to /sign-in with the fields `name`, `password` and `next`.
        """


class Site:
    """What the routes have in common."""

    def __init__(self, source: Source, access: Access, record: Record) -> None:
        self.source = source
        self._access, self._record = access, record
        # One that a hanging disk keeps does not come back, so there is an end to how many there are.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="page")

    def viewer(self, request: Request) -> Viewer:
        """Who looks."""
        return self._identity(request).viewer

    def address(self, request: Request) -> str:
        """From where the viewer looks: the browser's IP address, or `unix`."""
        return self._identity(request).address

    def is_signed_in(self, request: Request) -> bool:
        """Whether it is known who looks; on the sign-in page and on some errors it is not."""
        return getattr(request.state, "identity", None) is not None

    def can_sign_out(self, request: Request) -> bool:
        """Whether there is a session that can be ended: not for those whom a proxy names."""
        return self.is_signed_in(request) and self._identity(request).session is not None

    def require(self, request: Request, role: Role) -> Viewer:
        """Who looks, if that viewer has this role.

        Raises:
            HTTPException: 403, the viewer has not.
        """
        viewer = self.viewer(request)
        if not viewer.may(role):
            raise HTTPException(403)
        return viewer

    async def audit(self, request: Request, what: str, job_id: str, **facts: Any) -> None:
        """Record a look; to be awaited before anything is shown.

        Raises:
            JournalError: it can't be recorded, so that nothing may be shown.
        """
        await self.in_thread(self.recorder(request, what, job_id, **facts))

    def recorder(self, request: Request, what: str, job_id: str, **facts: Any) -> Callable[[], None]:
        """What records an action; to be called, in a thread, just before it is done.

        It raises JournalError if it can't be recorded, so that nothing may be done.
        """
        identity = self._identity(request)
        name, address = identity.viewer.name, identity.address
        return lambda: self._record.write(what, job_id, viewer=name, address=address, **facts)

    def form_token(self, request: Request) -> str:
        """What a form must carry as the hidden field `token`; empty without a viewer."""
        return self._access.form_token(self._identity(request)) if self.is_signed_in(request) else ""

    async def form(self, request: Request) -> Mapping[str, str]:
        """The fields of a form that this viewer got from here.

        Raises:
            HTTPException: 400 not a form; 403 not one of ours.
        """
        fields = await read_form(request)
        if not self._access.is_own_form(self._identity(request), fields.get("token", "")):
            raise HTTPException(403, "form")
        return fields

    async def in_thread(self, call: Callable[[], _T]) -> _T:
        """What `call` returns, called in a thread.

        Raises:
            InvoxError: it took too long (code `page_busy`); or whatever `call` raises.
        """
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except TimeoutError:
            raise InvoxError(BUSY.message, code=BUSY.code, hint=BUSY.hint) from None

    def _identity(self, request: Request) -> Identity:
        identity: Identity | None = getattr(request.state, "identity", None)
        if identity is None:
            raise HTTPException(401)
        return identity


async def read_form(request: Request) -> dict[str, str]:
    """The fields of an urlencoded form; of a field that comes twice, the last.

    Raises:
        HTTPException: 400, it is too large or too slow, or something else.
    """
    body = bytearray()
    if request.headers.get("content-type", "").partition(";")[0].strip() != _FORM_TYPE:
        raise HTTPException(400)
    try:
        async with asyncio.timeout(_FORM_SECONDS):
            async for block in request.stream():
                body += block
                if len(body) > _MAX_FORM_BYTES:
                    raise HTTPException(400)
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=50, errors="strict")
    except (TimeoutError, ClientDisconnect, ValueError):
        raise HTTPException(400) from None
    return dict(pairs)


def create_app(site: Site, access: Access, live: Live, views: Views) -> ASGIApp:
    """The app; to be served by a server that gives `client` as it is, without any proxy's header."""

    def failed(request: Request, status: int, reason: Reason | None = None) -> Response:
        try:
            return views.render(request, "error.html", status_code=status, status=status, reason=reason)
        except Exception as error:  # noqa: BLE001 - then without the template
            log.error(Event.INTERNAL_ERROR, thread="page", error=where(error))
            return PlainTextResponse("The page can't be shown. See the log.", status_code=500)

    async def on_status(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - the type that this is registered for
        response = failed(request, error.status_code)
        response.headers.update(error.headers or {})
        return response

    async def on_refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, InvoxError)  # noqa: S101
        # Anyone may see this: where the file is, and what it says, is for the log only.
        is_of_users = isinstance(error, UsersFileError)
        return failed(request, 503, UNKNOWN_USERS if is_of_users else error.reason)

    async def on_defect(request: Request, error: Exception) -> Response:
        log.error(Event.INTERNAL_ERROR, thread="page", error=where(error))
        return failed(request, 500)

    routes = [
        *sign_in_routes(access, views.render, read_form),
        Route("/live", live.route(site)),
        *views.routes(site),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: on_status, InvoxError: on_refusal},
    )
    app.router.redirect_slashes = False
    return _Guard(app, access, failed, on_defect)


class _Guard:
    """Finds out who looks before anything else, and gives every answer its headers, whatever it is."""

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        failed: Callable[..., Response],
        on_defect: Callable[[Request, Exception], Any],
    ) -> None:
        self._app, self._access = app, access
        self._failed, self._on_defect = failed, on_defect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        scope.setdefault("state", {})
        began = False

        async def with_headers(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                _add_headers(scope, message)
            await send(message)

        request = Request(scope, receive)
        try:
            answer = self._stopped(scope, request) or self._app
            await answer(scope, receive, with_headers)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - its text may quote a name or words
            if began:  # too late for another answer: the connection is cut, and the reader sees that
                log.error(Event.INTERNAL_ERROR, thread="page", error=where(error))
                raise ConnectionResetError from None
            response = await self._on_defect(request, error)
            await response(scope, receive, with_headers)

    def _stopped(self, scope: Scope, request: Request) -> Response | None:
        """The answer to a request that goes no further; None if it goes on to its route."""
        peer = self._access.peer(scope)
        scope["headers"] = peer.headers
        scope["state"]["peer"] = peer
        if request.method not in ("GET", "HEAD") and not _is_from_here(Headers(scope=scope)):
            return self._failed(request, 403)
        path = scope["path"]
        if path.startswith(_STATIC):
            return None
        try:
            identity = self._access.identify(peer, is_activity=not _is_by_itself(request))
        except UsersFileError:
            return self._failed(request, 503, UNKNOWN_USERS)
        scope["state"]["identity"] = identity
        if path.startswith(_PUBLIC):
            return None
        if identity is None:
            return self._not_signed_in(request)
        if not identity.viewer.may(Role.SEE):
            return self._failed(request, 403)
        return None

    def _not_signed_in(self, request: Request) -> Response:
        if _is_by_itself(request) or request.method != "GET" or not self._access.has_passwords:
            return self._failed(request, 401)
        # Not `request.url`, which believes the Host header.
        wanted = request.scope["raw_path"].decode("ascii", "replace")
        if query := request.scope["query_string"].decode("ascii", "replace"):
            wanted += f"?{query}"
        if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            # By a link elsewhere: browsers keep the cookie back (SameSite=Strict) until our own page asks.
            return HTMLResponse(_ASKED_AGAIN.format(html.escape(path_within(wanted))))
        return RedirectResponse(f"/sign-in?next={quote(wanted, safe='')}", status_code=303)


def _is_by_itself(request: Request) -> bool:
    """Whether an open page asks, to update itself, and not a person."""
    return request.scope["path"] == "/live" or "part" in request.query_params


def _add_headers(scope: Scope, message: Message) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in _HEADERS.items():
        headers[name] = value
    if not (scope["path"].startswith(_STATIC) and message["status"] in (200, 304)):
        headers["Cache-Control"] = "no-store"


def _is_from_here(headers: Headers) -> bool:
    """Whether a browser says that a page of this site sent the request; other programs say nothing."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is None:
        return True
    _scheme, _, host = origin.partition("://")
    return bool(host) and host.lower() == headers.get("host", "").lower()


__all__ = ["BUSY", "Site", "Views", "create_app", "read_form"]
