"""A TCP proxy that is up, down, slow, or cuts the line after the last byte before the answer."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from typing import Literal

Mood = Literal["up", "down", "slow", "cut"]


class MoodyProxy:
    """Forwards to a port of this machine as its `mood` wants; a change of mood ends all connections."""

    def __init__(self, to: int) -> None:
        self._to = to
        self.mood: Mood = "up"
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def change(self, mood: Mood) -> None:
        """From now on it behaves so."""
        self.mood = mood
        self.hang_up()

    def hang_up(self) -> None:
        """End all connections."""
        with self._lock:
            ending, self._open = self._open, set()
        for one in ending:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.hang_up()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            if self.mood == "down":
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._to), timeout=60)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for one, other, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._forward, args=(one, other, answers), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket, answers: bool) -> None:
        """Until one end closes. In the mood to cut, the third answer on a line, or a later one, is lost."""
        parts = 0
        with contextlib.suppress(OSError):
            while part := one.recv(1 << 16):
                parts += 1
                if self.mood == "slow":
                    threading.Event().wait(0.05)
                if answers and self.mood == "cut" and parts >= 3 and random.random() < 0.3:
                    break
                other.sendall(part)
        with self._lock:
            self._open -= {one, other}
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def moody_proxy(to: int) -> Iterator[MoodyProxy]:
    """One proxy, for as long as the block lasts."""
    proxy = MoodyProxy(to)
    try:
        yield proxy
    finally:
        proxy.close()
