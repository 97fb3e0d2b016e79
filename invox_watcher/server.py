"""The daemon's one small ASGI app: is it alive, and could a recording go through now?

Listens on `http.listen`, for a monitor or a load balancer. Answers say what is wrong in a code and a
sentence, never a name or a secret.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from invox_watcher.errors import FolderError
from invox_watcher.events import Event, log

_STOP_SECONDS = 2
_QUEUE = 128


def create_app(*, problems: Callable[[], Mapping[str, str]]) -> Starlette:
    """The app. `problems` says what stands in the way now: code → sentence, empty where nothing does."""

    async def healthz(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> JSONResponse:
        found = dict(problems())
        status = "ready" if not found else "not ready"
        return JSONResponse({"status": status, "problems": found}, status_code=503 if found else 200)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz)])


class Server:
    """The app on its socket, in a thread of its own."""

    def __init__(self, app: Starlette, host: str, port: int, *, on_crash: Callable[[], None]) -> None:
        """Bind at once, so that a port that is taken is a clear error at the start.

        `on_crash` is called when the server ends without having been stopped.

        Raises:
            FolderError: the address can't be listened on.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise FolderError(
                f"http.listen: can't listen on {host}:{port}: {error.strerror}",
                code="listen",
                hint="Choose another port, or set http.listen to null to have none.",
            ) from None
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", backlog=_QUEUE,
            timeout_graceful_shutdown=_STOP_SECONDS, server_header=False,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._on_crash = on_crash
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        host, port = self._socket.getsockname()[:2]
        log.info(Event.LISTENING, address=f"{host}:{port}")

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            if not self._server.should_exit:
                log.error(Event.THREAD_DIED, thread="server")
                self._on_crash()

    def stop(self) -> None:
        """Stop answering."""
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS + 1)
        self._socket.close()
