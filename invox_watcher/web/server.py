"""The daemon's HTTP server, a small ASGI app: webhooks, metrics, liveness, readiness.

Listens on `http.listen`, behind a web server with TLS if the internet may reach it. Answers name problems by
code and sentence, never a recording or a secret, and every webhook that is not accepted gets the same answer.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from invox_watcher.errors import InvoxError
from invox_watcher.events import Event, log
from invox_watcher.invox import MAX_BODY_BYTES, Receiver, only_tests
from invox_watcher.web.listening import listen_on
from invox_watcher.web.metrics import CONTENT_TYPE as METRICS_TYPE
from invox_watcher.web.metrics import WebhookAnswer
from invox_watcher.web.protocol import STOP_SECONDS, BoundedServer

_BODY_SECONDS = 10.0
_ALL_BODIES_BYTES = 32 << 20


@dataclass(frozen=True)
class Answers:
    """What the daemon reports about itself, asked at each request, without names of recordings."""

    problems: Callable[[], Mapping[str, str]]  # what keeps recordings from going through now: code → sentence
    warnings: Callable[[], Mapping[str, str]]  # what needs a person although they go through: the same
    unavailable_targets: Callable[[], Mapping[str, str]]  # those that take no deliveries: name → sentence
    due: Callable[[], Mapping[str, float]]  # in how many seconds each job's next step is due, by job id
    status: Callable[[], Mapping[str, Any]]  # what the command `status` shows; may take a moment
    waiting: Callable[[], Sequence[Mapping[str, Any]]]  # what `inbox` shows; may take a moment
    exposition: Callable[[], bytes]  # the text of /metrics; may take a second


def create_app(
    answers: Answers, receiver: Receiver | None, on_webhook: Callable[[WebhookAnswer], None]
) -> Starlette:
    """The app. Without a `receiver` there is no /webhook; `on_webhook` gets each answer to one."""

    async def healthz(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> JSONResponse:
        found = dict(answers.problems())
        status = "ready" if not found else "not ready"
        body: dict[str, object] = {"status": status, "problems": found}
        if noted := dict(answers.warnings()):
            body["warnings"] = noted
        if away := dict(answers.unavailable_targets()):
            body["targets"] = away
        return JSONResponse(body, status_code=503 if found else 200)

    async def next_steps(_request: Request) -> JSONResponse:
        return JSONResponse(
            {"due_seconds": {job_id: round(left, 1) for job_id, left in answers.due().items()}}
        )

    async def whole_status(_request: Request) -> Response:
        return await _json_of(answers.status)

    async def inbox(_request: Request) -> Response:
        return await _json_of(lambda: {"waiting": answers.waiting()})

    routes = [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/due", next_steps),
        Route("/status", whole_status),
        Route("/inbox", inbox),
        Route("/metrics", _metrics(answers.exposition)),
    ]
    if receiver is not None:
        routes.append(Route("/webhook", _webhook(receiver, on_webhook), methods=["POST"]))
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False  # a redirect would go to whatever host the sender names
    return app


async def _json_of(answer: Callable[[], Any]) -> Response:
    body = await run_in_threadpool(lambda: json.dumps(answer()).encode())
    return Response(body, media_type="application/json")


def _metrics(exposition: Callable[[], bytes]) -> Callable[[Request], Any]:
    # However many scrapes come, all threads but one are left for webhooks.
    one_at_a_time = asyncio.Lock()

    async def metrics(_request: Request) -> Response:
        async with one_at_a_time:
            return Response(await run_in_threadpool(exposition), media_type=METRICS_TYPE)

    return metrics


def _webhook(receiver: Receiver, on_webhook: Callable[[WebhookAnswer], None]) -> Callable[[Request], Any]:
    bodies = _Bodies()

    async def webhook(request: Request) -> Response:
        with bodies.read(request) as reading:
            body = await reading
            notice = receiver.read(body) if body is not None else None
        if notice is not None:
            try:
                # On disk before the sender gets an answer upon which it may forget it.
                if await run_in_threadpool(receiver.take, notice):
                    on_webhook("taken")
                    return JSONResponse({"status": "taken"})
            except Exception as error:  # noqa: BLE001 - uvicorn's own word on it is not for our log
                what = error.message if isinstance(error, InvoxError) else type(error).__name__
                log.error(Event.WEBHOOK_NOT_STORED, error=what)
                on_webhook("not_stored")
                return JSONResponse({"status": "try again"}, status_code=503)
        if only_tests(body):  # ignored, but some senders only send results after a 2xx
            on_webhook("tested")
            return JSONResponse({"status": "nothing to take"})
        receiver.refused(body)
        on_webhook("refused")
        # One answer for malformed, forged, too large, too slow and unknown: it reveals nothing.
        return JSONResponse({"status": "refused"}, status_code=403)

    return webhook


class _Bodies:
    """Reads bodies, and limits how many bytes they hold in total. For one event loop."""

    def __init__(self) -> None:
        self._held_bytes = 0

    @contextmanager
    def read(self, request: Request) -> Iterator[Awaitable[bytes | None]]:
        """The body, to be awaited inside; None if it is too large or too slow, or there are too many."""
        body = bytearray()
        try:
            yield self._read(request, body)
        finally:
            self._held_bytes -= len(body)

    async def _read(self, request: Request, body: bytearray) -> bytes | None:
        # What is too large is read to its end and dropped: a sender that is cut off would not see the answer.
        refused = False
        with suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(_BODY_SECONDS):
                async for block in request.stream():
                    refused = refused or (
                        len(body) + len(block) > MAX_BODY_BYTES
                        or self._held_bytes + len(block) > _ALL_BODIES_BYTES
                    )
                    if not refused:
                        body += block
                        self._held_bytes += len(block)
                return None if refused else bytes(body)
        return None


class Server:
    """The app on its socket, in a thread of its own."""

    def __init__(self, app: Starlette, host: str, port: int, *, on_crash: Callable[[], None]) -> None:
        """Bind at once, so that a port that is in use is a clear error at the start.

        `on_crash` is called if the server ends without having been stopped.

        Raises:
            FolderError: the address can't be listened on.
        """
        self._socket = listen_on(
            host,
            port,
            key="http.listen",
            hint="Choose another port, or turn the server off by http.listen: null.",
        )
        self._server = BoundedServer(app)
        self._on_crash = on_crash
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    def start(self) -> None:
        """Start answering."""
        self._socket.listen()  # from here on no connection is refused, even if the thread starts late
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
        self._server.stop()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS + 1)
        self._socket.close()
