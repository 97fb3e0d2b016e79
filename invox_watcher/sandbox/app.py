"""The sandbox as an ASGI application: the vendor's routes behind the faults, and the control routes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from invox_watcher.sandbox import effects, faults, wire
from invox_watcher.sandbox.api import Api
from invox_watcher.sandbox.calls import RefusedError, read_body
from invox_watcher.sandbox.ledger import Count, Ledger
from invox_watcher.sandbox.readings import Reading
from invox_watcher.sandbox.recognition import Recognition
from invox_watcher.sandbox.replies import Replies
from invox_watcher.sandbox.settings import SandboxSettings
from invox_watcher.sandbox.storage import Storage
from invox_watcher.sandbox.tokens import Tokens
from invox_watcher.sandbox.webhooks import Webhooks

OnAnswer = Callable[[str, int | None], None]
"""Called for each of the vendor's calls: the operation, and the HTTP status, None if no answer was given.

And of each try to deliver a webhook: "webhook", and the receiver's status in the same way; and of each
request for what is neither the vendor's nor the sandbox's own: "unknown_path".
"""

_Routes = Mapping[faults.Operation, Route]

_ARRIVALS: dict[faults.Operation, Count] = {
    "token": Count.TOKEN_CALLS,
    "presign": Count.PRESIGN_CALLS,
    "upload": Count.UPLOAD_ATTEMPTS,
    "status": Count.STATUS_CALLS,
}
_OWN_PATHS = ("/sandbox/", "/healthz")


def create_app(
    settings: SandboxSettings,
    recognition: Recognition,
    ledger: Ledger,
    on_answer: OnAnswer,
    *,
    token_port: int | None = None,
) -> ASGIApp:
    """The application for one sandbox; with `token_port` tokens are issued at that port only."""
    rules = faults.FaultRules()
    webhooks = Webhooks(settings, ledger, rules, functools.partial(on_answer, "webhook"))
    storage = Storage(settings, ledger, recognition, webhooks)
    tokens = Tokens(settings, ledger)
    replies = Replies(settings.reading)
    api = Api(settings, ledger, storage, tokens, replies)
    token, others = _vendor_routes(settings.reading, tokens, api, storage)
    own = _own_routes(_Control(ledger, rules, webhooks))

    def service(vendor: _Routes, own: list[Route]) -> ASGIApp:
        app = _starlette([*vendor.values(), *own], settings.reading, replies)
        return _Service(
            app, vendor, settings=settings, replies=replies, rules=rules, ledger=ledger, on_answer=on_answer
        )

    if token_port is None:
        return service({**token, **others}, own)
    return _by_port({token_port: service(token, [])}, service(others, own))


def _vendor_routes(reading: Reading, tokens: Tokens, api: Api, storage: Storage) -> tuple[_Routes, _Routes]:
    """The token endpoint, and the other calls."""
    status_path = reading.status_path + ("/{request_id:path}" if reading.status_id == "path" else "")
    status_method = "POST" if reading.status_id == "body" else "GET"
    return {
        "token": Route(reading.stage + reading.token_path, tokens.issue, methods=[reading.token_method])
    }, {
        "presign": Route(reading.stage + reading.presign_path, api.presign, methods=["POST"]),
        "status": Route(reading.stage + status_path, api.result, methods=[status_method]),
        "upload": Route("/storage/{key:path}", storage.put, methods=["PUT"]),
    }


def _own_routes(control: _Control) -> list[Route]:
    return [
        Route("/sandbox/faults", control.add_fault, methods=["POST"]),
        Route("/sandbox/faults", control.clear_faults, methods=["DELETE"]),
        Route("/sandbox/stats", control.stats, methods=["GET"]),
        Route("/sandbox/webhooks/{request_id}", control.webhook, methods=["GET"]),
        Route("/sandbox/webhooks/{request_id}", control.send_webhook, methods=["POST"]),
        Route("/healthz", _health, methods=["GET"]),
    ]


def _starlette(routes: list[Route], reading: Reading, replies: Replies) -> Starlette:
    async def refused(_request: Request, error: Exception) -> Response:
        if isinstance(error, RefusedError):
            return replies.refusal(error)
        if isinstance(error, HTTPException):
            return wire.unknown_path(reading, error)
        return Response(status_code=400)  # the client disconnected; the response is not read

    handled = (RefusedError, HTTPException, ClientDisconnect)
    app = Starlette(routes=routes, exception_handlers=dict.fromkeys(handled, refused))
    app.router.redirect_slashes = False  # a path that is nearly right is wrong
    return app


def _by_port(apps: Mapping[int, ASGIApp], otherwise: ASGIApp) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await apps.get(scope["server"][1], otherwise)(scope, receive, send)

    return app


class _Service:
    """Counts the vendor's calls as they arrive, and lets each meet its fault and what is in between."""

    def __init__(
        self,
        app: ASGIApp,
        routes: _Routes,
        *,
        settings: SandboxSettings,
        replies: Replies,
        rules: faults.FaultRules,
        ledger: Ledger,
        on_answer: OnAnswer,
    ) -> None:
        self._app = app
        self._routes = routes
        self._settings = settings
        self._replies = replies
        self._rules = rules
        self._ledger = ledger
        self._on_answer = on_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(_OWN_PATHS):
            await self._app(scope, receive, send)
            return
        operation = self._operation(scope)
        self._ledger.count(Count.UNKNOWN_PATHS if operation is None else _ARRIVALS[operation])
        status: int | None = None
        travelling = wire.sending(
            self._settings.reading, is_upload=operation == "upload", scope=scope, send=send
        )

        async def noting_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await travelling(message)

        try:
            await self._serve(operation, scope, receive, noting_status)
        finally:
            self._note_upload(scope, status)
            if (denied := scope["state"].get("denied")) is not None:
                self._ledger.denied(denied)
            self._on_answer(operation or "unknown_path", status)

    def _operation(self, scope: Scope) -> faults.Operation | None:
        """Whose path this is, whatever the method."""
        for operation, route in self._routes.items():
            if route.matches(scope)[0] is not Match.NONE:
                return operation
        return None

    async def _serve(
        self, operation: faults.Operation | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        fault = self._rules.take(operation) if operation is not None else None
        if fault is not None:
            await effects.apply(fault, scope, receive, send, app=self._app, replies=self._replies)
            return
        settings = self._settings
        refusal = wire.refusal(
            settings.reading, settings.api_key, is_upload=operation == "upload", scope=scope
        )
        await (refusal or self._app)(scope, receive, send)

    def _note_upload(self, scope: Scope, status: int | None) -> None:
        uploaded = scope["state"].get("uploaded")
        if uploaded is not None and status is not None and 200 <= status < 300:
            self._ledger.acknowledged(*uploaded)


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
