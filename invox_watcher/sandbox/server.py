"""Runs a sandbox: in a background thread for tests (`Sandbox`), or in the foreground for people (`serve`)."""

from __future__ import annotations

import asyncio
import contextlib
import http
import http.client
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, Self
from urllib.parse import quote

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from invox_watcher import events
from invox_watcher.sandbox.app import OnAnswer, create_app
from invox_watcher.sandbox.ledger import Ledger
from invox_watcher.sandbox.recognition import Recognition, Recognize
from invox_watcher.sandbox.settings import SandboxSettings
from invox_watcher.sandbox.speech import recognizer, refuse

_START_SECONDS = 10
_STOP_SECONDS = 10
_THROTTLED_BUFFER_BYTES = 16384


def serve(settings: SandboxSettings, on_ready: Callable[[str], None]) -> None:
    """Run in the foreground until SIGINT or SIGTERM; `on_ready` gets the base URL once it listens.

    Every call is logged. Raises OSError if the port is taken, ModuleNotFoundError as `recognizer` does.
    """
    with _listening(settings) as listeners, _running(settings, listeners, _log_answer) as app:
        base_url = _base_url(listeners[0])
        server = _Server(app, lambda: on_ready(base_url))
        server.run(sockets=listeners)


class Sandbox:
    """A sandbox in a background thread, for as long as the `with` block runs.

    `base_url` is where its own paths are, `api_url` what a client is to have as its base URL, `token_url`
    the whole address of the token endpoint.

    `recognize` takes the place of the recognizer that the settings name.

    Raises OSError if the port is taken, ModuleNotFoundError as `recognizer` does.
    """

    def __init__(self, settings: SandboxSettings, recognize: Recognize | None = None) -> None:
        self.settings, self._recognize = settings, recognize
        self.base_url = ""
        self.token_url = ""
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            listeners = stack.enter_context(_listening(self.settings))
            app = stack.enter_context(
                _running(self.settings, listeners, lambda _operation, _status: None, self._recognize)
            )
            started = threading.Event()
            server = _Server(app, started.set)
            thread = threading.Thread(
                target=server.run, kwargs={"sockets": listeners}, name="sandbox", daemon=True
            )
            stack.callback(_stop, server, thread)
            thread.start()
            if not started.wait(_START_SECONDS):
                raise RuntimeError("the sandbox did not start")
            self.base_url = _base_url(listeners[0])
            self.token_url = _token_url(self.settings, listeners)
            self._stack = stack.pop_all()
        return self

    @property
    def api_url(self) -> str:
        """The base URL with the stage, if the reading has one."""
        return self.base_url + self.settings.reading.stage

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def stats(self) -> dict[str, Any]:
        """What `GET /sandbox/stats` answers: counts, and the list of requests."""
        stats: dict[str, Any] = json.loads(self._control("GET", "/sandbox/stats"))
        return stats

    def fault(self, rule: Mapping[str, Any]) -> None:
        """Ask for a fault; see `faults`. Raises ValueError if there is no such fault."""
        self._control("POST", "/sandbox/faults", json.dumps(rule))

    def clear_faults(self) -> None:
        """Forget all faults."""
        self._control("DELETE", "/sandbox/faults")

    def webhook_body(self, request_id: str) -> bytes:
        """The request's webhook as it was made last, sent or not. Raises ValueError if there is none."""
        return self._control("GET", _webhook_path(request_id))

    def send_webhook(self, request_id: str) -> dict[str, Any]:
        """Send that webhook once, now: the attempt, as `stats` has it. Raises ValueError as above."""
        attempt: dict[str, Any] = json.loads(self._control("POST", _webhook_path(request_id)))
        return attempt

    def _control(self, method: str, path: str, body: str | None = None) -> bytes:
        connection = http.client.HTTPConnection(self.base_url.removeprefix("http://"), timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            content = response.read()
        if response.status >= 400:
            raise ValueError(content.decode())
        return content


class Connection(H11Protocol):
    """Uvicorn's HTTP/1.1 connection, which lets the application reach its transport and send 1xx.

    See `effects` and `wire`.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = self.app_state | {"transport": transport, "interim": self._send_interim}

    def _send_interim(self, status: int) -> None:
        """Send an informational response (RFC 9110, section 15.2) before the final one."""
        if not self.transport.is_closing():
            event = h11.InformationalResponse(
                status_code=status, headers=[], reason=http.HTTPStatus(status).phrase
            )
            self.transport.write(self.conn.send(event))


class _Server(uvicorn.Server):
    """Uvicorn, but a stop takes effect at once and drops open connections, and a signal kills no process."""

    def __init__(self, app: Any, on_started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                timeout_graceful_shutdown=0,
            )
        )
        self._on_started = on_started
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Stop it, from any thread or signal handler; only after it has started."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._stopping.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.stop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_started()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # which sets the date that goes out with answers
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # lets the connections notice

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _running(
    settings: SandboxSettings,
    listeners: list[socket.socket],
    on_answer: OnAnswer,
    recognize: Recognize | None = None,
) -> Iterator[ASGIApp]:
    ledger = Ledger()
    if settings.reading.always_fails:
        recognize = refuse
    recognition = Recognition(recognize or recognizer(settings.recognizer), ledger)
    token_port = listeners[-1].getsockname()[1] if settings.reading.token_port == "own" else None
    with contextlib.closing(recognition):
        yield create_app(settings, recognition, ledger, on_answer, token_port=token_port)


@contextlib.contextmanager
def _listening(settings: SandboxSettings) -> Iterator[list[socket.socket]]:
    """The socket of the API and, if the reading has one, that of the token endpoint."""
    ports = [settings.port]
    if settings.reading.token_port == "own":
        ports.append(settings.port and settings.port + 1)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_listener(settings, port)) for port in ports]


@contextlib.contextmanager
def _listener(settings: SandboxSettings, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol by name: asyncio turns Nagle's delays (40 ms an answer) off only where it is given.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.upload_bytes_per_second is not None:
            # Else the kernel takes megabytes in at once, and the client sees no slowness.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _THROTTLED_BUFFER_BYTES)
        try:
            listener.bind((settings.host, port))
        except OSError as error:
            raise OSError(error.errno, f"{settings.host}:{port}: {error.strerror}") from None
        yield listener


def _webhook_path(request_id: str) -> str:
    return f"/sandbox/webhooks/{quote(request_id, safe='')}"


def _token_url(settings: SandboxSettings, listeners: list[socket.socket]) -> str:
    reading = settings.reading
    return _base_url(listeners[-1]) + reading.stage + reading.token_path


def _base_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _stop(server: _Server, thread: threading.Thread) -> None:
    server.stop()
    thread.join(_STOP_SECONDS)
    if thread.is_alive():
        raise RuntimeError("the sandbox did not stop")


def _log_answer(operation: str, status: int | None) -> None:
    events.log.info(events.Event.SANDBOX_ANSWERED, operation=operation, status=status)
