"""uvicorn with limits: its HTTP protocol would wait forever for a head, or for an answer to be read."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from email.utils import formatdate

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

STOP_SECONDS = 2
_MAX_CONNECTIONS = 512
_QUEUE = 128
_CHECK_SECONDS = 10.0
_CHECKS_OF_ONE_REQUEST = 6


class BoundedH11Protocol(H11Protocol):
    """Drops connections that are idle or stuck, and those that are too many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._last_cycle: object = None
        self._checks = 0
        self._next_check = self.loop.call_later(_CHECK_SECONDS, self._drop_if_stuck)
        if len(self.connections) > _MAX_CONNECTIONS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self.server_state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_check.cancel()
        super().connection_lost(exc)

    def _drop_if_stuck(self) -> None:
        """Drop a connection that has been idle since the last check, and one whose request never ends."""
        waiting = self.cycle is None or self.cycle.response_complete
        is_same = self.cycle is self._last_cycle
        self._checks = self._checks + 1 if is_same and not self.makes_progress() else 0
        if (waiting and is_same) or self._checks >= _CHECKS_OF_ONE_REQUEST:
            self.transport.abort()
            return
        self._last_cycle = self.cycle
        self._next_check = self.loop.call_later(_CHECK_SECONDS, self._drop_if_stuck)

    def makes_progress(self) -> bool:
        """Whether a request that has lasted since the last check may last for another while: here never."""
        return False


class BoundedServer(uvicorn.Server):
    """Serves within limits, without a log of its own, and believes no proxy's header.

    It stops at once, and is nearly free while idle: uvicorn looks ten times a second whether it is to stop.
    """

    def __init__(self, app: ASGIApp, protocol: type[BoundedH11Protocol] = BoundedH11Protocol) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,  # the protocol's
                proxy_headers=False,
                backlog=_QUEUE,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Stop it: from any thread, or from a handler of signals."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def main_loop(self) -> None:
        """Until it is to stop; replaces uvicorn's, which wakes ten times a second."""
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            await self._stopping.wait()
