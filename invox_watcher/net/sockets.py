"""A way for one thread to end a connection that another one is using."""

from __future__ import annotations

import contextlib
import os
import socket


class SocketHandle:
    """A duplicate of the descriptor of a connection's socket. For one thread at a time.

    A shutdown ends a connection under all of its descriptors. The socket itself can't be used for it: the TLS
    layer detaches the one that it wraps, and http.client closes its own early. And SSLSocket.shutdown drops
    the TLS layer first: what another thread is sending at that moment would be sent unencrypted.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection to be shut down."""
        return self._socket is not None

    def fileno(self) -> int:
        """The descriptor; -1 if there is none, as a closed socket says."""
        return -1 if self._socket is None else self._socket.fileno()

    def follow(self, fileno: int) -> None:
        """From now on, the connection with that descriptor is meant, and no other."""
        self.close()
        self._socket = socket.socket(fileno=os.dup(fileno))

    def shut_down(self) -> None:
        """End the connection: all reads and writes fail."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed by the peer already
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the duplicate; the connection itself may live on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
