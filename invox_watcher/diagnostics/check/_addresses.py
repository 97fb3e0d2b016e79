"""Addresses to listen on: can they be, and can other machines reach them?"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator

from invox_watcher.diagnostics.check._finding import Finding, warning
from invox_watcher.errors import ExitStatus
from invox_watcher.host import is_loopback


def address_to_listen_on(
    key: str, listen: str, address: tuple[str, int], in_use: Callable[[], Finding]
) -> Iterator[Finding]:
    """Findings on `address`, which the configuration has as `listen` under `key`; `in_use`, if it is."""
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                yield from _reachable(key, listen, address[0])
                yield in_use()
                return
            problem = f"can't listen on {listen}: {error.strerror}"
            hint = "Choose an address of this machine and a port above 1023, or null for none."
            yield Finding(key, "failed", problem, hint, ExitStatus.CONFIGURATION)
        else:
            yield from _reachable(key, listen, address[0])
            yield Finding(key, seen=f"{listen} is free")


def _reachable(key: str, listen: str, host: str) -> Iterator[Finding]:
    if not is_loopback(host):
        problem = f"{listen} can be reached from other machines, and speaks plain HTTP"
        yield warning(key, problem, "Listen on 127.0.0.1 and put a web server with TLS in front.")


def of_another(key: str, listen: str) -> Finding:
    """That the address is another program's."""
    problem = f"another program listens on {listen}"
    return Finding(key, "failed", problem, "Choose another port.", ExitStatus.CONFIGURATION)
