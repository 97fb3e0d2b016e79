"""What is sent to open pages while something changes: server-sent events, from one poller for all browsers.

- `changed`: what is shown may have changed. At most once a second.
- `health`: when connected, and when it has changed.
- `signed-out`: the session has ended; the stream ends.
- `here`: nothing has happened for a while. A page that hears nothing for `SILENCE_SECONDS` has lost its
  connection.

Each but the last is a reason to ask for the page again, and says nothing more.

A browser opens few connections to one host (six by HTTP/1.1), so a page that is not visible should close its
own. The answer is 401 without a viewer, 503 if too many streams are open. `EventSource` then gives up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from invox_watcher.errors import InvoxError
from invox_watcher.events import Event, log
from invox_watcher.logs import where
from invox_watcher.page.access import Access, Identity
from invox_watcher.page.model import Health, Source

if TYPE_CHECKING:
    from invox_watcher.page.app import Site

_POLL_SECONDS = 1.0
_HEALTH_SECONDS = 4.0
_HEARTBEAT_SECONDS = 15.0
SILENCE_SECONDS = 2 * _HEARTBEAT_SECONDS + 5
_MAX_STREAMS = 400
_MAX_OF_VIEWER = 200


@dataclass(eq=False)
class _Listener:
    """One open page."""

    identity: Identity
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Live:
    """The open pages, and the poller that runs while there are any. For one event loop."""

    def __init__(self, source: Source, access: Access) -> None:
        self._source, self._access = source, access
        self._listeners: set[_Listener] = set()
        self._poller: asyncio.Task[None] | None = None
        self._changes = 0
        self._health: Health | None = None
        self._closed = False

    def route(self, site: Site) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of /live."""

        async def live(request: Request) -> Response:
            name = site.viewer(request).name
            of_viewer = sum(one.identity.viewer.name == name for one in self._listeners)
            if self._closed or len(self._listeners) >= _MAX_STREAMS or of_viewer >= _MAX_OF_VIEWER:
                raise HTTPException(503)
            if request.method == "HEAD":
                return Response(media_type="text/event-stream")
            return StreamingResponse(
                self._stream(request, site),
                media_type="text/event-stream",
                headers={"X-Accel-Buffering": "no"},  # nginx would collect the events
            )

        return live

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._wake()

    async def _stream(self, request: Request, site: Site) -> AsyncIterator[str]:
        listener = _Listener(request.state.identity)
        self._listeners.add(listener)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(site))
        seen, shown = self._changes, None
        try:
            yield "retry: 3000\n\n"
            while not self._closed:
                listener.woken.clear()  # first: what comes from here on is seen in the next turn
                if not self._is_current(listener):
                    yield _event("signed-out")
                    return
                if self._health is not None and self._health != shown:
                    shown = self._health
                    yield _event("health")
                if self._changes != seen:
                    seen = self._changes
                    yield _event("changed")
                if not await _is_set(listener.woken, _HEARTBEAT_SECONDS):
                    yield _event("here")
        finally:
            self._listeners.discard(listener)

    def _is_current(self, listener: _Listener) -> bool:
        try:
            return self._access.is_current(listener.identity)
        except InvoxError:  # the users file can't be read: no one is known
            return False

    async def _poll(self, site: Site) -> None:
        """Ask the source as long as a page is open."""
        last: int | None = None
        health_due = 0.0
        began = True
        # The first event comes after the first count: between that and what a page shows, nothing is missed.
        self._health = None
        while self._listeners and not self._closed:
            now = await self._changes_of(site)
            is_news = now != last and not began
            last, began = now, False
            if time.monotonic() >= health_due:
                health = await self._health_of(site)
                health_due = time.monotonic() + _HEALTH_SECONDS
                is_news_of_health, self._health = health != self._health, health
            else:
                is_news_of_health = False
            if is_news:
                self._changes += 1
            if is_news or is_news_of_health:
                self._wake()
            for listener in self._listeners:
                if not self._is_current(listener):
                    listener.woken.set()
            await asyncio.sleep(_POLL_SECONDS)

    async def _changes_of(self, site: Site) -> int | None:
        """None while it can't be found out, which is shown as well."""
        try:
            return await site.in_thread(self._source.changes)
        except InvoxError:
            return None
        except Exception as error:  # noqa: BLE001 - the poller continues
            log.error(Event.INTERNAL_ERROR, thread="page", error=where(error))
            return None

    async def _health_of(self, site: Site) -> Health:
        try:
            return await site.in_thread(self._source.health)
        except InvoxError as error:
            return Health(running=False, ready=False, since=None, unknown_because=error.message)
        except Exception as error:  # noqa: BLE001
            log.error(Event.INTERNAL_ERROR, thread="page", error=where(error))
            return Health(running=False, ready=False, since=None, unknown_because="It could not be asked.")

    def _wake(self) -> None:
        for listener in self._listeners:
            listener.woken.set()


async def _is_set(event: asyncio.Event, timeout_seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
    return event.is_set()


def _event(name: str) -> str:
    return f"event: {name}\ndata: {{}}\n\n"  # without data, browsers would ignore it
