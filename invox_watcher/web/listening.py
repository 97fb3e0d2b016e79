"""Addresses to listen on, taken at the start, so that one that is in use is a clear error then."""

from __future__ import annotations

import socket

from invox_watcher.errors import FolderError


def listen_on(host: str, port: int, *, key: str, hint: str) -> socket.socket:
    """A socket that is bound to this address, which the configuration names by `key`.

    Raises:
        FolderError: it can't be listened on; with this hint.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol by name: only then asyncio turns off Nagle's delays (40 ms per answer).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise FolderError(
            f"{key}: can't listen on {host}:{port}: {error.strerror}", code="listen", hint=hint
        ) from None
    return listener
