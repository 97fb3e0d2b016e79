"""One deadline over a whole exchange, and a way to abort it from another thread.

With a timeout per read alone, a peer that sends one byte a second never times out: a watchdog shuts down the
socket. An upload has a long deadline: it continues as long as bytes move, however slow the line is.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import select
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum
from functools import lru_cache

from invox_watcher.errors import ApiUnavailableError, StoppedError
from invox_watcher.heartbeat import beat
from invox_watcher.net.failures import stopped
from invox_watcher.net.sockets import SocketHandle
from invox_watcher.net.urls import host_of

MOST_ORIGINS = 64  # of which something is remembered
_LONGEST_PAUSE_SECONDS = 0.05


class _End(Enum):
    DEADLINE = "deadline"
    STOP = "stop"


class Exchange:
    """One exchange in progress: how long it may take, its socket, and what ended it early."""

    def __init__(
        self,
        url: str,
        deadline_seconds: float,
        silence_seconds: float,
        *,
        most_idle_seconds: float = math.inf,
    ) -> None:
        """A connection that was unused for more than `most_idle_seconds` is opened again."""
        self.origin, self.target = parted(url)
        self.where = _host_of(self.origin)
        self.deadline = time.monotonic() + deadline_seconds
        self.silence_seconds = min(silence_seconds, deadline_seconds)
        self.most_idle_seconds = most_idle_seconds
        self.on_kept_connection = False
        self.leaves_clean_connection = True  # the connection may be kept for the next exchange
        self.answered = False
        self.ended_by: _End | None = None
        self.on_new_deadline: Callable[[], None] = lambda: None
        self._deadline_seconds = deadline_seconds
        self._lock = threading.Lock()
        self._handle = SocketHandle()

    @contextlib.contextmanager
    def in_this_thread(self) -> Iterator[None]:
        """Have connections used by this thread register their sockets with this exchange."""
        _running.exchange = self
        try:
            yield
        finally:
            _running.exchange = None

    def watch(self, fileno: int, *, kept: bool) -> None:
        """Register the socket that the exchange uses from now on."""
        with self._lock:
            if kept and self._handle.is_open:
                return  # opened by this exchange
            self._handle.follow(fileno)
            self.on_kept_connection = kept
            if self.ended_by is not None:
                self._handle.shut_down()

    def all_handed_over(self) -> None:
        """The kernel has the whole upload: wait until it is sent. Then the response has `silence_seconds`."""
        if self.silence_seconds >= self._deadline_seconds:
            return
        pause, moved_at, before = 0.001, time.monotonic(), -1
        awaited = select.POLLIN  # an answer at once, as on a quick line, must not have to wait for the pause
        while (unsent := self._unsent_bytes()) and time.monotonic() - moved_at < self.silence_seconds:
            if unsent != before:
                before, moved_at = unsent, time.monotonic()
                beat(self.silence_seconds)
            found = self._found_within(pause, awaited)
            if found & ~select.POLLIN:  # it was reset or shut down: what is unsent never leaves
                break
            if found:  # or it belongs to TLS
                awaited = 0
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        if (deadline := time.monotonic() + self.silence_seconds) < self.deadline:
            self.deadline, self._deadline_seconds = deadline, self.silence_seconds
            self.on_new_deadline()

    def _found_within(self, seconds: float, awaited: int) -> int:
        """Wait for that long, or until the connection is reset or shut down, or an event `awaited`."""
        with self._lock:
            if not self._handle.is_open:
                return select.POLLNVAL
            poller = select.poll()
            poller.register(self._handle, awaited)  # errors and hang-ups are always reported: poll(2)
        return next((events for _descriptor, events in poller.poll(seconds * 1000)), 0)

    def _unsent_bytes(self) -> int:
        """How many bytes the peer has not acknowledged (tcp(7), SIOCOUTQ); 0 after `end`."""
        with self._lock:
            if not self._handle.is_open or self.ended_by is not None:
                return 0
            try:
                return int(struct.unpack("i", fcntl.ioctl(self._handle, termios.TIOCOUTQ, bytes(4)))[0])
            except OSError:
                return 0

    def end(self, why: _End) -> None:
        """Shut down the connection and any that the exchange opens later."""
        with self._lock:
            if self.ended_by is None:
                self.ended_by = why
                self._handle.shut_down()

    def finish(self) -> None:
        """Close the socket; the connection itself may live on for the next exchange."""
        with self._lock:
            self._handle.close()

    def ending(self) -> StoppedError | ApiUnavailableError | None:
        """The error to raise if `end` was called."""
        if self.ended_by is _End.STOP:
            return stopped()
        if self.ended_by is _End.DEADLINE:
            return ApiUnavailableError(
                f"The request to {self.where} took longer than {self._deadline_seconds:g} s.",
                code="timeout",
                hint="Check the network. If the API is known to be slow, raise api.read_timeout_seconds.",
            )
        return None


def parted(url: str) -> tuple[str, str]:
    """Scheme with host, and path with query, both exactly as they stand in the URL."""
    scheme, separator, rest = url.partition("#")[0].partition("://")
    at = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
    target = rest[at:]
    return scheme + separator + rest[:at], target if target.startswith("/") else f"/{target}"


_host_of = lru_cache(MOST_ORIGINS)(host_of)


class _Running(threading.local):
    exchange: Exchange | None = None


_running = _Running()


def exchange_of_this_thread() -> Exchange | None:
    """The exchange that has its connections used by this thread: see `Exchange.in_this_thread`."""
    return _running.exchange


class Watchdog:
    """Ends each exchange at its deadline, or all of them at once, on one thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way: set[Exchange] = set()
        self._stopped = False
        self._closed = False
        self._wakes_at = math.inf
        self._thread = threading.Thread(target=self._run, name="http-deadlines", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def over(self, exchange: Exchange) -> Iterator[Exchange]:
        """Watch `exchange` for the duration of the block. Raises StoppedError after `end_all`."""
        exchange.on_new_deadline = lambda: self._notify(exchange)
        with self._changed:
            if self._stopped:
                raise stopped()
            self._under_way.add(exchange)
            self._wake_before(exchange.deadline)
        try:
            yield exchange
        finally:
            with self._changed:
                self._under_way.discard(exchange)
            exchange.finish()

    def _notify(self, exchange: Exchange) -> None:
        with self._changed:
            self._wake_before(exchange.deadline)

    def _wake_before(self, deadline: float) -> None:
        if (
            deadline < self._wakes_at
        ):  # nearly never: to wake a thread for each exchange costs more than the rest
            self._changed.notify()

    def end_all(self) -> None:
        with self._changed:
            self._stopped = True
            for exchange in self._under_way:
                exchange.end(_End.STOP)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                self._wakes_at = math.inf
                for exchange in self._under_way:
                    if exchange.deadline <= now:
                        exchange.end(_End.DEADLINE)
                    else:
                        self._wakes_at = min(self._wakes_at, exchange.deadline)
                self._changed.wait(None if self._wakes_at == math.inf else self._wakes_at - now)
