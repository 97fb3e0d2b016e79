"""A service manager for tests: the socket of sd_notify(3), and what came over it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kit.clinic import Clinic
from tests.kit.waiting import wait_for


@dataclass(frozen=True)
class Message:
    """One datagram: when it came, on the monotonic clock, and its fields."""

    at: float
    fields: dict[str, str]


class Manager:
    """Listens like systemd. `address` is what goes into $NOTIFY_SOCKET."""

    def __init__(self, path: str = "") -> None:
        """At `path`, else at an abstract address that the kernel chooses."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._socket.setblocking(False)
        name = self._socket.getsockname()
        self.address = name if isinstance(name, str) else "@" + name[1:].decode()
        self._messages: list[Message] = []

    def close(self) -> None:
        self._socket.close()

    def messages(self, field: str) -> list[Message]:
        """All that came so far with that field."""
        with contextlib.suppress(BlockingIOError):
            while True:
                lines = self._socket.recv(4096).decode().splitlines()
                fields = dict(line.split("=", 1) for line in lines)
                self._messages.append(Message(time.monotonic(), fields))
        return [message for message in self._messages if field in message.fields]

    def wait_for(self, field: str, *, count: int = 1, seconds: float = 30) -> list[Message]:
        """Wait until so many messages with that field have come; all of them."""
        wait_for(f"{count} × {field}", lambda: len(self.messages(field)) >= count, seconds=seconds)
        return self.messages(field)

    def wait_for_status(self, start: str, *, seconds: float = 30) -> str:
        """Wait until the latest status begins like that; the whole of it."""

        def latest() -> str:
            statuses = self.messages("STATUS")
            return statuses[-1].fields["STATUS"] if statuses else ""

        try:
            wait_for(f"a status “{start}…”", lambda: latest().startswith(start), seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is “{latest()}”") from None
        return latest()


@contextlib.contextmanager
def manager(*, in_a_file: bool = False) -> Iterator[Manager]:
    """A manager, its socket abstract or in the file system."""
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        listening = Manager(str(Path(folder, "notify")) if in_a_file else "")
        try:
            yield listening
        finally:
            listening.close()


@contextlib.contextmanager
def managed(
    clinic: Clinic,
    by: Manager,
    *,
    watchdog_seconds: float | None = None,
    command: Sequence[str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The clinic's daemon as a service of `by`; killed in the end, unless it has ended before."""
    environ = {"NOTIFY_SOCKET": by.address}
    if watchdog_seconds is not None:
        environ["WATCHDOG_USEC"] = str(int(watchdog_seconds * 1e6))
    process = clinic.start(command, environ)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
