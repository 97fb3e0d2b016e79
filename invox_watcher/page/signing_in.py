"""Signing in with name and password, and signing out."""

from __future__ import annotations

import asyncio
import math
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from invox_watcher.accounts import UsersFileError, is_user_name, same_name
from invox_watcher.events import Event, log
from invox_watcher.page.access import Access, Identity, SignedIn, cookie_name
from invox_watcher.page.peers import Peer

_AT_ONCE = 2  # passwords that are checked: each takes a quarter of a second of a core
_QUEUE_SECONDS = 10.0

ReadForm = Callable[[Request], Awaitable[Mapping[str, str]]]


class Render(Protocol):
    """Draws a template: `Views.render`."""

    def __call__(
        self, request: Request, name: str, /, *, status_code: int = 200, **context: Any
    ) -> Response: ...


def sign_in_routes(access: Access, render: Render, read_form: ReadForm) -> list[Route]:
    """/sign-in and /sign-out."""
    signing_in = _SigningIn(access, render, read_form)
    return [
        Route("/sign-in", signing_in.ask, methods=["GET"]),
        Route("/sign-in", signing_in.sign_in, methods=["POST"]),
        Route("/sign-out", signing_in.sign_out, methods=["POST"]),
    ]


class _SigningIn:
    def __init__(self, access: Access, render: Render, read_form: ReadForm) -> None:
        self._access, self._render, self._read_form = access, render, read_form
        self._checks = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="password")

    async def ask(self, request: Request) -> Response:
        """The form."""
        following = path_within(request.query_params.get("next", ""))
        if request.state.identity is not None:
            return RedirectResponse(following, status_code=303)
        return self._form(request, 200, following=following)

    async def sign_in(self, request: Request) -> Response:
        """Begin a session, and go on to where the viewer wanted to go."""
        fields = await self._read_form(request)
        name = unicodedata.normalize("NFC", fields.get("name", "").strip())
        following = path_within(fields.get("next", ""))
        peer: Peer = request.state.peer
        # Attempts count by the name that is looked up, and all names that no user can have as one.
        looked_up = same_name(name)
        counted = looked_up if is_user_name(looked_up) else ""
        wait = self._access.attempts.begin(counted, peer.address)
        if wait == 0:
            try:
                signed_in = await self._check(name, fields.get("password", ""))
            except UsersFileError:
                self._access.attempts.withdraw(counted, peer.address)
                raise
            except TimeoutError:
                wait = _QUEUE_SECONDS
        if wait > 0:
            log.warning(Event.PAGE_SIGN_IN_REFUSED, address=peer.address, code="too_many")
            return self._form(
                request, 429, following=following, name=name, failure="slow", wait_seconds=math.ceil(wait)
            )
        if signed_in is None:
            # Without the name: some people type the password there.
            log.warning(Event.PAGE_SIGN_IN_REFUSED, address=peer.address, code="wrong")
            return self._form(request, 403, following=following, name=name, failure="wrong")
        self._access.attempts.succeeded(counted, peer.address)
        if request.state.identity is not None:
            self._access.sign_out(request.state.identity)
        log.info(Event.PAGE_SIGNED_IN, viewer=signed_in.name, address=peer.address)
        response = RedirectResponse(following, status_code=303)
        response.set_cookie(cookie_name(peer), signed_in.session_id, **_attributes(peer))
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        identity: Identity | None = request.state.identity
        if identity is None:
            return RedirectResponse("/sign-in", status_code=303)
        if not self._access.is_own_form(identity, (await self._read_form(request)).get("token", "")):
            raise HTTPException(403, "form")
        self._access.sign_out(identity)
        response = RedirectResponse("/sign-in" if identity.session is not None else "/", status_code=303)
        response.delete_cookie(cookie_name(request.state.peer), **_attributes(request.state.peer))
        return response

    async def _check(self, name: str, password: str) -> SignedIn | None:
        call = partial(self._access.sign_in, name, password)
        async with asyncio.timeout(_QUEUE_SECONDS):
            return await asyncio.get_running_loop().run_in_executor(self._checks, call)

    def _form(
        self,
        request: Request,
        status: int,
        *,
        following: str,
        name: str = "",
        failure: str = "",
        wait_seconds: int = 0,
    ) -> Response:
        if not self._access.has_passwords:
            raise HTTPException(401)
        response = self._render(
            request,
            "sign-in.html",
            status_code=status,
            next=following,
            name=name,
            failure=failure,
            wait_seconds=wait_seconds,
        )
        if wait_seconds:
            response.headers["Retry-After"] = str(wait_seconds)
        return response


def path_within(text: str) -> str:
    """`text` if it is a path of this site to come back to, else `/`: never another site."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    is_path = text.startswith("/") and not text.startswith("//") and not parts.scheme and not parts.netloc
    if not is_path or "\\" in text or not text.isascii() or not text.isprintable() or " " in text:
        return "/"
    return "/" if parts.path in ("/sign-in", "/sign-out", "/live") else text


def _attributes(peer: Peer) -> dict[str, Any]:
    return {"path": "/", "httponly": True, "samesite": "strict", "secure": peer.is_https}
