"""Between a client and a PostgreSQL server, on loopback: it can be cut in ways a network is."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tests.kit.postgres import Cluster


class Relay:
    """Passes connections on to the server, which may be stopped and started meanwhile."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.on_data: Callable[[bytes], bool] = lambda _data: True  # of the client; False: cut after sending
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._passes = threading.Event()
        self._passes.set()
        self._is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection, and those that come."""
        self._is_cut = True
        self._end_all()

    def hang(self) -> None:
        """Pass nothing on, as a network does that loses everything."""
        self._passes.clear()

    def mend(self) -> None:
        """Pass on again what comes, and what hangs."""
        self._is_cut = False
        self._passes.set()

    def close(self) -> None:
        """No more connections."""
        self._listener.close()
        self._passes.set()
        self._end_all()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(str(self._cluster.folder / f".s.PGSQL.{self._cluster.port}"))
                except OSError:  # it is stopped
                    client.close()
                    server.close()
                    continue
                self._pairs.append((client, server))
                if self._is_cut:
                    self._end_all()
                threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError, ValueError), client, server:
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    self._passes.wait()
                    if not (data := ready.recv(65536)):
                        return
                    (server if ready is client else client).sendall(data)
                    if ready is client and not self.on_data(data):
                        time.sleep(0.5)  # the server has done it
                        return

    def _end_all(self) -> None:
        while self._pairs:
            for one in self._pairs.pop():
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
