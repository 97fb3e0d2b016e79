"""The sandbox as an ASGI application: the vendor's routes behind the faults, and the control routes."""

from __future__ import annotations

import functools
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from invox_watcher.sandbox import effects, faults, replies
from invox_watcher.sandbox.api import Api, RefusedError, read_body
from invox_watcher.sandbox.ledger import Count, Ledger
from invox_watcher.sandbox.recognition import Recognition
from invox_watcher.sandbox.settings import ReplyShape, SandboxSettings
from invox_watcher.sandbox.storage import Storage
from invox_watcher.sandbox.webhooks import Webhooks

OnAnswer = Callable[[str, int | None], None]
"""Called for each of the vendor's calls: the operation, and the HTTP status, None if there was no answer.

And for each attempt to deliver a webhook: "webhook", and the receiver's status in the same way.
"""

_OPERATIONS: dict[str, faults.Operation] = {
    "/oauth/token": "token",
    "/api/v1/generate-presigned-url": "presign",
    "/api/v1/get-transcription": "status",
}
_ARRIVALS: dict[faults.Operation, Count] = {"upload": Count.UPLOAD_ATTEMPTS, "status": Count.STATUS_CALLS}


def create_app(
    settings: SandboxSettings, recognition: Recognition, ledger: Ledger, on_answer: OnAnswer
) -> ASGIApp:
    """The application for one sandbox."""
    rules = faults.FaultRules()
    webhooks = Webhooks(settings, ledger, rules, functools.partial(on_answer, "webhook"))
    storage = Storage(settings, ledger, recognition, webhooks)
    api = Api(settings, ledger, storage)
    control = _Control(ledger, rules, webhooks)
    shape = settings.reply_shape

    async def refused(_request: Request, error: Exception) -> Response:
        if isinstance(error, RefusedError):
            return replies.api_error(shape, error.status, error.message, error.error_type)
        return Response(status_code=400)  # the client has disconnected

    routes = Starlette(
        routes=[
            Route("/oauth/token", api.token, methods=["POST"]),
            Route("/api/v1/generate-presigned-url", api.presign, methods=["POST"]),
            Route("/api/v1/get-transcription", api.result, methods=["POST"]),
            Route("/storage/{request_id}", storage.put, methods=["PUT"]),
            Route("/sandbox/faults", control.add_fault, methods=["POST"]),
            Route("/sandbox/faults", control.clear_faults, methods=["DELETE"]),
            Route("/sandbox/stats", control.stats, methods=["GET"]),
            Route("/sandbox/webhooks/{request_id}", control.webhook, methods=["GET"]),
            Route("/sandbox/webhooks/{request_id}", control.send_webhook, methods=["POST"]),
            Route("/healthz", _health, methods=["GET"]),
        ],
        exception_handlers={RefusedError: refused, ClientDisconnect: refused},
    )
    return _Faulty(routes, shape, rules, ledger, on_answer)


class _Faulty:
    """Counts the vendor's calls as they arrive, and lets each meet its fault."""

    def __init__(
        self, app: ASGIApp, shape: ReplyShape, rules: faults.FaultRules, ledger: Ledger, on_answer: OnAnswer
    ) -> None:
        self._app = app
        self._shape = shape
        self._rules = rules
        self._ledger = ledger
        self._on_answer = on_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = _operation(scope)
        if operation is None:
            await self._app(scope, receive, send)
            return
        if operation in _ARRIVALS:
            self._ledger.count(_ARRIVALS[operation])
        status: int | None = None

        async def noting_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        fault = self._rules.take(operation)
        try:
            if fault is None:
                await self._app(scope, receive, noting_status)
            else:
                await effects.apply(fault, scope, receive, noting_status, app=self._app, shape=self._shape)
        finally:
            self._on_answer(operation, status)


def _operation(scope: Scope) -> faults.Operation | None:
    path: str = scope["path"]
    return "upload" if path.startswith("/storage/") else _OPERATIONS.get(path)


class _Control:
    """The sandbox's own routes, for tests and for people who look on."""

    def __init__(self, ledger: Ledger, rules: faults.FaultRules, webhooks: Webhooks) -> None:
        self._ledger = ledger
        self._rules = rules
        self._webhooks = webhooks

    async def add_fault(self, request: Request) -> Response:
        try:
            self._rules.add(faults.parse(await read_body(request)))
        except ValueError as error:
            return PlainTextResponse(str(error), 400)
        return Response(status_code=204)

    async def clear_faults(self, _request: Request) -> Response:
        self._rules.clear()
        return Response(status_code=204)

    async def stats(self, _request: Request) -> Response:
        return JSONResponse(self._ledger.stats())

    async def webhook(self, request: Request) -> Response:
        record = self._ledger.find(request.path_params["request_id"])
        if record is None or record.webhook_body is None:
            return _no_webhook()
        return Response(record.webhook_body, media_type="application/json")

    async def send_webhook(self, request: Request) -> Response:
        attempt = await self._webhooks.send_again(request.path_params["request_id"])
        return _no_webhook() if attempt is None else JSONResponse(attempt.summary())


def _no_webhook() -> Response:
    return PlainTextResponse("There is no webhook for this request, or not yet.", 404)


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})
