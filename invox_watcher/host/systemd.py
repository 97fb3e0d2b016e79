"""Messages to the service manager, see sd_notify(3): ready, reloading, stopping, status, watchdog.

Messages are datagrams to the socket that $NOTIFY_SOCKET names. Without one nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

from invox_watcher.logs import printable

_NOTIFY, _WATCHDOG, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
_SEND_SECONDS = 1.0


class Notifier:
    """Notifies the manager that started this process, if any. It is not an error if that has ended."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        """Remove what is meant for this process from `environ`: its children are not services."""
        self._address = environ.pop(_NOTIFY, "")
        self.watchdog_seconds = _watchdog_seconds(environ)
        self._feed_at = 0.0
        self._status = ""

    def ready(self) -> None:
        """Started, or reloaded."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Reloading, until `ready`. By the time the manager knows that this is the reload it asked for."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Shutting down."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line that `systemctl status` shows."""
        line = printable(text)
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def feed(self) -> None:
        """Feed the watchdog, if there is one and it is time: twice as often as it demands."""
        now = time.monotonic()
        if self.watchdog_seconds is not None and now >= self._feed_at:
            self._feed_at = now + self.watchdog_seconds / 2
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        # An abstract address begins with a zero byte, written as an at sign; unix(7).
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        ):
            sock.settimeout(_SEND_SECONDS)  # the main thread must not hang on a manager that does not read
            sock.sendto(message.encode(), address)


def _watchdog_seconds(environ: MutableMapping[str, str]) -> float | None:
    """The timeout of the manager's watchdog for this process, or None; see sd_watchdog_enabled(3)."""
    microseconds, pid = environ.pop(_WATCHDOG, ""), environ.pop(_WATCHDOG_PID, "")
    if not (microseconds.isascii() and microseconds.isdigit() and int(microseconds) > 0):
        return None
    return int(microseconds) / 1e6 if pid in ("", str(os.getpid())) else None
