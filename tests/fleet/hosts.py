"""Several hosts on one machine: a daemon in a network namespace of its own each, one tree, one database.

The database is on the bridge between them; `cut` takes a host off it, and leaves it the shared folders and
the API, which every host has on its own loopback: the worst case, for it could go on sending.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, free_port, sandbox
from tests.kit.postgres import Cluster
from tests.kit.waiting import Process

# Of this process: another one may test at the same time.
_PID = os.getpid()
_NETWORK = f"10.{64 + _PID // 256 % 128}.{_PID % 256}"
BRIDGE = f"ivx{_PID}"
ADDRESS = f"{_NETWORK}.1"  # of the machine, on the bridge
SECOND_ADDRESS = f"{_NETWORK}.2"  # and another one, as of a second machine
LIMIT_SECONDS = 8.0
_CLONE_NEWNET = 0x40000000


def address_of(number: int) -> str:
    """Of a host, on the bridge."""
    return f"{_NETWORK}.{number + 11}"


def ip(*arguments: str, check: bool = True) -> None:
    """The command of that name."""
    subprocess.run(["ip", *arguments], check=check, stderr=None if check else subprocess.DEVNULL)


def _listener_in(namespace: str, port: int) -> socket.socket:
    """A socket that listens on the loopback of that namespace; for a thread that is used for nothing else."""
    with open(f"/run/netns/{namespace}") as entered:
        assert ctypes.CDLL(None, use_errno=True).setns(entered.fileno(), _CLONE_NEWNET) == 0, (
            ctypes.get_errno()
        )
    return socket.create_server(("127.0.0.1", port), backlog=512)


class Relay:
    """Passes on what comes to a port of a namespace's loopback, to the same port of ours."""

    def __init__(self, namespace: str, port: int) -> None:
        with ThreadPoolExecutor(1) as pool:
            self._listener = pool.submit(_listener_in, namespace, port).result()
        self._port = port
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._started.wait()

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._pass_on, sock=self._listener)
        self._started.set()
        async with server:
            await self._ended.wait()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                await asyncio.gather(_copied(reader, far_writer), _copied(far_reader, writer))
            finally:
                far_writer.close()
        writer.close()

    def close(self) -> None:
        """No more connections."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
        writer.write_eof()


class Host(Clinic):
    """One of them: a configuration, a state directory, a log; the folders are those of the fleet."""

    def __init__(self, fleet: Fleet, number: int, **changes: Any) -> None:
        self.name = f"host{chr(ord('a') + number)}"
        self.namespace, self.link = f"{BRIDGE}-{self.name}", f"{BRIDGE}-{number}"
        self.address = address_of(number)
        state = {"url": fleet.url, "takeover_seconds": LIMIT_SECONDS}
        root = fleet.root / self.name
        sections: dict[str, Any] = {
            "folders": {"root": str(fleet.tree.root)},
            "state": {"directory": str(root / "state"), **state},
        }
        for section, values in changes.items():
            sections[section] = sections.get(section, {}) | dict(values)
        super().__init__(root, fleet.api.base_url, **sections)
        self.process: Process | None = None
        ip("netns", "add", self.namespace)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("link", "set", self.link, "master", BRIDGE, "up")
        inside = ("-n", self.namespace)
        ip(*inside, "addr", "add", f"{self.address}/24", "dev", "eth0")
        ip(*inside, "link", "set", "eth0", "up")
        ip(*inside, "link", "set", "lo", "up")
        self.relay = Relay(self.namespace, int(fleet.api.base_url.rpartition(":")[2]))
        within = ("ip", "netns", "exec", self.namespace, "unshare", "--uts")
        self.through = (*within, "sh", "-c", f'hostname {self.name} && exec "$@"', "sh")

    def up(self) -> Host:
        """Start its daemon, and wait until it watches."""
        self.process = self.start()
        return self

    def end(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = 20) -> int:
        """Send the signal; the exit status of its daemon."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def pause(self) -> None:
        """As a hypervisor does, or a machine that swaps itself to death."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """It knows nothing of the time that has passed."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def cut(self) -> None:
        """From database and API, not from the folders."""
        ip("link", "set", self.link, "down")

    def mend(self) -> None:
        """The network is back."""
        ip("link", "set", self.link, "up")

    def remove(self) -> None:
        """Its daemon and its namespace."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.relay.close()
        ip("netns", "delete", self.namespace, check=False)
        ip("link", "delete", self.link, check=False)

    def status(self) -> str:
        """What `status --json` prints there."""
        command = self.command("status", "--json")
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def is_ready(self) -> bool:
        """What `/readyz` says, as it is noted in the state directory."""
        with contextlib.suppress(OSError, ValueError):
            return bool(json.loads((self.root / "state" / "readiness.json").read_text())["ready"])
        return False

    def ended(self, *names: str) -> int:
        """How many recordings it has brought to their end."""
        return len(self.events(*(names or ("done", "failed"))))


class Fleet:
    """The shared tree, the database and the API; hosts are added with `add`."""

    def __init__(self, root: Path, api: Sandbox, cluster: Cluster) -> None:
        self.root, self.api, self.cluster = root, api, cluster
        self.tree = Clinic(root / "tree", api.base_url)
        self.url = cluster.url()
        self.hosts: list[Host] = []

    def add(self, count: int, **changes: Any) -> Sequence[Host]:
        """So many more hosts, not yet running."""
        added = [Host(self, len(self.hosts) + number, **changes) for number in range(count)]
        self.hosts += added
        return added

    def work(self) -> Counter[str]:
        """How many recordings each host has brought to their end."""
        return Counter({host.name: host.ended() for host in self.hosts})

    def owed(self) -> int:
        """How many deliveries are not confirmed."""
        with psycopg.connect(self.url) as connection:
            owed = connection.execute("SELECT count(*) FROM deliveries WHERE state IN ('due', 'uncertain')")
            return int(owed.fetchall()[0][0])


@contextlib.contextmanager
def network() -> Iterator[None]:
    """A bridge with the machine on it. What a killed run has left is removed before."""
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    for left in re.findall(r"^(ivx(\d+)-\w+)", listed, re.MULTILINE):
        if not Path("/proc", left[1]).exists():
            ip("netns", "delete", left[0], check=False)
            ip("link", "delete", f"ivx{left[1]}", check=False)
    ip("link", "add", BRIDGE, "type", "bridge")
    try:
        for address in (ADDRESS, SECOND_ADDRESS):
            ip("addr", "add", f"{address}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        yield
    finally:
        ip("link", "delete", BRIDGE, check=False)


@contextlib.contextmanager
def fleet(root: Path, **settings: Any) -> Iterator[Fleet]:
    """A fleet without hosts; what is added is removed at the end."""
    with network(), contextlib.ExitStack() as opened:
        cluster = Cluster(port=free_port(), address=ADDRESS)
        opened.callback(cluster.close)
        api = opened.enter_context(sandbox(root / "api", **settings))
        made = Fleet(root, api, cluster)
        try:
            yield made
        finally:
            for host in made.hosts:
                host.remove()
