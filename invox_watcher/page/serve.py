"""The page as a process of its own, so that neither a hundred browsers nor a fault of it reaches the daemon.

The daemon starts it (`daemon.page`), and it ends with the daemon: its standard input is a pipe that only the
daemon holds open. `invox-watcher page` starts it in the foreground.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from starlette.types import ASGIApp

from invox_watcher import logs
from invox_watcher.accounts import Role
from invox_watcher.config import Config
from invox_watcher.daemon.process import configure_log, log_internal_error
from invox_watcher.errors import ConfigurationError, ExitStatus, InvoxError, Problem
from invox_watcher.events import Event, log
from invox_watcher.files import read_names_key
from invox_watcher.host import keep_memory_private
from invox_watcher.page import pages
from invox_watcher.page.access import Access, AccessRules
from invox_watcher.page.app import Site, create_app
from invox_watcher.page.live import Live
from invox_watcher.page.record import Record
from invox_watcher.page.sockets import listen_on_socket, remove_socket
from invox_watcher.page.source import DaemonSource
from invox_watcher.page.users import Users
from invox_watcher.web import BoundedH11Protocol, BoundedServer, listen_on

_NICENESS = 5  # of 19: recordings go first, however many look
_LEAVE_SECONDS = 6.0


def serve(load: Callable[[], Config], *, ends_with_input: bool = False) -> ExitStatus:
    """Show the page until SIGTERM or SIGINT; with `ends_with_input`, also until standard input ends.

    SIGHUP reopens the log. With `ends_with_input` it is the daemon's, and lets that have the processor first.

    Raises:
        InvoxError: the configuration is wrong, or names something that can't be used.
    """
    os.umask(0o077)
    keep_memory_private()
    threading.excepthook = log_internal_error
    config = load()
    if ends_with_input:
        with contextlib.suppress(OSError):  # our unit forbids it
            os.nice(_NICENESS)
    if config.page.listen is None:
        problem = Problem("page.listen", None, "is not set: no page is wanted")
        raise ConfigurationError(str(config.source), [problem])
    configure_log(config)
    key = read_names_key(config.state.directory)
    if key is not None:
        logs.hash_names_with(key)
    access = _access_of(config)
    source = DaemonSource(config)
    record = Record(config.state.directory)
    live = Live(source, access)
    app = create_app(Site(source, access, record), access, live, pages)
    listener = _listener_of(config)
    server = _Server(app, live, reopen_log=lambda: configure_log(config))
    if ends_with_input:
        threading.Thread(target=_end_with_input, args=(server,), name="lifeline", daemon=True).start()
    log.info(Event.PAGE_LISTENING, address=_shown(config, listener))
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()
        if config.page.socket is not None:
            remove_socket(config.page.socket)
        record.close()
        source.close()
    return ExitStatus.OK


def leave(status: int) -> NoReturn:
    """End this process now: a thread that waits for a share that hangs would keep it."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    logs.flush()
    os._exit(status)


class _Protocol(BoundedH11Protocol):
    """Lets answers last as long as they are read: events, and recordings that are listened to."""

    _unsent_before = 0

    def makes_progress(self) -> bool:
        unsent, before = self.transport.get_write_buffer_size(), self._unsent_before
        self._unsent_before = unsent
        return not self.cycle.more_body and (unsent == 0 or unsent != before)


class _Server(BoundedServer):
    def __init__(self, app: ASGIApp, live: Live, *, reopen_log: Callable[[], None]) -> None:
        super().__init__(app, _Protocol)  # `peers` decides which proxies to believe
        self._live, self._reopen_log = live, reopen_log

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._live.close()
        await asyncio.sleep(0)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        # By the loop: a handler of signals must take no locks, and starting a thread takes one.
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)
        yield

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(128 + number)
        self.stop()

    def _on_hangup(self) -> None:
        # Opening the log may take long.
        threading.Thread(target=self._reopen, name="log", daemon=True).start()

    def _reopen(self) -> None:
        try:
            self._reopen_log()
        except InvoxError as error:
            log.error(Event.RELOAD_REFUSED, code=error.code, error=error.message, hint=error.hint)


def _end_with_input(server: _Server) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    server.stop()
    threading.Event().wait(_LEAVE_SECONDS)
    os._exit(ExitStatus.OK)


def _access_of(config: Config) -> Access:
    page = config.page
    users = None if page.users_file is None else Users(page.users_file)
    if users is not None:
        users.try_out()
    rules = AccessRules(
        trusted_proxies=page.proxies,
        user_header=page.user_header,
        header_roles=[Role(role) for role in page.header_roles],
        header_roles_beside_limits=page.header_roles_beside_limits,
        session_seconds=page.session_minutes * 60,
        idle_seconds=page.idle_minutes * 60,
    )
    return Access(users, rules)


def _listener_of(config: Config) -> socket.socket:
    page = config.page
    if page.socket is not None:
        return listen_on_socket(page.socket)
    assert page.address is not None  # noqa: S101 - `serve` has asked for one
    return listen_on(
        *page.address,
        key="page.listen",
        hint="Choose an address of this machine and a port above 1023 on which no process listens.",
    )


def _shown(config: Config, listener: socket.socket) -> str:
    if config.page.socket is not None:
        return f"unix:{config.page.socket}"
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
